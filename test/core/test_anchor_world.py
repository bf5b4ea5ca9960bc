"""The anchor on drives through the synthetic world: a 2D lidar, wrong returns, sparse features."""
from importlib.util import find_spec
import math

import numpy as np
import pytest
import robot

from zoe_ros.anchor.anchor import Anchor, Source
from zoe_ros.anchor.points import from_scan, ImagePoints
from zoe_ros.anchor.transform import IDENTITY, Transform
from zoe_ros.world import places, rooms

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec('embreex') is None,
                       reason='the world is ray cast by Embree, an extra')]
DRIVES = [(rooms.room, 0), (rooms.room, 2), (rooms.corridor, 0), (rooms.corridor, 2),
          (places.hall, 0), (places.hall, 1)]
IMAGES = 20


@pytest.fixture(scope='module')
def drives():
    """Return drives through rooms, corridors and halls."""
    return [robot.drive(build, seed, IMAGES) for build, seed in DRIVES]


def misplaced(rng, metres, degrees):
    """Return a small transform in any direction."""
    along, about = (part / np.linalg.norm(part) for part in rng.normal(size=(2, 3)))
    half = math.radians(degrees) / 2
    return Transform.from_numbers([*metres * along, *math.sin(half) * about, math.cos(half)])


def rel(depth, truth):
    """Return the mean relative error."""
    return float(np.nanmean(np.abs(depth - truth) / truth))


def follow(drive, error, rng):
    """
    Drive with a lidar 50 ms late and 20 % wrong returns, and with another scale in each image.

    :param error: of the transform from the lidar to the camera.
    :return: errors of the log-scale, errors in units of their deviation, REL, and REL without the
        corruption of the scale.
    """
    anchor = Anchor(motion=drive.motion)
    anchor.configure(drive.camera,
                     Source('scan', error.after(robot.lidar_to_camera(drive.pose(0)))))
    found = []
    for k in range(len(drive)):
        truth = drive.truth(k)
        network = robot.predicted(truth, rng)
        factor = math.exp(rng.uniform(math.log(0.6), math.log(1.6)))
        anchor.observe(drive.scan(k, True, 0.2, rng), (k + 0.5) * robot.PERIOD, 'scan')
        depth, scale = anchor.apply(network * np.float32(factor), 'indoor', k * robot.PERIOD)
        log_error = math.log(scale.value * factor)
        found.append((log_error, log_error * scale.value / scale.deviation, rel(depth, truth),
                      rel(network, truth)))
    return np.array(found).T


def test_a_scale_that_differs_in_each_image(drives):
    found = [follow(drive, IDENTITY, np.random.default_rng(1)) for drive in drives]
    medians = [np.median(np.abs(errors)) for errors, _, _, _ in found]
    errors, normal, anchored, uncorrupted = np.concatenate(found, axis=1)
    assert np.median(np.abs(errors)) < 0.02 and max(medians) < 0.03
    assert anchored.mean() < 1.10 * uncorrupted.mean()
    # The deviation is neither too small nor of no use.
    assert 0.5 < np.median(np.abs(normal)) / 0.6745 < 1.6


def test_a_lidar_that_is_misplaced(drives):
    medians = []
    for seed, drive in enumerate([*drives, *drives]):
        rng = np.random.default_rng(seed)
        errors = follow(drive, misplaced(rng, 0.05, 2.0), rng)[0]
        medians.append(np.median(np.abs(errors)))
    assert np.median(medians) < 0.04 and max(medians) < 0.06


def errors_of_turns(drives, time_increment):
    """
    Return errors of the log-scale by a turning lidar, on robots that turn by up to 1 rad/s.

    :param time_increment: that the scans state, from the true one.
    """
    errors = []
    for drive in drives:
        turning, rng = drive.turned(1.0, 2.0), np.random.default_rng(1)
        anchor = Anchor(motion=turning.motion)
        anchor.configure(drive.camera, Source('scan', robot.lidar_to_camera(drive.pose(0))))
        for k in range(len(turning) - 1):
            network = robot.predicted(turning.truth(k), rng)
            factor = math.exp(rng.uniform(math.log(0.6), math.log(1.6)))
            scan = turning.turning_scan(k, 0.2, rng)
            scan['time_increment'] = time_increment(scan['time_increment'])
            anchor.observe(from_scan(**scan), k * robot.PERIOD, 'scan')
            scale = anchor.measure(network * np.float32(factor), 'indoor', k * robot.PERIOD)
            errors.append(abs(math.log(scale.value * factor)))
    return np.array(errors)


def test_a_lidar_that_turns_while_the_robot_turns(drives):
    errors = errors_of_turns(drives, lambda true: true)
    assert np.median(errors) < 0.02 and np.quantile(errors, 0.9) < 0.04
    # As if the whole scan was of the moment of its first ray, which damaged increments mean, too.
    without = errors_of_turns(drives, lambda _: 0.0)
    assert without.mean() > 1.7 * errors.mean()
    for bad in (math.nan, -1e-4, 1e4):
        assert np.array_equal(errors_of_turns(drives[:1], lambda _, bad=bad: bad),
                              without[:len(drives[0]) - 1])


@pytest.mark.parametrize('index', range(len(DRIVES)))
def test_features_in_clusters(drives, index):
    # 150 points of a visual odometry: on 12 textured patches, and 10 % wrong.
    drive, rng = drives[index], np.random.default_rng(2)
    anchor = Anchor()
    anchor.configure(drive.camera, Source('features'))
    anchored, best = [], []
    height, width = drive.camera.height, drive.camera.width
    for k in range(len(drive)):
        truth = drive.truth(k)
        network = robot.predicted(truth, rng) * np.float32(0.7)
        centres = rng.uniform((5, 5), (width - 6, height - 6), (12, 2))[rng.integers(0, 12, 150)]
        u, v = np.clip(centres + rng.normal(0, 5, (150, 2)), 0, (width - 1, height - 1)).T
        z = truth[np.rint(v).astype(int), np.rint(u).astype(int)]
        z = z * np.exp(rng.normal(0, 0.02, 150))
        wrong = rng.random(150) < 0.1
        z[wrong] *= np.exp(rng.uniform(-1, 1, wrong.sum()))
        good = np.isfinite(z)
        anchor.observe(ImagePoints(u[good], v[good], z[good], (height, width), {}),
                       k * robot.PERIOD, 'features')
        depth, _ = anchor.apply(network, 'indoor', k * robot.PERIOD)
        anchored.append(rel(depth, truth))
        best.append(min(rel(network * np.float32(factor), truth)
                        for factor in np.linspace(1.2, 1.65, 46)))
    assert np.mean(anchored) < 1.15 * np.mean(best)
