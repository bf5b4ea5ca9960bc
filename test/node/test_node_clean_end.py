"""What a node leaves behind that was told to end: nothing in shared memory, no ghost in DDS."""
from pathlib import Path
import re
import signal
import time

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
    """Return the segments of 64 MiB that a node has mapped: those of its peers are smaller."""
    maps = Path(f'/proc/{node.process.pid}/maps').read_text()
    paths = {Path(path) for path in re.findall(r'/dev/shm/fastdds_[0-9a-f]+', maps)}
    return {path for path in paths if path.exists() and path.stat().st_size >= 2 ** 26}


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
    model = request.getfixturevalue('large_weights') if state == 'loading' else tiny_weights
    parameters = {**tiny(model), 'variant': 'n' if state == 'loading' else 'tiny'}
    with running_node(**parameters) as node, Client(node, compressed=False) as client:
        if state == 'loading':
            await_segments(node)
        else:
            node.wait_for(READY)
            client.wait_for_match()
        name = ('depth_node', node.namespace)
        client.wait_until(lambda: name in client.node.get_node_names_and_namespaces())
        if state == 'busy':
            client.ask(good_image())
            # Seconds of work on a large image are under way.
            for i in range(3):
                client.images.publish(good_image(10 + i, size=(3000, 4000)))
                client.spin(0.1)
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
