"""Metric points by a second camera: exact on rendered pairs, none from wrong ones."""
from importlib.util import find_spec
import math
import sys

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
import pytest
import robot
import stereo

from zoe_ros.anchor.anchor import Anchor, Source
from zoe_ros.anchor.stereo import PairError, StereoMatcher
from zoe_ros.world import places, rooms
from zoe_ros.world.render import Response

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec('embreex') is None,
                       reason='the world is ray cast by Embree, an extra'),
    pytest.mark.skipif(find_spec('cv2') is None, reason='features are matched by OpenCV')]
SCENES = ((rooms.room, 0), (rooms.room, 2), (rooms.corridor, 0), (places.hall, 0),
          (places.hall, 2))
IMAGES = (0, 3)
SIZE = (300, 400)
BASELINES = (0.06, 0.12)
BEYOND = 6.0            # matches end here [m]


class View:
    """A left image with its depth, and right images by their baseline."""

    def __init__(self, drive, index):
        """Render."""
        rng = np.random.default_rng(index)
        self.camera, pose, renderer = drive.camera, drive.pose(index), drive.renderer
        self.left, self.truth = renderer.frame(pose, self.camera, Response(), rng)
        self.right = {baseline: renderer.frame(stereo.right_pose(pose, baseline), self.camera,
                                               Response(), rng)[0] for baseline in BASELINES}

    def points(self, baseline, right=None):
        """Return the points of the pair, or of another right image."""
        return StereoMatcher().points(self.left, self.right[baseline] if right is None else right,
                                      self.camera, baseline)

    def scale(self, points, network):
        """Return the scale of depth by points."""
        anchor = Anchor()
        anchor.configure(self.camera, Source('stereo'))
        anchor.observe(points, 1.0, 'stereo')
        return anchor.measure(network, 'indoor', 1.0)


@pytest.fixture(scope='module')
def views():
    """Return views of several scenes."""
    return [View(drive, index) for drive in
            (robot.drive(build, seed, max(IMAGES) + 1, SIZE) for build, seed in SCENES)
            for index in IMAGES]


def errors(points, view, baseline):
    """Return the errors of disparity [px], of points that are not beside a depth edge."""
    around = sliding_window_view(np.pad(view.truth, 3, 'edge'), (7, 7))
    smooth = around.max(axis=(2, 3)) < 1.1 * around.min(axis=(2, 3))    # NaN compares as False
    row, column = np.rint(points.v).astype(int), np.rint(points.u).astype(int)
    found = (1 / points.z - 1 / view.truth[row, column]) * view.camera.fx * baseline
    return found[smooth[row, column]]


@pytest.mark.parametrize('baseline', BASELINES)
def test_points_have_true_depth(views, baseline):
    for view in views:
        points = view.points(baseline)
        found = errors(points, view, baseline)
        assert points.size == view.truth.shape and len(found) > 40
        assert abs(np.median(found)) < 0.12
        assert np.median(np.abs(found)) < 0.25
        # Stated for each point: 1/z is known equally well.
        assert points.deviation == pytest.approx(0.25 / (view.camera.fx * baseline))


def network_of(view, rng):
    """Return what a network predicts that is wrong by the factor 0.7."""
    return robot.predicted(view.truth, rng) * np.float32(0.7)


def test_depth_beyond_the_range_of_the_pair_is_right(views):
    rng, found, beyond = np.random.default_rng(3), [], []
    for view in views:
        network = network_of(view, rng)
        points = view.points(0.12)
        near = points.z < BEYOND
        points = points._replace(u=points.u[near], v=points.v[near], z=points.z[near])
        scale = view.scale(points, network)
        found.append(math.log(scale.value * 0.7))
        far = view.truth > BEYOND
        if np.mean(far) > 0.05:
            beyond.append([np.mean(np.abs(network * factor - view.truth)[far] / view.truth[far])
                           for factor in (scale.value, 1 / 0.7)])
    assert np.median(np.abs(found)) < 0.02 and np.abs(found).max() < 0.05
    anchored, best = np.mean(beyond, axis=0)
    assert len(beyond) >= 4 and anchored < 1.1 * best


@pytest.mark.parametrize('baseline, columns, rows, most', [
    # The vertical error moves nothing; the horizontal one as much as it moves disparity.
    (0.12, 0.0, 0.3, 0.005), (0.06, 0.0, 0.3, 0.01),
    (0.12, 0.3, 0.0, 0.04), (0.06, 0.3, 0.0, 0.07),
    (0.12, -0.3, 0.0, 0.04), (0.06, -0.3, 0.0, 0.08)])
def test_a_miscalibrated_pair(views, baseline, columns, rows, most):
    for view in views:
        right = stereo.shifted(view.right[baseline], columns, rows)
        good, bad = (view.scale(view.points(baseline, image), view.truth)
                     for image in (None, right))
        moved = math.log(bad.value / good.value)
        assert abs(moved) < most
        assert moved * columns >= 0 and (not columns or abs(moved) > 0.005)
        # The deviation of the scale covers it.
        assert abs(math.log(bad.value)) < 2 * bad.deviation


@pytest.mark.parametrize('spoil, cause, text', [
    (lambda view: stereo.shifted(view.right[0.12], rows=1.6), 'not rectified',
     'the rows of left and right image are 1.'),
    (lambda view: stereo.shifted(view.right[0.12], rows=-2), 'not rectified', 'pixels apart'),
    (lambda view: view.right[0.12][::-1], 'no match', 'are in the right one'),
    (lambda view: view.right[0.12] * 0, 'no match', '0 of 300 features of the left image'),
    (lambda view: np.random.default_rng(0).integers(0, 12, view.left.shape).astype(np.uint8),
     'no match', 'are in the right one'),
    (lambda view: stereo.texture(1, view.left.shape[:2]), 'no match', 'are in the right one')])
def test_a_wrong_right_image_gives_no_points(views, spoil, cause, text):
    for view in views:
        with pytest.raises(PairError, match=text) as caught:
            view.points(0.12, spoil(view))
        assert caught.value.cause == cause


def test_a_left_image_without_features(views):
    with pytest.raises(PairError, match='0 of 0 features'):
        StereoMatcher().points(views[0].left * 0, views[0].right[0.12], views[0].camera, 0.12)


@pytest.mark.parametrize('gain, offset', [(0.7, 0), (1.25, 10), (0.9, 25)])
def test_another_exposure(views, gain, offset):
    for view in views:
        right = (view.right[0.12] * gain + offset).clip(0, 255).astype(np.uint8)
        plain, other = view.points(0.12), view.points(0.12, right)
        assert len(other.z) > 0.7 * len(plain.z)
        assert abs(np.median(errors(other, view, 0.12))
                   - np.median(errors(plain, view, 0.12))) < 0.05


def test_large_images_are_matched_small(views):
    view = views[0]
    large = [image.repeat(4, axis=0).repeat(4, axis=1)
             for image in (view.left, view.right[0.12])]
    camera = stereo.larger(view.camera, 4)
    points = StereoMatcher().points(*large, camera, 0.12)
    assert points.size == large[0].shape[:2] and len(points.z) > 60
    small = points._replace(u=(points.u - 1.5) / 4, v=(points.v - 1.5) / 4)
    assert abs(np.median(errors(small, view, 0.12))) < 0.1


def test_without_opencv_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv2', None)
    with pytest.raises(ValueError, match="anchor 'stereo' needs cv2: pip install 'zoe_ros"):
        StereoMatcher()
