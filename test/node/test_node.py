"""The node as a process of its own, over DDS, with the tiny real model."""
import math

from bags import cloud_points, depth_of, HALLWAY_BAG, picture, read_bag
from node_messages import camera_info, raw_image, SAMPLE
import numpy as np
import pytest
from ros_support import bag_frames, Client, READY, running_node, tiny
from sensor_msgs.msg import CompressedImage

from zoe_ros import DepthEstimator
from zoe_ros.bag import BagReader
from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.headers import nanoseconds
from zoe_ros.images import decode_image
from zoe_ros.messages import pack_array
from zoe_ros.pipeline import Pipeline
from zoe_ros.ros.parameters import DepthParameters
from zoe_ros.run import run
from zoe_ros.settings import RunSettings


def offline(bag, tiny_weights, output):
    """Run the bag offline; return what is on each topic of the results, in order."""
    folder = run(RunSettings(data=str(bag), output=str(output), variant='tiny',
                             weights=str(tiny_weights), device='cpu', precision='fp32'))
    return {topic: [message for _, message in found]
            for topic, found in read_bag(folder / 'bag').items()}


@pytest.mark.parametrize('bag', [SAMPLE, HALLWAY_BAG], ids=['sample', 'hallway'])
def test_live_equals_offline_bit_for_bit(bag, client, tiny_weights, tmp_path):
    if not bag.exists():
        pytest.skip(f'the recording is not here: {bag}')
    expected = offline(bag, tiny_weights, tmp_path)
    for image, info in bag_frames(bag):
        client.ask(image, info)
    for topic, live in (('/depth/image', client.depth), ('/depth/points', client.points),
                        ('/depth/camera_info', client.camera_info)):
        assert len(live) == len(expected[topic])
        for ours, theirs in zip(live, expected[topic]):
            assert nanoseconds(ours.header.stamp) == nanoseconds(theirs.header.stamp)
            assert ours.header.frame_id == theirs.header.frame_id
            assert (ours.height, ours.width) == (theirs.height, theirs.width)
            if topic != '/depth/camera_info':
                assert ours.data.tobytes() == theirs.data.tobytes()
                continue
            for field in ('k', 'r', 'p', 'd'):
                np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))


def test_outputs_follow_the_contract(client):
    (image, info), *_ = bag_frames(SAMPLE)
    depth = client.ask(image, info)
    assert (depth.encoding, depth.step, depth.is_bigendian) == ('32FC1', 4 * depth.width, 0)
    assert depth.header == image.header
    values = depth_of(depth)
    assert not (values <= 0).any() and np.isfinite(values).mean() > 0.9
    cloud = client.points[-1]
    assert cloud.header == image.header
    assert [(f.name, f.offset, f.datatype, f.count) for f in cloud.fields] == [
        ('x', 0, 7, 1), ('y', 4, 7, 1), ('z', 8, 7, 1), ('rgb', 12, 7, 1)]
    assert (cloud.point_step, cloud.row_step, cloud.is_dense) == (16, 16 * cloud.width, False)
    assert (cloud.height, cloud.width) == (90, 120)
    expected = info
    expected.header = image.header
    assert client.camera_info[-1] == expected


def test_the_newest_frame_wins(tiny_weights):
    # A large photograph, so that its decoding and resizing keep the worker busy for a while.
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 255, (1500, 2000, 3), np.uint8)
    with running_node(**tiny(tiny_weights)) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        client.ask(raw_image(noise, stamp=1))
        count = 12
        for i in range(count):
            client.images.publish(raw_image(noise, stamp=10 + i))
        client.wait_until(lambda: client.depth[-1].header.stamp.sec == 10 + count - 1,
                          what='the depth of the last frame')
        stamps = [message.header.stamp.sec for message in client.depth[1:]]
    assert stamps == sorted(set(stamps))
    assert len(stamps) < count, 'frames queued up in front of the network'


def test_a_damaged_image_is_dropped_and_the_next_one_works(client, node):
    (image, info), *_ = bag_frames(SAMPLE)
    good = bytes(image.data)
    for cause, data in (('data', b''), ('encoding', b'garbage'),
                        ('corrupt', good[:len(good) // 2])):
        client.images.publish(CompressedImage(header=image.header, format='jpeg', data=data))
        values = client.next_report(
            lambda status, values, cause=cause: f'dropped: {cause}' in values)
        assert values[f'dropped: {cause}'] == '1'
    client.ask(image, info)
    assert node.process.poll() is None
    assert 'dropped an image: a compressed image without data' in node.output
    assert 'Traceback' not in node.output


def test_malformed_raw_images_are_dropped(tiny_weights, photos):
    good = raw_image(photos[0])
    bad = [raw_image(photos[0], encoding='32FC1'), raw_image(photos[0], encoding='nonsense'),
           raw_image(photos[0]), raw_image(photos[0]), raw_image(photos[0])]
    bad[2].step = 7
    bad[3].data = pack_array(photos[0][:10])
    bad[4].height = 0
    with running_node(**tiny(tiny_weights, diagnostics_period=0.2)) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        client.ask(good)
        for count, message in enumerate(bad, 1):
            client.images.publish(message)
            client.next_report(lambda status, values, count=count: count == sum(
                int(value) for key, value in values.items() if key.startswith('dropped')))
        answers = len(client.depth)
        client.ask(good)
        assert len(client.depth) == answers + 1
        assert node.end() == 0, node.output
        assert 'Traceback' not in node.output


def test_without_camera_info_there_is_depth_and_no_cloud(tiny_weights, photos):
    with running_node(**tiny(tiny_weights)) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        for _ in range(3):
            client.ask(raw_image(photos[0]))
        client.ask(raw_image(photos[0], frame='other'), None)
        client.infos.publish(camera_info(8, 8))
        client.ask_until(raw_image(photos[0]), lambda: 'no cloud: CameraInfo is' in node.output,
                         interval=0.5)
        client.ask(raw_image(photos[0]))
        client.spin(0.5)        # a cloud would come after its depth
        assert client.points == []
        assert node.output.count('no cloud: there is no CameraInfo') == 1
        assert node.output.count('no cloud: CameraInfo is for 8 x 8 pixels') == 1


def ask_once(weights, photo, info=None, **parameters):
    """Start a node with some parameters, ask it once; return depth array and points."""
    with running_node(**tiny(weights, **parameters)) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        depth = client.ask(raw_image(photo), info)
        points = cloud_points(client.points[-1]) if info is not None else None
        return depth_of(depth), points


def test_parameters_reach_the_estimator(tiny_weights):
    tall = picture(200, 130)
    found = []
    for parameters in ({'precision': 'fp32', 'aspect': 'keep', 'router': 'indoor'},
                       {'precision': 'bf16', 'router': 'indoor'},
                       {'precision': 'fp32', 'router': 'indoor'}):
        chosen = DepthParameters(**parameters)
        estimator = DepthEstimator.load('tiny', tiny_weights, device='cpu',
                                        precision=chosen.precision, aspect=chosen.aspect)
        expected, _ = Pipeline(estimator, None, chosen, CameraInfoBuffer(),
                               False).predict_image(tall)
        found.append(expected.tobytes())
        depth, _ = ask_once(tiny_weights, tall, **parameters)
        np.testing.assert_array_equal(depth, expected)
    # ... and they matter.
    assert len(set(found)) == 3


def test_rectified_and_downsample_shape_the_cloud(tiny_weights, photos):
    height, width = photos[0].shape[:2]
    info = camera_info(width, height, focal=300.0, d=(0.1, 0.0, 0.0, 0.0, 0.0), p_focal=250.0)
    depth, raw = ask_once(tiny_weights, photos[0], info, point_cloud_downsample=1)
    assert raw.shape == (height, width, 3)
    _, rectified = ask_once(tiny_weights, photos[0], info, rectified='yes',
                            point_cloud_downsample=2)
    assert rectified.shape == (math.ceil(height / 2), math.ceil(width / 2), 3)
    u = np.arange(width)[::2] - width / 2
    np.testing.assert_allclose(rectified[..., 0], u / 250 * depth[::2, ::2], rtol=1e-5, atol=1e-6)
    assert not np.allclose(raw[::2, ::2, 0], u / 300 * depth[::2, ::2], rtol=1e-3, atol=1e-3)


def test_several_topics_of_the_sample_are_right():
    with BagReader(SAMPLE) as bag:
        assert (bag.topic, bag.info_topic, bag.count) == (
            '/camera/image_raw/compressed', '/camera/camera_info', 40)
        assert all(decode_image(image.message).shape == (360, 480, 3) for image in bag)
