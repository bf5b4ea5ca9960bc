"""The odometry anchor on a long drive with turns and stops."""
from dataclasses import replace
from importlib.util import find_spec
import math

import numpy as np
import pytest
import robot

from zoe_ros.anchor.anchor import Anchor, Source
from zoe_ros.anchor.tracks import FeatureTracker
from zoe_ros.world import rooms
from zoe_ros.world.render import Response

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec('embreex') is None,
                       reason='the world is ray cast by Embree, an extra'),
    pytest.mark.skipif(find_spec('cv2') is None, reason='features are tracked by OpenCV')]
METRES, FACTOR = 10.5, 0.6
STAND, TURN = 4, 12     # images


def with_stops(poses):
    """Return poses of a robot that stops three times, and looks to both sides: (pose, moves)."""
    found = []
    for index, pose in enumerate(poses):
        found.append((pose, True))
        if index in np.linspace(0, len(poses), 5).astype(int)[1:-1]:
            found += [(pose, False)] * STAND
            found += [(replace(pose, yaw=pose.yaw + 0.3 * math.sin(2 * math.pi * k / TURN)), False)
                      for k in range(TURN)]
    return found


def test_the_scale_is_right_after_ten_metres_and_turning_alone_never_changes_it():
    drive = robot.drive(rooms.corridor, 0, round(METRES / 0.06), (240, 320))
    poses = with_stops(drive.poses[::3])
    rng = np.random.default_rng(4)

    def motion(start, stop):
        one, other = (poses[round(t / robot.PERIOD)][0] for t in (start, stop))
        return robot.optical(other).inverse().after(robot.optical(one))

    tracker, anchor = FeatureTracker(), Anchor(motion=motion)
    anchor.configure(drive.camera, Source('odometry', deviation=0.1))
    way, values, errors = 0.0, [1.0], []
    for k, (pose, moves) in enumerate(poses):
        image, truth = drive.renderer.frame(pose, drive.camera, Response(), rng)
        way += math.dist(pose.position, poses[max(k - 1, 0)][0].position)
        anchor.observe(tracker.points(image, drive.camera, k * robot.PERIOD, motion),
                       k * robot.PERIOD, 'odometry')
        network = robot.predicted(truth, rng) * np.float32(FACTOR)
        values.append(anchor.measure(network, 'indoor', k * robot.PERIOD).value)
        if not moves:
            assert values[-1] == values[-2]
        if way > 1:
            errors.append(abs(math.log(values[-1] * FACTOR)))
    assert way > 10 and errors[-1] < 0.05
    assert np.median(errors) < 0.03 and max(errors) < 0.1
