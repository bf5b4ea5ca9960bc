"""Simulated time: the node with /clock, without it, and while it stands still."""
import pytest
from rclpy.qos import ReliabilityPolicy
from ros_support import Client, good_image, good_info, read_values, READY, running_node, tiny
from rosgraph_msgs.msg import Clock
from test_node_slow import SLOW, slow_image


@pytest.fixture
def node(tiny_weights):
    """Return a node on simulated time that reports often."""
    with running_node(**tiny(tiny_weights, use_sim_time=True, diagnostics_period=0.3)) as process:
        process.wait_for(READY)
        yield process
        assert process.end() == 0
        assert 'Traceback' not in process.output


def report_of_a_frame(client, image, key='rate out [Hz]'):
    """Publish an image until the node reports a frame, and ``key``; return all values."""
    def found():
        return [values for values in map(read_values, client.reports)
                if values['rate out [Hz]'] != '0.00' and key in values]

    client.ask_until(image, found, interval=0.5)
    return found()[-1]


def test_without_a_clock_the_node_works_and_says_what_is_missing(node):
    with Client(node, compressed=False) as client:
        # The node follows a reliable camera, for which it must look at its publishers.
        client.wait_for_match()
        client.ask(good_image(), good_info())
        values = report_of_a_frame(client, good_image())
        assert not any(key.startswith('age at') for key in values)
        found = client.node.get_subscriptions_info_by_topic(client.images.topic_name)
        assert [info.qos_profile.reliability for info in found] == [ReliabilityPolicy.RELIABLE]
        node.wait_for('use_sim_time is set, but nobody publishes /clock')
        assert node.output.count('nobody publishes /clock') == 1


def test_without_a_clock_silence_is_explained(node):
    node.wait_for(f'nobody publishes {node.namespace}/image_raw')


def test_with_a_clock_age_is_measured_by_it(tiny_weights):
    parameters = tiny(tiny_weights, use_sim_time=True, diagnostics_period=0.3)
    with running_node('-r', '/clock:=clock', **parameters) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        clock = client.node.create_publisher(Clock, 'clock', 10)
        now = Clock()
        now.clock.sec = 12
        # Again and again, because frames before the first one that arrives have no age.
        client.node.create_timer(0.1, lambda: clock.publish(now))
        age = 'age at publish p50 [ms]'
        values = report_of_a_frame(client, good_image(at=10.0), age)
        assert float(values[age]) == 2000.0
        assert 'use_sim_time' not in node.output


def test_a_frame_of_before_a_jump_back_has_no_age(tiny_weights):
    """A bag starts again while the last frame of its end is in the network."""
    parameters = tiny(tiny_weights, use_sim_time=True, diagnostics_period=0.3)
    with running_node('-r', '/clock:=clock', program=SLOW, **parameters) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        clock = client.node.create_publisher(Clock, 'clock', 10)
        now = Clock()
        now.clock.sec = 100
        client.node.create_timer(0.1, lambda: clock.publish(now))
        age = 'age at publish p50 [ms]'
        report_of_a_frame(client, good_image(at=100.0), age)
        client.images.publish(slow_image(100.0))
        node.wait_for('a slow frame begins')
        now.clock.sec = 5
        seen = len(client.reports)
        client.ask(good_image(at=5.0))
        client.next_report()
        ages = [float(values[age]) for values in map(read_values, client.reports[seen:])
                if age in values]
        assert ages and min(ages) >= 0


def test_a_clock_that_stands_at_zero_is_told(tiny_weights):
    parameters = tiny(tiny_weights, use_sim_time=True)
    with running_node('-r', '/clock:=clock', **parameters) as node, \
            Client(node, compressed=False, outputs=()) as client:
        client.node.create_publisher(Clock, 'clock', 10)
        node.wait_for('/clock has sent no time yet')
