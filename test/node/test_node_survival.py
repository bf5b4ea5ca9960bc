"""What must not end the node, nor make it wrong: haste, changes, crashes of others, signals."""
from contextlib import contextmanager
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import pytest
from ros_support import (
    Client,
    good_image,
    good_info,
    lossless,
    NodeProcess,
    PATIENCE,
    python_path,
    READY,
    running_node,
    seconds_of,
    tiny,
)


@pytest.fixture(scope='module')
def node(tiny_weights):
    """Return a node that takes raw images, for all tests that do not end it."""
    with running_node(**tiny(tiny_weights, diagnostics_period=0.3)) as process:
        process.wait_for(READY)
        yield process
        assert process.end() == 0, process.output
        assert 'Traceback' not in process.output


@pytest.fixture
def client(node):
    """Return a client that is matched with it."""
    with Client(node, compressed=False) as client:
        client.wait_for_match()
        yield client


# --- changes and crashes --------------------------------------------------------------------


def test_size_encoding_and_frame_may_change_in_mid_stream(client):
    at = 10.0
    for size in ((48, 64), (480, 640), (1, 1), (31, 7), (48, 64)):
        for encoding in ('rgb8', 'bgr8', 'mono8'):
            for frame in ('cam', 'another'):
                at += 0.1
                image = good_image(at, size, frame, encoding)
                client.ask(image, good_info(at, size, frame))
                depth, info, cloud = client.depth[-1], client.camera_info[-1], client.points[-1]
                assert depth.header == info.header == cloud.header == image.header
                assert (depth.height, depth.width, depth.encoding) == (*size, '32FC1')
                assert (info.height, info.width) == size
                assert (cloud.height, cloud.width) == (-(-size[0] // 4), -(-size[1] // 4))


def test_a_bag_that_loops_goes_on(client):
    for _ in range(3):
        for i in range(5):
            image = good_image(100 + i / 10)
            client.ask(image, good_info(100 + i / 10))
            assert client.points[-1].header == image.header
    stamps = [round(seconds_of(depth), 1) for depth in client.depth]
    assert stamps == [100.0, 100.1, 100.2, 100.3, 100.4] * 3


def test_an_uncalibrated_camera_gives_depth_without_a_cloud(client, node):
    """A driver without a calibration publishes a CameraInfo of zeros, or of its size alone."""
    before = client.next_report().get('dropped: error', '0')
    said = 'the camera is not calibrated'
    for size in ((0, 0), (48, 64)):
        info = good_info(200, size, 'bare', k=[0.0] * 9, p=[0.0] * 12)
        client.ask_until(good_image(200, frame='bare'),
                         lambda: said in node.output, info, 0.5, said)
        client.clear()      # an image that was faster than the first CameraInfo has one of others
        client.ask(good_image(201, frame='bare'))
    client.spin(0.3)
    assert client.points == []
    assert client.next_report().get('dropped: error', '0') == before
    assert node.output.count(said) == 1


OTHER = textwrap.dedent("""
    import sys, time
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image, PointCloud2
    kind, namespace, reliable, at = sys.argv[1:]
    rclpy.init()
    node = rclpy.create_node('other', namespace=namespace)
    qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE if reliable == 'reliable'
                     else ReliabilityPolicy.BEST_EFFORT)
    if kind == 'publish':
        publisher = node.create_publisher(Image, 'image_raw', qos)
        image = Image(height=48, width=64, encoding='rgb8', step=192, data=bytes(48 * 192))
        image.header.frame_id = 'other'
        image.header.stamp.sec = int(at)
        while True:
            publisher.publish(image)
            time.sleep(0.05)
    def got(message):
        print(message.header.stamp.sec, flush=True)
    subscriptions = [node.create_subscription(t, n, got, qos)
                     for t, n in ((Image, 'depth/image'), (PointCloud2, 'depth/points'))]
    rclpy.spin(node)
    """)


@contextmanager
def other_process(*arguments):
    """Run OTHER in a process of its own; kill it at the end."""
    process = subprocess.Popen([sys.executable, '-c', OTHER, *arguments], text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_subscriber_may_be_killed_while_it_receives(client, node):
    for kind in ('reliable', 'best effort'):
        with other_process('listen', node.namespace, kind, '0') as other:
            # Its pipe is read here, so that a line says that it receives.
            lines = []
            reader = threading.Thread(target=lambda o=other, li=lines: li.append(
                o.stdout.readline()))
            reader.start()
            client.ask_until(good_image(400), lambda r=reader: not r.is_alive(), good_info(400),
                             interval=0.02, what='the subscriber')
            assert lines == ['400\n']
            for i in range(10):
                client.images.publish(good_image(401 + i))
            other.send_signal(signal.SIGKILL)
            for i in range(10):
                client.images.publish(good_image(411 + i))
        # Its ghost is known for some time and must not hold anything up.
        for i in range(30):
            client.ask(good_image(430 + i), good_info(430 + i))
        client.clear()


def test_a_killed_publisher_may_come_back(node):
    """Once as reliable as it was, once as best effort, while its ghost is still known."""
    with Client(node, compressed=False) as client:
        client.node.destroy_publisher(client.images)
        for at, kind in ((301, 'reliable'), (302, 'reliable'), (303, 'best effort'),
                         (304, 'reliable')):
            with other_process('publish', node.namespace, kind, str(at)):
                client.wait_until(
                    lambda at=at: any(seconds_of(depth) == at for depth in client.depth),
                    what=f'depth of the publisher {at}')
        assert node.process.poll() is None


def test_parameters_may_change_while_frames_flow(tiny_weights):
    """A frame uses one set of them throughout."""
    number = 150
    choices = [{'output_decimation': 1, 'point_cloud_downsample': 4, 'depth_scale': 1.0},
               {'output_decimation': 2, 'point_cloud_downsample': 1, 'depth_scale': 3.0},
               {'output_decimation': 3, 'point_cloud_downsample': 2, 'point_cloud_color': False}]
    sizes = {(48, 64): (12, 16), (24, 32): (48, 64), (16, 22): (24, 32)}
    with lossless(tiny_weights) as (node, client):
        for i in range(number):
            client.infos.publish(good_info(10 + i))
            client.images.publish(good_image(10 + i))
            if i % 5 == 0:
                assert client.change_at_once(**choices[i // 5 % 3]) == ''
                assert client.change_at_once(depth_scale=2.0, router='kitchen')
        client.wait_until(lambda: all(len(client.received[name]) >= number for name in (
            'depth/image', 'depth/camera_info', 'depth/points')), what='all of them')
        seen = set()
        for depth, info, cloud in zip(client.depth, client.camera_info, client.points):
            assert depth.header == info.header == cloud.header
            size = depth.height, depth.width
            assert (info.height, info.width) == size
            assert (cloud.height, cloud.width) == sizes[size]
            seen.add(size)
        assert seen == set(sizes)
        assert node.end() == 0, node.output
        assert 'Traceback' not in node.output


# --- ends -----------------------------------------------------------------------------------


def flood(client, images=30, size=(480, 640)):
    """Publish images faster than they can be processed, the last just now."""
    image, info = good_image(1, size), good_info(1, size)
    for _ in range(images):
        client.infos.publish(info)
        client.images.publish(image)


def transition_at_hand(client):
    """Ask for a transition and do not wait for it."""
    service = client.node.create_client(ChangeState, 'depth_node/change_state')
    client.wait_until(service.service_is_ready, what='the service')
    service.call_async(ChangeState.Request(
        transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
    time.sleep(0.05)


INT, TERM = signal.SIGINT, signal.SIGTERM
MOMENTS = {
    'during frames': ({}, flood, (INT,)),
    'during a large frame': ({}, lambda client: flood(client, 2, (1500, 2000)), (TERM,)),
    'while every image waits': ({'policy': 'every'}, lambda client: flood(client, 100), (TERM,)),
    'twice': ({}, flood, (INT, INT, TERM)),      # an impatient user
    'while inactive': ({'autostart': False}, lambda client: None, (INT,)),
    'while it configures': ({'autostart': False}, transition_at_hand, (TERM,))}


def slowdown():
    """Return how many times slower than on an idle machine a process is now, 1 or more."""
    begin, used = time.monotonic(), time.process_time()
    while time.process_time() - used < 0.2:
        pass
    return (time.monotonic() - begin) / (time.process_time() - used)


def test_a_signal_at_any_moment_ends_it_cleanly_within_two_seconds(tiny_weights):
    nodes, times = {}, {}
    try:
        for moment, (parameters, _, _) in MOMENTS.items():
            # Together: their imports take seconds.
            nodes[moment] = NodeProcess(**tiny(tiny_weights, **parameters))
        for moment, (parameters, act, signals) in MOMENTS.items():
            node = nodes[moment]
            with Client(node, compressed=False) as client:
                if 'autostart' in parameters:
                    state = client.call(GetState, 'get_state', GetState.Request())
                    assert state.current_state.label == 'unconfigured'
                else:
                    node.wait_for(READY)
                    client.wait_for_match()
                    client.ask(good_image())
                act(client)
                for sign in signals:
                    node.process.send_signal(sign)
                begin = time.monotonic()
                assert node.process.wait(PATIENCE) == 0, (moment, node.output)
                times[moment] = time.monotonic() - begin
                assert 'Traceback' not in node.output, (moment, node.output)
                for text in ('dropped an image: ', 'lost a frame: '):
                    assert text not in node.output, (moment, node.output)
        # Half of them, because others use the machine as well.
        assert sorted(times.values())[len(times) // 2] < 2.0 * slowdown(), times
    finally:
        for node in nodes.values():
            node.process.kill()
            node.process.wait()


BETWEEN = textwrap.dedent("""
    import importlib, os, signal, sys, time
    module, name, count, *arguments = sys.argv[1:]
    owner = importlib.import_module(module)
    *path, name = name.split('.')
    for part in path:
        owner = getattr(owner, part)
    original, calls = getattr(owner, name), 0
    def interrupted(*arguments):
        global calls
        calls += 1
        if calls == int(count):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)     # rclpy shuts its context down meanwhile
        return original(*arguments)
    setattr(owner, name, interrupted)
    import zoe_ros.ros.node
    zoe_ros.ros.node._SILENCE = 0.2
    from zoe_ros.ros.main import main
    sys.exit(main(['depth_node', *arguments]))
    """)


def test_a_signal_just_before_any_call_of_the_executor_ends_it_cleanly(tiny_weights):
    """The context of rclpy is then gone when the call needs it."""
    options = ['--ros-args', '-p', 'variant:=tiny', '-p', f"weights:='{tiny_weights}'",
               '-p', 'device:=cpu', '-r', '__ns:=/signals']
    processes = {place: subprocess.Popen(
        [sys.executable, '-c', BETWEEN, *place, '3', *options], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, 'PYTHONPATH': python_path()}) for place in (
            ('rclpy.executors', '_rclpy.WaitSet'),
            ('zoe_ros.ros.subscription', 'MatchedSubscription.follow'),
            ('zoe_ros.ros.node', 'DepthNode._diagnose'),
            ('zoe_ros.ros.node', 'DepthNode._explain_silence'))}
    ends = {place: (process.communicate(timeout=PATIENCE)[0], process.returncode)
            for place, process in processes.items()}
    bad = {place: end for place, end in ends.items() if end[1] != 0 or 'Traceback' in end[0]}
    assert not bad, bad
