"""The count of what a frame does on a GPU, against torch's own counter and itself."""
import json

from gpu_count import Ceilings, count_frame, CUDA, empty_model, IMAGE, main, NETWORK, report
import made_up
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from zoe_ros.inference.runner import by_heads


def test_tiny_model():
    config, dtype = made_up.tiny_config(), torch.bfloat16
    plain, more = (count_frame(config, dtype, 2, deviation, Ceilings())
                   for deviation in (False, True))
    # All that the network does is of a known part, by known rules.
    assert set(plain.parts) == {*NETWORK, 'way in and out'} - {'elsewhere'}
    for watch in (plain.watch, more.watch):
        assert not (watch.unknown or watch.host or watch.without_flops)
    assert more.total('heads')['rest'] > plain.total('heads')['rest']
    assert more.total(*NETWORK[:4]) == plain.total(*NETWORK[:4])
    sums = report(plain)['sums']
    assert sums['network']['kernels'] == (
        sums['encoder']['kernels'] + sums['beside the encoder']['kernels'])
    tokens = 1 + 4 * 6
    assert sums['network']['biases'] == 4 * 2 * tokens ** 2 * 2
    assert plain.total('way in and out')['rest'] > 2 * 3 * IMAGE[0] * IMAGE[1]


def test_flops_are_those_of_the_counter_of_torch():
    config = made_up.tiny_config(heads=('outdoor',))        # that does not see into a router
    mode = FakeTensorMode()
    model = empty_model(config, torch.float32, mode)
    with mode, FlopCounterMode(display=False) as counter:
        by_heads(model, torch.empty(3, 3, *config.image_size, device=CUDA), (), False)
    count = count_frame(config, torch.float32, 3, False, Ceilings())
    assert count.total(*NETWORK)['flops'] == counter.get_total_flops()


def test_command(capsys):
    main(['--variant', 'mobile', '--batch', '2'])
    text = capsys.readouterr().out
    result = json.loads(text.splitlines()[-1])
    assert (result['variant'], result['batch'], result['deviation']) == ('mobile', 2, False)
    assert result['unknown operations'] == {} and 'estimate, not measured' in text
    kernels = result['sums']['network']['kernels']
    assert f'| **network** | {kernels} |' in text
    assert kernels == sum(entry[0] for name, part in result['parts'].items()
                          for entry in part['operations'].values() if name != 'way in and out')
    main(['--variant', 'mobile', '--batch', '2', '--json'])
    assert json.loads(capsys.readouterr().out) == result
