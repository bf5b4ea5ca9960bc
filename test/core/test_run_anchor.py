"""``zoe run --anchor``: depth of a bag at the scale of its range sensor."""
import math

import bags
import numpy as np
import pytest
from runs import DEPTH, POINTS

from zoe_ros.anchor.transform import Transform
from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.messages import cloud_message, compressed_depth_message

SIZE, COUNT = (48, 64), 6
FX, FY, CX, CY = 58.0, 56.0, 31.0, 24.0
K = (FX, 0, CX, 0, FY, CY, 0, 0, 1)
FACTOR = 1.3
# The lidar of the robot: x forward, y left, z up; it stands where the camera stands.
MOUNT = '0 0 0 0.5 -0.5 0.5 0.5'
TRANSFORM = bags.TYPESTORE.types['geometry_msgs/msg/TransformStamped']


def camera():
    """Return the messages of a camera."""
    return bags.camera_messages(COUNT, size=SIZE, k=K)


def header(index, frame):
    """Return the header of a message at the time of an image."""
    return bags.ROSBAGS.header(stamp=bags.stamps(COUNT)[index], frame=frame)


def cloud(index, depth, nearer=0.0):
    """Return a cloud of what the depth of an image shows, in the frame of the camera."""
    v, u = np.mgrid[:SIZE[0]:2, :SIZE[1]:2]
    z = depth[::2, ::2]
    points = np.stack([(u - CX) / FX * z, (v - CY) / FY * z, z - nearer], axis=-1)
    return cloud_message(BAG_TYPES, header(index, 'lidar'), points, None)


def scan(index, depth):
    """Return a laser scan along the middle row of the depth of an image."""
    angles = np.linspace(-0.45, 0.45, 181)
    column = np.rint(CX - FX * np.tan(angles)).astype(int)
    ranges = depth[int(CY), column] / np.cos(angles)
    return bags.TYPESTORE.types['sensor_msgs/msg/LaserScan'](
        header=header(index, 'lidar'), angle_min=-0.45, angle_max=0.45,
        angle_increment=0.9 / 180, time_increment=0.0, scan_time=0.1, range_min=0.01,
        range_max=1000.0, ranges=ranges.astype(np.float32), intensities=np.zeros(0, np.float32))


def sparse(index, depth, encoding='16UC1'):
    """Return a depth image with values at every third pixel [mm]."""
    values = np.zeros(SIZE, np.uint16)
    values[::3, ::3] = np.rint(1000 * depth[::3, ::3])
    return bags.ROSBAGS.image(values.tobytes(), *SIZE, 2 * SIZE[1], encoding,
                              stamp=bags.stamps(COUNT)[index], frame=bags.FRAME)


def packed(index, depth):
    """Return the same as image_transport compresses it."""
    values = np.full(SIZE, np.nan, np.float32)
    values[::3, ::3] = depth[::3, ::3]
    return compressed_depth_message(BAG_TYPES, header(index, bags.FRAME), values)


MAKERS = {'points': cloud, 'scan': scan, 'depth': sparse, 'depth/compressedDepth': packed}


def static(numbers, parent, child):
    """Return a transform of /tf_static."""
    types = bags.TYPESTORE.types
    x, y, z, qx, qy, qz, qw = map(float, numbers.split())
    transform = types['geometry_msgs/msg/Transform'](
        translation=types['geometry_msgs/msg/Vector3'](x=x, y=y, z=z),
        rotation=types['geometry_msgs/msg/Quaternion'](x=qx, y=qy, z=qz, w=qw))
    return types['tf2_msgs/msg/TFMessage'](transforms=[
        TRANSFORM(header=header(0, parent), child_frame_id=child, transform=transform)])


def moving(z, index):
    """Return a transform of /tf: where the robot is at the time of an image."""
    message = static(f'0 0 {z} 0 0 0 1', 'odom', 'base')
    message.transforms[0].header = header(index, 'odom')
    return message


@pytest.fixture
def predicted(zoe, tmp_path):
    """Return the messages of the results of a run without an anchor: topic -> messages."""
    path = bags.write_bag(tmp_path / 'plain', camera())
    return zoe(path, to=tmp_path / 'before').bag


def recorded_robot(path, predicted, kind, extra=()):
    """Write a bag of a camera and a sensor that measures FACTOR times the predicted depth."""
    messages = camera()
    for index, (_, message) in enumerate(predicted[DEPTH]):
        true = bags.depth_of(message) * FACTOR
        # Recorded before its image.
        messages.append((f'/robot/{kind}', MAKERS[kind](index, true),
                         bags.recorded(COUNT)[index] - 1000))
    messages += [('/tf_static', message, bags.START) for message in extra]
    messages.sort(key=lambda item: item[2])
    return bags.write_bag(path, messages)


@pytest.mark.parametrize('kind', MAKERS)
def test_depth_and_clouds_come_to_the_scale_of_the_sensor(zoe, tmp_path, predicted, kind):
    mount = {'scan': (MOUNT,), 'points': ('0 0 0 0 0 0 1',)}.get(kind, ())
    path = recorded_robot(tmp_path / 'bag', predicted, kind,
                          [static(numbers, bags.FRAME, 'lidar') for numbers in mount])
    name = kind.partition('/')[0]
    ran = zoe(path, '--anchor', name, '--anchor-topic', f'/robot/{kind}')
    assert (ran.code, ran.err) == (0, '')
    for (_, plain), (_, depth) in zip(predicted[DEPTH], ran.bag[DEPTH], strict=True):
        assert np.allclose(bags.depth_of(depth), FACTOR * bags.depth_of(plain), rtol=0.02)
    for (_, plain), (_, points) in zip(predicted[POINTS], ran.bag[POINTS], strict=True):
        assert np.allclose(bags.cloud_points(points), FACTOR * bags.cloud_points(plain),
                           rtol=0.02, equal_nan=True)
    found = ran.summary['anchor']
    assert found['topics'] == [f'/robot/{kind}'] and found['frames_measured'] == COUNT
    assert found['scale_p50'] == pytest.approx(FACTOR, rel=0.02)
    assert f' by {name} (' in ran.out
    again = zoe(path, '--anchor', name, '--anchor-topic', f'/robot/{kind}', to=tmp_path / 'b')
    assert [bags.ROSBAGS.to_bytes(m) for _, m in again.bag[DEPTH]] == [
        bags.ROSBAGS.to_bytes(m) for _, m in ran.bag[DEPTH]]


def test_a_topic_that_the_user_names_has_depth_in_mono16(zoe, tmp_path, predicted, monkeypatch):
    monkeypatch.setitem(MAKERS, 'tof', lambda *frame: sparse(*frame, 'mono16'))
    path = recorded_robot(tmp_path / 'bag', predicted, 'tof')
    anchored = ('--topic', '/camera/image_raw', '--anchor', 'depth')
    found = zoe(path, *anchored, '--anchor-topic', '/robot/tof').summary['anchor']
    assert found['topics'] == ['/robot/tof'] and found['frames_measured'] == COUNT
    assert found['scale_p50'] == pytest.approx(FACTOR, rel=0.02)
    # Otherwise it may be the brightness of an infrared camera.
    refused = zoe(path, *anchored, to=tmp_path / 'refused')
    assert refused.code == 2 and "anchor 'depth' needs a topic of " in refused.err


def test_without_an_anchor_nothing_changes(zoe, tmp_path, predicted):
    path = recorded_robot(tmp_path / 'bag', predicted, 'points')
    ran = zoe(path)
    for topic, messages in predicted.items():
        assert [bags.ROSBAGS.to_bytes(m) for _, m in messages] == [
            bags.ROSBAGS.to_bytes(m) for _, m in ran.bag[topic]]
    assert 'anchor' not in ran.summary


def test_the_transform_is_a_parameter_or_a_chain_of_frames(zoe, tmp_path, predicted):
    options = ('--anchor', 'scan', '--anchor-transform', MOUNT)
    chain = [static('0 0 0.2 0 0 0 1', 'base', 'lidar'),
             # From the optical frame to the base, that is, the inverse is what is needed.
             static('0 0 0.2 -0.5 0.5 -0.5 0.5', 'base', bags.FRAME)]
    given = zoe(recorded_robot(tmp_path / 'one', predicted, 'scan'), *options, to=tmp_path / 'a')
    found = zoe(recorded_robot(tmp_path / 'other', predicted, 'scan', chain), '--anchor', 'scan',
                to=tmp_path / 'b')
    assert given.summary['anchor'] == found.summary['anchor']
    assert given.summary['anchor']['scale_p50'] == pytest.approx(FACTOR, rel=0.02)


def test_a_sensor_that_is_silent_is_said(zoe, tmp_path, predicted):
    path = bags.write_bag(tmp_path / 'bag', [
        *camera(), ('/scan', scan(0, np.full(SIZE, 3.0)), bags.START)])
    ran = zoe(path, '--anchor', 'scan', '--anchor-transform', '9 9 -9 0 0 0 1')
    assert ran.code == 0
    assert ran.out.count('the scale of depth is unknown: no points: the camera sees none') == 1
    found = ran.summary['anchor']
    assert found['frames_measured'] == 0 and found['scale_p50'] is None
    assert found['left_out']['frames: no points'] == 2
    assert found['left_out']['frames: silent'] == COUNT - 2
    for (_, plain), (_, depth) in zip(predicted[DEPTH], ran.bag[DEPTH], strict=True):
        assert bags.ROSBAGS.to_bytes(plain) == bags.ROSBAGS.to_bytes(depth)


def test_damaged_messages_are_counted(zoe, tmp_path, predicted):
    messages = camera()
    for index, (_, message) in enumerate(predicted[DEPTH]):
        good = cloud(index, bags.depth_of(message) * FACTOR)
        if index in (1, 3):
            good.point_step = 5
        if index == 4:
            good.header.frame_id = 'elsewhere'
        messages.append(('/cloud', good, bags.recorded(COUNT)[index] - 1000))
    messages.sort(key=lambda item: item[2])
    ran = zoe(bags.write_bag(tmp_path / 'bag', messages), '--anchor', 'points',
              '--anchor-transform', '0 0 0 0 0 0 1')
    left_out = ran.summary['anchor']['left_out']
    assert left_out['points: data'] == 2 and left_out['points: frame'] == 1
    assert ran.summary['anchor']['scale_p50'] == pytest.approx(FACTOR, rel=0.02)


@pytest.mark.parametrize('late', [-2000, 5 * 10 ** 7])
def test_the_motion_of_the_robot_is_read_from_the_bag(zoe, tmp_path, predicted, late):
    # The robot drives 0.1 m backwards between images. Each cloud has the stamp of the image
    # before, when all was 0.1 m nearer.
    messages = [*camera(), *(('/tf_static', static('0 0 0 0 0 0 1', 'base', frame), bags.START)
                             for frame in (bags.FRAME, 'lidar'))]
    for index, (_, message) in enumerate(predicted[DEPTH]):
        at = bags.recorded(COUNT)[index]
        messages.append(('/tf', moving(-0.1 * index, index), at + late))
        if index:
            true = bags.depth_of(message) * FACTOR
            messages.append(('/cloud', cloud(index - 1, true, nearer=0.1), at - 1000))
    messages.sort(key=lambda item: item[2])
    ran = zoe(bags.write_bag(tmp_path / 'bag', messages), '--anchor', 'points',
              '--anchor-tolerance', '0.15')
    assert ran.code == 0
    assert ran.summary['anchor']['frames_measured'] == COUNT - 1
    assert ran.summary['anchor']['scale_p50'] == pytest.approx(FACTOR, rel=0.003)


def odometry(x, index):
    """Return a nav_msgs/Odometry: where the robot is at the time of an image."""
    types = bags.TYPESTORE.types
    pose = static(f'{x} 0 0 0 0 0 1', 'odom', 'base').transforms[0].transform
    return types['nav_msgs/msg/Odometry'](
        header=header(index, 'odom'), child_frame_id='base',
        pose=types['geometry_msgs/msg/PoseWithCovariance'](
            pose=types['geometry_msgs/msg/Pose'](
                position=types['geometry_msgs/msg/Point'](x=float(x), y=0.0, z=0.0),
                orientation=pose.rotation), covariance=np.zeros(36)),
        twist=types['geometry_msgs/msg/TwistWithCovariance'](
            twist=types['geometry_msgs/msg/Twist'](
                linear=types['geometry_msgs/msg/Vector3'](x=0.0, y=0.0, z=0.0),
                angular=types['geometry_msgs/msg/Vector3'](x=0.0, y=0.0, z=0.0)),
            covariance=np.zeros(36)))


def test_odometry_without_tf_moves_the_robot(zoe, refused, tmp_path, predicted):
    # As above, 0.1 m backwards along the optical axis, which is z of the camera and x of the base.
    messages = [*camera(), ('/tf_static', static('0 0 0 -0.5 0.5 -0.5 0.5', 'base', bags.FRAME),
                            bags.START),
                ('/tf_static', static('0 0 0 -0.5 0.5 -0.5 0.5', 'base', 'lidar'), bags.START)]
    for index, (_, message) in enumerate(predicted[DEPTH]):
        at = bags.recorded(COUNT)[index]
        messages.append(('/wheels', odometry(-0.1 * index, index), at + 5 * 10 ** 7))
        if index:
            true = bags.depth_of(message) * FACTOR
            messages.append(('/cloud', cloud(index - 1, true, nearer=0.1), at - 1000))
    options = ('--anchor', 'points', '--anchor-tolerance', '0.15')
    path = bags.write_bag(tmp_path / 'bag', sorted(messages, key=lambda item: item[2]))
    found = zoe(path, *options, to=tmp_path / 'a').summary['anchor']
    assert found['scale_p50'] == pytest.approx(FACTOR, rel=0.003)
    # Of two, one must be named.
    messages += [('/other', odometry(0.3 * index, index), bags.recorded(COUNT)[index])
                 for index in range(COUNT)]
    path = bags.write_bag(tmp_path / 'two', sorted(messages, key=lambda item: item[2]))
    assert '/other, /wheels: choose one by --anchor-topic' in refused(path, '--anchor', 'odometry')
    found = zoe(path, *options, '--anchor-topic', '/wheels', '/cloud',
                to=tmp_path / 'b').summary['anchor']
    assert found['scale_p50'] == pytest.approx(FACTOR, rel=0.003)


def test_motion_on_several_topics_is_told(zoe, tmp_path):
    messages = [(topic, odometry(0.1 * index, index), bags.recorded(COUNT)[index])
                for index in range(COUNT) for topic in ('/visual', '/wheels')]
    path = bags.write_bag(tmp_path / 'bag', sorted(
        [*camera(), *messages], key=lambda item: item[2]))
    told = ('the motion of the robot is not used, because it is on /visual, /wheels: choose one '
            'by --anchor-topic')
    steadied = ('--scale-time-constant', '2')
    assert zoe(path, *steadied, to=tmp_path / 'a').out.count(told) == 1
    assert 'is not used' not in zoe(path, *steadied, '--anchor-topic', '/wheels',
                                    to=tmp_path / 'b').out
    assert 'is not used' not in zoe(path, to=tmp_path / 'c').out


def test_several_sensors_at_once(zoe, tmp_path, predicted):
    messages = [*camera(), ('/tf_static', static('0 0 0 0 0 0 1', bags.FRAME, 'lidar'),
                            bags.START)]
    for index, (_, message) in enumerate(predicted[DEPTH]):
        true = bags.depth_of(message) * FACTOR
        for kind in ('points', 'depth'):
            messages.append((f'/{kind}', MAKERS[kind](index, true),
                             bags.recorded(COUNT)[index] - 1000))
    messages.sort(key=lambda item: item[2])
    ran = zoe(bags.write_bag(tmp_path / 'bag', messages), '--anchor', 'points+depth')
    found = ran.summary['anchor']
    assert found['topics'] == ['/points', '/depth'] and found['frames_measured'] == COUNT
    assert ' by points+depth (' in ran.out
    assert found['scale_p50'] == pytest.approx(FACTOR, rel=0.01)


def test_a_report_leaves_depth_as_it_is(zoe, tmp_path, predicted):
    path = recorded_robot(tmp_path / 'bag', predicted, 'depth')
    ran = zoe(path, '--anchor', 'depth', '--anchor-topic', '/robot/depth',
              '--anchor-report-only')
    for (_, plain), (_, depth) in zip(predicted[DEPTH], ran.bag[DEPTH], strict=True):
        assert bags.ROSBAGS.to_bytes(plain) == bags.ROSBAGS.to_bytes(depth)
    scales = [message for _, message in ran.bag['/depth/scale']]
    assert len(scales) == COUNT
    for message in scales:
        assert message.pose.pose.position.x == pytest.approx(FACTOR, rel=0.02)
        assert 0 < message.pose.covariance[0] < 0.01 ** 2 and not message.pose.covariance[1:].any()


@pytest.mark.parametrize('arguments, text', [
    (('--anchor', 'radar'), "parameter 'anchor' is 'radar', not none or one of scan, points, "
                            "depth, stereo, odometry, or several joined by '+'"),
    (('--anchor', 'odometry'), "anchor 'odometry' needs the motion of the camera on /tf, or one "
                               'topic of nav_msgs/msg/Odometry; the bag has neither'),
    (('--anchor', 'scan+points', '--anchor-transform', MOUNT),
     "parameter 'anchor_transform' can place one sensor, not scan and points"),
    (('--anchor', 'points'), "anchor 'points' needs a topic of sensor_msgs/msg/PointCloud2; the "
                             'bag has none'),
    (('--anchor', 'scan', '--anchor-topic', '/x'),
     "anchor 'scan' needs a topic of sensor_msgs/msg/LaserScan, which /x is not; the bag has "
     '/left, /right'),
    (('--anchor', 'scan'), 'the bag has /left, /right: choose one by --anchor-topic'),
    (('--anchor', 'scan', '--anchor-topic', '/left'),
     "/tf_static has no transform from 'lidar' (/left) to 'camera_optical_frame' "
     '(/camera/image_raw): give one by --anchor-transform'),
    (('--anchor', 'scan', '--anchor-topic', '/left', '--anchor-transform', '0 0 0 0 0 0 0'),
     'has length 0 instead of 1'),
    (('--anchor', 'scan', '--anchor-topic', '/left', '--anchor-transform', 'here'),
     "parameter 'anchor_transform' is 'here', not seven numbers x y z qx qy qz qw")])
def test_what_cannot_be_an_anchor_is_refused(refused, tmp_path, arguments, text):
    depth = np.full(SIZE, 3.0)
    path = bags.write_bag(tmp_path / 'bag', [
        *camera(), ('/left', scan(0, depth), bags.START), ('/right', scan(0, depth), bags.START)])
    assert text in refused(path, *arguments)


def test_without_camera_info_there_is_no_anchor(zoe, tmp_path):
    path = bags.write_bag(tmp_path / 'bag', [
        *bags.camera_messages(2, info=None), ('/scan', scan(0, np.full(SIZE, 3.0)), bags.START)])
    ran = zoe(path, '--anchor', 'scan', '--anchor-transform', MOUNT)
    assert ran.code == 0 and ran.summary['anchor']['frames_measured'] == 0
    assert ran.out.count('the scale of depth is unknown: no camera: there is no CameraInfo') == 1


def test_images_have_no_anchor(zoe, tmp_path):
    photo = tmp_path / 'photo.png'
    photo.write_bytes(bags.encoded(bags.picture()))
    ran = zoe(photo, '--anchor', 'scan')
    assert ran.code == 0
    assert 'no effect of anchor: image files have no topics' in ran.out


def test_the_mount_is_the_usual_one():
    forward = Transform.from_numbers([float(w) for w in MOUNT.split()])
    assert np.allclose(forward(np.array([[1.0, 0, 0], [0, 1, 0]])), [[0, 0, 1], [-1, 0, 0]])
    assert math.hypot(*forward.translation) == 0
