"""Policy 'every': in order and without a loss, however slow the node or its subscriber is."""
from contextlib import contextmanager
import os
import signal
import subprocess
import sys
import textwrap

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import pytest
from ros_support import (
    Client,
    good_image,
    KEEP_ALL,
    lossless,
    READY,
    running_node,
    seconds_of,
    tiny,
)


def test_every_image_comes_out_once_and_in_order(tiny_weights):
    count = 150
    stamps = [5 + i for i in range(count)]
    with lossless(tiny_weights) as (node, client):
        for at in stamps:       # as fast as it goes, much faster than the network
            client.images.publish(good_image(at))
        client.wait_until(lambda: len(client.depth) >= count, what='the last one')
        client.wait_until(lambda: len(client.points) >= count, what='the last cloud')
        values = client.next_report(lambda status, values: 'head' in values)
        client.spin(0.5)
        for messages in (client.depth, client.points, client.camera_info):
            assert [seconds_of(message) for message in messages] == stamps
        assert not any(key.startswith('dropped') for key in values)
        assert node.end() == 0, node.output


def test_every_does_not_hold_back_the_services_or_the_end(tiny_weights):
    with running_node(**tiny(tiny_weights, policy='every')) as node, \
            Client(node, compressed=False, qos=KEEP_ALL, listen_qos=KEEP_ALL) as client:
        node.wait_for(READY)
        client.wait_for_match()
        message = good_image(1)
        client.ask(message)
        # The services are found before there is a queue.
        client.call(GetState, 'get_state', GetState.Request())
        assert client.change(depth_scale=1.0) == ['']
        # Small images: to publish one takes far less time than the network does.
        number = 600
        for _ in range(number):
            client.images.publish(message)
        state = client.call(GetState, 'get_state', GetState.Request())
        assert state.current_state.label == 'active'
        assert client.change(depth_scale=2.0) == ['']
        assert len(client.depth) <= number, 'the queue was empty before the answers came'
        assert node.end() == 0, node.output
        assert 'Traceback' not in node.output


# --- a slow subscriber ----------------------------------------------------------------------

ROOM = 4
FIRST = 10      # stamp [s] of the first image after those that the subscriber was found by
# What a user with little memory might set: histories of ROOM messages instead of 5,000.
SMALL_HISTORIES = textwrap.dedent("""\
    <?xml version="1.0" encoding="UTF-8"?>
    <profiles xmlns="http://www.eprosima.com">
    """) + ''.join(f"""
    <data_{end} profile_name="small_{end}" is_default_profile="true">
      <topic>
        <historyQos><kind>KEEP_ALL</kind></historyQos>
        <resourceLimitsQos>
          <max_samples>{ROOM}</max_samples>
          <max_instances>1</max_instances>
          <max_samples_per_instance>{ROOM}</max_samples_per_instance>
          <allocated_samples>{ROOM}</allocated_samples>
        </resourceLimitsQos>
      </topic>
    </data_{end}>""" for end in ('writer', 'reader')) + '</profiles>'
SLOW = textwrap.dedent("""
    import sys, time
    import rclpy
    from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image
    namespace, pause = sys.argv[1:]
    rclpy.init()
    node = rclpy.create_node('slow', namespace=namespace)
    def got(message):
        print(message.header.stamp.sec, flush=True)
        time.sleep(float(pause))
    subscription = node.create_subscription(
        Image, 'depth/image', got, QoSProfile(history=HistoryPolicy.KEEP_ALL,
                                              reliability=ReliabilityPolicy.RELIABLE))
    rclpy.spin(node)
    """)


@pytest.fixture
def small(tmp_path):
    """Return the environment in which Fast DDS keeps few messages."""
    path = tmp_path / 'small.xml'
    path.write_text(SMALL_HISTORIES)
    return {'FASTDDS_DEFAULT_PROFILES_FILE': str(path),
            'FASTRTPS_DEFAULT_PROFILES_FILE': str(path), 'RMW_FASTRTPS_USE_QOS_FROM_XML': '1'}


@contextmanager
def slow_subscriber(node, environment, pause, output):
    """Run SLOW, which writes the stamps of what it gets to a file; kill it at the end."""
    with output.open('w') as file:
        process = subprocess.Popen(
            [sys.executable, '-c', SLOW, node.namespace, str(pause)],
            env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def stamps_in(path):
    """Return the stamps [s] that a subscriber wrote, from FIRST on: of frames that are counted."""
    return [at for at in map(int, path.read_text().splitlines()) if at >= FIRST]


def test_a_slow_subscriber_holds_the_node_back_and_gets_every_frame(small, tiny_weights, tmp_path):
    number, got = 20, tmp_path / 'got'
    parameters = tiny(tiny_weights, policy='every')
    with running_node(environment=small, **parameters) as node, \
            Client(node, compressed=False, outputs=(), qos=KEEP_ALL) as client, \
            slow_subscriber(node, small, 0.4, got):
        node.wait_for(READY)
        client.wait_for_match()
        client.ask_until(good_image(1), got.read_text, interval=2.0, what='the subscriber')
        stamps = [FIRST + i for i in range(number)]
        for at in stamps:
            client.images.publish(good_image(at))
        # The full histories hold the node for longer than Fast DDS lets one call wait.
        client.wait_until(lambda: stamps[-1] in stamps_in(got), what='the last frame')
        assert stamps_in(got) == stamps
        assert 'waiting for a slow subscriber' in node.output, 'it was not slow enough'
        assert node.end() == 0, node.output
        assert 'lost a frame' not in node.output
        assert 'Traceback' not in node.output


def test_a_subscriber_that_has_stopped_does_not_stop_the_services(small, tiny_weights, tmp_path):
    number, got = 3 * ROOM, tmp_path / 'got'
    parameters = tiny(tiny_weights, policy='every')
    with running_node(environment=small, **parameters) as node, \
            Client(node, compressed=False, outputs=(), qos=KEEP_ALL) as client, \
            slow_subscriber(node, small, 0.0, got) as subscriber:
        node.wait_for(READY)
        client.wait_for_match()
        client.ask_until(good_image(1), got.read_text, interval=2.0, what='the subscriber')
        subscriber.send_signal(signal.SIGSTOP)
        stamps = [FIRST + i for i in range(number)]
        for at in stamps:
            client.images.publish(good_image(at))
        client.spin(2.0)
        # The node waits for it and answers all the same.
        assert client.change(depth_scale=2.0) == ['']
        assert client.call(GetState, 'get_state', GetState.Request()).current_state.label == (
            'active')
        assert stamps_in(got) == []
        subscriber.send_signal(signal.SIGCONT)
        client.wait_until(lambda: len(stamps_in(got)) >= number, what='the rest')
        assert stamps_in(got) == stamps
        # And it can be deactivated, or ended, while it waits.
        subscriber.send_signal(signal.SIGSTOP)
        for i in range(number):
            client.images.publish(good_image(100 + i))
        client.spin(2.0)
        request = ChangeState.Request(
            transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
        assert client.call(ChangeState, 'change_state', request).success
        assert node.end() == 0, node.output
        assert 'Traceback' not in node.output
