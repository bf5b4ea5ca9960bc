"""The live anchor: scale of depth from a laser scan, from points and from sparse depth."""
from importlib.util import find_spec

import bags
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from ros_support import (
    Client,
    good_image,
    good_info,
    KEEP_ALL,
    READY,
    running_node,
    stamp,
    tiny,
    USUAL,
)
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, LaserScan, PointCloud2

from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.cli import main
from zoe_ros.command_settings import WorldSettings
from zoe_ros.messages import cloud_message, compressed_depth_message
from zoe_ros.pipeline import Pipeline
from zoe_ros.ros.camera_stream import ROS_TYPES
from zoe_ros.settings import FrameSettings
from zoe_ros.world.record import IMAGE, INFO, record_world
from zoe_ros.world.robot import SCAN, TF, TF_STATIC

FACTOR = 1.3
SIZE = (48, 64)
K = (58.0, 0, 31.0, 0, 56.0, 24.0, 0, 0, 1)
# The lidar of the robot: x forward, y left, z up; it stands where the camera stands.
MOUNT = '0 0 0 0.5 -0.5 0.5 0.5'
OUTPUTS = (*USUAL, 'depth/scale')


def scan(depth, at):
    """Return a laser scan along the middle row of depth."""
    angles = np.linspace(-0.45, 0.45, 181)
    column = np.rint(K[2] - K[0] * np.tan(angles)).astype(int)
    ranges = depth[int(K[5]), column] / np.cos(angles)
    message = LaserScan(angle_min=-0.45, angle_max=0.45, angle_increment=0.9 / 180,
                        range_min=0.01, range_max=1000.0, ranges=ranges.tolist())
    message.header.frame_id = 'lidar'
    return stamp(message, at)


def cloud(depth, at):
    """Return a cloud of depth in the frame of the camera."""
    v, u = np.mgrid[:SIZE[0]:2, :SIZE[1]:2]
    z = depth[::2, ::2]
    points = np.stack([(u - K[2]) / K[0] * z, (v - K[5]) / K[4] * z, z], axis=-1)
    header = stamp(Image(), at).header
    header.frame_id = 'lidar'
    return cloud_message(ROS_TYPES, header, points, None)


def sparse(depth, at):
    """Return depth at every third pixel, as a depth image in millimetres."""
    values = np.zeros(SIZE, '<u2')
    values[::3, ::3] = np.rint(1000 * depth[::3, ::3])
    message = Image(height=SIZE[0], width=SIZE[1], encoding='16UC1', step=2 * SIZE[1],
                    data=values.tobytes())
    message.header.frame_id = 'cam'
    return stamp(message, at)


def packed(depth, at):
    """Return depth at every third pixel, as image_transport compresses it."""
    message = sparse(depth, at)
    metres = np.frombuffer(message.data, '<u2').reshape(SIZE) / np.float32(1000)
    return compressed_depth_message(ROS_TYPES, message.header, metres)


SENSORS = {'scan': (LaserScan, 'scan', scan, MOUNT),
           'points': (PointCloud2, 'sparse_points', cloud, '0 0 0 0 0 0 1'),
           'depth': (Image, 'sparse_depth', sparse, ''),
           'depth compressed': (CompressedImage, 'sparse_depth/compressedDepth', packed, '')}


def info(at):
    """Return the CameraInfo of an image."""
    return good_info(at, k=K)


@pytest.mark.parametrize('kind', SENSORS)
def test_depth_comes_to_the_scale_of_the_sensor(tiny_weights, kind):
    message_type, topic, make, mount = SENSORS[kind]
    kind = kind.partition(' ')[0]
    with running_node(**tiny(tiny_weights, anchor=kind, anchor_transform=mount,
                             diagnostics_period=0.2)) as node, \
            Client(node, compressed=False, outputs=OUTPUTS) as client:
        node.wait_for(READY)
        node.wait_for(f'depth gets its scale from {node.namespace}/{topic.partition("/")[0]}')
        sensor = client.node.create_publisher(message_type, topic, 5)
        client.wait_for_match()
        client.wait_until_heard(sensor)
        # Nothing is known yet: depth is that of the network, and all that is said.
        plain = bags.depth_of(client.ask(good_image(1), info(1), OUTPUTS))
        unknown = client.received['depth/scale'][-1]
        assert unknown.pose.pose.position.x == 1 and unknown.pose.covariance[0] > 0.05
        node.wait_for(f'the scale of depth is unknown: silent: nothing from {kind} within 0.1 s')
        values = client.report_while(good_image(1), info(1), 'the anchor does not work')
        assert values['level'] == DiagnosticStatus.WARN
        assert values['message'].endswith(f'silent: nothing from {kind} within 0.1 s of the image')

        sensor.publish(make(plain * FACTOR, 2.05))
        at = iter(np.arange(2, 2.09, 0.001))

        def measured():
            scale = client.received['depth/scale'][-1]
            return scale.pose.covariance[0] < 0.01

        # Sensor and images have topics of their own, so the scan may be heard a little later.
        while not measured():
            now = float(next(at))
            depth = bags.depth_of(client.ask(good_image(now), info(now), OUTPUTS))
        assert np.allclose(depth, FACTOR * plain, rtol=0.02)
        scale = client.received['depth/scale'][-1]
        assert scale.pose.pose.position.x == pytest.approx(FACTOR, rel=0.02)
        assert scale.header == client.depth[-1].header
        points = bags.cloud_points(client.points[-1])
        assert np.allclose(points[..., 2], depth[::4, ::4], equal_nan=True)
        values = client.report_while(good_image(now), info(now), 'working')
        assert values['scale sources'] == kind
        assert float(values['scale']) == pytest.approx(FACTOR, rel=0.02)
        assert float(values['scale age [s]']) == 0
        assert int(values['scale pairs']) > 8 and values['scale held'] == ''
        node.wait_for('the scale of depth is 1.')
        # The sensor is lost: the scale stays.
        depth = bags.depth_of(client.ask(good_image(9), info(9), OUTPUTS))
        assert np.allclose(depth, FACTOR * plain, rtol=0.02)
        values = client.report_while(good_image(9), info(9), 'the anchor does not work')
        assert float(values['scale age [s]']) > 6
        assert node.end() == 0, node.output
        assert 'Traceback' not in node.output


def test_live_scales_are_those_of_zoe_run(tiny_weights, tiny_estimator, tmp_path):
    # The scale of what the network predicts changes from scan to scan.
    depth = Pipeline(tiny_estimator, ROS_TYPES, FrameSettings(), infos_of(info(1)), False).process(
        good_image(1), ('depth/image',)).depth
    count, factors = 8, np.linspace(0.8, 1.4, 8)
    stamps = [10 + index / 10 for index in range(count)]
    sequence = [(scan(depth * factor, at - 0.02), info(at), good_image(at))
                for factor, at in zip(factors, stamps)]
    bag = bags.write_bag(tmp_path / 'bag', [
        (topic, as_rosbags(message), round(at * 1e9) + number)
        for at, messages in zip(stamps, sequence)
        for number, (topic, message) in enumerate(
            zip(('/scan', '/camera/camera_info', '/camera/image_raw'), messages))])
    assert main(['run', str(bag), '--variant', 'tiny', '--weights', str(tiny_weights), '--device',
                 'cpu', '--precision', 'fp32', '--anchor', 'scan', '--anchor-transform', MOUNT,
                 '--output', str(tmp_path / 'results')]) == 0
    offline = [message.pose.pose.position.x for _, message in bags.read_bag(
        tmp_path / 'results/latest/bag')['/depth/scale']]
    live = []
    with running_node(**tiny(tiny_weights, anchor='scan', anchor_transform=MOUNT)) as node, \
            Client(node, compressed=False, outputs=OUTPUTS) as client:
        node.wait_for(READY)
        sensor = client.node.create_publisher(LaserScan, 'scan', 20)
        client.wait_for_match()
        client.wait_until_heard(sensor)
        for message, calibration, image in sequence:
            sensor.publish(message)
            client.spin(0.2)        # another topic may not overtake the scan
            client.ask(image, calibration, OUTPUTS)
            live.append(client.received['depth/scale'][-1].pose.pose.position.x)
    assert live == pytest.approx(offline, rel=1e-6)
    assert max(live) > 1.2 * min(live)


def test_with_policy_every_a_fast_sensor_keeps_up_with_images_that_wait(tiny_weights):
    count, faster = 60, 4
    with running_node(**tiny(tiny_weights, anchor='scan', anchor_transform=MOUNT,
                             policy='every')) as node, \
            Client(node, compressed=False, outputs=OUTPUTS, qos=KEEP_ALL,
                   listen_qos=KEEP_ALL) as client:
        node.wait_for(READY)
        sensor = client.node.create_publisher(LaserScan, 'scan', KEEP_ALL)
        client.wait_for_match()
        client.wait_until_heard(sensor)
        plain = bags.depth_of(client.ask(good_image(1), info(1), OUTPUTS))
        client.clear()
        for at in (2 + index / 10 for index in range(count)):
            for step in range(faster):
                sensor.publish(scan(plain * FACTOR, at + (step + 1 - faster) / 10 / faster))
            client.infos.publish(info(at))
            client.images.publish(good_image(at))
        client.wait_until(lambda: len(client.received['depth/scale']) >= count, what='the last')
        # A scale that was not measured is less certain from frame to frame.
        sure = [message.pose.covariance[0] < 0.01 ** 2
                for message in client.received['depth/scale']]
        # The network is so fast that a scan may be late for its image.
        assert sum(sure) > 0.9 * count, sure
        assert node.end() == 0, node.output


def as_rosbags(message):
    """Return a message of rclpy as the same message of rosbags."""
    kind = f'{type(message).__module__.partition(".")[0]}/msg/{type(message).__name__}'
    return bags.TYPESTORE.deserialize_cdr(serialize_message(message), kind)


def infos_of(message):
    """Return a buffer with one CameraInfo."""
    buffer = CameraInfoBuffer()
    buffer.add(message)
    return buffer


def test_without_an_anchor_there_is_no_scale_and_no_further_topic(tiny_weights):
    with running_node(**tiny(tiny_weights)) as node, Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        client.ask(good_image(1), info(1))
        names = dict(client.node.get_topic_names_and_types())
        mine = {name for name in names if name.startswith(node.namespace)}
        assert not {name for name in mine if 'scale' in name or 'sparse' in name or 'scan' in name}
        assert 'scale' not in client.next_report()


@pytest.mark.parametrize('parameters, text', [
    ({'anchor': 'radar'}, "parameter 'anchor' is 'radar', not none or one of scan, points, depth"),
    ({'anchor': 'scan', 'anchor_transform': '0 0 0 0 0 0 0'}, 'has length 0 instead of 1'),
    ({'anchor': 'scan', 'anchor_transform': '1 2'}, 'not seven numbers x y z qx qy qz qw'),
    ({'anchor': 'scan+points', 'anchor_transform': MOUNT}, 'can place one sensor'),
    ({'anchor': 'scan', 'anchor_tolerance': -1.0}, 'anchor_tolerance out of range')])
def test_what_cannot_be_an_anchor_is_refused(tiny_weights, parameters, text):
    with running_node(**tiny(tiny_weights, **parameters)) as node:
        assert node.process.wait(90) != 0
        assert text in node.output and 'Traceback' not in node.output


@pytest.mark.skipif(find_spec('tf2_msgs') is not None, reason='TF is there to place the sensor')
def test_a_sensor_without_a_place_is_refused_where_there_is_no_tf(tiny_weights):
    with running_node(**tiny(tiny_weights, anchor='scan')) as node:
        assert node.process.wait(90) != 0
        assert ("anchor 'scan' needs the package tf2_msgs for TF, or parameter anchor_transform"
                in node.output)


def test_tf_places_the_sensor(tiny_weights):
    tf2 = pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs comes with a ROS distribution')
    from rclpy.qos import DurabilityPolicy, QoSProfile

    with running_node(**tiny(tiny_weights, anchor='scan')) as node, \
            Client(node, compressed=False, outputs=OUTPUTS) as client:
        node.wait_for(READY)
        sensor = client.node.create_publisher(LaserScan, 'scan', 5)
        static = client.node.create_publisher(
            tf2.TFMessage, '/tf_static',
            QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        client.wait_for_match()
        client.wait_until_heard(sensor)
        plain = bags.depth_of(client.ask(good_image(1), info(1), OUTPUTS))
        transform = TransformStamped(child_frame_id='lidar')
        transform.header.frame_id = 'cam'
        (transform.transform.rotation.x, transform.transform.rotation.y,
         transform.transform.rotation.z, transform.transform.rotation.w) = 0.5, -0.5, 0.5, 0.5
        static.publish(tf2.TFMessage(transforms=[transform]))
        sensor.publish(scan(plain * FACTOR, 2.05))
        at = iter(np.arange(2, 2.09, 0.001))
        while client.received['depth/scale'][-1].pose.covariance[0] > 0.01:
            now = float(next(at))
            depth = bags.depth_of(client.ask(good_image(now), info(now), OUTPUTS))
        assert np.allclose(depth, FACTOR * plain, rtol=0.02)


@pytest.mark.parametrize('anchor', ['scan', 'odometry', 'scan+odometry'])
@pytest.mark.skipif(find_spec('embreex') is None, reason='the world is ray cast by Embree')
def test_a_robot_that_drives_is_anchored_by_tf_as_by_zoe_run(tiny_weights, tmp_path, anchor):
    tf2 = pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs comes with a ROS distribution')
    from rclpy.qos import DurabilityPolicy, QoSProfile

    drive = record_world(WorldSettings(
        str(tmp_path / 'drive'), bag='indoor', frames=8, height=96, width=128, seed=3))
    assert main(['run', str(drive), '--variant', 'tiny', '--weights', str(tiny_weights),
                 '--device', 'cpu', '--precision', 'fp32', '--anchor', anchor,
                 '--output', str(tmp_path / 'results')]) == 0
    offline = [message.pose.pose.position.x for _, message in bags.read_bag(
        tmp_path / 'results/latest/bag')['/depth/scale']]
    kinds = {IMAGE: Image, INFO: CameraInfo, SCAN: LaserScan, TF: tf2.TFMessage,
             TF_STATIC: tf2.TFMessage}
    live, calibration = [], None
    with running_node(**tiny(tiny_weights, anchor=anchor)) as node, \
            Client(node, compressed=False, outputs=OUTPUTS) as client:
        node.wait_for(READY)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        publishers = {
            SCAN: client.node.create_publisher(LaserScan, 'scan', 20),
            TF: client.node.create_publisher(tf2.TFMessage, TF, 20),
            TF_STATIC: client.node.create_publisher(tf2.TFMessage, TF_STATIC, latched)}
        client.wait_for_match()
        for topic in (TF, TF_STATIC, *((SCAN,) if 'scan' in anchor else ())):
            client.wait_until_heard(publishers[topic])
        with AnyReader([drive]) as reader:
            for connection, _, data in reader.messages():
                kind = kinds.get(connection.topic)
                message = None if kind is None else deserialize_message(data, kind)
                if connection.topic == INFO:
                    calibration = message
                elif connection.topic == IMAGE:
                    client.spin(0.2)        # another topic may not overtake scan and TF
                    client.ask(message, calibration, OUTPUTS)
                    live.append(client.received['depth/scale'][-1].pose.pose.position.x)
                elif message is not None:
                    publishers[connection.topic].publish(message)
    assert live == pytest.approx(offline, rel=1e-6)
    assert max(live) > 1.05 * min(live)
