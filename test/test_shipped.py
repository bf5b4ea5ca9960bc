"""The model that comes with the package: small, and good on scenes that it never saw."""
import numpy as np
import pytest

from zoe_ros import DepthEstimator
from zoe_ros.evaluate import evaluate, ROUTING
from zoe_ros.model.config import DEFAULT, VARIANTS
from zoe_ros.model.hub import SHIPPED
from zoe_ros.model.weights import open_checkpoint
from zoe_ros.settings import WorldSettings
from zoe_ros.sources import open_datasets
from zoe_ros.world.make import make_world


@pytest.fixture(scope='module')
def estimator():
    """Return what a user gets who asks for nothing."""
    return DepthEstimator.load(device='cpu')


def test_the_file_is_small_and_says_what_it_is(estimator):
    path = SHIPPED / f'{DEFAULT}.safetensors'
    assert path.stat().st_size < 25e6
    assert open_checkpoint(path).config == VARIANTS[DEFAULT] == estimator.model.config
    assert estimator.weights == path
    card = (path.parent / 'README.md').read_text()
    assert 'no real photograph' in card


def test_it_measures_scenes_that_were_held_out(estimator, tmp_path):
    """A dozen frames only, so the bounds are wide; the model card has the figures of 640."""
    pytest.importorskip('embreex')
    world = make_world(WorldSettings(str(tmp_path / 'w'), 1, 6, 2, workers=2, seed=7))
    for dataset in open_datasets([str(world)], 'test'):
        figures = evaluate(estimator, dataset).figures
        assert figures['REL'] < 0.15
        assert figures['delta1'] > 0.8
        assert figures[ROUTING] == 1.0


def test_all_devices_and_precisions_agree_about_a_photograph(estimator, photos):
    image = photos[0]
    exact = estimator.predict(image).depth
    assert np.isfinite(exact).all() and exact.min() > 0
    narrow = DepthEstimator.load(device='cpu', precision='bf16').predict(image).depth
    difference = np.abs(narrow - exact) / exact
    assert np.median(difference) < 0.01
