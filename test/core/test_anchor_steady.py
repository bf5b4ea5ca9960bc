"""Depth whose scale is steady from frame to frame: standing, driving, at cuts, and its cost."""
from importlib.util import find_spec
from itertools import pairwise
import math
from time import process_time

import numpy as np
import pytest
import robot

from zoe_ros.anchor.anchor import Anchor, Source
from zoe_ros.anchor.frames import Frames
from zoe_ros.anchor.steady import samples, stands_still, SteadyScale
from zoe_ros.camera import Camera
from zoe_ros.temporal_metrics import alignment_error, warp
from zoe_ros.world import places, rooms
from zoe_ros.world.render import Response

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec('embreex') is None,
                       reason='the world is ray cast by Embree, an extra')]
IMAGES, TAU, JITTER = 30, 2.0, 0.1
DRIVES = [(rooms.room, 0), (rooms.corridor, 0), (places.hall, 0)]
BLANK = np.zeros((192, 256, 3), np.uint8)


@pytest.fixture(scope='module')
def drives():
    """Return drives with the depth that a network without jitter predicts: (drive, depths)."""
    found = []
    for build, seed in DRIVES:
        drive = robot.drive(build, seed, IMAGES)
        # A network errs alike in frames that follow each other.
        errors = [robot.predicted(np.ones(BLANK.shape[:2]), np.random.default_rng((seed, part)))
                  for part in range(2)]
        found.append((drive, [
            (drive.truth(k) * errors[0] ** (1 - k / IMAGES) * errors[1] ** (k / IMAGES)).astype(
                np.float32) for k in range(IMAGES)]))
    return found


@pytest.fixture(scope='module')
def standing(drives):
    """Return images with noise, and depth, of a camera that stands still."""
    drive, depths = drives[0]
    rng = np.random.default_rng(5)
    images = [drive.renderer.frame(drive.pose(0), drive.camera, Response(noise=0.01), rng)[0]
              for _ in range(IMAGES)]
    return images, depths[0]


def odometry(drive):
    """Return the frames of a robot whose odometry knows each pose of a drive."""
    frames = Frames()
    for k in range(len(drive)):
        frames.move('camera', 'odom', robot.numbers(robot.optical(drive.pose(k))),
                    k * robot.PERIOD)
    return frames


def sampled(depth):
    """Return the pixels of depth that are compared."""
    at = samples(*depth.shape)
    return depth[at.rows[:, None], at.columns]


def follow(steady, depths, images=None, camera=None, head='indoor', start=0):
    """Return the factor of each frame."""
    return [steady.factor(sampled(depth), BLANK if images is None else images[k], camera, head,
                          (start + k) * robot.PERIOD, 'camera')
            for k, depth in enumerate(depths)]


def jittered(depths, seed=0):
    """Return depths with another factor each, and the logs of these factors."""
    logs = np.random.default_rng(seed).normal(0, JITTER, len(depths))
    return [depth * np.float32(math.exp(log)) for depth, log in zip(depths, logs)], logs


def test_jitter_of_a_camera_that_stands_falls_five_times_without_odometry(standing):
    images, depth = standing
    for seed in range(5):
        depths, logs = jittered([depth] * IMAGES, seed)
        steady = SteadyScale(TAU, Frames())
        left = logs + np.log(follow(steady, depths, images))
        # From the first frames on the filter is a mean, and it settles at once.
        assert left[10:].std() < logs[10:].std() / 5
        assert abs(left[10:].mean()) < 2 * JITTER / math.sqrt(10)
        assert not steady.counts


def test_alignment_error_of_a_drive_falls_and_depth_is_no_worse(drives):
    for drive, depths in drives:
        shaky, _ = jittered(depths)
        steady = SteadyScale(TAU, odometry(drive))
        factors = follow(steady, shaky, camera=drive.camera)
        steadied = [depth * np.float32(f) for depth, f in zip(shaky, factors)]
        assert not steady.counts

        def error(found, drive=drive):
            errors = []
            for k, (one, other) in enumerate(pairwise(found)):
                motion = drive.motion(k * robot.PERIOD, (k + 1) * robot.PERIOD)
                errors.append(alignment_error(one, other, warp(one, drive.camera, motion),
                                              warp(other, drive.camera, motion.inverse())))
            return np.mean(errors)

        def rel(found, drive=drive):
            return np.mean([np.nanmean(np.abs(depth / drive.truth(k) - 1))
                            for k, depth in enumerate(found)])

        assert error(steadied) < 0.4 * error(shaky)
        assert rel(steadied) < rel(shaky)
        # Without jitter nothing is gained, and hardly anything lost.
        factors = follow(SteadyScale(TAU, odometry(drive)), depths, camera=drive.camera)
        assert rel([d * np.float32(f) for d, f in zip(depths, factors)]) < rel(depths) + 0.01


@pytest.mark.parametrize('scale', [0.6, 1.6])
def test_depth_in_a_wrong_scale_does_not_drift_away(drives, scale):
    # The motion is in metres and the depth is not.
    for drive, depths in drives:
        wrong = [depth * np.float32(scale) for depth in depths]
        factors = follow(SteadyScale(60.0, odometry(drive)), wrong, camera=drive.camera)
        assert max(np.abs(np.log(factors))) < 0.06


def test_a_cut_starts_again(drives):
    (first, one), (_, other), _ = drives
    frames = odometry(first)        # which knows nothing of the cut
    cut = 12
    shown = [*one[:cut], *(depth * np.float32(1.5) for depth in other[:3])]
    steady = SteadyScale(60.0, frames)
    factors = follow(steady, shown, camera=first.camera)
    assert np.abs(np.log(factors[cut:])).max() < 0.02
    assert steady.counts == {'another scene': 1}


@pytest.mark.parametrize('change, cause', [
    ({'start': 200}, 'gap'), ({'start': -50}, 'gap'), ({'start': IMAGES - 2}, 'gap'),
    ({'head': 'outdoor'}, 'another head')])
def test_a_gap_and_another_head_start_again(standing, change, cause):
    images, depth = standing
    steady = SteadyScale(1.0, Frames())
    follow(steady, [depth] * IMAGES, images)
    larger = depth * np.float32(1.4)
    factors = follow(steady, [larger] * 3, images, **{'start': IMAGES, **change})
    assert factors == pytest.approx([1] * 3, abs=1e-6)
    assert steady.counts == {cause: 1}


def test_a_change_that_stays_is_followed_with_the_time_constant(standing):
    images, depth = standing
    steady = SteadyScale(1.0, Frames())
    follow(steady, [depth] * IMAGES, images)
    count = round(1.0 / robot.PERIOD)
    factors = follow(steady, [depth * np.float32(1.2)] * count, images, start=IMAGES)
    assert math.log(factors[-1]) == pytest.approx(-math.log(1.2) / math.e, rel=0.02)


def test_a_thing_that_moves_changes_nothing_behind_it(standing):
    images, depth = standing
    steady = SteadyScale(TAU, Frames())
    for k in range(IMAGES - 10):
        shown, image = depth.copy(), images[k].copy()
        # A person, nearer than the wall, crosses the image.
        shown[40:170, 9 * k:9 * k + 50] = 0.8
        image[40:170, 9 * k:9 * k + 50] = 40 + 5 * k
        factor, = follow(steady, [shown], [image], start=k)
        assert factor == pytest.approx(1, abs=2e-3)
    assert not steady.counts


def test_without_odometry_a_camera_that_moves_is_left_alone(drives):
    drive, depths = drives[0]
    rng = np.random.default_rng(0)
    images = [drive.renderer.frame(drive.pose(k), drive.camera, Response(noise=0.01), rng)[0]
              for k in range(10)]
    depths, _ = jittered(depths[:10])
    steady = SteadyScale(TAU, Frames())
    assert np.mean(np.array(follow(steady, depths, images, drive.camera)) == 1) > 0.8
    assert steady.counts['motion unknown'] >= 7


@pytest.fixture
def slow():
    """Return images of a camera that moves by a tenth of a compared pixel each."""
    rng = np.random.default_rng(0)
    scene = rng.uniform(0, 255, (25, 36))
    for axis, count in ((0, 960), (1, 1400)):
        at = np.linspace(0, scene.shape[axis] - 1, count)
        scene = np.apply_along_axis(
            lambda line, at=at: np.interp(at, np.arange(len(line)), line), axis, scene)
    return [scene[:, k:k + 1280].astype(np.uint8) for k in range(40)]


def test_a_slow_motion_is_a_motion(slow):
    small = [image[::10, ::10].astype(np.float32) for image in slow]
    assert stands_still(small[0], small[1])
    assert not stands_still(small[0], small[9])
    assert stands_still(small[0], small[0] + 20)      # another exposure
    assert not stands_still(np.full((96, 128), 7.0), np.full((96, 128), 7.0))   # a blank wall
    # Motion is measured from where the camera stopped, not from image to image.
    steady, depth = SteadyScale(60.0, Frames()), np.full((960, 1280), 3, np.float32)
    follow(steady, [depth] * 40, [np.repeat(image[..., None], 3, axis=2) for image in slow])
    assert 4 < steady.counts['motion unknown'] < 20


def test_the_anchor_finds_the_scale_of_steadied_depth(drives):
    # A lidar that is heard every sixth image: in between the anchor holds its scale.
    for drive, depths in drives:
        shaky, _ = jittered([depth * np.float32(0.7) for depth in depths])
        spread = {}
        for name, factors in (
                ('alone', [1.0] * IMAGES),
                ('steady', follow(SteadyScale(TAU, odometry(drive)), shaky,
                                  camera=drive.camera))):
            anchor = Anchor(motion=drive.motion, tolerance=0.01)
            anchor.configure(drive.camera, Source(
                'scan', robot.lidar_to_camera(drive.pose(0))))
            logs = []
            for k, (depth, factor) in enumerate(zip(shaky, factors)):
                if k % 6 == 0:
                    anchor.observe(drive.scan(k), k * robot.PERIOD, 'scan')
                metres, _ = anchor.apply(depth * np.float32(factor), 'indoor', k * robot.PERIOD)
                logs.append(np.nanmedian(np.log(metres / drive.truth(k))))
            spread[name] = np.array(logs[6:])
        assert np.abs(spread['steady']).mean() < 0.6 * np.abs(spread['alone']).mean()
        assert abs(spread['steady'].mean()) < 0.05


@pytest.mark.parametrize('value', [np.nan, np.inf, 0.0, -1.0])
def test_depth_without_values(standing, value):
    images, depth = standing
    steady = SteadyScale(TAU, Frames())
    nothing = np.full_like(depth, value)
    factors = follow(steady, [depth, nothing, nothing, depth, depth], images)
    assert factors == [1] * 5
    assert steady.counts['no overlap'] == 3


def test_a_frame_costs_little():
    """As much as 8 conversions of its image to float, which is 0.5 ms on a free core."""
    camera = Camera(640, 480, 500, 500, 320, 240, 'plumb_bob', (-0.2, 0.05, 0.001, 0.001, 0))
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
    depth = np.add.outer(np.linspace(2, 3, 96), np.linspace(0, 2, 128)).astype(np.float32)
    frames = Frames()
    for k in range(60):
        frames.move('camera', 'odom', [0, 0, 0.01 * k, 0, 0, 0, 1], k * robot.PERIOD)
    moving, still = SteadyScale(TAU, frames), SteadyScale(TAU, Frames())
    for steady in (moving, still):
        seconds, yardstick = [], []
        for k in range(60):
            begin = process_time()
            steady.factor(depth, image, camera, 'indoor', k * robot.PERIOD, 'camera')
            middle = process_time()
            image.astype(np.float32)
            seconds.append(middle - begin)
            yardstick.append(process_time() - middle)
        assert not steady.counts
        assert np.quantile(seconds, 0.25) < 20 * np.quantile(yardstick, 0.25)
