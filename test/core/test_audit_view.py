"""The training camera's view from head to head, and depth and deviation beside an edge."""
from dataclasses import replace

import bags
from frames import buffer_of, K, photo, SIZE
import made_up
import numpy as np
from PIL import Image
import pytest
import torch

from zoe_ros.anchor.correction import NOTHING
from zoe_ros.camera import Camera
from zoe_ros.camera_depth import to_camera
from zoe_ros.clock import Clock
from zoe_ros.inference.engine import NetworkDepth
from zoe_ros.inference.preprocess import plan_sizes
from zoe_ros.outputs import DEPTH
from zoe_ros.settings import FrameSettings
from zoe_ros.training_camera import TrainingCamera

NET = (64, 96)
# A lens that is wider than either training camera, so that each view is a part of the image.
WIDE = Camera(64, 48, 20.0, 25.0, 30.5, 25.25)
CPU = torch.device('cpu')


def view_of(head, camera=WIDE):
    """Return the view of a head's training camera."""
    config = made_up.tiny_config()
    return TrainingCamera.between(camera, config.head(head), config.image_size, CPU)


def seen_by(head):
    """Return the pixels (h, w) of the image that a head's training camera sees."""
    return ~view_of(head).to_image.isnan().any(dim=-1).numpy()


@pytest.fixture
def training(pipeline):
    """Return a function that makes a pipeline with the training camera's view."""
    info = bags.ROSBAGS.info(*SIZE, k=(20, 0, 30.5, 0, 25, 25.25, 0, 0, 1))

    def made(**settings):
        return pipeline(infos=buffer_of(info), camera_view='training', **settings)

    return made


def test_the_heads_see_different_parts():
    indoor, outdoor = seen_by('indoor'), seen_by('outdoor')
    assert indoor.any() and outdoor.any() and (indoor != outdoor).mean() > 0.05


@pytest.mark.parametrize('head', ['indoor', 'outdoor'])
def test_a_forced_head_has_its_own_view(training, head):
    pipe = training(router=head)
    for _ in range(2):
        assert np.array_equal(np.isfinite(pipe.process(photo(), (DEPTH,)).depth), seen_by(head))


def test_the_view_is_that_of_the_head_of_the_frame_before(training, photos):
    small = [np.array(Image.fromarray(image).resize(SIZE[::-1])) for image in photos]
    pipe, before, heads = training(), 'indoor', []
    for i, image in enumerate(small * 2):
        message = bags.ROSBAGS.photo(image, stamp=bags.START + i * bags.SECOND // 10)
        frame = pipe.process(message, (DEPTH,))
        assert np.array_equal(np.isfinite(frame.depth), seen_by(before)), i
        before = frame.head
        heads.append(before)
    # Both heads were followed by a frame; otherwise this has shown nothing.
    assert set(heads[:-1]) == {'indoor', 'outdoor'}


# --- beside an edge -------------------------------------------------------------------------


def step(left, right, column=40):
    """Return a map (H, W) of two values with one edge between two columns."""
    values = torch.full(NET, float(left))
    values[:, column:] = right
    return values


def at_the_image(depth, deviation=None, view=None, **settings):
    """Return depth and deviation at the size of an image of 200 x 150 pixels."""
    # A view is made at the size of the network.
    plan = plan_sizes((150, 200) if view is None else NET, NET, 'stretch', False)
    net = NetworkDepth(depth, deviation, plan, 'indoor', {'indoor': 1.0}, torch.zeros(3, *NET))
    return to_camera(net, NOTHING, view, None, FrameSettings(**settings), None, Clock())


@pytest.mark.parametrize('interpolation', ['edges', 'nearest'])
def test_back_from_the_training_view_no_depth_is_invented_at_an_edge(interpolation):
    camera = Camera(200, 150, 90.0, 90.0, 100.0, 75.0)
    depth = at_the_image(step(1, 5), view=view_of('indoor', camera),
                         interpolation=interpolation).depth
    assert set(depth[np.isfinite(depth)].tolist()) == {1.0, 5.0}


def test_back_from_the_training_view_linear_is_linear():
    camera = Camera(200, 150, 90.0, 90.0, 100.0, 75.0)
    depth = at_the_image(step(1, 5), view=view_of('indoor', camera),
                         interpolation='linear').depth
    assert len(np.unique(depth[np.isfinite(depth)])) > 2


def test_the_deviation_beside_an_edge_of_depth_is_that_of_one_side():
    # So little apart that the deviation by itself has no edge.
    found = at_the_image(step(1, 5), step(0.1, 0.101), interpolation='edges')
    assert set(found.depth.ravel().tolist()) == {1.0, 5.0}
    assert set(found.deviation.ravel().tolist()) == set(
        np.array([0.1, 0.101], np.float32).tolist())
    assert np.array_equal(found.depth == 1, found.deviation == np.float32(0.1))


# --- another camera -------------------------------------------------------------------------


def test_a_new_camera_of_the_same_size_has_a_new_view(pipeline):
    one = bags.ROSBAGS.info(*SIZE, k=(20, 0, 30.5, 0, 25, 25.25, 0, 0, 1))
    other = bags.ROSBAGS.info(*SIZE, k=K, stamp=bags.START + bags.SECOND)
    pipe = pipeline(infos=buffer_of(one, other), camera_view='training', router='indoor')
    depths = [pipe.process(photo(stamp=stamp), (DEPTH,)).depth
              for stamp in (bags.START, bags.START + bags.SECOND)]
    assert np.array_equal(np.isfinite(depths[0]), seen_by('indoor'))
    camera = replace(WIDE, fx=50.0, fy=55.0)
    unseen = view_of('indoor', camera).to_image.isnan().any(dim=-1).numpy()
    assert np.array_equal(np.isnan(depths[1]), unseen)
    assert (np.isnan(depths[0]) != unseen).mean() > 0.1
