"""The bond to a lifecycle manager, by the real bondpy where that can be imported."""
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import pytest
from ros_support import Client, PATIENCE, READY, running_node, tiny

bondpy = pytest.importorskip(
    'bondpy.bondpy', reason='bondpy and its messages come with a ROS distribution only')


def test_a_manager_forms_a_bond_and_notices_its_end(tiny_weights):
    with running_node(**tiny(tiny_weights, autostart=False)) as node, \
            Client(node, outputs=()) as client:
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=transition))
            assert client.call(ChangeState, 'change_state', request).success
        node.wait_for(READY)
        formed, broken = [], []
        bond = bondpy.Bond(client.node, 'bond', 'depth_node', lambda: broken.append(1),
                           lambda: formed.append(1))
        bond.start()
        client.wait_until(lambda: formed, PATIENCE, 'the bond')
        assert node.end() == 0, node.output
        client.wait_until(lambda: broken, PATIENCE, 'the end of the bond')
