"""A node that is active again: with other parameters than before."""
import bags
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
from ros_support import (
    Client,
    good_image,
    good_info,
    of_camera,
    READY,
    running_node,
    stamp,
    tiny,
    USUAL,
)
from sensor_msgs.msg import Image

FACTOR = 1.3
OUTPUTS = (*USUAL, 'depth/scale')


def sparse(depth, at):
    """Return every third pixel of depth as a depth image in millimetres."""
    values = np.zeros(depth.shape, '<u2')
    values[::3, ::3] = np.rint(1000 * depth[::3, ::3])
    message = Image(height=depth.shape[0], width=depth.shape[1], encoding='16UC1',
                    step=2 * depth.shape[1], data=values.tobytes())
    message.header.frame_id = 'cam'
    return stamp(message, at)


def transit(client, *names):
    """Bring the node into another state."""
    for name in names:
        request = ChangeState.Request(transition=Transition(
            id=getattr(Transition, f'TRANSITION_{name.upper()}')))
        assert client.call(ChangeState, 'change_state', request).success, name


def anchored(client, sensor, plain, at):
    """Return depth at the scale of a sensor, which the node may hear after some images."""
    sensor.publish(sparse(FACTOR * plain, at))
    client.ask_until(
        good_image(at), lambda: client.received['depth/scale'][-1:] and
        client.received['depth/scale'][-1].pose.covariance[0] < 0.01, good_info(at))
    return bags.depth_of(client.ask(good_image(at), good_info(at), OUTPUTS))


def test_what_was_known_under_other_parameters_is_forgotten(tiny_weights):
    with running_node(**tiny(tiny_weights, anchor='depth', diagnostics_period=0.2)) as node, \
            Client(node, compressed=False, outputs=OUTPUTS) as client:
        node.wait_for(READY)
        sensor = client.node.create_publisher(Image, 'sparse_depth', 5)
        client.wait_for_match()
        client.wait_until_heard(sensor)
        plain = bags.depth_of(client.ask(good_image(1), good_info(1), OUTPUTS))
        assert np.allclose(anchored(client, sensor, plain, 2), FACTOR * plain, rtol=0.02)

        # The sensor is silent when the node is active again: a scale of other depth is none.
        transit(client, 'deactivate')
        assert client.change(depth_scale=2.0) == ['']
        transit(client, 'activate')
        client.wait_for_match()
        doubled = bags.depth_of(client.ask(good_image(9), good_info(9), OUTPUTS))
        assert np.allclose(doubled, 2 * plain, rtol=1e-5)
        client.report_while(good_image(9), good_info(9), 'the anchor does not work')

        transit(client, 'deactivate', 'cleanup')
        assert client.change_at_once(anchor='none', cameras=['front']) == ''
        transit(client, 'configure', 'activate')
        with Client(of_camera(node, 'front'), compressed=False) as front:
            front.wait_for_match()
            values = front.report_while(good_image(10), good_info(10), 'working')
            values = values if 'head front' in values else front.next_report(
                lambda status, values: 'head front' in values)
        assert not [key for key in values if key.startswith('scale') or key == 'head'], values
        assert node.end() == 0, node.output
        assert 'Traceback' not in node.output
