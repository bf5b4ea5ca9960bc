"""
The kernels of a GPU against the plain modules; without a GPU by Triton's interpreter.

The interpreter takes about 50 ms for a program of some dozen pixels, so maps are tiny. Their sizes
are odd on purpose: nothing here is a power of two or twice another.
"""
import copy
from itertools import product

import made_up
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros.model import cuda, fused
from zoe_ros.model.config import DecoderConfig, HeadConfig, MetricConfig
from zoe_ros.model.decoder import DptDecoder, Features, upsample
from zoe_ros.model.distributions import mlp
from zoe_ros.model.fused import first, last
from zoe_ros.model.fused_decoder import FusedDecoder
from zoe_ros.model.fused_metric import FusedMetric, PixelMlp
from zoe_ros.model.metric import MetricBins

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not fused.DEFINED, reason='Triton comes with torch on Linux')]
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
# A GPU approximates exponentials and quotients to two units of the last digit.
TOLERANCE = 1e-5 if DEVICE == 'cpu' else 1e-4
FEATURES, FINE, HALF = 24, 10, torch.bfloat16
# (height, width) of the bottleneck, of four levels, and of the fine map.
ODD = [(2, 3), (3, 4), (4, 7), (5, 9), (7, 11), (9, 13)]
ROW = [(1, 2), (1, 3), (1, 5), (1, 8), (1, 15), (1, 29)]
COLUMN = [(1, 1), (2, 1), (4, 1), (8, 1), (13, 1), (27, 1)]
ONE_THEN_MANY = [(1, 1), (1, 3), (3, 1), (2, 5), (6, 7), (12, 6)]


@pytest.fixture(autouse=True)
def exact():
    """Compute on the device without gradients and without TF32."""
    with torch.inference_mode(), cuda.convolutions(tf32=False):
        yield


def made(name, *shape):
    """Return normal numbers on the device, the same in each run."""
    return torch.from_numpy(made_up.normal(f'fused {name}', shape)).to(DEVICE)


def assert_near(found, expected, tolerance=TOLERANCE):
    """Compare by the norm over the map: see test_golden on single pixels."""
    assert found.shape == expected.shape
    assert (found.double() - expected.double()).norm() <= tolerance * expected.double().norm()


# Single kernels.

@pytest.mark.parametrize('channels', [3, 20, 300])
@pytest.mark.parametrize('old, new', [
    ((3, 4), (7, 9)), ((5, 7), (10, 14)), ((1, 5), (4, 11)), ((4, 1), (9, 3)), ((3, 3), (1, 1)),
    ((4, 5), (4, 5))])
def test_upsample(old, new, channels):
    x, bias = made('map', 2, channels, *old), made('bias', channels)
    expected = upsample(x, size=new)
    assert_near(first(fused.upsample(last(x), *new, None)), expected)
    assert_near(first(fused.upsample(x.permute(0, 2, 3, 1), *new, bias)),
                expected + bias[:, None, None])
    found = fused.upsample(last(x).to(HALF), *new, bias.to(HALF))
    assert found.dtype == HALF
    assert_near(first(found), expected + bias[:, None, None], 0.01)


@pytest.mark.parametrize('sizes', [(40, 20, 12), (7, 33, 5), (64, 16, 16)])
@pytest.mark.parametrize('dtype', [torch.float32, HALF])
def test_pixel_mlp(sizes, dtype):
    net = made_up.fill(mlp(*sizes)).to(DEVICE)
    x = made('map', 3, sizes[0], 5, 7).to(dtype)
    expected = net.double()(x.double())
    found = PixelMlp(net.float())(x.permute(0, 2, 3, 1))
    assert found.dtype == torch.float32
    assert_near(first(found), expected)
    assert_near(first(PixelMlp(net, stride=2)(last(x))), expected[:, ::2])


@pytest.mark.parametrize('adds, scales, keeps, dtype', [
    (adds, scales, keeps, dtype)
    for adds, scales, keeps, dtype in product((0, 1), (0, 1), (0, 1), (torch.float32, HALF))
    if adds or not scales])
@pytest.mark.parametrize('channels', [24, 33])
def test_add_norm(channels, adds, scales, keeps, dtype):
    tokens, update = made('tokens', 2, 3, channels), made('update', 2, 3, channels).to(dtype)
    scale, weight, bias = (1 + made(name, channels) for name in ('scale', 'weight', 'bias'))
    total, normed = fused.add_norm(tokens, update if adds else None, scale if scales else None,
                                   weight, bias, 1e-2, dtype, bool(keeps))
    expected = tokens.double()
    if adds:
        expected = expected + update.double() * (scale if scales else 1)
    if keeps:
        assert total.dtype == torch.float32
        assert_near(total, expected)
    else:
        assert total.numel() == 0
    assert normed.dtype == dtype
    assert_near(normed, F.layer_norm(expected, (channels,), weight.double(), bias.double(), 1e-2),
                TOLERANCE if dtype == torch.float32 else 0.01)


@pytest.mark.parametrize('joins, activates', list(product((False, True), repeat=2)))
@pytest.mark.parametrize('dtype', [torch.float32, HALF])
def test_add_residual(joins, activates, dtype):
    convolved, skip, path = (made(name, 2, 21, 5, 7).to(dtype) for name in ('a', 'b', 'c'))
    bias = made('bias', 21).to(dtype)
    total, activated = fused.add_residual(
        last(convolved), bias, skip.permute(0, 2, 3, 1),
        path.permute(0, 2, 3, 1) if joins else None, activates)
    expected = convolved.double() + bias[:, None, None] + skip + (path if joins else 0)
    tolerance = TOLERANCE if dtype == torch.float32 else 0.01
    assert total.dtype == dtype
    assert_near(first(total), expected, tolerance)
    if activates:
        assert_near(first(activated), F.relu(expected), tolerance)
    else:
        assert activated.numel() == 0


@pytest.mark.parametrize('kernel, padding', [(3, 1), (1, 0)])
def test_conv_relu(kernel, padding):
    layer = made_up.fill(nn.Conv2d(6, 10, kernel, padding=padding)).to(DEVICE)
    layer.to(memory_format=torch.channels_last)
    x = made('map', 2, 6, 5, 7).contiguous(memory_format=torch.channels_last)
    found = fused.conv_relu(x, layer.weight, layer.bias, padding)
    assert_near(found, F.relu(layer.double()(x.double())))
    assert found.is_contiguous(memory_format=torch.channels_last)


# The metric heads.

def metric_of(salt='', **choices):
    """Return a plain metric module with one head, in widths that are no powers of two."""
    attractors = choices.pop('attractors', (3, 3, 2, 1))
    config = MetricConfig(**{
        'heads': (HeadConfig('indoor', attractors, (1e-3, 10.0)),), 'seed_hidden': 18,
        'embedding_hidden': 40, 'embedding_dim': 20, 'bins': 13, 'relative_input': False,
        **choices})
    return made_up.fill(MetricBins(config, FEATURES, FINE), salt).to(DEVICE)


def features_of(sizes=ODD, batch=1, last_in_memory=True, dtype=torch.float32):
    """Return made-up features of a decoder at any sizes, coarse to fine."""
    layout = torch.channels_last if last_in_memory else torch.contiguous_format
    bottleneck, *pyramid, fine = (
        made(f'features {i}', batch, FINE if i == 5 else FEATURES, *size).to(
            dtype).contiguous(memory_format=layout) for i, size in enumerate(sizes))
    relative = made('relative', batch, 1, *sizes[-1]).abs()
    return Features(bottleneck, tuple(pyramid), fine, relative)


def in_double(features):
    """Return the same features in float64."""
    return Features(features.bottleneck.double(), tuple(x.double() for x in features.pyramid),
                    features.fine.double(), features.relative.double())


def both_moments(metric, features, deviation=True):
    """Return mean and deviation by the fused form in float32, and by the plain one in float64."""
    found = []
    plain = copy.deepcopy(metric).double()
    for form, given in ((FusedMetric(metric), features), (plain, in_double(features))):
        embeddings = form.embed(given, form.project(given.bottleneck))
        found.append(form.mean_and_deviation('indoor', given, embeddings, deviation))
    return found


def assert_same(metric, features, tolerance=TOLERANCE):
    """Compare both forms of a metric module."""
    for a, b in zip(*both_moments(metric, features)):
        assert_near(a, b, tolerance)


HEADS = {
    'nk': {'attractors': (16, 8, 4, 1)},
    'n': {'attractors': (16, 16, 16, 16), 'relative_input': True},
    'k': {'attractors': (16, 8, 4, 1), 'bounded': True, 'relative_input': True},
    'sum': {'reduction': 'sum'},
    'exponential': {'attraction': 'exponential'},
    'bounded sum': {'bounded': True, 'reduction': 'sum'},
    'bounded exponential': {'bounded': True, 'attraction': 'exponential'},
    'exponential sum': {'attraction': 'exponential', 'reduction': 'sum', 'relative_input': True},
    'softmax': {'distribution': 'softmax'},
    'softmax with relative depth': {'distribution': 'softmax', 'relative_input': True},
    'bounded softmax': {'distribution': 'softmax', 'bounded': True},
    'powers of two': {'bins': 16, 'embedding_dim': 32, 'embedding_hidden': 32, 'seed_hidden': 16},
    'many bins': {'bins': 64, 'bounded': True, 'embedding_dim': 48},
}


@pytest.mark.parametrize('kind', HEADS)
def test_head(kind):
    assert_same(metric_of(**HEADS[kind]), features_of())


@pytest.mark.parametrize('sizes', [ROW, COLUMN, ONE_THEN_MANY],
                         ids=['row', 'column', 'one then many'])
@pytest.mark.parametrize('bounded', [False, True])
def test_sizes_of_maps(sizes, bounded):
    assert_same(metric_of(bounded=bounded, relative_input=True), features_of(sizes))


@pytest.mark.parametrize('last_in_memory, dtype', [
    (False, torch.float32), (True, HALF), (False, HALF)])
def test_batches_layouts_and_precisions_of_the_features(last_in_memory, dtype):
    metric = metric_of(relative_input=True)
    features = features_of(ONE_THEN_MANY, 3, last_in_memory, dtype)
    assert_same(metric, features)
    alone = Features(*(x[2:] if isinstance(x, torch.Tensor) else tuple(y[2:] for y in x)
                       for x in features))
    for a, b in zip(both_moments(metric, features)[0], both_moments(metric, alone)[0]):
        assert_near(a[2:], b, 1e-6)


def test_deviation_is_left_out_where_nobody_asks():
    metric, features = metric_of(), features_of()
    (mean, deviation), _ = both_moments(metric, features, deviation=False)
    assert deviation is None
    assert torch.equal(mean, both_moments(metric, features)[0][0])


def test_modes_and_temperatures_at_their_limits():
    """Modes beyond both clamps, softplus beyond its switch at 20 and next to 0, cold and hot."""
    metric, features = metric_of(), features_of()
    layer = metric.heads['indoor'].distribution().mlp[2]
    for bias in ([-14, 3, 0, 0], [25, -14, 0, 0], [1, 1, -14, 24], [1, 1, 24, -14],
                 [-9, -9, -3, 2]):
        layer.bias.copy_(torch.tensor(bias))
        assert_same(metric, features)


def test_bounded_bins_are_sorted_and_clamped_to_the_range():
    metric, features = metric_of(bounded=True, reduction='sum'), features_of()
    for net in metric.heads['indoor'].attractors:
        net[2].bias.add_(0.9)           # beside the bins: the sum of pulls throws them out
    plain = metric('indoor', features, metric.embed(features, metric.project(features.bottleneck)))
    assert plain.centers.max() == 10.0 and plain.centers.min() < 5
    assert_same(metric, features)


def test_attractors_far_away():
    metric, features = metric_of(), features_of()
    metric.heads['indoor'].attractors[0][2].bias.add_(30)     # softplus of what is beyond 20
    metric.heads['indoor'].attractors[1][2].bias.add_(-30)    # and of what is next to nothing
    assert_same(metric, features)


@pytest.mark.parametrize('kind', ['splitter', 'global', 'convolution'])
def test_other_heads_stay_as_they_are(kind):
    metric, features = metric_of(kind=kind, bins=32), features_of()
    assert not FusedMetric(metric).heads
    assert_same(metric, features)


# The decoder.

@pytest.mark.parametrize('stride, relative', [(1, False), (2, True)])
def test_decoder(stride, relative):
    config = DecoderConfig(features=20, relative_channels=6, fine_stride=stride)
    plain = made_up.fill(DptDecoder((5, 6, 7, 9), config)).to(DEVICE)
    maps = [made(f'map {i}', 2, channels, 8 >> i, 8 >> i)
            for i, channels in enumerate((5, 6, 7, 9))]
    expected = copy.deepcopy(plain).double()([x.double() for x in maps])
    found = FusedDecoder(plain, relative)(maps)
    assert_near(found.bottleneck, expected.bottleneck)
    assert_near(found.fine, expected.fine)
    for a, b in zip(found.pyramid, expected.pyramid, strict=True):
        assert_near(a, b)
    if relative:
        assert_near(found.relative, expected.relative)
    else:
        assert found.relative is None
