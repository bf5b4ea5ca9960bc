"""Transitions while a frame is in a slow network: they do not wait for it; it goes nowhere."""
import numpy as np
from ros_support import (
    Client,
    good_image,
    good_info,
    READY,
    ROOT,
    ROS,
    running_node,
    seconds_of,
    stamp,
    tiny,
)
from test_node_again import transit

SLOW = (str(ROOT / 'test' / 'support' / 'slow_node.py'),)


def slow_image(at, size=(48, 64)):
    """Return a sensor_msgs/Image that takes the slow node seconds."""
    return stamp(ROS.photo(np.full((*size, 3), 253, np.uint8)), at)


def test_a_slow_frame_ends_with_the_life_of_the_node_that_it_came_in(tiny_weights):
    with running_node(program=SLOW, **tiny(tiny_weights)) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        client.ask(good_image(1), good_info(1))
        for number, transitions in enumerate((('deactivate', 'activate'), (
                'deactivate', 'cleanup', 'configure', 'activate')), 1):
            client.clear()
            client.images.publish(slow_image(10 * number))
            client.wait_until(lambda n=number: node.output.count('frame begins') == n,
                              what='the slow frame')
            # It waits while the slow one is in the network.
            client.images.publish(good_image(10 * number + 1))
            transit(client, 'deactivate')
            assert node.output.count('frame ends') == number - 1, 'deactivate has waited'
            transit(client, *transitions[1:])
            client.wait_for_match()
            client.ask(good_image(10 * number + 5), good_info(10 * number + 5))
            client.wait_until(lambda n=number: node.output.count('frame ends') == n,
                              what='the end of the slow frame')
            client.spin(0.5)
            for messages in client.received.values():
                assert {seconds_of(message) for message in messages} <= {10 * number + 5}
        assert 'two frames at once' not in node.output
        assert node.end() == 0, node.output
        assert 'Traceback' not in node.output
