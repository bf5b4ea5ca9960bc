"""The anchor from messages: 10,000 damaged ones of each kind, and what holds for the good ones."""
from importlib.util import find_spec
import math
from types import SimpleNamespace

import bags
import numpy as np
import pytest
from robot_messages import (
    CAMERA,
    cloud_of,
    header,
    odometry_of,
    room,
    scan_of,
    sparse_of,
    transform_of,
)
import stereo

from zoe_ros.anchor.frames import Frames
from zoe_ros.anchor.steady import samples, SteadyScale
from zoe_ros.range_anchor import RangeAnchor
from zoe_ros.range_messages import add_odometry, add_transforms
from zoe_ros.settings import AnchorSettings

NAN, INF = math.nan, math.inf
NUMBERS = [NAN, INF, -INF, 0.0, -1.0, 1e300, 1e150, 1e10, 1e-300, 65535.0]
IMAGE = np.zeros((120, 160, 3), np.uint8)


def anchored(anchor='scan+points+depth', **settings):
    """Return an anchor, and its frames: a lidar where the camera is, looking forward."""
    frames = Frames()
    add_transforms(frames, transform_of('cam', 'lidar', [0, 0, 0, 0.5, -0.5, 0.5, 0.5]), True)
    add_transforms(frames, transform_of('cam', 'cloud', [0, 0, 0, 0, 0, 0, 1]), True)
    return RangeAnchor(AnchorSettings(anchor=anchor, **settings), frames), frames


def measure(anchor, depth, at):
    """Return the scale of depth that was taken at a time [s]."""
    return anchor.measure(depth, 'indoor', header(at, 'cam'), CAMERA, IMAGE)


def spoil(message, rng):
    """Change one field of a message, or of what it holds, to something that fits its type."""
    message = SimpleNamespace(**vars(message))
    names = [name for name in vars(message) if not name.startswith('__')]
    name = names[rng.integers(len(names))]
    value = getattr(message, name)
    if name == 'header':
        stamp = (int(rng.choice([0, -2 ** 31, 2 ** 31 - 1, 5])), int(rng.choice([0, 10 ** 9 - 1])))
        message.header = header(0, str(rng.choice(['', '/', 'elsewhere', 'lidar', 'é' * 300])))
        message.header.stamp.sec, message.header.stamp.nanosec = stamp
    elif name == 'fields':
        message.fields = [SimpleNamespace(
            name=str(rng.choice(['x', 'y', 'z', 'w', 't', 'timestamp'])),
            offset=int(rng.choice([0, 4, 8, 2 ** 31])),
            datatype=int(rng.choice([0, 7, 8, 2, 255])), count=int(rng.choice([0, 1, 99])))
            for _ in range(rng.integers(0, 5))]
    elif isinstance(value, str):
        setattr(message, name, str(rng.choice(['', '32FC1', '16UC1', 'rgb8', '64FC1', 'x'])))
    elif isinstance(value, bool):
        setattr(message, name, not value)
    elif isinstance(value, int):
        setattr(message, name, int(rng.choice([0, 1, 2, 7, 10 ** 6, 2 ** 32 - 1])))
    elif isinstance(value, float):
        setattr(message, name, float(rng.choice(NUMBERS)))
    elif isinstance(value, np.ndarray) and value.dtype == np.uint8:
        cut = value[:rng.integers(0, len(value) + 1)].copy()
        cut[rng.random(len(cut)) < 0.3] = rng.integers(256)
        setattr(message, name, cut)
    elif isinstance(value, np.ndarray):
        with np.errstate(over='ignore'):
            setattr(message, name, rng.choice(NUMBERS, rng.integers(0, 50)).astype(value.dtype))
    return message


def test_ten_thousand_damaged_messages(recwarn):
    rng = np.random.default_rng(21)
    truth = room()
    predicted = truth / np.float32(1.25)
    anchor, frames = anchored()
    measured = 0
    for k in range(10_000):
        at = 1 + 0.02 * k
        kind = ('scan', 'points', 'depth')[k % 3]
        good = {'scan': scan_of, 'points': cloud_of, 'depth': sparse_of}[kind](truth, at)
        # One field of a good message is wrong; every tenth is good.
        anchor.hear(kind, good if rng.random() < 0.1 else spoil(good, rng))
        frame, parent = rng.choice(['a', 'b', 'c', 'tool', ''], 2)
        transform = transform_of(str(parent), str(frame), list(rng.choice([*NUMBERS, 1.0], 7)))
        add_transforms(frames, transform, bool(rng.integers(2)))
        add_odometry(frames, odometry_of(at, rng.choice([*NUMBERS, 1.0], 7)))
        if k % 5 == 0:
            scale = measure(anchor, predicted, at)
            assert scale.value == 1 or abs(scale.value / 1.25 - 1) < 0.03
            measured += scale.reason == ''
    assert measured > 300
    assert not recwarn.list
    counts = anchor.counts
    for cause in ('points: data', 'scan: times', 'scan: nan', 'scan: infinite', 'scan: angles',
                  'depth: encoding', 'depth: frame', 'scan: time went back'):
        assert counts[cause] > 0, (cause, counts)


@pytest.mark.skipif(find_spec('cv2') is None, reason='features are tracked by OpenCV')
def test_ten_thousand_damaged_poses(recwarn):
    # A camera goes to the right and back. Of 22 poses of an image, 20 are damaged.
    rng = np.random.default_rng(3)
    depth = np.minimum(3, 220 / np.maximum(np.arange(240) - 80, 1))[:, None] * np.ones((1, 320))
    depth, left = depth.astype(np.float32), stereo.texture()
    places = [0.03 * k for k in range(8)]
    images = [stereo.right_view(left, depth, x) if x else left for x in places]
    frames = Frames()
    anchor = RangeAnchor(AnchorSettings(anchor='odometry'), frames)
    steady = SteadyScale(2, frames)
    rows, columns, _ = samples(*depth.shape)
    network = depth / np.float32(1.25)
    damaged = measured = steadied = 0
    for k in range(500):
        index, at = (*range(8), *range(6, 0, -1))[k % 14], 1 + 0.1 * k
        good = [places[index], 0, 0, 0, 0, 0, 1]
        assert add_odometry(frames, odometry_of(at, good)) == 0
        for _ in range(20):
            damaged += add_odometry(frames, spoiled_pose(rng, at, good))
        assert add_odometry(frames, odometry_of(at, good)) == 0     # a stamp has gone back
        scale = anchor.measure(network, 'indoor', header(at, 'cam'), stereo.CAMERA, images[index])
        assert scale.value == 1 or abs(scale.value / 1.25 - 1) < 0.15
        measured += scale.reason == ''
        jitter = np.float32(1 + 0.1 * (-1) ** k)
        factor = steady.factor(jitter * network[rows[:, None], columns], images[index],
                               stereo.CAMERA, 'indoor', at, 'cam')
        assert 0.8 < factor < 1.25
        steadied += factor != 1
    assert measured > 30 and steadied > 100 and 5000 < damaged < 10_000
    assert not recwarn.list
    assert anchor.counts['odometry: motion unknown'] > 0


def spoiled_pose(rng, at, good):
    """Return odometry with damaged numbers, stamp or frames."""
    numbers, frame, child = list(good), 'odom', 'cam'
    kind = rng.integers(5)
    if kind == 0:
        numbers[rng.integers(7)] = rng.choice([NAN, INF, -INF, 1e300, 1e150, 1e30])
    elif kind == 1:
        numbers[3:] = rng.choice([0.0, 0.5, 3.0]) * rng.normal(size=4)
    elif kind == 2:
        at = float(rng.choice([0, -2.0 ** 31, 2.0 ** 31 - 1, at - 5, at + 1000]))
        numbers[3] = NAN if rng.random() < 0.98 else 0
    elif kind == 3:
        frame = str(rng.choice(['cam', '/cam']))
    else:
        child = str(rng.choice(['', '/', 'odom']))
    return odometry_of(at, numbers, frame, child)


def test_a_scan_of_a_robot_that_turns_meanwhile():
    # 2 rad/s to the left before a slanted wall: the last ray is 11 degrees off.
    depth = np.broadcast_to(np.linspace(2, 6, 160, dtype=np.float32), (120, 160))
    anchors = anchored('scan'), anchored('scan')
    message = scan_of(depth, 1.0)
    message.time_increment = 0.1 / 160
    angles = np.linspace(-0.6, 0.6, 161) + 2 * message.time_increment * np.arange(161)
    column = np.rint(CAMERA.cx - CAMERA.fx * np.tan(angles)).astype(int).clip(0, 159)
    message.ranges = (depth[60, column] / np.cos(angles)).astype(np.float32)
    scales = []
    for anchor, frames in anchors:
        for at in np.arange(0.9, 1.3, 0.02):
            turn = -(at - 1.0)      # half of the angle; y is down
            frames.move('cam', 'odom', [0, 0, 0, 0, math.sin(turn), 0, math.cos(turn)], at)
        anchor.hear('scan', message)
        scales.append(measure(anchor, depth / np.float32(1.3), 1.0))
        message.time_increment = 0.0
    assert scales[0].value == pytest.approx(1.3, rel=0.003)
    assert abs(scales[1].value / 1.3 - 1) > 0.03


def test_frames_without_an_end_do_not_fill_memory():
    anchor, _ = anchored('scan')
    for k in range(100):
        message = scan_of(room(), 1.0)
        message.header.frame_id = f'laser{k}'
        anchor.hear('scan', message)
    assert anchor.counts['scan: frame'] == 92


def test_two_lidars_on_one_topic_are_both_used():
    anchor, frames = anchored('points')
    add_transforms(frames, transform_of('cam', 'second', [0.2, 0, 0, 0, 0, 0, 1]), True)
    truth = room()
    left, right = cloud_of(truth, 1.0, slice(0, 80)), cloud_of(truth, 1.0, slice(80, 160))
    right.header.frame_id = 'second'
    xyz = right.data.view('<f4').reshape(-1, 3).copy()
    xyz[:, 0] -= 0.2
    right.data = xyz.view(np.uint8).ravel()
    alone, _ = anchored('points')
    alone.hear('points', left)
    for message in (left, right):
        anchor.hear('points', message)
    one, both = (measure(a, truth / np.float32(1.3), 1.0) for a in (alone, anchor))
    assert both.source == 'points+points of second' and one.source == 'points'
    assert both.pairs > 1.5 * one.pairs
    assert both.value == pytest.approx(1.3, rel=0.01)


@pytest.mark.parametrize('transform, reason', [
    ('', "no transform: TF does not connect 'elsewhere' and 'cam'"), ('0 0 0 0 0 0 1', '')])
def test_a_sensor_whose_place_is_not_known(transform, reason):
    anchor, _ = anchored('points', anchor_transform=transform)
    message = cloud_of(room(), 1.0)
    message.header.frame_id = 'elsewhere'
    anchor.hear('points', message)
    assert measure(anchor, room(), 1.0).reason == reason


def test_without_a_camera_the_scale_is_held():
    anchor, _ = anchored('points')
    anchor.hear('points', cloud_of(room(), 1.0))
    known = measure(anchor, room() / np.float32(1.3), 1.0)
    held = anchor.measure(room(), 'indoor', header(1.1, 'cam'), None, IMAGE)
    assert held.value == known.value and held.correction == known.correction
    assert held.reason == 'no camera: there is no CameraInfo that fits the image'


def test_the_types_are_those_of_bags():
    message = scan_of(room(), 1.0)
    assert message.__msgtype__ == 'sensor_msgs/msg/LaserScan'
    assert bags.TYPESTORE.serialize_cdr(message, message.__msgtype__)
