"""Several cameras on one model, over DDS."""
from importlib.util import find_spec

import numpy as np
import pytest
from ros_support import bag_frames, Client, NodeProcess, of_camera, ROOT, running_node

from zoe_ros.images import decode_image

SAMPLE = ROOT / 'zoe_ros' / 'data' / 'sample'


def test_two_cameras_share_a_model_and_keep_their_own_heads(tiny_weights, tiny_estimator):
    frames = bag_frames(SAMPLE)
    with running_node('-p', "cameras:=['front', 'rear']", variant='tiny',
                      weights=str(tiny_weights), device='cpu', precision='fp32',
                      image_transport='compressed', interpolation='linear',
                      router_time_constant=0.0) as node, \
            Client(of_camera(node, 'front')) as front, Client(of_camera(node, 'rear')) as rear:
        node.wait_for('waiting for images on')
        front.wait_for_match()
        rear.wait_for_match()
        chosen = [(frames[i], frames[-1 - i]) for i in range(0, 12, 3)]
        # From here on there is a CameraInfo, should an image be faster than its own.
        for client in (front, rear):
            client.ask(*frames[20])
            client.clear()
        for (front_image, front_info), (rear_image, rear_info) in chosen:
            count = len(front.points)
            front.infos.publish(front_info)
            rear.infos.publish(rear_info)
            front.images.publish(front_image)
            rear.images.publish(rear_image)
            for client in (front, rear):
                client.wait_until(
                    lambda c=client, n=count: min(len(c.points), len(c.depth)) > n)
        assert node.output.count('ZoeD-tiny in fp32') == 1, 'one copy of the weights'
        assert node.end() == 0, node.output

    for received, which in ((front, 0), (rear, 1)):
        assert [m.header for m in received.depth] == [pair[which][0].header for pair in chosen]
        for message, pair in zip(received.depth, chosen):
            expected = tiny_estimator.predict(decode_image(pair[which][0])).depth
            depth = np.frombuffer(message.data, '<f4').reshape(expected.shape)
            # Bit for bit alone; in a batch of two the sums of a matrix product round differently,
            # which single pixels of made-up weights magnify.
            error = np.abs(depth - expected) / expected
            assert np.quantile(error, 0.999) < 1e-3


def test_a_fast_camera_does_not_starve_a_slow_one(tiny_weights):
    frames = bag_frames(SAMPLE)
    with running_node('-p', "cameras:=['fast', 'slow']", variant='tiny',
                      weights=str(tiny_weights), device='cpu',
                      image_transport='compressed') as node, \
            Client(of_camera(node, 'fast')) as fast, Client(of_camera(node, 'slow')) as slow:
        node.wait_for('waiting for images on')
        fast.wait_for_match()
        slow.wait_for_match()
        slow.ask(*frames[-1])
        slow.clear()
        answered = 0
        for image, info in frames[:8]:
            for other, _ in frames:
                fast.images.publish(other)
            slow.infos.publish(info)
            slow.images.publish(image)
            slow.wait_until(lambda: len(slow.depth) > answered)         # noqa: B023
            answered = len(slow.depth)
        assert answered == 8
        assert node.end() == 0, node.output


@pytest.mark.skipif(find_spec('cv2') is None, reason='features are matched by OpenCV')
def test_what_concerns_one_camera_is_said_with_its_name(tiny_weights):
    image, _ = bag_frames(SAMPLE)[0]
    with running_node('-p', "cameras:=['front', 'rear']", variant='tiny', anchor='stereo',
                      weights=str(tiny_weights), device='cpu',
                      image_transport='compressed') as node, \
            Client(of_camera(node, 'rear')) as rear:
        node.wait_for('waiting for images on')
        rear.wait_for_match()
        rear.images.publish(image)
        node.wait_for('rear: no cloud: there is no CameraInfo')
        node.wait_for('rear: the scale of depth is unknown: no camera: ')
        assert 'front: ' not in node.output


def test_names_that_cannot_begin_a_topic_are_refused(tiny_weights):
    process = NodeProcess('-p', "cameras:=['front', 'no topic']", variant='tiny',
                          weights=str(tiny_weights))
    assert process.process.wait(90) == 1
    assert "parameter 'cameras' is ['front', 'no topic']" in process.output
    assert 'Traceback' not in process.output
