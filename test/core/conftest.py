"""Fixtures of several files: message classes, a pipeline, ``zoe run``, the tiny model's state."""
from dataclasses import replace
import io
import logging
from pathlib import Path
import re

import bags
from frames import PUBLISHED
import made_up
import pytest
from runs import Ran

from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.cli import main
from zoe_ros.model.layouts import OFFICIAL
from zoe_ros.pipeline import Pipeline


@pytest.fixture(params=['rosbags', 'rclpy'])
def family(request):
    """Return the message classes of either client."""
    return bags.ROSBAGS if request.param == 'rosbags' else bags.rclpy_family()


@pytest.fixture
def pipeline(tiny_estimator):
    """Return a function that makes a pipeline on the tiny model; settings on top of PUBLISHED."""
    def made(types=bags.ROSBAGS.types, rectified=False, estimator=tiny_estimator, infos=None,
             **settings):
        return Pipeline(estimator, types, replace(PUBLISHED, **settings),
                        infos or CameraInfoBuffer(), rectified)

    return made


@pytest.fixture
def news():
    """
    Return a text stream with what a run logs.

    Not pytest's caplog: where launch is installed, its pytest plugin cuts loggers off the root.
    """
    stream, logger = io.StringIO(), logging.getLogger('zoe_ros.run')
    handler, before = logging.StreamHandler(stream), (logger.level, logger.propagate)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield stream
    logger.setLevel(before[0])
    logger.propagate = before[1]
    logger.removeHandler(handler)


@pytest.fixture
def zoe(tmp_path, tiny_weights, capsys, news):
    """Return a function that runs ``zoe run`` on the tiny model, in this process."""
    output = tmp_path / 'results'

    def ran(*arguments, weights=tiny_weights, to=output):
        news.truncate(news.seek(0))
        capsys.readouterr()
        try:
            code = main(['run', '--variant', 'tiny', '--weights', str(weights), '--device', 'cpu',
                         '--precision', 'fp32', '--output', str(to), *map(str, arguments)])
        except SystemExit as error:     # argparse
            code = error.code
        out, err = capsys.readouterr()
        return Ran(code, f'{news.getvalue()}{out}', err, Path(to))

    return ran


@pytest.fixture
def refused(zoe, tmp_path):
    """Return a function: arguments -> the one line on stderr; nothing has been written."""
    def said(*arguments, **options):
        ran = zoe(*arguments, **options)
        assert ran.code == 2
        assert re.fullmatch(r'zoe: [^\n]+\n', ran.err), ran.err
        assert not (tmp_path / 'results').exists()
        return ran.err

    return said


@pytest.fixture(scope='module')
def tiny():
    """Return the tiny model."""
    return made_up.tiny_model()


@pytest.fixture
def state(tiny):
    """Return the tensors of the tiny model under their official names."""
    return {OFFICIAL.sources(name, 2)[0]: tensor for name, tensor in tiny.state_dict().items()}
