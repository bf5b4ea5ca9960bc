"""The node as it starts with no parameter but the device."""
from ros_support import READY, running_node


def test_the_default_model_is_loaded_and_what_the_core_logs_keeps_its_severity():
    with running_node(fresh=True, device='cpu') as node:
        node.wait_for(READY)
        chosen, = (line for line in node.output.splitlines() if "variant 'mobile-lite'" in line)
        warning, = (line for line in node.output.splitlines() if 'few photographs' in line)
        assert '[INFO]' in chosen
        assert '[WARN]' in warning
        assert node.end() == 0, node.output
