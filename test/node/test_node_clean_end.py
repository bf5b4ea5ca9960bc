"""What a node leaves behind: no shared memory and no ghost at its end, no model after cleanup."""
import os
from pathlib import Path
import signal
import time

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import made_up
import pytest
from ros_support import Client, good_image, PATIENCE, READY, running_node, tiny

STATES = ('loading', 'idle', 'busy')
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(scope='module')
def large_weights(tmp_path_factory):
    """Return a model that loads for long enough to be told to end meanwhile: NK's size."""
    path = tmp_path_factory.mktemp('large') / 'ZoeD_M12_N.pt'
    made_up.write_official('n', path)
    yield path
    path.unlink()


def own_segments(node):
    """Return the segments of 64 MiB that a node has made; that of its client is smaller."""
    return {path for path, size in node.segments().items() if size >= 2 ** 26}


def large(weights):
    """Return parameters of a node with the large model that reports often."""
    return {**tiny(weights), 'variant': 'n', 'diagnostics_period': 0.1}


def await_segments(node):
    """Wait until a node has joined DDS."""
    end = time.monotonic() + PATIENCE
    while not own_segments(node):
        assert node.process.poll() is None, node.output
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize('sign', SIGNALS, ids=lambda sign: sign.name)
@pytest.mark.parametrize('state', STATES)
def test_nothing_is_left(state, sign, tiny_weights, request):
    # The large model is slow enough to be told to end while it loads, or within a frame.
    parameters = tiny(tiny_weights) if state == 'idle' else large(
        request.getfixturevalue('large_weights'))
    with running_node(fresh=True, **parameters) as node, \
            Client(node, compressed=False) as client:
        if state == 'loading':
            await_segments(node)
        else:
            node.wait_for(READY, 3 * PATIENCE)      # the large model
            client.wait_for_match()
        name = ('depth_node', node.namespace)
        client.wait_until(lambda: name in client.node.get_node_names_and_namespaces())
        if state == 'busy':
            client.images.publish(good_image())
            client.next_report(lambda status, values: values['rate in [Hz]'] != '0.00')
            assert not client.depth, 'the frame is over'
        held = own_segments(node)
        assert held
        assert node.end(sign) == 0, node.output
        assert READY not in node.output or state != 'loading', 'the model had been loaded'
        assert 'Traceback' not in node.output
        assert not any(path.exists() for path in held)
        # A node that vanishes without a word is listed for 20 s; discovery takes far less.
        begin = time.monotonic()
        client.wait_until(lambda: name not in client.node.get_node_names_and_namespaces())
        assert time.monotonic() - begin < 15


def test_cleanup_gives_the_memory_of_the_model_back(large_weights):
    parameters = {**large(large_weights), 'autostart': False}
    with running_node(**parameters) as node, Client(node, compressed=False) as client:
        def change(transition):
            request = ChangeState.Request(transition=Transition(id=transition))
            assert client.call(ChangeState, 'change_state', request).success

        def resident():
            pages = Path(f'/proc/{node.process.pid}/statm').read_text().split()
            return (int(pages[1]) - int(pages[2])) * os.sysconf('SC_PAGE_SIZE') / 1e6

        node.wait_for('waiting to be configured')
        before = resident()
        change(Transition.TRANSITION_CONFIGURE)
        change(Transition.TRANSITION_ACTIVATE)
        client.wait_for_match()
        client.ask_until(good_image(), lambda: client.depth, interval=PATIENCE, what='depth')
        loaded = resident()
        change(Transition.TRANSITION_DEACTIVATE)
        change(Transition.TRANSITION_CLEANUP)
        assert loaded > before + 1000
        assert resident() < before + 300
