"""The node follows what is there: transport, durability, reliability and frames of a camera."""
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import pytest
import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_support import (
    bag_frames,
    BEST_EFFORT,
    Client,
    good_image,
    good_info,
    QOS,
    READY,
    ROOT,
    running_node,
    tiny,
)
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from zoe_ros.ros.image_input import image_source

SAMPLE = ROOT / 'zoe_ros' / 'data' / 'sample'
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                     durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def node(tiny_weights):
    """Return a node that reports often, with every choice left to it."""
    with running_node(**tiny(tiny_weights, diagnostics_period=0.3)) as process:
        process.wait_for(READY)
        yield process
        assert process.end() == 0
        assert 'Traceback' not in process.output


def subscribers(client, topic):
    """Return how many subscribe a topic of the node's camera."""
    return client.node.count_subscribers(f'{client.namespace}/{topic}')


# --- transport ------------------------------------------------------------------------------


def test_compressed_images_are_taken_where_there_are_no_others(node):
    image, info = bag_frames(SAMPLE)[0]
    with Client(node, compressed=True) as client:
        client.wait_for_match()
        assert client.ask(image, info).header == image.header
        client.wait_until(lambda: subscribers(client, 'image_raw') == 0)
        node.wait_for(f'taking compressed images from {node.namespace}/image_raw/compressed')


def test_raw_images_are_preferred_and_the_change_is_logged(node):
    image, _ = bag_frames(SAMPLE)[0]
    with Client(node, compressed=True) as client:
        client.wait_for_match()
        client.ask(image)
        raw = client.node.create_publisher(Image, 'image_raw', QOS)
        node.wait_for(f'taking raw images from {node.namespace}/image_raw')
        client.wait_until(lambda: subscribers(client, 'image_raw/compressed') == 0)
        client.wait_until_heard(raw)
        count = len(client.depth)
        client.images.publish(image)        # nobody takes it any more
        for at in (7.0, 8.0):
            raw.publish(good_image(at))
            client.wait_until(lambda at=at: client.depth[-1].header.stamp.sec == at)
        assert len(client.depth) <= count + 2
        client.node.destroy_publisher(raw)
        client.wait_until_heard(client.images)
        client.ask(image)


def test_a_camera_that_publishes_both_is_taken_once(tiny_weights):
    image, _ = bag_frames(SAMPLE)[0]
    parameters = tiny(tiny_weights, policy='every')
    with running_node(**parameters) as node, Client(node, compressed=False) as client:
        compressed = client.node.create_publisher(CompressedImage, 'image_raw/compressed', QOS)
        node.wait_for(READY)
        client.wait_for_match()
        for at in range(1, 6):
            compressed.publish(image)
            client.images.publish(good_image(at))
        client.wait_until(lambda: len(client.depth) >= 5)
        client.spin(1.0)
        assert [depth.header.stamp.sec for depth in client.depth] == [1, 2, 3, 4, 5]


def test_a_topic_given_with_its_transport_is_understood(tiny_weights):
    image, _ = bag_frames(SAMPLE)[0]
    with running_node('-r', 'image_raw:=image_raw/compressed', **tiny(tiny_weights)) as node, \
            Client(node, compressed=True) as client:
        node.wait_for(READY)
        client.wait_until(client.images.get_subscription_count)
        client.ask(image)


def test_raw_images_may_have_a_topic_that_ends_in_compressed():
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        node = rclpy.create_node('named', context=context)
        assert image_source(node, 'eye/compressed', 'raw') == ('/eye/compressed', 'raw')
        for transport in ('auto', 'compressed'):
            assert image_source(node, 'eye/compressed', transport) == ('/eye', 'compressed')
            assert image_source(node, 'eye', transport) == ('/eye', transport)
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


@pytest.mark.parametrize('transport, topic, other', [
    ('raw', 'image_raw/compressed', 'compressed'), ('compressed', 'image_raw', 'raw')])
def test_images_of_the_other_transport_are_named(transport, topic, other, tiny_weights):
    with running_node(**tiny(tiny_weights, image_transport=transport)) as node, \
            Client(node, compressed=other == 'compressed', outputs=()) as client:
        client.node.create_publisher(Image, 'other_node/depth/image_colored', QOS)
        node.wait_for(f'there are {other} images on {node.namespace}/{topic}')
        line, = (line for line in node.output.splitlines() if 'nobody publishes' in line)
        assert line.endswith(f'which need image_transport: {other}')
        assert 'depth' not in line.split('nobody publishes')[1]


# --- quality of service ---------------------------------------------------------------------


def test_a_camera_info_that_was_sent_once_arrives(tiny_weights):
    with running_node(**tiny(tiny_weights, autostart=False)) as node, \
            Client(node, compressed=False, infos='unused') as client:
        latched = client.node.create_publisher(CameraInfo, 'camera_info', LATCHED)
        latched.publish(good_info())        # before the node subscribes
        for step in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=step))
            assert client.call(ChangeState, 'change_state', request).success
        client.ask_until(good_image(), lambda: client.points)
        assert client.camera_info


def test_a_durability_that_a_user_chooses_stands(tiny_weights):
    topic = '/latched/camera_info'
    name = f'qos_overrides.{topic}.subscription.durability'
    with running_node('-r', f'camera_info:={topic}',
                      **tiny(tiny_weights, **{name: 'volatile'})) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.node.create_publisher(CameraInfo, topic, LATCHED)
        client.wait_until(lambda: client.node.count_subscribers(topic))
        client.spin(2.0)        # the node looks at its publishers twice a second
        heard, = client.node.get_subscriptions_info_by_topic(topic)
        assert heard.qos_profile.durability == DurabilityPolicy.VOLATILE


def test_a_camera_that_comes_back_best_effort_is_followed_without_a_false_warning(node):
    with Client(node, compressed=False) as client:
        client.wait_for_match()
        client.ask(good_image())
    with Client(node, compressed=False, qos=BEST_EFFORT) as client:
        client.ask_until(good_image(2.0), lambda: client.depth)
    assert 'No messages will be received' not in node.output
    assert 'no messages will be received' not in node.output


# --- frames ---------------------------------------------------------------------------------


@pytest.mark.parametrize('frame', ['', '/cam', 'body'])
def test_camera_info_of_another_frame_holds(frame, node):
    with Client(node, compressed=False) as client:
        client.wait_for_match()
        for at in (1.0, 2.0):
            image = good_image(at)
            client.ask(image, good_info(at, frame=frame))
            assert client.points[-1].header == image.header
            assert client.camera_info[-1].header == image.header
    said = f"has frame '{frame}', the images have 'cam'"
    assert node.output.count(said) == (0 if frame == '/cam' else 1)
    assert 'no cloud' not in node.output


def test_camera_info_of_the_same_frame_is_preferred(node):
    with Client(node, compressed=False) as client:
        client.wait_for_match()
        client.ask(good_image(1.0), good_info(1.0))
        client.infos.publish(good_info(2.0, frame='body', size=(8, 8)))
        client.spin(0.5)
        client.ask(good_image(2.0), outputs=('depth/image', 'depth/points'))
        assert 'body' not in node.output


# --- what is subscribed but not made ---------------------------------------------------------


def test_a_cloud_that_cannot_be_made_is_told_by_diagnostics_and_again_after_activation(node):
    with Client(node, compressed=False) as client:
        client.wait_for_match()
        client.ask_until(good_image(), lambda: client.depth and client.reports
                         and b'not made' in client.reports[-1].message.encode(),
                         good_info(size=(8, 8)))
        status = client.reports[-1]
        assert status.level == DiagnosticStatus.WARN
        assert status.message == (
            'subscribed but not made: depth/points (CameraInfo is for 8 x 8 pixels, the image '
            'has 64 x 48)')
        client.infos.publish(good_info(at=3.0))
        client.ask_until(good_image(at=3.0), lambda: client.reports[-1].message == 'working')
