"""What runs the model: kept position biases, tiles, fused products; all as the plain model."""
from concurrent.futures import ThreadPoolExecutor
from threading import current_thread, Event, main_thread

import made_up
import pytest
import timm.layers
import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros import DepthEstimator
from zoe_ros.benchmark import made_up_model
from zoe_ros.inference.graphs import Graphs
from zoe_ros.inference.preprocess import plan_sizes, to_pixels
from zoe_ros.inference.runner import ModelRunner, PositionBiases
from zoe_ros.model import kernels
from zoe_ros.model.config import VARIANTS
from zoe_ros.model.decoder import upsample
from zoe_ros.model.hub import find_weights
from zoe_ros.model.tiling import map_row_tiles, upsample_rows
from zoe_ros.model.weights import load_model

KINDS = {'two heads': {}, 'bounded': {'heads': ('outdoor',), 'bounded': True},
         'one head': {'heads': ('indoor',)}}


def pixels_of(size, count=1):
    """Return smooth made-up pixels (count, 3, H, W) in [-1, 1]."""
    coarse = made_up.tensor_for(f'network {size}', (count, 3, 5, 7))
    return F.interpolate(coarse, size, mode='bicubic').clamp(-1, 1)


def plain_depth(model, pixels):
    """
    Compute depth as written: ready for gradients, so without products or tiles of ours.

    Linear layers by torch, its own attention, all bins of all pixels at once.
    """
    shared = model.forward_features(pixels)
    heads = model.choose(shared.logits, len(pixels))
    assert torch.is_grad_enabled()
    means = [model.metric(head, shared.features, shared.embeddings).mean()[i]
             for i, head in enumerate(heads)]
    return torch.stack(means).detach(), heads


def assert_close(depth, expected, tolerance=1e-4):
    """Compare as test_golden does: as a whole, and nearly all pixels each on its own."""
    assert depth.shape == expected.shape
    assert (depth - expected).norm() < tolerance * expected.norm()
    assert ((depth - expected).abs() > tolerance * expected).float().mean() < 0.005


def choose_by(model, count=1):
    """Return what picks the most probable heads from logits on the host."""
    return lambda logits: model.choose(
        None if logits is None else torch.from_numpy(logits), count)


# The same numbers as the plain model.

@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('size', [(64, 96), (96, 160)])
def test_float32_is_that_of_the_plain_model(kind, size):
    model = made_up.tiny_model(**KINDS[kind])
    pixels = pixels_of(size, 2)
    expected, _ = plain_depth(model, pixels)
    network = ModelRunner(model.pack(), 1.0)
    for _ in range(2):          # the second call finds the biases
        depth, spread = network(pixels, choose_by(model, 2))
        assert spread is None
        assert_close(depth, expected)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_near_the_plain_model(kind, dtype):
    model = made_up.tiny_model(**KINDS[kind])
    pixels = pixels_of((64, 96), 2)
    expected, heads = plain_depth(model, pixels)
    depth, _ = ModelRunner(model.set_precision(dtype).pack(), 1.0)(pixels, lambda logits: heads)
    difference = (depth - expected).abs() / expected
    assert torch.isfinite(depth).all()
    assert 0 < difference.median() < 0.005


@pytest.mark.full
def test_full_size_is_that_of_the_plain_model(official):
    """The released architecture; the network in bfloat16 against it, too."""
    config = VARIANTS['nk']
    image = made_up.photo('nk_astronaut')
    plan = plan_sizes(image.shape[:2], config.image_size, 'stretch', pad=False)
    pixels = to_pixels(torch.from_numpy(image)[None], plan)
    with official('nk') as path:
        model = load_model(config, path)
        narrow = load_model(config, path, dtype=torch.bfloat16)
    expected, heads = plain_depth(model, pixels)
    assert_close(ModelRunner(model.pack(), 1.0)(pixels, lambda logits: heads)[0], expected)
    depth, _ = ModelRunner(narrow.pack(), 1.0)(pixels, lambda logits: heads)
    difference = ((depth - expected).abs() / expected).flatten()
    assert torch.isfinite(depth).all()
    assert difference.median() < 0.005
    # Made-up weights amplify rounding at some pixels, see test_golden: features that are 1 % off
    # move a few of them by far more.
    assert (difference > 0.03).float().mean() < 0.02
    assert (depth - expected).norm() < 0.02 * expected.norm()


# Packed weights.

@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_a_packed_transformer_computes_the_same_to_the_bit(dtype):
    model = made_up.tiny_model().set_precision(dtype)
    backbone, bias = model.backbone, PositionBiases(model, 1.0).get(pixels_of((64, 96)))[0]
    tokens = made_up.tensor_for('tokens', (3, 25, backbone.cls_token.shape[-1]))
    tokens = tokens.to(dtype)
    expected = [(block.attn(tokens, bias), block.mlp(tokens))
                for block in backbone.blocks]
    backbone.pack()
    for block, (mixed, hidden) in zip(backbone.blocks, expected, strict=True):
        assert torch.equal(block.attn(tokens, bias), mixed)
        assert torch.equal(block.mlp(tokens), hidden)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_a_packed_model_computes_the_same(dtype):
    model, pixels = made_up.tiny_model().set_precision(dtype), pixels_of((64, 96), 3)
    network = ModelRunner(model, 1.0)
    with torch.inference_mode():
        maps = model.encode(pixels)
    expected, _ = network(pixels, choose_by(model, 3))
    model.pack()
    # A sum that is rounded to half precision once less is another.
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    with torch.inference_mode():
        for a, b in zip(model.encode(pixels), maps):
            assert (a.float() - b.float()).norm() < tolerance * b.float().norm()
    packed = model.backbone.blocks[0].mlp.fc1.weight.is_mkldnn
    assert packed == kernels._onednn_works(dtype, packed=True)
    for layer in (model.backbone.patch_embed, model.backbone.reassemble[3].resize,
                  model.decoder.project[0], model.decoder.relative.conv1):
        assert isinstance(layer, kernels.PackedConv) == kernels._onednn_convolves(
            layer.weight.dtype)
    found = network(pixels, choose_by(model, 3))[0]
    assert (found - expected).norm() < tolerance * expected.norm()
    # Ready for gradients or not: there is no other product with such weights.
    ready, _ = plain_depth(model, pixels)
    assert (ready - expected).norm() < 0.02 * expected.norm()


def test_what_is_loaded_is_packed_and_the_same(photos):
    image, path = photos[0], find_weights('mobile')
    plain = DepthEstimator(load_model(VARIANTS['mobile'], path))
    packed = DepthEstimator.load('mobile', device='cpu', precision='fp32')
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in estimator.model.backbone.modules())
             for estimator in (plain, packed)]
    assert norms[0] > 50 and norms[1] == 0
    assert_close(*(torch.from_numpy(estimator.predict(image).depth)
                   for estimator in (packed, plain)), 1e-5)
    assert DepthEstimator.load('mobile', device='cpu', precision='bf16') \
        .model.backbone.network.stem.conv.weight.dtype == torch.bfloat16


# Position biases.

def test_biases_are_made_once_and_shared_by_threads():
    model = made_up.tiny_model()
    biases, pixels = PositionBiases(model, 1.0), pixels_of((64, 96))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(biases.get, [pixels] * 8))
    assert len(found[0]) == 4
    assert all(list(map(id, other)) == list(map(id, found[0])) for other in found)
    assert biases.size == 4 * 2 * 25 * 32 * 4       # blocks, heads, tokens, tokens in rows, bytes


def test_memory_of_biases_is_bounded():
    model = made_up.tiny_model()
    one = 2 * 25 * 32 * 4
    biases = PositionBiases(model, 2.5 * one / 2 ** 30)
    assert len(biases.get(pixels_of((64, 96)))) == 2
    assert biases.size == 2 * one
    # Another resolution takes the place of the first.
    assert len(biases.get(pixels_of((64, 64)))) == 4
    assert biases.size == 4 * 2 * 17 * 24 * 4 <= 2.5 * one
    assert len(biases.get(pixels_of((256, 256)))) == 0


@pytest.mark.parametrize('memory', [0.0, 2.5 * 6400 / 2 ** 30])
def test_depth_does_not_depend_on_what_is_kept(memory, photos):
    model = made_up.tiny_model()
    whole = DepthEstimator(model).predict(photos[0])
    partly = DepthEstimator(model, position_memory=memory).predict(photos[0])
    assert_close(torch.from_numpy(partly.depth), torch.from_numpy(whole.depth), 1e-5)


def test_warm_up_leaves_nothing_to_the_first_frame(photos):
    estimator = DepthEstimator(made_up.tiny_model())
    estimator.warm_up()
    kept = estimator.network.biases.size
    assert kept
    estimator.predict(photos[0])
    assert estimator.network.biases.size == kept


# Strips.

@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('size', [(40, 56), (13, 9), (20, 1)])
def test_rows_of_an_upsampled_map(size, channels_last):
    x = made_up.tensor_for('map', (2, 6, 10, 7))
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    whole = upsample(x, size=size)
    for first, last in ((0, 3), (3, 4), (5, size[0]), (0, size[0])):
        part = upsample_rows(x, size, slice(first, last))
        torch.testing.assert_close(part, whole[:, :, first:last], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('channels', [1, 1 << 18, 1 << 30])
def test_strips_put_together_are_the_whole(channels):
    x = made_up.tensor_for('strips', (2, 3, 11, 8))
    seen = []

    def compute(rows):
        seen.append(rows)
        return x[:, :, rows] * 2

    with torch.no_grad():
        assert torch.equal(map_row_tiles(compute, (11, 8), channels, x.device), x * 2)
    assert len(seen) == (1 if channels == 1 else 11)
    seen.clear()
    map_row_tiles(compute, (11, 8), channels, x.device)     # with gradients nothing is cut
    assert seen == [slice(0, 11)]


# Products.

@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('after', ['none', 'relu', 'gelu'])
@torch.no_grad()
def test_linear(dtype, after):
    x = made_up.tensor_for('x', (2, 9, 40)).to(dtype)[:, 1:]        # with gaps between images
    weight = made_up.tensor_for('weight', (24, 80)).to(dtype)[:, 40:]
    bias = made_up.tensor_for('bias', (24,)).to(dtype)
    expected = F.linear(x.float(), weight.float(), bias.float())
    expected = {'none': expected, 'relu': expected.relu(), 'gelu': F.gelu(expected)}[after]
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(kernels.linear(x, weight, bias, after).float(), expected,
                               rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('last', [False, True], ids=['planar', 'channels last'])
@pytest.mark.parametrize('geometry', [
    {'kernel_size': 3, 'padding': 1}, {'kernel_size': 3, 'padding': 1, 'stride': 2},
    {'kernel_size': 3, 'padding': 1, 'groups': 4}, {'kernel_size': 1, 'bias': False}])
@torch.no_grad()
def test_packed_convolution(geometry, last, dtype):
    """Of the size that it was laid out for, and of others after it."""
    layer = made_up.fill(nn.Conv2d(16, 8, **geometry)).to(dtype)
    module = nn.Sequential(layer)
    kernels.pack_convs(module)
    assert isinstance(module[0], kernels.PackedConv)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    for size in ((2, 16, 10, 14), (1, 16, 5, 8), (2, 16, 10, 14)):
        x = made_up.tensor_for('x', size).to(dtype)
        x = x.contiguous(memory_format=torch.channels_last) if last else x
        expected = F.conv2d(
            x.float(), layer.weight.float(), None if layer.bias is None else layer.bias.float(),
            layer.stride, layer.padding, layer.dilation, layer.groups)
        other = made_up.tensor_for('other', expected.shape).to(dtype)
        for found, wanted in (
                (kernels.convolution(x, module[0]), expected),
                (kernels.convolution(x, module[0], relu=True), expected.relu()),
                (kernels.convolution_plus(x, module[0], other), expected + other.float())):
            torch.testing.assert_close(found.float(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('layer', [
    nn.Conv2d(4, 4, 3, padding='same'), nn.Conv2d(4, 4, 3, padding=1, padding_mode='reflect'),
    timm.layers.Conv2dSame(4, 4, 3, stride=2)], ids=['same', 'reflect', 'timm'])
@torch.no_grad()
def test_what_pads_in_its_own_way_stays_as_it_is(layer):
    x = made_up.tensor_for('x', (1, 4, 9, 12))
    expected = layer(x).relu()
    found = kernels.pack_conv(layer, relu=True)(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('variant', ['nk-swin2-t', 'mobile'])
def test_a_packed_pyramid_computes_the_same(variant):
    model = made_up_model(VARIANTS[variant])
    pixels = pixels_of(VARIANTS[variant].image_size)
    with torch.inference_mode():
        expected, found = model.encode(pixels), model.pack().encode(pixels)
    for a, b in zip(found, expected):
        assert (a - b).norm() < 1e-5 * b.norm()


def test_a_network_that_packs_while_others_wait():
    """Weights are laid out by the first call, and calls come from several threads."""
    model = made_up.tiny_model()
    pixels = pixels_of((64, 96))
    expected, _ = ModelRunner(model, 1.0)(pixels, choose_by(model))
    network = ModelRunner(model.pack(), 1.0)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: network(pixels, choose_by(model))[0], range(8)))
    for depth in found:
        torch.testing.assert_close(depth, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('at_a_time', [1, 2 * 21 * 21, 1 << 22])
@torch.no_grad()
def test_attention_in_bfloat16(at_a_time, monkeypatch):
    """One, two (of three) and all heads at a time, where torch's own kernel is slower."""
    monkeypatch.setattr(kernels, '_LOGITS_AT_A_TIME', at_a_time)
    monkeypatch.setattr(kernels, '_prefers_products', lambda q: True)
    q, k, v = (made_up.tensor_for(name, (2, 3, 21, 8)).bfloat16() for name in 'qkv')
    bias = torch.zeros(1, 3, 21, 24, dtype=torch.bfloat16)[..., :21]
    bias.copy_(made_up.tensor_for('logits', (1, 3, 21, 21)))
    expected = F.scaled_dot_product_attention(
        *(x.float() for x in (q, k, v)), attn_mask=bias.float())
    mixed = kernels.attention(q, k, v, bias).float()
    assert (mixed - expected).norm() < 0.01 * expected.norm()


def test_biases_that_graphs_read_stay_and_new_ones_get_what_is_left():
    model = made_up.tiny_model()
    sizes = [(64, 96), (96, 64), (64, 64)]
    # Memory for the four blocks of the first grid and two of the second, which is as large.
    each = model.backbone.bias_bytes((4, 6))
    biases = PositionBiases(model, 6.5 * each / 2 ** 30, evict=False)
    first, second, third = (biases.get(pixels_of(size)) for size in sizes)
    assert [len(first), len(second)] == [4, 2]
    assert biases.size <= 6.5 * each
    assert biases.get(pixels_of(sizes[0])) is first      # nothing was thrown away
    assert len(third) == int(0.5 * each // model.backbone.bias_bytes((4, 4)))
    # Fewer are kept, the others are made: the same depth.
    network = ModelRunner(model, 1.0)
    for size, kept in zip(sizes, (first, second, third)):
        found = model.forward_features(pixels_of(size), kept)
        depth = model.predict_depth(found, ['indoor'])[0]
        expected, _ = network(pixels_of(size), lambda logits: ['indoor'])
        assert_close(depth, expected, 1e-5)


# A head that is forced.

@pytest.mark.parametrize('head', ['indoor', 'outdoor'])
def test_a_forced_head_asks_no_router(head):
    model, pixels = made_up.tiny_model(), pixels_of((64, 96), 2)
    network = ModelRunner(model, 1.0)
    expected, _ = network(pixels, lambda logits: [head] * 2)
    asked = []
    for module in (model.router, *(other for name, other in model.metric.heads.items()
                                   if name != head)):
        module.register_forward_pre_hook(lambda *_: pytest.fail('was run'))
    depth, _ = network(pixels, lambda logits: asked.append(logits) or [head] * 2, heads=[head])
    assert asked == [None] and torch.equal(depth, expected)


# Graphs.

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(),
                               reason='CUDA graphs need a CUDA device')


@needs_gpu
@pytest.mark.parametrize('deviation', [False, True])
def test_a_graph_replays_what_the_model_computes(deviation):
    model = made_up.tiny_model()
    expected = ModelRunner(model, 1.0)(pixels_of((64, 96), 2), choose_by(model, 2), deviation)
    network = ModelRunner(model.cuda().pack(), 1.0)
    for _ in range(3):
        network(pixels_of((64, 64)).cuda(), choose_by(model))       # another shape between
        depth, spread = network(pixels_of((64, 96), 2).cuda(), choose_by(model, 2), deviation)
        assert_close(depth.cpu(), expected[0], 1e-3)
        assert (spread is None) == (not deviation)
    assert len(network.graphs) == 2


@needs_gpu
def test_a_forced_head_has_a_graph_of_its_own():
    model = made_up.tiny_model()
    pixels = pixels_of((64, 96))
    expected, _ = ModelRunner(model, 1.0)(pixels, lambda logits: ['outdoor'])
    network = ModelRunner(model.cuda().pack(), 1.0)
    asked = []
    depth, _ = network(pixels.cuda(), lambda logits: asked.append(logits) or ['outdoor'],
                       heads=['outdoor'])
    assert_close(depth.cpu(), expected, 1e-3)
    assert asked == [None]


@needs_gpu
def test_what_cannot_be_recorded_runs_as_it_is_and_costs_no_other_its_graph(caplog):
    graphs = Graphs(torch.device('cuda'))
    x = torch.arange(6.0).pin_memory()
    for _ in range(2):
        # It waits for the device, which no graph can.
        assert graphs.run('bad', lambda t: t * t.sum().item(), [x], torch.Tensor.tolist) == [
            0, 15, 30, 45, 60, 75]
        assert graphs.run('good', lambda t: t + 1, [x], torch.Tensor.tolist)[0] == 1
    assert len(graphs) == 1
    assert caplog.text.count('without a CUDA graph') == 1


@needs_gpu
def test_nobody_waits_for_a_recording_in_the_background():
    graphs = Graphs(torch.device('cuda'))
    graphs.in_background = True
    recording, go_on = Event(), Event()

    def slow(x):
        if current_thread() is not main_thread():
            recording.set()
            go_on.wait(10)
        return x * 2

    x = torch.ones(3, device='cuda')
    assert graphs.run('slow', slow, [x], torch.Tensor.tolist) == [2, 2, 2]
    assert recording.wait(10) and len(graphs) == 0
    assert graphs.run('slow', slow, [x], torch.Tensor.tolist) == [2, 2, 2]
    go_on.set()
    graphs.wait()
    assert len(graphs) == 1
    assert graphs.run('slow', slow, [x + 1], torch.Tensor.tolist) == [4, 4, 4]


@needs_gpu
def test_callers_on_streams_of_their_own_do_not_disturb_each_other():
    graphs = Graphs(torch.device('cuda'))

    def work(x):
        for _ in range(200):
            x = x + 1
        return x

    def call(value):
        with torch.cuda.stream(torch.cuda.Stream()):
            x = torch.full((1 << 20,), float(value), device='cuda')
            found = graphs.run('work', work, [x], torch.Tensor.clone)
            return float(found.min()), float(found.max())

    with ThreadPoolExecutor(4) as pool:
        for value, found in enumerate(pool.map(call, range(40))):
            assert found == (value + 200, value + 200)
