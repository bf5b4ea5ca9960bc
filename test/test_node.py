"""The node as a process of its own, over DDS, with the tiny real model."""
import math
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from bags import cloud_points, depth_of, read_bag
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
import pytest
from ros_support import bag_frames, Client, NodeProcess, ROOT, running_node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from zoe_ros import DepthEstimator
from zoe_ros.bag import BagReader
from zoe_ros.messages import decode_image, nanoseconds, pack_array
from zoe_ros.run import run
from zoe_ros.settings import RunSettings

SAMPLE = ROOT / 'zoe_ros' / 'data' / 'sample'
HALLWAY = ROOT.parent / 'shared' / 'data' / 'hallway'
READY = 'waiting for images'


def tiny(model, **more):
    return {'variant': 'tiny', 'weights': str(model), 'device': 'cpu',
            'image_transport': 'compressed', **more}


@pytest.fixture(scope='module')
def node(tiny_weights):
    """Return a running node that several tests send compressed images to."""
    with running_node(**tiny(tiny_weights)) as process:
        process.wait_for(READY)
        yield process


@pytest.fixture
def client(node):
    """Return a client that is matched with the node."""
    with Client(node) as client:
        client.wait_for_match()
        yield client


def raw_image(pixels, encoding='rgb8', stamp=1.5, frame='cam'):
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
                    step=pixels.strides[0], data=pack_array(pixels))
    message.header.frame_id = frame
    message.header.stamp.sec = int(stamp)
    message.header.stamp.nanosec = round(stamp % 1 * 1e9)
    return message


def camera_info(width, height, focal=300.0, stamp=1.5, frame='cam', d=(), p_focal=None):
    k = [focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0]
    f = p_focal or focal
    p = [f, 0.0, width / 2, 0.0, 0.0, f, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
    message = CameraInfo(height=height, width=width, distortion_model='plumb_bob', d=list(d),
                         k=k, r=np.eye(3).ravel(), p=p)
    message.header.frame_id = frame
    message.header.stamp.sec = int(stamp)
    message.header.stamp.nanosec = round(stamp % 1 * 1e9)
    return message


def offline(bag, tiny_weights, output):
    """Run the bag offline; return what is on each topic of the results, in order."""
    folder = run(RunSettings(str(bag), str(output), variant='tiny', weights=str(tiny_weights),
                             device='cpu'))
    return {topic: [message for _, message in found]
            for topic, found in read_bag(folder / 'bag').items()}


@pytest.mark.parametrize('bag', [SAMPLE, HALLWAY], ids=['sample', 'hallway'])
def test_live_equals_offline_bit_for_bit(bag, client, tiny_weights, tmp_path):
    if not bag.exists():
        pytest.skip(f'the recording is not here: {bag}')
    expected = offline(bag, tiny_weights, tmp_path)
    for image, info in bag_frames(bag):
        client.ask(image, info)
    for topic, live in (('/depth/image', client.depth), ('/points', client.points),
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
    picture = rng.integers(0, 255, (1500, 2000, 3), np.uint8)
    with running_node(**tiny(tiny_weights, image_transport='raw', aspect='stretch')) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        client.ask(raw_image(picture, stamp=1))
        count = 12
        for i in range(count):
            client.images.publish(raw_image(picture, stamp=10 + i))
        client.wait_until(lambda: client.depth[-1].header.stamp.sec == 10 + count - 1,
                          what='the depth of the last frame')
        stamps = [message.header.stamp.sec for message in client.depth[1:]]
    assert stamps == sorted(set(stamps))
    assert len(stamps) < count, 'frames queued up in front of the network'


def test_a_damaged_image_is_dropped_and_the_next_one_works(client, node):
    (image, info), *_ = bag_frames(SAMPLE)
    good = bytes(image.data)
    for data in (b'', b'garbage', good[:len(good) // 2]):
        client.images.publish(CompressedImage(header=image.header, format='jpeg', data=data))
    client.ask(image, info)
    assert node.process.poll() is None
    assert 'dropped an image' in node.output
    assert 'Traceback' not in node.output


def test_malformed_raw_images_are_dropped(tiny_weights, photos):
    good = raw_image(photos[0])
    bad = [raw_image(photos[0], encoding='32FC1'), raw_image(photos[0], encoding='nonsense'),
           raw_image(photos[0]), raw_image(photos[0]), raw_image(photos[0])]
    bad[2].step = 7
    bad[3].data = pack_array(photos[0][:10])
    bad[4].height = 0
    with running_node(**tiny(tiny_weights, image_transport='raw')) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        client.ask(good)
        for message in bad:
            client.images.publish(message)
            client.spin(0.2)
        answers = len(client.depth)
        client.ask(good)
        assert len(client.depth) == answers + 1
        assert node.end() == 0
        assert 'Traceback' not in node.output


def test_without_camera_info_there_is_depth_and_no_cloud(tiny_weights, photos):
    with running_node(**tiny(tiny_weights, image_transport='raw')) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        for _ in range(3):
            client.ask(raw_image(photos[0]))
        client.ask(raw_image(photos[0], frame='other'), None)
        client.infos.publish(camera_info(8, 8))
        client.spin(0.5)
        client.ask(raw_image(photos[0]))
        client.spin(0.5)
        assert client.points == []
        assert node.output.count('no cloud: there is no CameraInfo') == 1
        assert node.output.count('no cloud: CameraInfo is for 8 x 8 pixels') == 1


@pytest.mark.parametrize(('parameters', 'reason'), [
    ({'precision': 'fp64'}, "parameter 'precision' is 'fp64', not one of fp32, fp16, bf16"),
    ({'point_cloud_downsample': 0}, 'point_cloud_downsample out of range. Min: 1, Max: 64'),
    ({'point_cloud_downsample': 'four'}, "is 'four', not of type int"),
    ({'device': 'cuda:77'}, "no device 'cuda:77'"),
    ({'device': 'abacus'}, "no device 'abacus'"),
    ({'weights': '/nowhere/zoe.pt'}, 'no weights file at /nowhere/zoe.pt'),
    ({'weights': str(Path(__file__))}, 'delete it and fetch it again'),
    ({'variant': 'xxl'}, "ask for variant 'tiny', not 'xxl'"),
], ids=lambda value: '-'.join(value) if isinstance(value, dict) else '')
def test_the_node_refuses_at_start(parameters, reason, tiny_weights):
    process = NodeProcess(**tiny(tiny_weights, **parameters))
    code = process.process.wait(90)
    assert code == 1
    assert reason in process.output
    assert 'Traceback' not in process.output


def test_without_weights_and_network_the_node_says_what_to_do(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'zoe_ros.ros.main', '--ros-args', '-p', 'device:=cpu'], cwd=ROOT,
        env={**os.environ, 'HF_HUB_OFFLINE': '1', 'HF_HOME': str(tmp_path)},
        capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    text = done.stdout + done.stderr
    assert 'the weights of ZoeD-M12-NK are not on this machine' in text
    assert 'Traceback' not in text


@pytest.mark.parametrize('sign', [signal.SIGINT, signal.SIGTERM], ids=['SIGINT', 'SIGTERM'])
def test_signals_end_the_node_cleanly(sign, tiny_weights):
    with running_node(**tiny(tiny_weights)) as node:
        node.wait_for(READY)
        assert node.end(sign) == 0
        assert 'Traceback' not in node.output


@pytest.mark.parametrize('sign', [signal.SIGINT, signal.SIGTERM], ids=['SIGINT', 'SIGTERM'])
@pytest.mark.parametrize('seconds', [0.6, 1.5, 2.5, 3.5])
def test_signals_during_imports_and_loading_end_the_node_cleanly(sign, seconds, tiny_weights):
    with running_node(**tiny(tiny_weights)) as node:
        time.sleep(seconds)
        assert node.end(sign) == 0
        assert 'Traceback' not in node.output


def test_a_lifecycle_manager_can_drive_it(tiny_weights):
    (image, info), *_ = bag_frames(SAMPLE)
    states = {Transition.TRANSITION_CONFIGURE: 'inactive',
              Transition.TRANSITION_ACTIVATE: 'active',
              Transition.TRANSITION_DEACTIVATE: 'inactive',
              Transition.TRANSITION_CLEANUP: 'unconfigured'}
    with running_node(**tiny(tiny_weights, autostart=False)) as node, Client(node) as client:
        def change(transition):
            request = ChangeState.Request(transition=Transition(id=transition))
            assert client.call(ChangeState, 'change_state', request).success
            state = client.call(GetState, 'get_state', GetState.Request())
            assert state.current_state.label == states[transition]

        for _ in range(2):
            change(Transition.TRANSITION_CONFIGURE)
            assert client.images.get_subscription_count() == 0
            for _ in range(2):
                change(Transition.TRANSITION_ACTIVATE)
                client.wait_for_match()
                client.ask(image, info)
                change(Transition.TRANSITION_DEACTIVATE)
                client.wait_until(lambda: client.images.get_subscription_count() == 0,
                                  what='the end of the subscription')
            change(Transition.TRANSITION_CLEANUP)
        assert node.end() == 0
        assert 'Traceback' not in node.output


def test_a_failed_configure_is_a_failure_with_its_reason(tiny_weights):
    with running_node(**tiny('/nowhere.pt', autostart=False)) as node, Client(node) as client:
        request = ChangeState.Request(
            transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        assert not client.call(ChangeState, 'change_state', request).success
        state = client.call(GetState, 'get_state', GetState.Request())
        assert state.current_state.label == 'unconfigured'
        node.wait_for('cannot configure: no weights file at /nowhere.pt')
        assert node.process.poll() is None


def ask_once(weights, photo, info=None, **parameters):
    """Start a node with some parameters, ask it once; return depth array and points."""
    with running_node(**tiny(weights, image_transport='raw', **parameters)) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        depth = client.ask(raw_image(photo), info)
        points = cloud_points(client.points[-1]) if info is not None else None
        return depth_of(depth), points


def test_parameters_reach_the_estimator(tiny_weights, tiny_estimator, photos):
    for parameters in ({'router': 'outdoor'}, {'router': 'indoor'}, {'aspect': 'keep'},
                       {'precision': 'bf16'}):
        estimator = DepthEstimator.load('tiny', tiny_weights, device='cpu', **parameters)
        expected = estimator.predict(photos[0]).depth
        depth, _ = ask_once(tiny_weights, photos[0], **parameters)
        np.testing.assert_array_equal(depth, expected)
    # ... and they matter: not all of these can equal the default.
    assert not np.array_equal(expected, tiny_estimator.predict(photos[0]).depth)


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


def test_a_bare_n_on_the_command_line_means_the_variant(tiny_weights):
    process = NodeProcess('-p', 'variant:=n', '-p', f"weights:='{tiny_weights}'")
    assert process.process.wait(90) == 1
    assert "ask for variant 'tiny', not 'n'" in process.output


def test_several_topics_of_the_sample_are_right():
    with BagReader(SAMPLE) as bag:
        assert (bag.topic, bag.info_topic, bag.count) == (
            '/camera/image_raw/compressed', '/camera/camera_info', 25)
        assert all(decode_image(image.message).shape == (360, 480, 3) for image in bag)
