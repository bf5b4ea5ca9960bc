"""Messages of range sensors as drivers send them: what is used, and why the rest is not."""
import bags
import numpy as np
import pytest
from robot_messages import CAMERA, cloud_of, header, room, scan_of, sparse_of, transform_of

from zoe_ros.anchor.frames import Frames
from zoe_ros.bag import BagReader
from zoe_ros.bag_anchor import BagAnchor
from zoe_ros.range_anchor import RangeAnchor
from zoe_ros.range_messages import add_transforms, sensor_points
from zoe_ros.settings import AnchorSettings, RunSettings

IMAGE = np.zeros((120, 160, 3), np.uint8)
FORWARD = [0, 0, 0, 0.5, -0.5, 0.5, 0.5]


def scale_by(kind, *messages):
    """Return the scale of a frame at 1 s, after messages of a sensor."""
    frames = Frames()
    add_transforms(frames, transform_of('cam', 'lidar', FORWARD), True)
    add_transforms(frames, transform_of('cam', 'cloud', [0, 0, 0, 0, 0, 0, 1]), True)
    anchor = RangeAnchor(AnchorSettings(anchor=kind), frames)
    for message in messages:
        anchor.hear(kind, message)
    return anchor.measure(room(), 'indoor', header(1, 'cam'), CAMERA, IMAGE)


# --- angles of scans ---------------------------------------------------------------------------


def in_degrees(scan, *names):
    """State angles in degrees."""
    for name in names:
        setattr(scan, name, float(np.rad2deg(getattr(scan, name))))


WRONG_ANGLES = {
    'all in degrees': lambda scan: in_degrees(scan, 'angle_min', 'angle_max', 'angle_increment'),
    'the increment in degrees': lambda scan: in_degrees(scan, 'angle_increment'),
    'the limits in degrees': lambda scan: in_degrees(scan, 'angle_min', 'angle_max'),
    'narrow limits in degrees': lambda scan: (
        setattr(scan, 'angle_min', -8.0), setattr(scan, 'angle_max', 8.0)),
    'every second ray': lambda scan: setattr(scan, 'ranges', scan.ranges[::2]),
    'no increment': lambda scan: setattr(scan, 'angle_increment', 0.0)}


@pytest.mark.parametrize('wrong', WRONG_ANGLES)
def test_a_scan_with_wrong_angles_is_refused_with_the_reason(wrong):
    scan = scan_of(room() * np.float32(1.25), 1.0)
    WRONG_ANGLES[wrong](scan)
    scale = scale_by('scan', scan)
    assert np.isinf(scale.age) and scale.pairs == 0
    assert scale.reason.startswith('angles: scan is not used: ')
    assert 'not degrees' in scale.reason or 'a wrong angle_increment' in scale.reason


RIGHT_ANGLES = {
    'one ray fewer': lambda scan: setattr(scan, 'angle_max', 0.6 - 1.2 / 160),
    'no angle_max': lambda scan: setattr(scan, 'angle_max', 0.0),
    'the same angle_max': lambda scan: setattr(scan, 'angle_max', scan.angle_min),
    'angle_max not a number': lambda scan: setattr(scan, 'angle_max', np.nan),
    'angle_max of another unit': lambda scan: in_degrees(scan, 'angle_max'),
    'angles from 0 to a turn': lambda scan: setattr(scan, 'angle_min', 2 * np.pi - 0.6),
    'clockwise': lambda scan: (
        setattr(scan, 'angle_min', 0.6), setattr(scan, 'angle_max', -0.6),
        setattr(scan, 'angle_increment', -1.2 / 160), setattr(scan, 'ranges', scan.ranges[::-1])),
    'few rays': lambda scan: (
        setattr(scan, 'ranges', scan.ranges[::16]), setattr(scan, 'angle_increment', 1.2 / 10),
        setattr(scan, 'angle_max', 0.6 + 1.2 / 10))}


@pytest.mark.parametrize('right', RIGHT_ANGLES)
def test_a_scan_with_right_angles_is_used(right):
    scan = scan_of(room() * np.float32(1.25), 1.0)
    RIGHT_ANGLES[right](scan)
    scale = scale_by('scan', scan)
    assert scale.reason == '' and scale.value == pytest.approx(1.25, rel=0.03)


def test_a_whole_turn_is_used_however_its_end_is_stated():
    for rays, last in ((360, 2 * np.pi), (361, 2 * np.pi), (360, np.pi), (375, 2 * np.pi)):
        scan = scan_of(room(), 1.0)
        scan.angle_min, scan.angle_max, scan.angle_increment = (
            last - 2 * np.pi, last, 2 * np.pi / 360)
        scan.ranges = np.ones(rays, np.float32)
        assert len(sensor_points(scan).xyz) == rays


# --- stamps ---------------------------------------------------------------------------------


def test_of_messages_of_one_stamp_the_last_one_counts():
    # As a simulated clock gives them, whose steps are coarser than the scans.
    scale = scale_by('scan', *(scan_of(room() * np.float32(factor), 1.0)
                               for factor in (1.0, 1.0, 1.25)))
    assert scale.value == pytest.approx(1.25, rel=0.03)


@pytest.mark.parametrize('kind, message', [('scan', scan_of), ('points', cloud_of),
                                           ('depth', sparse_of)])
def test_a_sensor_without_stamps_is_refused(kind, message):
    # Its last message would hold for ever after it has died.
    scale = scale_by(kind, message(room(), 0))
    assert scale.pairs == 0
    assert scale.reason == (f'stamp: {kind} is not used: the stamps of its messages are 0: its '
                            'driver must fill in header.stamp')


# --- frames of depth ------------------------------------------------------------------------


@pytest.mark.parametrize('frame, doubted', [
    ('cam', False), ('/cam', False), ('', False), ('cam_depth_optical_frame', True)])
def test_depth_of_another_frame_is_doubted_once(caplog, frame, doubted):
    anchor = RangeAnchor(AnchorSettings(anchor='depth'), Frames())
    for at in (1, 1.1):
        message = sparse_of(room(), at)
        message.header.frame_id = frame
        anchor.hear('depth', message)
        anchor.measure(room(), 'indoor', header(at, 'cam'), CAMERA, IMAGE)
    assert [text.partition(':')[0] for text in caplog.messages] == [
        f"the depth of the anchor has the frame '{frame}' and the images have 'cam'"] * doubted


# --- rows of clouds -------------------------------------------------------------------------


def in_one_row(cloud):
    """Make an organised cloud one row, as filters do, with the row_step of before."""
    cloud.width, cloud.height = cloud.width * cloud.height, 1


WRONG_STEPS = {
    'zero': lambda cloud: setattr(cloud, 'row_step', 0),
    'that of all rows': lambda cloud: setattr(cloud, 'row_step', len(cloud.data)),
    'points instead of bytes': lambda cloud: setattr(cloud, 'row_step', cloud.width),
    'that of another shape': in_one_row}


@pytest.mark.parametrize('name', WRONG_STEPS)
def test_a_wrong_row_step_of_rows_without_padding(name):
    cloud, expected = cloud_of(room(), 1), sensor_points(cloud_of(room(), 1)).xyz
    WRONG_STEPS[name](cloud)
    assert np.array_equal(sensor_points(cloud).xyz, expected)


def test_padding_behind_the_rows_of_a_cloud():
    cloud, expected = cloud_of(room(), 1), sensor_points(cloud_of(room(), 1)).xyz
    rows = np.asarray(cloud.data).reshape(cloud.height, -1)
    cloud.data = np.pad(rows, ((0, 0), (0, 8)), constant_values=65).ravel()
    cloud.row_step += 8
    assert np.array_equal(sensor_points(cloud).xyz, expected)


# --- reasons --------------------------------------------------------------------------------


def changed(message, **values):
    """Return a message with other values of some fields."""
    for name, value in values.items():
        setattr(message, name, value)
    return message


def test_a_refused_sensor_is_not_called_silent():
    refused = changed(cloud_of(room(), 1), fields=[])
    scale = scale_by('points', refused)
    assert scale.reason == 'data: points is not used: the cloud has no field x, y, z'
    # It counts as soon as it can be used.
    assert scale_by('points', refused, cloud_of(room(), 1)).reason == ''
    assert scale_by('points').reason == 'silent: nothing from points within 0.1 s of the image'


def test_a_scan_without_a_largest_range_names_the_cause():
    scale = scale_by('scan', changed(scan_of(room(), 1), range_max=0.0))
    assert scale.reason == 'no points: scan has no value to use (161 out of range)'


def test_depth_of_another_size_names_the_sizes():
    half = changed(sparse_of(room(), 1), height=60, data=np.zeros(60 * 320, np.uint8))
    half.data[4 * 320:5 * 320] = 5
    assert scale_by('depth', half).reason == (
        'image size: depth has 160 x 60 pixels, the image 160 x 120')


def test_a_sensor_that_looks_elsewhere_keeps_its_reason():
    behind = cloud_of(-room(), 1)
    assert scale_by('points', behind).reason == (
        'no points: the camera sees none of the sensor')


# --- transforms of a robot in a namespace ---------------------------------------------------


def frames_of(tmp_path, topics, image='/robot1/camera/image_raw'):
    """Return what a bag with transforms on these topics tells of the lidar: topic -> its x [m]."""
    info = f'{image.rpartition("/")[0]}/camera_info'
    messages = bags.camera_messages(1, image, info)
    messages += [(topic, transform_of(bags.FRAME, 'lidar', [x, 0, 0, 0, 0, 0, 1]), bags.START)
                 for topic, x in topics.items()]
    messages.append(('/scan', scan_of(room(), 1), bags.START))
    with BagReader(bags.write_bag(tmp_path / 'bag', messages)) as bag:
        anchor = BagAnchor(bag, RunSettings(data='', anchor='scan'))
        return anchor.frames.across('lidar', 0.0, bags.FRAME, 0.0).translation[0]


@pytest.mark.parametrize('topics', [
    {'/tf_static': 1}, {'/tf_static': 1, '/robot1/tf_static': 2}, {'/robot1/tf_static': 1},
    {'/fleet/a/tf_static': 1}, {'/robot2/tf_static': 2, '/robot1/tf_static': 1}])
def test_the_transforms_of_a_namespace(tmp_path, topics):
    assert frames_of(tmp_path, topics) == 1


def test_of_two_other_robots_no_motion_is_taken_and_it_is_told(tmp_path):
    pose = transform_of('odom', bags.FRAME, [0, 0, 0, 0, 0, 0, 1])
    notes = {}
    for robot in ('1', '3'):
        messages = [*bags.camera_messages(1, '/robot1/image', '/robot1/camera_info'),
                    *((f'/robot{name}/tf', pose, bags.START) for name in ('2', robot))]
        with BagReader(bags.write_bag(tmp_path / robot, messages)) as bag:
            notes[robot] = BagAnchor(bag, RunSettings(data='', scale_time_constant=1.0)).note
    assert notes == {'1': '', '3': (
        'the motion of the robot is not used, because it is on /robot2/tf, /robot3/tf, and none '
        'of them has the namespace of /robot1/image: record it on /tf')}


def test_of_two_other_robots_none_is_taken(tmp_path):
    with pytest.raises(ValueError, match="no transform from 'lidar'"):
        frames_of(tmp_path, {'/robot2/tf_static': 2, '/robot3/tf_static': 1})


# --- frames that change ------------------------------------------------------------------------


def in_frame(message, frame):
    """Return a message with another frame."""
    message.header.frame_id = frame
    return message


def test_registered_depth_may_change_its_frame_with_the_camera(caplog):
    anchor = RangeAnchor(AnchorSettings(anchor='depth'), Frames())
    reasons = []
    for at, frame, depth_frame in ((1, 'cam', 'cam'), (2, 'new', 'new'), (3, 'new', 'new'),
                                   (4, 'cam', 'cam'), (5, 'cam', 'other')):
        anchor.hear('depth', in_frame(sparse_of(room() * np.float32(1.25), at), depth_frame))
        reasons.append(anchor.measure(room(), 'indoor', header(at, frame), CAMERA, IMAGE).reason)
    # The first depth of a new frame comes before the image that tells of it.
    assert [reason.partition(':')[0] for reason in reasons] == ['', 'frame', '', '', 'frame']
    assert reasons[-1] == ("frame: depth is not used: its frame is 'other' after 'cam', and a "
                           'registered one has the frame of the images')
    assert not caplog.records


def test_a_sensor_with_a_place_that_changes_its_frame_is_refused_with_the_reason():
    anchor = RangeAnchor(AnchorSettings(anchor='points', anchor_transform='0 0 0 0 0 0 1'),
                         Frames())
    for at, frame in ((1, 'lidar'), (2, 'restarted')):
        anchor.hear('points', in_frame(cloud_of(room(), at), frame))
        reason = anchor.measure(room(), 'indoor', header(at, 'cam'), CAMERA, IMAGE).reason
    assert reason == ("frame: points is not used: its frame is 'restarted' after 'lidar', and "
                      'anchor_transform holds for one sensor')
