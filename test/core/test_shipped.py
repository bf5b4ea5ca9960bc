"""The model that comes with the package: small, offline, and good on scenes that it never saw."""
import os
from pathlib import Path
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from zoe_ros import DepthEstimator
from zoe_ros.command_settings import WorldSettings
from zoe_ros.datasets.open import open_datasets
from zoe_ros.evaluate import evaluate, ROUTING
from zoe_ros.inference.defaults import default_precision, describe
from zoe_ros.metrics import WITHIN
from zoe_ros.model.config import VARIANTS
from zoe_ros.model.hub import SHIPPED
from zoe_ros.model.weights import open_checkpoint
from zoe_ros.world.make import make_world

pytestmark = [pytest.mark.slow, pytest.mark.threads]

ROOT = Path(__file__).resolve().parents[2]
FILE = SHIPPED / 'mobile.safetensors'


@pytest.fixture(scope='module')
def estimator():
    """Return the model for rendered scenes, exactly."""
    return DepthEstimator.load('mobile', device='cpu', precision='fp32')


@pytest.fixture(scope='module')
def held_out(tmp_path_factory):
    """Return scenes of both domains that nothing was trained on: another seed, another split."""
    pytest.importorskip('embreex')
    folder = tmp_path_factory.mktemp('shipped') / 'world'
    make_world(WorldSettings(str(folder), 1, 8, 2, workers=2, seed=7))
    return open_datasets([str(folder)], 'test')


def test_the_file_is_small_and_says_what_it_is(estimator):
    assert FILE.stat().st_size <= 25e6
    assert open_checkpoint(FILE).config == VARIANTS['mobile'] == estimator.model.config
    assert estimator.weights == (FILE,)
    assert 'no real image' in (SHIPPED / 'mobile.md').read_text()


def test_it_measures_scenes_that_were_held_out(estimator, held_out):
    """Sixteen frames each, so the bounds are wide; the model card has the figures of 640."""
    for dataset in held_out:
        figures = evaluate(estimator, dataset).figures
        assert figures['REL'] < 0.13
        assert figures['delta1'] > 0.87
        assert figures[ROUTING] == 1.0


def test_mobile_lite_measures_scenes_that_were_held_out(tmp_path):
    """Few frames and wide bounds; the model card has the figures on photographs."""
    pytest.importorskip('embreex')
    path = SHIPPED / 'mobile-lite.safetensors'
    assert path.stat().st_size <= 25e6
    lite = DepthEstimator.load('mobile-lite', device='cpu', precision='fp32')
    assert lite.weights == (path,)
    assert open_checkpoint(path).config == VARIANTS['mobile-lite'] == lite.model.config
    # New weights need a new calibration: zoe calibrate, see docs/training.md.
    assert set(lite.model.calibrations) == {'indoor', 'outdoor'}
    make_world(WorldSettings(str(tmp_path / 'world'), 1, 12, 2, workers=2, seed=9,
                             recipe='varied'))
    for dataset in open_datasets([str(tmp_path / 'world')], 'test'):
        figures = evaluate(lite, dataset).figures
        assert figures['REL'] < 0.45
        assert 0.45 < figures[WITHIN] < 0.9
        assert figures[ROUTING] >= 0.8


def test_precisions_agree_about_a_photograph(estimator, photos):
    exact = estimator.predict(photos[0]).depth
    assert np.isfinite(exact).all() and exact.min() > 0
    narrow = DepthEstimator.load('mobile', device='cpu', precision='bf16').predict(photos[0]).depth
    assert np.median(np.abs(narrow - exact) / exact) < 0.01


def test_bfloat16_makes_little_difference(estimator, held_out):
    narrow = DepthEstimator.load('mobile', device='cpu', precision='bf16')
    for dataset in held_out:
        images = [dataset[i].image for i in range(0, len(dataset), 4)]
        pairs = [(narrow.predict(image).depth, estimator.predict(image).depth)
                 for image in images]
        difference = np.concatenate([(np.abs(a - b) / b).ravel() for a, b in pairs])
        assert np.median(difference) < 0.005
        assert np.quantile(difference, 0.99) < 0.03


def test_the_demo_needs_no_network_on_any_machine():
    demo, = re.findall(r'^demo:.*\n((?:\t.*\n)+)', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    assert '--variant mobile' in demo


def test_depth_of_the_sample_without_a_network(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'zoe_ros.cli', 'run', ROOT / 'zoe_ros/data/sample', '--device',
         'cpu', '--output', tmp_path / 'results'], cwd=ROOT, capture_output=True, text=True,
        timeout=300, env={**os.environ, 'HF_HUB_OFFLINE': '1', 'HF_HOME': str(tmp_path / 'no')})
    assert done.returncode == 0, done.stderr
    assert 'has seen few photographs' in done.stdout
    assert "variant 'mobile-lite': " in done.stdout
    config = yaml.safe_load((tmp_path / 'results/latest/config.yaml').read_text())
    assert config['variant'] == 'mobile-lite'
    assert config['precision'] == default_precision(describe(torch.device('cpu'))).name
    assert f'ZoeD-Mobile-Lite-NK in {config["precision"]} on cpu' in done.stdout
    assert (tmp_path / 'results/latest/overview.png').is_file()
    assert (tmp_path / 'results/latest/bag/metadata.yaml').is_file()
