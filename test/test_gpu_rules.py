"""What single operations cost on a GPU, by hand."""
from gpu_count import Ceilings, Count, report, table
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import flop_registry, register_flop_formula

from zoe_ros.model import fused


def make(*shape, dtype=torch.float32):
    """Return a tensor on a GPU that need not exist; it has no numbers."""
    return torch.empty(*shape, dtype=dtype, device='cuda')


@pytest.fixture(autouse=True)
def fake():
    """Let all tensors of a test be fake."""
    with FakeTensorMode(), torch.inference_mode():
        yield


def counted(run, *inputs, weights=(), biases=()):
    """Return the count of a function of tensors."""
    count = Count(Ceilings(), weights, biases)
    with count.watch:
        run(*inputs)
    return count


def cost(run, *inputs):
    """Return the kernels of a function of tensors and the bytes that they move."""
    total = counted(run, *inputs).total('elsewhere')
    return total['kernels'], total['rest']


@pytest.mark.parametrize('run, kernels, moved', [
    (lambda x: x + x[:1], 1, 128 + 32 + 128),           # a broadcast row is read as a row
    (lambda x: x + x[:1].expand(4, 8), 1, 128 + 32 + 128),
    (lambda x: x * x, 1, 2 * 128),                      # read once
    (lambda x: x.add_(1), 1, 2 * 128),
    (lambda x: x.sum(dim=1), 1, 128 + 16),
    (lambda x: torch.cat([x, x[:2]]), 1, 128 + 64 + 192),
    (lambda x: torch.addcmul(x, x, x, out=x.new_empty(4, 8)), 1, 2 * 128),
    (lambda x: x.softmax(dim=1), 1, 2 * 128),
    (lambda x: x[:, torch.zeros(2, dtype=torch.int64, device='cuda')], 2, 16 + 16 + 32 + 32),
    (lambda x: F.interpolate(x[None, None], scale_factor=2.0, mode='bilinear'), 1, 128 + 512),
    (lambda x: F.pad(x, (1, 1)), 2, 160 + 2 * 128),     # a fill and a copy
])
def test_operations(run, kernels, moved):
    assert cost(run, make(4, 8)) == (kernels, moved)


@pytest.mark.parametrize('run', [
    lambda x: x.T, lambda x: x[1:, ::2], lambda x: x.view(2, 16), lambda x: x.expand(9, 4, 8),
    lambda x: x.unbind(0), lambda x: x.chunk(2), lambda x: x.flatten(), lambda x: x.contiguous(),
    lambda x: x.to(torch.float32), torch.empty_like])
def test_views_and_allocations_are_free(run):
    assert cost(run, make(4, 8)) == (0, 0)


@pytest.mark.parametrize('run, moved', [
    (lambda x: x.T.contiguous(), 256), (lambda x: x.to(torch.bfloat16), 128 + 64),
    (lambda x: x.T.flatten(), 256), (lambda x: x.new_empty(4, 8).copy_(x), 256),
    (lambda x: x.copy_(x[:1]), 32 + 128), (lambda x: x.zero_(), 128),
    (torch.zeros_like, 128), (lambda x: x.new_ones(2), 8)])
def test_copies_and_fills_are_kernels(run, moved):
    assert cost(run, make(4, 8)) == (1, moved)


def test_linear():
    x, weight, bias = make(4, 8), make(16, 8), make(16)
    total = counted(F.linear, x, weight, bias, weights=[weight, bias]).total('elsewhere')
    assert (total['kernels'], total['flops']) == (1, 2 * 4 * 16 * 8)
    assert (total['weights'], total['rest']) == (4 * (128 + 16), 4 * (32 + 64))


def test_bias_of_a_convolution_is_added_by_a_kernel_of_its_own():
    x, weight, bias = make(2, 3, 8, 8), make(5, 3, 3, 3), make(5)
    count = counted(lambda: F.conv2d(x, weight, bias, padding=1), weights=[weight])
    assert {name: tuple(entry) for name, entry in count.parts['elsewhere'].operations.items()} == {
        'aten.convolution': (1, 4 * (384 + 640)),
        'aten.add_ (bias of convolution)': (1, 4 * (640 + 5 + 640))}
    total = count.total('elsewhere')
    assert (total['weights'], total['flops']) == (4 * 135, 2 * 640 * 27)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_input_of_a_convolution_is_copied_to_the_layout_of_the_weight(dtype):
    last = {'memory_format': torch.channels_last}
    x, weight = make(1, 3, 8, 8, dtype=dtype), make(5, 3, 3, 3, dtype=dtype).to(**last)
    assert cost(F.conv2d, x, weight) == (2, dtype.itemsize * (2 * 192 + 192 + 135 + 5 * 36))
    x = x.to(**last)
    # The result has its channels last as well, so that what follows is a view.
    assert cost(lambda: F.conv2d(x, weight).permute(0, 2, 3, 1).contiguous())[0] == 1


def test_mask_of_attention_is_padded_where_its_rows_are_not_aligned():
    q = make(2, 4, 5, 16, dtype=torch.bfloat16)
    mask = make(1, 4, 5, 8, dtype=torch.bfloat16)[..., :5]
    count = counted(lambda: F.scaled_dot_product_attention(q, q, q, mask), biases=[mask])
    total = count.total('elsewhere')
    assert (total['kernels'], total['biases'], total['rest']) == (1, 200, 2 * 1280)
    assert total['flops'] == 4 * 2 * 4 * 5 * 5 * 16
    bare = make(1, 4, 5, 5, dtype=torch.bfloat16)
    assert cost(F.scaled_dot_product_attention, q, q, q, bare)[0] == 3
    # Heads side by side: what follows is a view.
    assert cost(lambda: F.scaled_dot_product_attention(q, q, q).transpose(1, 2).flatten(2))[0] == 1


def test_attention_that_is_called_by_name_takes_the_mask_as_it_is():
    q = make(2, 4, 5, 16, dtype=torch.bfloat16)
    mask = make(1, 4, 5, 8, dtype=torch.bfloat16)[..., :5]
    for kind in ('efficient', 'cudnn'):
        packet = getattr(torch.ops.aten, f'_scaled_dot_product_{kind}_attention')
        count = counted(packet, q, q, q, mask, False, biases=[mask])
        total = count.total('elsewhere')
        assert (total['kernels'], total['flops']) == (1, 2 * 2 * (2 * 4) * 5 * 5 * 16)
        assert (total['biases'], total['rest']) == (2 * 4 * 5 * 5, 2 * 2 * 2 * 4 * 5 * 16)
        assert not count.watch.unknown


def test_product_with_its_activation():
    x, weight, bias = make(4, 8), make(16, 8), make(16)
    count = counted(lambda: torch._addmm_activation(bias, x, weight.T, use_gelu=True),
                    weights=[weight, bias])
    total = count.total('elsewhere')
    assert (total['kernels'], total['flops']) == (1, 2 * 4 * 16 * 8)
    assert (total['weights'], total['rest']) == (4 * (128 + 16), 4 * (32 + 64))
    assert not count.watch.unknown


@pytest.mark.skipif(not fused.DEFINED, reason='Triton comes with torch on Linux')
def test_flops_of_our_operators_are_those_of_the_products_in_them():
    x, w1, b1, w2, b2 = make(2, 3, 5, 8), make(8, 6), make(6), make(6, 7), make(7)
    coarse, bins, pixels = make(2, 2, 3, 8), make(2, 2, 3, 9), 2 * 3 * 5
    for run, flops in (
            (lambda: fused.pixel_mlp(x, w1, b1, w2, b2), 2 * pixels * 6 * (8 + 7)),
            (lambda: fused.attract_level(x, coarse, bins, w1, b1, w2, b2, False, False, True, [],
                                         300.0), 2 * pixels * 6 * (8 + 7)),
            (lambda: fused.bin_moments(x, make(2, 2, 3, 6), bins, None, w1, None, b1, make(4, 6),
                                       make(4), make(9), [0.1, 9.0], True),
             2 * pixels * 6 * (8 + 4)),
            (lambda: fused.conv_relu(make(2, 8, 3, 5), make(4, 8, 3, 3), make(4), 1),
             2 * pixels * 4 * 8 * 9),
            (lambda: fused.upsample(x, 6, 10, None), 0),
            (lambda: fused.add_residual(x, make(8), x, None, True), 0),
            (lambda: fused.add_norm(coarse[0], None, None, make(8), make(8), 1e-6, torch.float32,
                                    False), 0)):
        count = counted(run)
        total = count.total('elsewhere')
        assert (total['kernels'], total['flops']) == (1, flops)
        assert not (count.watch.without_flops or count.watch.unknown)


def test_layer_of_an_encoder():
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, device='cuda').eval()
    total = counted(layer, make(2, 5, 16), weights=layer.parameters()).total('elsewhere')
    assert total['kernels'] == 9
    assert total['flops'] == 2 * 10 * 16 * (4 * 16 + 2 * 32) + 4 * 2 * 5 * 5 * 16
    assert total['weights'] == sum(p.numel() * 4 for p in layer.parameters())


def test_what_no_rule_knows_is_counted_and_listed():
    count = counted(lambda x: torch.linalg.vector_norm(x, dim=1).exp(), make(4, 8))
    assert count.watch.unknown == {'aten.linalg_vector_norm': 1}
    assert count.total('elsewhere')['kernels'] == 2
    assert 'unknown operations: aten.linalg_vector_norm (1)' in table(report(count))


def test_copies_to_the_host_are_listed():
    assert counted(lambda x: x.cpu(), make(4, 8)).watch.host == {'aten._to_copy': 1}
    assert counted(lambda x: x + 1, make(4, 8)).watch.host == {}


@torch.library.custom_op('zoe_ros::count_probe', mutates_args=('total',))
def probe(x: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Stand for a kernel of the project."""
    total += x.sum()
    return x[0].clone()


@probe.register_fake
def _(x, total):
    return torch.empty_like(x[0])


def test_operators_of_the_project_are_one_kernel():
    packet = torch.ops.zoe_ros.count_probe
    inputs = make(4, 8), make(2)
    count = counted(packet, *inputs)
    assert count.total('elsewhere')['kernels'] == 1
    assert count.total('elsewhere')['rest'] == 128 + 8 + 8 + 32
    assert count.total('elsewhere')['flops'] == 0
    assert (count.watch.without_flops, count.watch.unknown) == ({'zoe_ros.count_probe': 1}, {})
    register_flop_formula(packet)(lambda x, total, out_shape=None: 7 * x[0])
    try:
        count = counted(packet, *inputs)
    finally:
        del flop_registry[packet]
    assert (count.total('elsewhere')['flops'], count.watch.without_flops) == (28, {})


def test_estimate_is_a_fixed_time_and_the_longer_of_traffic_and_products():
    x, wide = make(1 << 20), make(512, 512)
    assert counted(lambda: x.add_(1)).total('elsewhere')['estimate'] == pytest.approx(
        0.0022 + 8 * 2 ** 20 / 3e12 * 1e3)
    assert counted(torch.mm, wide, wide).total('elsewhere')['estimate'] == pytest.approx(
        0.0022 + 2 * 512 ** 3 / 60e12 * 1e3)
