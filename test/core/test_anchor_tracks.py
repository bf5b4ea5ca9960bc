"""Metric points by odometry: exact on rendered drives, none without a way, and their scale."""
from dataclasses import replace
from importlib.util import find_spec
import sys

import numpy as np
import pytest
import robot

from zoe_ros.anchor.anchor import Anchor, Source
from zoe_ros.anchor.tracks import FeatureTracker
from zoe_ros.anchor.transform import IDENTITY
from zoe_ros.world import places, rooms
from zoe_ros.world.render import Response

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec('embreex') is None,
                       reason='the world is ray cast by Embree, an extra'),
    pytest.mark.skipif(find_spec('cv2') is None, reason='features are tracked by OpenCV')]
IMAGES = 12


@pytest.fixture(scope='module')
def drives():
    """Return drives with their images: (drive, images)."""
    found = []
    for build, seed in ((rooms.room, 0), (places.hall, 1)):
        drive = robot.drive(build, seed, IMAGES, (240, 320))
        rng = np.random.default_rng(seed)
        found.append((drive, [drive.renderer.frame(drive.pose(k), drive.camera, Response(), rng)[0]
                              for k in range(IMAGES)]))
    return found


def follow(drive, images, motion):
    """Return the points of each image."""
    tracker = FeatureTracker()
    return [tracker.points(image, drive.camera, k * robot.PERIOD, motion)
            for k, image in enumerate(images)]


def test_points_have_true_depth(drives):
    for drive, images in drives:
        found = follow(drive, images, drive.motion)
        errors = []
        for k, points in enumerate(found):
            truth = drive.truth(k)
            assert points.size == truth.shape
            seen = truth[np.rint(points.v).astype(int), np.rint(points.u).astype(int)]
            errors += list(np.log(points.z / seen)[np.isfinite(seen)])
        assert len(errors) > 100
        assert abs(np.median(errors)) < 0.03
        assert np.median(np.abs(errors)) < 0.08
        assert np.quantile(np.abs(errors), 0.9) < 0.25


def test_the_scale_of_depth_is_found(drives):
    rng = np.random.default_rng(4)
    for drive, images in drives:
        anchor = Anchor()
        anchor.configure(drive.camera, Source('odometry', deviation=0.1))
        for k, points in enumerate(follow(drive, images, drive.motion)):
            network = robot.predicted(drive.truth(k), rng) * np.float32(0.6)
            anchor.observe(points, k * robot.PERIOD, 'odometry')
            scale = anchor.measure(network, 'indoor', k * robot.PERIOD)
        assert scale.value * 0.6 == pytest.approx(1, abs=0.06)
        assert scale.deviation < 0.1 * scale.value


def test_a_wrong_way_gives_a_wrong_scale_and_no_way_gives_none(drives):
    drive, images = drives[0]

    def longer(start, stop):
        moved = drive.motion(start, stop)
        return replace(moved, translation=1.5 * moved.translation)

    def depth(motion):
        return np.median(np.concatenate([p.z for p in follow(drive, images, motion)]))

    assert depth(longer) == pytest.approx(1.5 * depth(drive.motion), rel=0.1)
    for motion in (lambda start, stop: None, lambda start, stop: IDENTITY):
        assert sum(len(points.z) for points in follow(drive, images, motion)) == 0


def test_a_camera_that_turns_or_stands_gives_no_points(drives):
    drive, _ = drives[0]
    rng = np.random.default_rng(0)
    for turn in (0.0, 0.02):
        poses = [replace(drive.pose(0), yaw=drive.pose(0).yaw + turn * k) for k in range(8)]
        images = [drive.renderer.frame(pose, drive.camera, Response(), rng)[0] for pose in poses]

        def motion(start, stop, poses=poses):
            one, other = (poses[round(t / robot.PERIOD)] for t in (start, stop))
            return robot.optical(other).inverse().after(robot.optical(one))

        assert sum(len(points.z) for points in follow(drive, images, motion)) == 0


def test_large_images_are_tracked_small_and_cuts_start_again(drives):
    drive, images = drives[0]
    large = [image.repeat(4, axis=0).repeat(4, axis=1) for image in images]
    camera = replace(drive.camera, width=1280, height=960, fx=4 * drive.camera.fx,
                     fy=4 * drive.camera.fy, cx=4 * drive.camera.cx + 1.5,
                     cy=4 * drive.camera.cy + 1.5)
    found = follow(replace(drive, camera=camera), large, drive.motion)
    assert found[-1].size == (960, 1280) and len(found[-1].z) > 10
    seen = drive.truth(IMAGES - 1)[np.rint((found[-1].v - 1.5) / 4).astype(int),
                                   np.rint((found[-1].u - 1.5) / 4).astype(int)]
    assert abs(np.nanmedian(np.log(found[-1].z / seen))) < 0.06
    tracker = FeatureTracker()
    for k in range(6):
        tracker.points(images[k], drive.camera, k * robot.PERIOD, drive.motion)
    for stamp in (0.1, 60.0):   # time that goes back, and a gap
        assert len(tracker.points(images[7], drive.camera, stamp, drive.motion).z) == 0
        assert tracker.reason[0] == 'no features'


def test_the_reason_for_no_points_is_told(drives):
    drive, images = drives[0]
    causes = []
    for motion in (lambda start, stop: None, lambda start, stop: IDENTITY, drive.motion):
        tracker = FeatureTracker()
        for k in range(IMAGES):
            found = tracker.points(images[k], drive.camera, k * robot.PERIOD, motion)
            assert bool(len(found.z)) is (tracker.reason == ('', ''))
            causes.append(tracker.reason[0])
    first, second, third = (causes[k * IMAGES:(k + 1) * IMAGES] for k in range(3))
    assert first == ['no features'] + ['motion unknown'] * (IMAGES - 1)
    assert second == ['no features'] + ['no way'] * (IMAGES - 1)
    assert third[:2] == ['no features', 'no parallax'] and third[-1] == ''


@pytest.mark.parametrize('image', [
    np.zeros((240, 320, 3), np.uint8), np.full((240, 320, 3), 255, np.uint8)])
def test_an_image_without_features(drives, image):
    drive, _ = drives[0]
    assert all(len(points.z) == 0 for points in follow(drive, [image] * 4, drive.motion))


def test_without_opencv_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv2', None)
    with pytest.raises(ValueError, match="anchor 'odometry' needs cv2: pip install"):
        FeatureTracker()
