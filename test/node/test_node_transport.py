"""Large messages: the shared-memory segment that the node chooses, and what the user chooses."""

import pytest
from ros_support import (
    BEST_EFFORT,
    Client,
    good_image,
    good_info,
    READY,
    running_node,
    seconds_of,
    tiny,
)

from zoe_ros.ros.transport import PROFILE, transport

MIB = 2 ** 20
# Names that a shell may have set.
NAMES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE',
         'FASTDDS_BUILTIN_TRANSPORTS')


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    """Leave the choice to the node."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def largest_segment(node):
    """Return the bytes of the largest segment of Fast DDS that a node has made."""
    return max(node.segments().values(), default=0)


@pytest.fixture
def small_profile(tmp_path):
    """Return a user's own profile, with a segment of 2 MiB."""
    path = tmp_path / 'own.xml'
    path.write_text(PROFILE.read_text().replace(str(64 * MIB), str(2 * MIB)))
    return path


def test_the_node_has_room_for_large_messages(tiny_weights):
    with running_node(fresh=True, **tiny(tiny_weights)) as node:
        node.wait_for(READY)
        assert 64 * MIB <= largest_segment(node) < 80 * MIB


def test_a_profile_of_the_user_stands(tiny_weights, small_profile):
    own = {'FASTDDS_DEFAULT_PROFILES_FILE': str(small_profile)}
    with running_node(environment=own, **tiny(tiny_weights)) as node:
        node.wait_for(READY)
        assert 2 * MIB <= largest_segment(node) < 4 * MIB


def test_a_transport_of_the_user_stands(tiny_weights):
    own = {'FASTDDS_BUILTIN_TRANSPORTS': 'UDPv4'}
    with running_node(environment=own, **tiny(tiny_weights)) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        client.ask(good_image(), good_info())
        assert largest_segment(node) < MIB


@pytest.mark.parametrize('name', NAMES)
def test_any_choice_of_the_user_is_seen(monkeypatch, name):
    monkeypatch.setenv(name, '')
    assert transport()
    monkeypatch.setenv(name, 'something')
    assert not transport()


@pytest.mark.parametrize('distribution, read', [
    ('humble', NAMES[1]), ('jazzy', NAMES[1]), ('kilted', NAMES[0]), ('rolling', NAMES[0]),
    ('', NAMES[0])])
def test_the_name_is_the_one_that_the_distribution_reads(distribution, read, monkeypatch):
    monkeypatch.setenv('ROS_DISTRO', distribution)
    assert transport() == {read: str(PROFILE)}


def test_fast_dds_does_not_complain_about_the_choice_of_the_node(tiny_weights):
    with running_node(**tiny(tiny_weights)) as node:
        node.wait_for(READY)
        assert 'deprecated' not in node.output


def test_large_depth_reaches_a_best_effort_subscriber_every_time(tiny_weights):
    """Of depth images of 1.2 MB a third arrive with the segment that Fast DDS has by default."""
    outputs = ['depth/image', 'depth/head']
    with running_node(**tiny(tiny_weights)) as node, Client(
            node, compressed=False, outputs=outputs, listen_qos=BEST_EFFORT) as client:
        node.wait_for(READY)
        client.wait_for_match()
        stamps = {float(i) for i in range(1, 31)}
        for at in stamps:
            client.ask(good_image(at, size=(480, 640)), outputs=['depth/head'])
        client.wait_until(lambda: {seconds_of(m) for m in client.depth} == stamps, what='all')
