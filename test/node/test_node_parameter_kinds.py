"""Parameters of a live node: when they may change, what their kind is, and slips in names."""
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import pytest
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python
from ros_support import Client, good_image, NodeProcess, PATIENCE, READY, running_node, tiny


def value_of(client, name):
    """Return the value that the node reports, with its kind."""
    response = client.call(GetParameters, 'get_parameters', GetParameters.Request(names=[name]))
    return parameter_value_to_python(response.values[0])


def test_a_lifecycle_manager_can_choose_before_it_configures(tiny_weights):
    parameters = tiny('/nowhere.pt', autostart=False, image_transport='compressed')
    with running_node(**parameters) as node, Client(node, compressed=False) as client:
        def change(transition):
            request = ChangeState.Request(transition=Transition(id=transition))
            return client.call(ChangeState, 'change_state', request).success

        node.wait_for('waiting to be configured')
        assert client.change(weights=str(tiny_weights), image_transport='raw') == ['', '']
        assert change(Transition.TRANSITION_CONFIGURE)
        reason, = client.change(weights='/other.pt')
        assert reason == ("parameter 'weights' is read when the node is configured: clean up the "
                          'node first')
        assert change(Transition.TRANSITION_ACTIVATE)
        client.wait_for_match()
        client.ask(good_image())
        assert change(Transition.TRANSITION_DEACTIVATE)
        assert change(Transition.TRANSITION_CLEANUP)
        assert client.change(weights='/other.pt') == ['']
        assert not change(Transition.TRANSITION_CONFIGURE)


def test_whole_numbers_are_floating_point_where_that_is_declared(tiny_weights):
    with running_node(**tiny(tiny_weights, min_depth=1)) as node, \
            Client(node, outputs=()) as client:
        node.wait_for(READY)
        assert client.change(max_depth=10) == ['']
        for name, expected in (('min_depth', 1.0), ('max_depth', 10.0), ('output_decimation', 1)):
            value = value_of(client, name)
            assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize('slip, meant', [
    ('max_dept', 'max_depth'), ('image_transpor', 'image_transport'), ('waights', 'weights')])
def test_a_slip_in_a_name_is_refused(slip, meant, tiny_weights):
    process = NodeProcess(**tiny(tiny_weights, **{slip: 1}))
    assert process.process.wait(PATIENCE) == 1
    assert f"there is no parameter '{slip}': do you mean '{meant}'?" in process.output
    assert 'Traceback' not in process.output


def test_a_parameter_of_another_node_is_only_told(tiny_weights):
    with running_node(**tiny(tiny_weights, robot_base_frame='base_link')) as node:
        node.wait_for(READY)
        assert "there is no parameter 'robot_base_frame'" in node.output
