"""Faults in the network: the frame is lost and counted, ERROR is reported, the node goes on."""
from pathlib import Path
import resource

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import made_up
import numpy as np
import pytest
from ros_support import (
    Client,
    good_image,
    good_info,
    of_camera,
    READY,
    ROOT,
    ROS,
    running_node,
    seconds_of,
    stamp,
    tiny,
)

FAULTY = (str(ROOT / 'test' / 'support' / 'faulty_node.py'),)
ERROR = DiagnosticStatus.ERROR


def plain_image(value, at):
    """Return a sensor_msgs/Image of one colour: 2 and 253 make the faulty node fail."""
    return stamp(ROS.photo(np.full((48, 64, 3), value, np.uint8), frame='cam'), at)


def lost(values):
    """Return how many frames the diagnostics say were lost to errors."""
    return int(values.get('dropped: error', 0))


@pytest.mark.parametrize(('value', 'kind', 'advice'), [
    (2, 'AcceleratorError: CUDA error: an illegal memory access was encountered', 'restart'),
    (253, 'OutOfMemoryError: CUDA out of memory', 'need less memory')],
    ids=['device error', 'out of memory'])
def test_a_frame_is_lost_to_a_fault_and_the_next_one_works(value, kind, advice, tiny_weights):
    parameters = tiny(tiny_weights, diagnostics_period=0.3)
    with running_node(program=FAULTY, **parameters) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        client.ask(good_image(1), good_info(1))
        client.clear()
        for number in (1, 2):
            client.images.publish(plain_image(value, 10 + number))
            client.next_report(lambda status, values, n=number: lost(values) == n)
        assert node.output.count(kind) == 1, 'each frame has its line in the log'
        line, = (line for line in node.output.splitlines() if kind in line)
        assert '[ERROR]' in line
        assert advice in line
        # Silence does not make it well again.
        for _ in range(3):
            values = client.next_report()
            assert (values['level'], lost(values)) == (ERROR, 2)
        assert client.depth == []
        client.ask(good_image(20), good_info(20))
        assert [seconds_of(depth) for depth in client.depth] == [20]
        values = client.next_report(lambda status, values: values['level'] != ERROR)
        assert lost(values) == 2
        # A lifecycle manager finds it as obedient as ever.
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP,
                           Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=transition))
            assert client.call(ChangeState, 'change_state', request).success
        client.wait_for_match()
        client.ask(good_image(30), good_info(30))
        assert node.end() == 0, node.output
        assert 'Traceback' not in node.output


def test_one_camera_loses_its_frame_and_the_others_do_not(tiny_weights):
    """Also where their images went through the network together."""
    with running_node('-p', 'cameras:=[bad, good]', program=FAULTY,
                      **tiny(tiny_weights, diagnostics_period=0.3)) as node, \
            Client(of_camera(node, 'bad'), compressed=False) as bad, \
            Client(of_camera(node, 'good'), compressed=False) as good, \
            Client(node, compressed=False, outputs=()) as reader:
        node.wait_for(READY)
        for client in (bad, good):
            client.wait_for_match()
        # While the node is busy with this one the other two wait for it, together.
        large = good_image(1, size=(1500, 2000))
        good.ask(large)
        for i in range(8):
            good.clear()
            good.images.publish(large)
            good.spin(0.02)
            bad.images.publish(plain_image(2, 10 + i))
            good.images.publish(good_image(10 + i))
            good.wait_until(lambda i=i: any(seconds_of(d) == 10 + i for d in good.depth))
            # Else the next one may take the place of one that still waits.
            reader.next_report(lambda status, values, i=i: lost(values) == i + 1)
        assert bad.depth == []
        bad.ask(good_image(50))
        assert node.end() == 0, node.output


def memory_of(pid):
    """Return the size of the address space of a process [bytes]."""
    return int(Path(f'/proc/{pid}/statm').read_text().split()[0]) * resource.getpagesize()


def test_a_network_that_runs_out_of_memory_recovers(tmp_path):
    """The tiny model at a size at which attention takes hundreds of megabytes, under a limit."""
    weights = made_up.write_tiny(tmp_path / 'large.safetensors', image_size=(768, 1024))
    with running_node(**tiny(weights, diagnostics_period=0.3, output_size='network')) as node, \
            Client(node, compressed=False, outputs=('depth/image',)) as client:
        node.wait_for(READY)
        client.wait_for_match()
        for at in (1, 2):
            client.ask(good_image(at))
        client.next_report()
        before = lost(client.next_report())
        pid = node.process.pid
        resource.prlimit(pid, resource.RLIMIT_AS, (memory_of(pid) + 48 * 2 ** 20, -1))
        client.clear()
        client.images.publish(good_image(10))
        values = client.next_report(lambda status, values: lost(values) > before)
        assert (values['level'], lost(values)) == (ERROR, before + 1)
        assert client.depth == []
        assert "can't allocate memory" in node.output, node.output
        resource.prlimit(pid, resource.RLIMIT_AS, (-1, -1))
        depth = client.ask(good_image(20))
        assert (depth.height, depth.width, seconds_of(depth)) == (768, 1024, 20)
        values = client.next_report(lambda status, values: values['level'] != ERROR)
        assert lost(values) == before + 1
        assert node.end() == 0, node.output
        assert 'Traceback' not in node.output
