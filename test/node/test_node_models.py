"""What the node says about its model, and another encoder in it."""
from bags import depth_of
import made_up
import numpy as np
from ros_support import Client, good_image, good_info, READY, running_node, tiny

from zoe_ros import DepthEstimator
from zoe_ros.images import decode_image
from zoe_ros.model.weights import save_model


def test_depth_anything_runs_live(tmp_path):
    weights = tmp_path / 'da.safetensors'
    save_model(made_up.tiny_depth_anything(), weights)
    image = good_image()
    expected = DepthEstimator.load('tiny-da', weights, device='cpu', precision='fp32').predict(
        decode_image(image)).depth
    chosen = {**tiny(weights), 'variant': 'tiny-da', 'interpolation': 'linear'}
    with running_node(**chosen, diagnostics_period=0.2) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        np.testing.assert_allclose(
            depth_of(client.ask(image, good_info())), expected, rtol=1e-4)
        values = client.next_report()
    assert values['model'] == 'DA-tiny in fp32'
    assert 'weights licence' not in values      # of a file that nobody has published


def test_the_licence_of_the_weights_is_in_log_and_diagnostics():
    with running_node(device='cpu', variant='mobile', diagnostics_period=0.2) as node, \
            Client(node) as client:
        node.wait_for(READY)
        assert client.next_report()['weights licence'] == 'Apache-2.0'
        assert 'licence of the weights of ZoeD-Mobile-NK: Apache-2.0' in node.output
