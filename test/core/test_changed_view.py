"""A camera that shows another region, zooms, or changes its resolution while it runs."""
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from robot_messages import CAMERA
import stereo

from zoe_ros.anchor.anchor import Anchor, Source
from zoe_ros.anchor.frames import Frames
from zoe_ros.anchor.points import ImagePoints
from zoe_ros.anchor.steady import samples, SteadyScale
from zoe_ros.anchor.tracks import FeatureTracker
from zoe_ros.anchor.transform import Transform

SIZE = (120, 160)
IMAGE = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
# The middle of the image at twice the focal length.
ZOOMED = replace(CAMERA, fx=2 * CAMERA.fx, fy=2 * CAMERA.fy, cx=2 * (CAMERA.cx - 40),
                 cy=2 * (CAMERA.cy - 30))
DOUBLED = replace(CAMERA, width=320, height=240, fx=2 * CAMERA.fx, fy=2 * CAMERA.fy,
                  cx=2 * CAMERA.cx + 0.5, cy=2 * CAMERA.cy + 0.5)
FOCUSED = replace(CAMERA, fx=1.005 * CAMERA.fx, fy=1.005 * CAMERA.fy)


def tunnel():
    """Return depth that grows towards the middle, (120, 160) float32 [m]."""
    y, x = np.mgrid[:SIZE[0], :SIZE[1]]
    return (3 - 1.2 * np.hypot((x - 80) / 100, (y - 60) / 100)).astype(np.float32)


def standing():
    """Return the frames of a camera that odometry says stands."""
    frames = Frames()
    for k in range(20):
        frames.move('cam', 'odom', [0, 0, 0, 0, 0, 0, 1], 1 + 0.1 * k)
    return frames


@pytest.mark.parametrize('camera, again', [(CAMERA, False), (FOCUSED, False), (ZOOMED, True)])
def test_depth_is_steadied_within_one_view_alone(camera, again):
    steady, at = SteadyScale(2.0, standing()), samples(*SIZE)
    for k in range(20):
        depth, by = (tunnel(), CAMERA) if k < 10 else (
            tunnel()[30:90, 40:120].repeat(2, 0).repeat(2, 1) if again else tunnel(), camera)
        factor = steady.factor(depth[at.rows[:, None], at.columns], IMAGE, by, 'indoor',
                               1 + 0.1 * k, 'cam')
        assert factor == pytest.approx(1, abs=1e-3), k
    assert steady.counts == ({'another view': 1} if again else {})


@pytest.mark.parametrize('first, again', [(1, False), (0, True)])
def test_two_images_of_one_stamp_are_steadied_and_those_without_a_stamp_are_not(first, again):
    # A simulated clock makes coarse steps; a driver that does not stamp always says 0.
    frames, at = Frames(), samples(*SIZE)
    for k in range(20):
        frames.move('cam', 'odom', [0, 0, 0, 0, 0, 0, 1], 0.2 * k)
    steady = SteadyScale(2.0, frames)
    factors = [steady.factor(
        tunnel()[at.rows[:, None], at.columns] * np.float32(1.1 if k % 2 else 1 / 1.1), IMAGE,
        CAMERA, 'indoor', first * (1 + 0.2 * (k // 2)), 'cam') for k in range(20)]
    jitter = np.std(np.log(factors) - np.log(1.1) * (-1) ** np.arange(20))
    assert bool(jitter > 0.09) is again
    assert steady.counts == ({'gap': 19} if again else {})


@pytest.mark.parametrize('known', [True, False])
def test_a_scale_of_another_view_is_left_at_once(known):
    anchor, v, u = Anchor(), *np.mgrid[4:120:8, 4:160:8]
    anchor.place(Source('depth'))
    scales = []
    for k in range(20):
        # The network errs by 20 % here and there, so that a fit alone is not sure.
        error = np.exp(0.2 * np.random.default_rng(k).standard_normal((3, 4)))
        depth = (tunnel() * error.repeat(40, 0).repeat(40, 1) / (3 if k < 10 else 1)).astype(
            np.float32)
        for camera in [CAMERA] if k < 10 else [ZOOMED] if known else [None, ZOOMED]:
            anchor.configure(camera)
        anchor.observe(ImagePoints(u.ravel() * 1.0, v.ravel() * 1.0, tunnel()[v, u].ravel(),
                                   SIZE, {}), 1 + 0.1 * k, 'depth')
        scales.append(anchor.measure(depth, 'indoor', 1 + 0.1 * k).value)
    assert scales[9] == pytest.approx(3, rel=0.2)
    assert scales[10:] == pytest.approx([1] * 10, rel=0.2)
    assert anchor.counts['frames: another view'] == 1


def test_views():
    assert CAMERA.same_view(DOUBLED) and CAMERA.same_view(FOCUSED)
    assert not CAMERA.same_view(ZOOMED)
    assert not CAMERA.same_view(replace(CAMERA, cy=CAMERA.cy + 10))
    # An autofocus breathes by 2 %, whatever the lens; 5 % are a zoom, whatever the lens.
    for lens in (0.3, 5.0):
        seen = replace(CAMERA, fx=lens * CAMERA.fx, fy=lens * CAMERA.fy)
        assert seen.same_view(replace(seen, fx=1.02 * seen.fx, fy=1.02 * seen.fy))
        assert not seen.same_view(replace(seen, fx=1.05 * seen.fx, fy=1.05 * seen.fy))


@pytest.mark.skipif(find_spec('cv2') is None, reason='features are tracked by OpenCV')
def test_features_are_followed_through_images_of_one_stamp():
    tracker, texture = FeatureTracker(), stereo.texture()
    for k in range(12):
        at = k // 2 * 0.1
        moved = stereo.right_view(texture, np.full((240, 320), 2, np.float32), 0.3 * at)
        found = tracker.points(moved if at else texture, stereo.CAMERA, 1 + at, lambda a, b: (
            Transform.from_numbers([-0.3 * (b - a), 0, 0, 0, 0, 0, 1])))
        if k == 10:
            assert len(found.z) > 8 and np.median(found.z) == pytest.approx(2, rel=0.05)


@pytest.mark.skipif(find_spec('cv2') is None, reason='features are tracked by OpenCV')
@pytest.mark.parametrize('zoom, followed', [(1.0, True), (2.0, False)])
def test_features_are_followed_within_one_view_alone(zoom, followed):
    tracker, texture = FeatureTracker(), stereo.texture()
    for k in range(6):
        moved = stereo.right_view(texture, np.full((240, 320), 2, np.float32), 0.03 * k)
        camera = stereo.CAMERA if k < 5 else replace(
            stereo.CAMERA, fx=zoom * stereo.CAMERA.fx, fy=zoom * stereo.CAMERA.fy)
        found = tracker.points(moved if k else texture, camera, 1 + 0.1 * k, lambda start, stop: (
            Transform.from_numbers([-0.3 * (stop - start), 0, 0, 0, 0, 0, 1])))
    assert (len(found.z) > 0) is followed
