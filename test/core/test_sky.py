"""The sky: found in outdoor images, infinite in the outputs; untouched by default and indoors."""
from dataclasses import replace

import bags
import numpy as np
import pytest
import torch

from zoe_ros.anchor.correction import NOTHING
from zoe_ros.camera import Camera
from zoe_ros.camera_depth import to_camera
from zoe_ros.clock import Clock
from zoe_ros.inference.engine import NetworkDepth
from zoe_ros.inference.preprocess import plan_sizes, to_pixels
from zoe_ros.model.config import VARIANTS
from zoe_ros.outputs import DEPTH
from zoe_ros.settings import FrameSettings
from zoe_ros.sky import find_sky
from zoe_ros.training_camera import TrainingCamera

SIZE = (96, 128)
HORIZON = 40


def street(sky=(150, 190, 240), facade=False):
    """Return image and depth of a grey, rough road under an even sky; or before a white wall."""
    random = np.random.default_rng(0)
    image = random.integers(60, 120, (*SIZE, 3)).astype(np.uint8)
    image[:HORIZON] = sky
    depth = np.full(SIZE, 40.0, np.float32)
    depth[HORIZON:] = (500 / np.arange(1, SIZE[0] - HORIZON + 1)).clip(2, 40)[:, None]
    if facade:
        image[:, 80:] = 230
        depth[:, 80:] = 4
    return image, depth


def network(image, depth, head='outdoor'):
    """Return the result of a network that sees the image as this depth."""
    plan = plan_sizes(SIZE, SIZE, 'stretch', False)
    pixels = to_pixels(torch.from_numpy(image)[None], plan)[0]
    return NetworkDepth(torch.from_numpy(depth), torch.from_numpy(0.1 * depth), plan, head,
                        {head: 1.0}, pixels)


def at_the_camera(net, view=None, **settings):
    """Return depth and deviation of a frame."""
    return to_camera(net, NOTHING, view, None, FrameSettings(**settings), None, Clock())


@pytest.mark.parametrize('color', [(150, 190, 240), (225, 228, 232), (90, 130, 200)],
                         ids=['blue', 'overcast', 'deep blue'])
def test_the_sky_is_infinite_and_the_rest_stays(color):
    image, depth = street(color)
    kept, found = (at_the_camera(network(image, depth), sky=sky) for sky in ('keep', 'inf'))
    assert np.array_equal(kept.depth, depth)
    assert np.isposinf(found.depth[:HORIZON - 2]).all()
    assert np.array_equal(found.depth[HORIZON + 2:], depth[HORIZON + 2:])
    assert np.isnan(found.deviation[:HORIZON - 2]).all()
    assert np.array_equal(found.deviation[HORIZON + 2:], kept.deviation[HORIZON + 2:])


def test_a_white_wall_is_no_sky():
    found = at_the_camera(network(*street(facade=True)), sky='inf').depth
    assert np.isposinf(found[:HORIZON - 2, :78]).all()
    assert (found[:, 82:] == 4).all()


def test_what_is_farther_is_more_likely_sky():
    image, depth = street()
    near, far = (find_sky(*sky_inputs(image, factor * depth))[:15] for factor in (1, 2))
    assert (far > near + 0.5).all()


def test_there_is_no_sky_indoors():
    image, depth = street()
    assert np.array_equal(at_the_camera(network(image, depth, 'indoor'), sky='inf').depth, depth)


def test_sky_is_beyond_the_largest_depth():
    net = network(*street())
    found = at_the_camera(net, sky='inf', max_depth=50.0, far_value=60.0).depth
    assert (found[:HORIZON - 2] == 60).all()
    removed = at_the_camera(net, sky='inf', max_relative_uncertainty=0.05).depth
    assert np.isposinf(removed[:HORIZON - 2]).all()
    assert np.isnan(removed[HORIZON + 2:]).all()


@pytest.mark.parametrize('interpolation', ['edges', 'linear', 'nearest'])
def test_beside_the_sky_depth_is_that_of_the_ground(interpolation):
    image, depth = street()
    net = replace(network(image, depth), plan=plan_sizes((150, 200), SIZE, 'stretch', False))
    found = at_the_camera(net, sky='inf', interpolation=interpolation).depth
    assert found.shape == (150, 200)
    assert np.isposinf(found[:58]).all()
    assert (found[np.isfinite(found)] <= 40).all()
    assert not np.isnan(found).any()


def test_in_the_training_view_the_sky_is_where_it_was_seen():
    camera = Camera(128, 96, 110.0, 110.0, 64.0, 48.0)
    view = TrainingCamera.between(
        camera, VARIANTS['nk'].head('outdoor'), SIZE, torch.device('cpu'))
    found = at_the_camera(network(*street()), view, sky='inf').depth
    assert np.isposinf(found).any()
    assert (np.isnan(found) == np.isnan(at_the_camera(network(*street()), view).depth)).all()


def test_depth_without_value_is_no_sky():
    image, depth = street()
    for value in (0.0, -1.0, np.nan):
        depth[:20] = value
        assert not (find_sky(*sky_inputs(image, depth))[:9] > 0).any()


def sky_inputs(image, depth):
    """Return pixels and depth of a network."""
    net = network(image, depth)
    return net.pixels, net.depth


def test_the_setting_reaches_frames(pipeline):
    # The tiny model has random weights, so its depth says nothing: light alone decides.
    image = np.zeros((64, 96, 3), np.uint8)
    image[:40] = (120, 200, 255)
    message = bags.ROSBAGS.photo(image)
    kept, found, indoors = (
        pipeline(sky=sky, router=head, max_depth=1000.0).process(message, (DEPTH,)).depth
        for sky, head in (('keep', 'outdoor'), ('inf', 'outdoor'), ('inf', 'indoor')))
    assert np.isfinite(kept).all()
    assert np.isposinf(found[:30]).any()
    assert np.array_equal(found[np.isfinite(found)], kept[np.isfinite(found)])
    assert not np.isposinf(indoors).any()
