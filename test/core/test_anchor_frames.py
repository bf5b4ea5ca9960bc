"""Frames: fixed and moving, between times and across them, and what is refused."""
import math
from threading import Thread

import numpy as np
import pytest

from zoe_ros.anchor.frames import Frames

STILL = [0, 0, 0, 0, 0, 0, 1]
POINT = np.array([[1.0, 2.0, 3.0]])


def turned(x, y, yaw):
    """Return the numbers of a pose on the ground."""
    return [x, y, 0, 0, 0, math.sin(yaw / 2), math.cos(yaw / 2)]


def robot(rate=20, seconds=5.0):
    """Return the frames of a robot that drives 1 m/s forward and turns 0.5 rad/s."""
    frames = Frames()
    frames.fix('camera', 'base', [0.1, 0, 0.3, 0, 0, 0, 1])
    frames.fix('lidar', 'base', [0.2, 0.1, 0.2, 0, 0, 0, 1])
    for k in range(int(rate * seconds) + 1):
        t = k / rate
        frames.move('base', 'odom', turned(t, 0, 0.5 * t), t)
        frames.move('odom', 'map', turned(0.5 * (k % 2), 0, 0), t)     # jumps, as of a SLAM
    return frames


def test_a_chain_of_fixed_frames_there_and_back():
    frames = Frames()
    frames.fix('a', 'base', [1, 0, 0, 0, 0, 0, 1])
    frames.fix('b', 'base', [0, 0, 0, 0, 0, math.sin(math.pi / 4), math.cos(math.pi / 4)])
    assert np.allclose(frames.across('a', 0, 'base', 0)(POINT), [[2, 2, 3]])
    assert np.allclose(frames.across('b', 0, 'base', 9)(POINT), [[-2, 1, 3]])
    to_b = frames.across('a', 5, 'b', 5)
    assert np.allclose(to_b(POINT), [[2, -2, 3]])
    assert np.allclose(frames.across('b', 5, 'a', 5)(to_b(POINT)), POINT)
    assert np.allclose(frames.across('a', 0, 'a', 1)(POINT), POINT)
    assert frames.motion('a', 0, 1) is None


def test_the_motion_between_two_times():
    frames = robot()
    # 1 m forward at 2 s, seen at 2.1 s: 0.1 m nearer, and the robot has turned by 0.05 rad.
    moved = frames.motion('base', 2.0, 2.1)
    heading = 0.5 * 2.0
    world = np.array([2.0 + math.cos(heading), math.sin(heading)])
    there = world - (2.1, 0)
    turn = 0.5 * 2.1
    expected = [there[0] * math.cos(turn) + there[1] * math.sin(turn),
                there[1] * math.cos(turn) - there[0] * math.sin(turn), 0]
    assert np.allclose(moved(np.array([[1.0, 0, 0]])), [expected], atol=1e-6)
    # Between an even and an odd image the map jumps by 0.5 m.
    jump = frames.motion('base', 2.0, 2.05)
    assert np.linalg.norm(jump.translation) == pytest.approx(0.05, abs=0.01)
    # The jumps of `map` are not a motion of the robot; the lidar's own place counts.
    placed = frames.across('lidar', 2.0, 'camera', 2.0)
    assert np.allclose(placed(np.zeros((1, 3))), [[0.1, 0.1, -0.1]])
    whole = frames.across('lidar', 2.0, 'camera', 2.1)
    by_hand = frames.motion('camera', 2.0, 2.1).after(placed)
    assert np.allclose(whole(POINT), by_hand(POINT))


@pytest.mark.parametrize('at', [2.0, 2.013, 2.025, 2.049])
def test_poses_are_interpolated(at):
    pose = robot().across('base', at, 'odom', at)
    assert np.allclose(pose.translation, [at, 0, 0], atol=1e-9)
    assert math.atan2(pose.rotation[1, 0], pose.rotation[0, 0]) == pytest.approx(at / 2, abs=1e-6)
    assert np.allclose(pose.rotation @ pose.rotation.T, np.eye(3))


def test_both_signs_of_a_quaternion_are_one_rotation():
    frames = Frames()
    numbers = turned(0, 0, 0.4)
    frames.move('base', 'odom', numbers, 0.0)
    frames.move('base', 'odom', [*numbers[:3], *(-v for v in numbers[3:])], 1.0)
    pose = frames.across('base', 0.5, 'odom', 0.5)
    assert math.atan2(pose.rotation[1, 0], pose.rotation[0, 0]) == pytest.approx(0.4)


def test_the_last_pose_holds_for_a_moment():
    frames = robot(seconds=5.0)
    late = frames.across('base', 5.09, 'odom', 5.09)
    assert np.allclose(late.translation, [5.0, 0, 0])
    for at in (5.2, -0.1):
        with pytest.raises(LookupError, match=r"TF has 'base' from 0.000 to 5.000 s, not at"):
            frames.across('base', at, 'odom', at)
        # Where the motion is not known, what is fixed still is.
        assert frames.motion('camera', 5.0, at) is None
        assert np.allclose(frames.across('lidar', 5.0, 'camera', at)(np.zeros((1, 3))),
                           [[0.1, 0.1, -0.1]])


def test_an_exact_motion_has_no_pose_that_holds():
    frames = robot(seconds=5.0)
    assert frames.motion('camera', 4.9, 5.0, exact=True) is not None
    assert frames.motion('camera', 4.9, 5.01) is not None
    assert frames.motion('camera', 4.9, 5.01, exact=True) is None
    # The pose of `odom` in the map may be late.
    frames.move('base', 'odom', turned(5.1, 0, 2.5), 5.1)
    assert frames.motion('camera', 4.9, 5.1, exact=True) is not None


def test_between_the_poses_on_both_sides_of_a_gap_no_motion_is_exact():
    frames = Frames()
    frames.fix('camera', 'base', STILL)
    for stamp in (0.0, 0.1, 0.2, 3.0, 3.1, 3.2):
        frames.move('base', 'odom', turned(stamp, 0, 0), stamp)
    for start, stop, known in ((0.1, 0.15, True), (0.0, 3.2, True), (0.2, 3.0, True),
                               (0.1, 0.25, False), (1.0, 3.0, False), (3.0, 3.05, True)):
        assert (frames.motion('camera', start, stop, exact=True) is not None) is known
        assert frames.motion('camera', start, stop) is not None


@pytest.mark.parametrize('numbers', [[1e10, 0, 0, 0, 0, 0, 1], [0, -1e300, 0, 0, 0, 0, 1]])
def test_a_place_that_is_beyond_all_sense(numbers):
    with pytest.raises(ValueError, match=r'the translation .* is not within 1e\+09 m'):
        Frames().move('base', 'odom', numbers, 0.0)


def test_frames_that_are_not_connected():
    frames = robot()
    with pytest.raises(LookupError, match="TF does not connect 'radar' and 'camera'"):
        frames.across('radar', 1, 'camera', 1)


def test_messages_out_of_order_and_time_that_goes_back():
    frames = Frames()
    for t in (0.0, 0.2, 0.1, 0.3):
        frames.move('base', 'odom', turned(t, 0, 0), t)
    assert np.allclose(frames.across('base', 0.15, 'odom', 0.15).translation, [0.15, 0, 0])
    frames.move('base', 'odom', turned(7, 0, 0), -50.0)     # the bag starts again
    assert np.allclose(frames.across('base', -50, 'odom', -50).translation, [7, 0, 0])
    with pytest.raises(LookupError):
        frames.across('base', 0.15, 'odom', 0.15)


def test_a_frame_that_changes_its_parent():
    frames = Frames()
    frames.move('box', 'table', turned(1, 0, 0), 0.0)
    frames.move('box', 'gripper', turned(2, 0, 0), 0.1)
    assert np.allclose(frames.across('box', 0.1, 'gripper', 0.1).translation, [2, 0, 0])
    with pytest.raises(LookupError):
        frames.across('box', 0.1, 'table', 0.1)
    frames.fix('box', 'gripper', [3, 0, 0, 0, 0, 0, 1])
    assert np.allclose(frames.across('box', 9, 'gripper', 9).translation, [3, 0, 0])


def test_a_circle_of_frames_is_refused():
    frames = Frames()
    frames.fix('a', 'b', STILL)
    frames.fix('b', 'c', STILL)
    for child, parent in (('c', 'a'), ('a', 'a')):
        with pytest.raises(ValueError, match='which is below it'):
            frames.fix(child, parent, STILL)
    assert np.allclose(frames.across('a', 0, 'c', 0)(POINT), POINT)


@pytest.mark.parametrize('numbers', [
    [0, 0, 0, 0, 0, 0, 0], [math.nan, 0, 0, 0, 0, 0, 1], [0, 0, math.inf, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 2]])
def test_what_is_no_transform_is_refused(numbers):
    frames = Frames()
    with pytest.raises(ValueError):
        frames.fix('a', 'b', numbers)
    with pytest.raises(ValueError):
        frames.move('a', 'b', numbers, 0.0)
    with pytest.raises(LookupError):
        frames.across('a', 0, 'b', 0)


def test_odometry_holds_until_tf_tells_where_the_robot_is():
    frames = Frames()
    frames.fix('camera', 'base', STILL)
    for k in range(3):
        frames.move('base', 'odom', turned(k, 0, 0), float(k), by_tf=False)
    assert np.allclose(frames.motion('camera', 0.5, 1.5).translation, [-1, 0, 0])
    # A filter tells TF of another way, and what the wheels say of it is left out.
    for k in range(3):
        frames.move('base', 'odom', turned(2 * k, 0, 0), float(k))
        frames.move('base', 'odom', turned(k, 0, 0), k + 0.5, by_tf=False)
        frames.move('base', 'map', turned(k, 0, 0), k + 0.5, by_tf=False)
    assert np.allclose(frames.motion('camera', 0.5, 1.5).translation, [-2, 0, 0])
    # TF has the robot below another frame.
    frames = Frames()
    frames.move('base', 'odom', turned(0, 0, 0), 0.0, by_tf=False)
    frames.fix('base', 'footprint', STILL)
    frames.move('base', 'odom', turned(9, 0, 0), 1.0, by_tf=False)
    assert np.allclose(frames.across('base', 1.0, 'footprint', 1.0)(POINT), POINT)


def test_memory_does_not_grow():
    frames = Frames()
    for k in range(20_000):
        frames.move('base', 'odom', STILL, k / 50)
    assert len(frames._moving['base']) < 1100
    assert frames.motion('base', 390.5, 399.9) is not None


def test_one_thread_writes_while_another_reads():
    frames = robot()
    done = []

    def write():
        for k in range(3000):
            frames.move('base', 'odom', turned(5 + k / 100, 0, 0), 5 + k / 100)
        done.append(True)

    thread = Thread(target=write)
    thread.start()
    while not done:
        frames.motion('base', 2.0, 2.1)
    thread.join()
    assert np.allclose(frames.across('base', 30, 'odom', 30).translation, [30, 0, 0])
