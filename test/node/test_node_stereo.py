"""The live anchor by a second camera: a pair, a covered lens, and policy 'every'."""
from importlib.util import find_spec
import time

import bags
from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
from rclpy.duration import Duration
from ros_support import Client, KEEP_ALL, PATIENCE, READY, running_node, stamp, tiny, USUAL
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
import stereo
from test_node_slow import SLOW, slow_image

pytestmark = [
    pytest.mark.skipif(find_spec('cv2') is None, reason='features are matched by OpenCV')]
FACTOR = 1.3
OUTPUTS = (*USUAL, 'depth/scale')
ROS = bags.rclpy_family()
LEFT = stereo.texture()


def image(at, pixels=LEFT):
    """Return an image of these pixels at a stamp [s]."""
    return stamp(ROS.photo(pixels), at)


def info(at, baseline=0.0):
    """Return the CameraInfo of a camera to the right of the left one."""
    return stamp(stereo.info(baseline=baseline, family=ROS), at)


class Right:
    """Publishes the right camera."""

    def __init__(self, client, qos=5, kind=Image, topic='right/image_raw'):
        """Wait for the node's subscriptions."""
        self._client = client
        self.images = client.node.create_publisher(kind, topic, qos)
        self.infos = client.node.create_publisher(CameraInfo, 'right/camera_info', qos)
        client.wait_for_match()
        for publisher in (self.images, self.infos):
            client.wait_until_heard(publisher)

    def publish(self, at, message):
        """Publish an image with its CameraInfo, and wait until the node has it."""
        self.infos.publish(info(at, stereo.BASELINE))
        self.images.publish(stamp(message, at))
        self._client.spin(0.3)      # another topic may not overtake it


def report(client, at, text):
    """Return the values of the next report with a text; meanwhile left images come."""
    return client.report_while(image(at), info(at), text)


@pytest.mark.parametrize('transport', ['raw', 'compressed'])
def test_depth_comes_to_the_scale_of_the_pair(tiny_weights, transport):
    kind, topic = {'raw': (Image, 'right/image_raw'),
                   'compressed': (CompressedImage, 'right/image_raw/compressed')}[transport]
    with running_node(**tiny(tiny_weights, anchor='stereo', diagnostics_period=0.2)) as node, \
            Client(node, compressed=False, outputs=OUTPUTS) as client:
        node.wait_for(READY)
        node.wait_for(f'depth gets its scale from {node.namespace}/right/image_raw')
        right = Right(client, kind=kind, topic=topic)
        plain = bags.depth_of(client.ask(image(1), info(1), OUTPUTS))
        assert client.received['depth/scale'][-1].pose.pose.position.x == 1
        node.wait_for('the scale of depth is unknown: no pair: nothing from the right camera')

        pixels = stereo.right_view(LEFT, FACTOR * plain)
        right.publish(2, ROS.photo(pixels) if transport == 'raw'
                      else ROS.compressed(bags.encoded(pixels), 'png'))
        depth = bags.depth_of(client.ask(image(2), info(2), OUTPUTS))
        assert np.allclose(depth, FACTOR * plain, rtol=0.01)
        values = report(client, 2, 'working')
        assert values['scale sources'] == 'stereo' and values['scale held'] == ''
        node.wait_for('the scale of depth is 1.3')
        # The lens is covered: the scale stays.
        black = np.zeros_like(LEFT)
        right.publish(9, ROS.photo(black) if transport == 'raw'
                      else ROS.compressed(bags.encoded(black), 'png'))
        depth = bags.depth_of(client.ask(image(9), info(9), OUTPUTS))
        assert np.allclose(depth, FACTOR * plain, rtol=0.01)
        values = report(client, 9, 'the anchor does not work: no match: 0 of ')
        assert values['level'] == DiagnosticStatus.WARN and float(values['scale age [s]']) > 6
        assert node.end() == 0, node.output
        assert 'Traceback' not in node.output


def test_a_right_camera_that_is_not_rectified_is_refused(tiny_weights):
    with running_node(**tiny(tiny_weights, anchor='stereo', diagnostics_period=0.2)) as node, \
            Client(node, compressed=False, outputs=OUTPUTS) as client:
        node.wait_for(READY)
        right = Right(client)
        wrong = info(1, stereo.BASELINE)
        wrong.d = [-0.2, 0.1, 0.0, 0.0, 0.0]
        right.infos.publish(wrong)
        right.images.publish(image(1))
        client.spin(0.3)
        client.ask(image(1), info(1), OUTPUTS)
        reason = 'not rectified: the distortion D of CameraInfo of the right camera'
        node.wait_for(f'the scale of depth is unknown: {reason}')
        assert report(client, 1, f'the anchor does not work: {reason}')


def test_every_image_finds_its_right_one(tiny_weights):
    count = 30
    with running_node(**tiny(tiny_weights, anchor='stereo', policy='every')) as node, \
            Client(node, compressed=False, outputs=OUTPUTS, qos=KEEP_ALL,
                   listen_qos=KEEP_ALL) as client:
        node.wait_for(READY)
        right = Right(client, KEEP_ALL)
        plain = bags.depth_of(client.ask(image(1), info(1), OUTPUTS))
        pixels = stereo.right_view(LEFT, FACTOR * plain)
        client.clear()
        right.infos.publish(info(2, stereo.BASELINE))
        client.infos.publish(info(2))
        client.spin(0.5)
        stamps = [2 + index / 10 for index in range(count)]
        # All right images have come before the first left one: they must wait for theirs.
        for at in stamps:
            right.images.publish(image(at, pixels))
        assert right.images.wait_for_all_acked(Duration(seconds=PATIENCE))
        for at in stamps:       # as fast as it goes, much faster than the network
            client.images.publish(image(at))
        client.wait_until(lambda: len(client.received['depth/scale']) >= count, what='the last')
        deviations = [message.pose.covariance[0] for message in client.received['depth/scale']]
        measured = sum(np.allclose(bags.depth_of(message), FACTOR * plain, rtol=0.01)
                       for message in client.depth)
        assert measured == count and max(deviations) < 0.02 ** 2
        assert node.end() == 0, node.output


def test_every_pair_has_its_own_camera_info_of_the_right_camera(tiny_weights):
    parameters = tiny(tiny_weights, anchor='stereo', policy='every')
    with running_node(program=SLOW, **parameters) as node, \
            Client(node, compressed=False, outputs=OUTPUTS, qos=KEEP_ALL,
                   listen_qos=KEEP_ALL) as client:
        node.wait_for(READY)
        right = Right(client, KEEP_ALL)
        plain = bags.depth_of(client.ask(image(1), info(1), OUTPUTS))
        pixels = stereo.right_view(LEFT, FACTOR * plain)
        right.infos.publish(info(1))
        assert right.infos.wait_for_all_acked(Duration(seconds=PATIENCE))
        client.clear()
        # While one image is in the network, more arrive than the node keeps CameraInfo of. The
        # right camera is calibrated from the middle on.
        client.images.publish(slow_image(1.5, stereo.SIZE))
        node.wait_for('a slow frame begins')
        for index in range(80):
            at = 2 + index / 10
            right.infos.publish(info(at, stereo.BASELINE if index >= 40 else 0.0))
            right.images.publish(image(at, pixels))
            client.infos.publish(info(at))
            client.images.publish(image(at))
            # Shared memory may overflow, and DDS repeats what is lost seconds later.
            time.sleep(0.01)
        assert 'a slow frame ends' not in node.output
        scales = client.received['depth/scale']
        client.wait_until(lambda: len(scales) >= 81, what='the last')
        assert [message.pose.covariance[0] < 0.01 for message in scales] == (
            [False] * 41 + [True] * 40)
        assert node.end() == 0, node.output


def test_without_opencv_it_is_said(tiny_weights, tmp_path):
    (tmp_path / 'cv2.py').write_text(
        "raise ModuleNotFoundError('no OpenCV here', name='cv2')\n")
    with running_node(**tiny(tiny_weights, anchor='stereo'), environment={
            'PYTHONPATH': str(tmp_path)}) as node:
        assert node.process.wait(90) != 0
        assert "anchor 'stereo' needs cv2: pip install 'zoe_ros[opencv]', or apt" in node.output
        assert 'Traceback' not in node.output
