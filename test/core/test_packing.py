"""Packed layers and tiles on a CPU: products as the plain modules compute them."""
from concurrent.futures import ThreadPoolExecutor

import made_up
from plain import assert_close, choose_by, pixels_of, plain_depth
import pytest
import timm.layers
import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros import DepthEstimator
from zoe_ros.benchmark import made_up_model
from zoe_ros.inference.runner import ModelRunner, PositionBiases
from zoe_ros.model import kernels
from zoe_ros.model.config import VARIANTS
from zoe_ros.model.decoder import upsample
from zoe_ros.model.hub import find_weights
from zoe_ros.model.tiling import map_row_tiles, upsample_rows
from zoe_ros.model.weights import load_model


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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.threads
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
    clipping = kernels.pack_conv(layer, after='relu6')
    bias = 0 if layer.bias is None else layer.bias.float()[:, None, None]
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
                (clipping(8 * x), F.relu6(8 * (expected - bias) + bias)),
                (kernels.convolution_plus(x, module[0], other), expected + other.float())):
            torch.testing.assert_close(found.float(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('layer', [
    nn.Conv2d(4, 4, 3, padding='same'), nn.Conv2d(4, 4, 3, padding=1, padding_mode='reflect'),
    timm.layers.Conv2dSame(4, 4, 3, stride=2)], ids=['same', 'reflect', 'timm'])
@torch.no_grad()
def test_what_pads_in_its_own_way_stays_as_it_is(layer):
    x = made_up.tensor_for('x', (1, 4, 9, 12))
    expected = layer(x).relu()
    found = kernels.pack_conv(layer, after='relu')(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.threads
@pytest.mark.parametrize('variant', ['nk-swin2-t', 'mobile', 'mobile-lite'])
def test_a_packed_pyramid_computes_the_same(variant):
    model = with_statistics(made_up_model(VARIANTS[variant]))
    pixels = pixels_of(VARIANTS[variant].image_size)
    with torch.inference_mode():
        expected, found = model.encode(pixels), model.pack().encode(pixels)
    for a, b in zip(found, expected):
        # With these weights, float32 itself is off by 0.7e-5 from float64.
        assert (a - b).norm() < 2e-5 * b.norm()
    layers = list(model.backbone.modules())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    # A plain layer would compute the same, but slower.
    if variant != 'nk-swin2-t' and kernels._onednn_convolves(torch.float32):
        assert not any(isinstance(layer, (nn.Conv2d, nn.ReLU6)) for layer in layers)


def with_statistics(model):
    """Give the batch normalisations of a model statistics and weights as training leaves them."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            for part in ('weight', 'running_var'):
                values = made_up.tensor_for(f'{name} {part}', (layer.num_features,))
                getattr(layer, part).copy_(1 + values)
            for part in ('bias', 'running_mean'):
                values = made_up.tensor_for(f'{name} {part}', (layer.num_features,))
                getattr(layer, part).copy_(2 * values)
    return model


@pytest.mark.slow
def test_the_first_layers_of_efficientnet_stay_exact():
    model = with_statistics(made_up_model(VARIANTS['mobile-lite'])).set_precision(torch.bfloat16)
    network = model.backbone.network
    first = [network.conv_stem, network.bn1, *network.blocks[0].modules()]
    assert {p.dtype for layer in first for p in layer.parameters()} == {torch.float32}
    assert {p.dtype for p in network.blocks[1:].parameters()} == {torch.bfloat16}
    estimator = DepthEstimator(model.pack())
    assert estimator.precision == 'bf16'
    with torch.inference_mode():
        maps = model.encode(pixels_of((64, 96)))
    assert {m.dtype for m in maps} == {torch.bfloat16}


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
