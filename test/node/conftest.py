"""Two nodes that many tests talk to, and clients that are matched with them."""
from node_messages import DEFAULTS
import pytest
from ros_support import Client, OUTPUTS, READY, running_node, tiny

STARTERS = {'running_node', 'NodeProcess', 'node', 'raw_node'}


def pytest_collection_modifyitems(items):
    """
    Mark a test that starts a node, whose module does, or that uses one of those below.

    Such a test is slow. It depends on DDS and on the scheduler, so it has a second try.
    """
    for item in items:
        if STARTERS & {*item.fixturenames, *vars(item.module)}:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope='session')
def node(tiny_weights):
    """Return a running node that several tests send compressed images to."""
    with running_node(**tiny(tiny_weights, image_transport='compressed')) as process:
        process.wait_for(READY)
        yield process


@pytest.fixture(scope='session')
def raw_node(tiny_weights):
    """Return a running node that several tests send raw images to; it reports often."""
    with running_node(**tiny(tiny_weights, diagnostics_period=0.3)) as process:
        process.wait_for(READY)
        yield process
        assert 'Traceback' not in process.output


@pytest.fixture
def raw(raw_node):
    """Return a client that is matched with it; leaves the parameters as they are by default."""
    with Client(raw_node, compressed=False) as client:
        client.wait_for_match()
        yield client
        assert client.change_at_once(**DEFAULTS) == ''


@pytest.fixture
def full(raw_node):
    """Return such a client that listens to all outputs."""
    with Client(raw_node, compressed=False, outputs=tuple(OUTPUTS)) as client:
        client.wait_for_match()
        yield client
        assert client.change_at_once(**DEFAULTS) == ''


@pytest.fixture
def client(node):
    """Return a client that is matched with the node."""
    with Client(node) as client:
        client.wait_for_match()
        yield client
