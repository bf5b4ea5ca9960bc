"""Properties of the network: sizes, formulas by hand, independence of images and threads."""
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
import json
import math

import made_up
import numpy as np
import pytest
from timm.models.beit import Beit
import torch

from zoe_ros.model import metric
from zoe_ros.model.backbone import BeitBackbone, relative_position_bias, relative_position_index
from zoe_ros.model.config import BackboneConfig, RELEASED, VARIANTS, ZoeConfig
from zoe_ros.model.metric import attract, log_binomial_coefficients, LogBinomial
from zoe_ros.model.router import sinusoid
from zoe_ros.model.zoedepth import ZoeDepth

# Specification section 3.7; what only the official files hold: BEiT's classifier with its norm,
# and the first unit of the coarsest fusion block.
COUNTS = {'n': (344_816_746, 478_145, 0), 'k': (344_820_487, 481_886, 0),
          'nk': (346_100_355, 1_761_754, 1_369_090)}
BEIT, REASSEMBLE, SCRATCH = 304_998_888, 22_815_232, 16_524_481
CLASSIFIER, FIRST_UNIT = 1_027_048, 1_180_160


def count(module):
    """Return the number of parameters."""
    return sum(p.numel() for p in module.parameters())


def pixels_of(*names, size=(64, 96)):
    """Return smooth made-up pixels (b, 3, H, W) in [-1, 1], one image for each name."""
    coarse = torch.stack([made_up.tensor_for(f'pixels {name}', (3, 5, 7)) for name in names])
    return torch.nn.functional.interpolate(coarse, size, mode='bicubic').clamp(-1, 1)


@pytest.fixture(scope='module')
def model():
    """Return the tiny model with two heads and a router."""
    return made_up.tiny_model()


@pytest.fixture(scope='module')
def bounded():
    """Return the tiny model with a single, bounded head."""
    return made_up.tiny_model(('outdoor',), bounded=True)


@pytest.fixture(scope='module')
def mixed(model):
    """Return pixels of several images and their heads by the router, which are not all one."""
    pixels = pixels_of(*'abcdefgh')
    with torch.inference_mode():
        heads = model.choose(model.forward_features(pixels).logits, len(pixels))
    assert set(heads) == {'indoor', 'outdoor'}
    return pixels, heads


def assert_near(a, b):
    """Compare depth that was summed in another order; see test_golden on conditioning."""
    assert a.shape == b.shape
    assert (a - b).norm() < 1e-4 * b.norm()


# Size.

@pytest.mark.parametrize('variant', RELEASED)
def test_number_of_parameters(variant):
    with torch.device('meta'):
        model = ZoeDepth(VARIANTS[variant])
    total, heads, router = COUNTS[variant]
    assert count(model) + CLASSIFIER + FIRST_UNIT == total
    assert count(model.backbone) + CLASSIFIER == BEIT + REASSEMBLE
    assert count(model.decoder) + FIRST_UNIT == SCRATCH
    ours = count(model.router) if model.router is not None else 0
    assert count(model.metric) + ours == heads
    assert ours == router


def test_sizes_of_the_stages():
    """Specification section 2, at 384 x 512: shapes alone need no weights."""
    with torch.device('meta'):
        model = ZoeDepth(VARIANTS['nk']).eval()
        shared = model.forward_features(torch.zeros(1, 3, 384, 512))
        depth = model.predict_depth(shared, ['outdoor'])[0]
    features = shared.features
    assert features.bottleneck.shape == (1, 256, 12, 16)
    assert [tuple(level.shape[1:]) for level in features.pyramid] == [
        (256, 24, 32), (256, 48, 64), (256, 96, 128), (256, 192, 256)]
    assert features.fine.shape == (1, 32, 384, 512)
    assert features.relative.shape == (1, 1, 384, 512)
    assert shared.logits.shape == (1, 2)
    assert depth.shape == (1, 384, 512)


# Relative positions.

def test_position_index_by_hand():
    """Specification section 1.3, pair by pair."""
    rows, columns = 2, 3
    index = relative_position_index(rows, columns, torch.device('cpu'))
    n = (2 * rows - 1) * (2 * columns - 1) + 3
    assert index.shape == (7, 7)
    for a in range(7):
        for b in range(7):
            if a == b == 0:
                expected = n - 1
            elif a == 0:
                expected = n - 3
            elif b == 0:
                expected = n - 2
            else:
                (ya, xa), (yb, xb) = divmod(a - 1, columns), divmod(b - 1, columns)
                expected = (ya - yb + rows - 1) * (2 * columns - 1) + xa - xb + columns - 1
            assert index[a, b] == expected


def timm_beit(side):
    """Return timm's own BEiT with its position tables made up, at a grid of ``side`` tokens."""
    beit = Beit(img_size=16 * side, patch_size=16, num_classes=0, embed_dim=32, depth=1,
                num_heads=2, use_abs_pos_emb=False, use_rel_pos_bias=True, init_values=0.1).eval()
    with torch.no_grad():
        for name, parameter in beit.named_parameters():
            parameter.copy_(made_up.tensor_for(name, parameter.shape))
    return beit


@pytest.mark.parametrize('side', [4, 24])
def test_position_index_is_timms(side):
    theirs = timm_beit(side).blocks[0].attn.relative_position_index
    assert torch.equal(relative_position_index(side, side, torch.device('cpu')), theirs)


def test_position_bias_is_timms_at_the_grid_of_the_tables():
    block = timm_beit(4).blocks[0]
    table = block.attn.relative_position_bias_table
    index = relative_position_index(4, 4, torch.device('cpu'))
    bias = relative_position_bias(table, 4, (4, 4), index)
    x = made_up.tensor_for('tokens', (2, 17, 32))
    with torch.inference_mode():
        theirs = block(x)
        block.attn.relative_position_bias_table = None
        without = block(x)
        ours = block(x, shared_rel_pos_bias=bias)
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert not torch.allclose(without, theirs, atol=1e-2)


def beit_pair(depth):
    """Return an encoder of ours and timm's of the same structure, both fresh."""
    ours = BeitBackbone(BackboneConfig(
        embed_dim=128, depth=depth, heads=4, table_grid=4, taps=(0, 1, 2, depth - 1),
        channels=(8, 8, 8, 8)))
    return ours, Beit(img_size=64, num_classes=0, embed_dim=128, depth=depth, num_heads=4,
                      use_abs_pos_emb=False, use_rel_pos_bias=False, init_values=1e-5).eval()


def test_blocks_compute_as_those_of_timm():
    ours, theirs = beit_pair(depth=1)
    block, reference = ours.blocks[0], theirs.blocks[0]
    state = {name: made_up.tensor_for(name, t.shape) for name, t in block.state_dict().items()}
    block.load_state_dict(state)
    reference.load_state_dict(state)        # strict: the names are the same
    tokens, bias = made_up.tensor_for('x', (2, 9, 128)), made_up.tensor_for('b', (1, 4, 9, 9))
    with torch.inference_mode():
        found = tokens + block.gamma_1 * block.attn(block.norm1(tokens), bias)
        found = found + block.gamma_2 * block.mlp(block.norm2(found))
        assert torch.allclose(found, reference(tokens, shared_rel_pos_bias=bias), atol=1e-5)
    assert (found - tokens).abs().mean() > 0.05


def test_an_encoder_starts_as_that_of_timm():
    torch.manual_seed(0)
    ours, theirs = beit_pair(depth=5)
    expected = {name.replace('patch_embed.proj', 'patch_embed'): parameter
                for name, parameter in theirs.named_parameters() if 'norm.' not in name}
    found = {name: parameter for name, parameter in ours.named_parameters()
             if not name.startswith(('reassemble', 'position_tables'))}
    assert found.keys() == expected.keys()
    for name, parameter in found.items():
        # Random, so alike within what so few numbers can show; constants are equal.
        tolerance = 4 * float(expected[name].std(correction=0)) / parameter.numel() ** 0.5
        assert abs(float(parameter.mean() - expected[name].mean())) <= 1.5 * tolerance, name
        assert abs(float(parameter.std() - expected[name].std())) <= tolerance, name


@pytest.mark.parametrize('grid', [(4, 4), (2, 6), (7, 3), (1, 1), (9, 12)])
def test_position_bias_of_a_flat_table_is_flat_at_any_grid(grid):
    """Its three special rows apart, which no resize touches."""
    table = torch.full((52, 2), 0.25)
    table[-3:] = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    index = relative_position_index(*grid, torch.device('cpu'))
    bias = relative_position_bias(table, 4, grid, index)
    n = 1 + grid[0] * grid[1]
    assert bias.shape == (1, 2, n, n)
    for head, scale in enumerate((1, 10)):
        assert torch.allclose(bias[0, head, 1:, 1:], torch.tensor(0.25))
        assert (bias[0, head, 0, 1:] == 1 * scale).all()        # class token to patch
        assert (bias[0, head, 1:, 0] == 2 * scale).all()        # patch to class token
        assert bias[0, head, 0, 0] == 3 * scale


def test_position_bias_depends_on_the_offset_alone():
    table = made_up.tensor_for('table', (52, 2))
    grid = (3, 5)
    bias = relative_position_bias(table, 4, grid, relative_position_index(*grid, table.device))
    between = bias[0, 0, 1:, 1:].reshape(*grid, *grid)
    assert torch.equal(between[1:, 1:, 1:, 1:], between[:-1, :-1, :-1, :-1])
    # ... and on its direction.
    assert between[0, 0, 1, 2] != between[1, 2, 0, 0]


def test_positions_of_the_router():
    table = sinusoid(4, 8, torch.device('cpu'), torch.float32)
    assert table[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    angles = [3 * 10000 ** (-i / 8) for i in (0, 2, 4, 6)]
    expected = [*map(math.sin, angles), *map(math.cos, angles)]
    assert table[3].tolist() == pytest.approx(expected, abs=1e-6)


# Formulas of the metric head.

def test_attractors_by_hand():
    """Mean over attractors of d / (1 + 300 d^2): for d = 0.1 and -0.5, 1/40 and -1/152."""
    bins = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    attractors = torch.tensor([1.1, 0.5]).view(1, 2, 1, 1)
    moved = attract(bins, attractors).flatten().tolist()
    assert moved[0] == pytest.approx(1 + (0.1 / 4 - 0.5 / 76) / 2)
    assert moved[1] == pytest.approx(3 + (-1.9 / 1084 - 2.5 / 1876) / 2)


@pytest.mark.parametrize('at_once', [1, 2, 4, 5])
def test_attractors_agree_with_all_of_them_at_once(at_once, monkeypatch):
    """As many at a time as a CPU, and as GPUs, take."""
    monkeypatch.setattr(metric, '_attractors_at_once', lambda bins: at_once)
    bins = made_up.tensor_for('bins', (2, 8, 3, 4)).exp()
    points = made_up.tensor_for('points', (2, 5, 3, 4)).exp()
    d = points[:, :, None] - bins[:, None]
    expected = bins + (d / (1 + 300 * d ** 2)).mean(dim=1)
    assert torch.allclose(attract(bins, points), expected, atol=1e-6)
    expected = bins + (d * (-300 * d ** 2).exp()).sum(dim=1)
    assert torch.allclose(attract(bins, points, 'exponential', 'sum'), expected, atol=1e-6)


def test_bins_at_an_attractor_stay_and_others_come_nearer():
    bins = torch.tensor([2.0, 1.7, 2.9]).view(1, 3, 1, 1)
    moved = attract(bins, torch.full((1, 1, 1, 1), 2.0)).flatten()
    assert moved[0] == 2
    assert 1.7 < moved[1] < 2
    assert 2 < moved[2] < 2.9


def test_log_binomial_coefficients_of_the_specification():
    values = log_binomial_coefficients(64, torch.device('cpu')).flatten()
    assert values.shape == (64,)
    assert values[1] == pytest.approx(5.135, abs=5e-4)
    assert values[31] == pytest.approx(43.660, abs=5e-4)
    assert values[0] == pytest.approx(0, abs=1e-4)
    # Of Stirling's formula without its root; the exact ones are up to 2.3 away.
    assert values[31] - math.log(math.comb(63, 31)) == pytest.approx(2.301, abs=1e-3)
    assert torch.allclose(values, values.flip(0), atol=1e-4)


def both(net, x):
    """Give the last third of the channels as those of a coarser map."""
    third = x.shape[1] // 3
    return net(x[:, :-third], net.share(x[:, -third:]))


def test_a_fresh_log_binomial_tells_modes_apart():
    torch.manual_seed(0)
    net = LogBinomial(112, 2, 32)
    x = torch.randn(4, 112, 8, 8)
    with torch.no_grad():
        fresh = both(net, x).amax(dim=1).mean()
        net.mlp[2].bias.zero_()
        chance = both(net, x).amax(dim=1).mean()
    # A temperature of one keeps 32 bins to a few, one of 25 lets them all be equal.
    assert fresh > 0.1 > 0.05 > chance


def test_log_binomial_by_its_formula():
    """Specification section 3.5, in float64 and NumPy."""
    net = made_up.fill(LogBinomial(12, 2, 16))
    x = made_up.tensor_for('x', (2, 12, 3, 5))
    with torch.inference_mode():
        ours = both(net, x).numpy()
        p = net.mlp(x).double().numpy() + 1e-4
    mode = p[:, 0:1] / (p[:, 0:1] + p[:, 1:2])
    temperature = 0.0212 + (50 - 0.0212) * p[:, 2:3] / (p[:, 2:3] + p[:, 3:4])
    k = np.arange(16.0)[None, :, None, None]
    with np.errstate(divide='ignore', invalid='ignore'):
        f = [np.where(v > 0, v * np.log(v), 0) for v in (15 + 0 * k, k, 15 - k)]
    y = f[0] - f[1] - f[2] + k * np.log(mode) + (15 - k) * np.log(1 - mode)
    e = np.exp((y - y.max(axis=1, keepdims=True)) / temperature)
    np.testing.assert_allclose(ours, e / e.sum(axis=1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize('raw', [
    (-200, 200, -200, 200), (200, -200, -200, 200), (-200, 200, 200, -200),
    (200, -200, 200, -200), (0, 0, -200, 200), (1e30, 1, 1, 1e30), (-200, -200, -200, -200)])
def test_log_binomial_at_its_extremes(raw):
    net = made_up.fill(LogBinomial(6, 2, 64))
    net.mlp[2].weight.zero_()
    net.mlp[2].bias.copy_(torch.tensor(raw))
    probabilities = both(net, torch.zeros(1, 6, 1, 1)).flatten()
    assert torch.isfinite(probabilities).all()
    assert (probabilities >= 0).all()
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    # Unimodal: up to the mode, then down.
    steps = probabilities.diff()
    top = int(probabilities.argmax())
    assert (steps[:top] >= -1e-7).all()
    assert (steps[top:] <= 1e-7).all()
    if raw[0] > raw[1]:
        assert top >= 62
    if raw[0] < raw[1]:
        assert top <= 1


@pytest.mark.parametrize('name', ['indoor', 'outdoor'])
def test_distribution_of_a_head(model, name):
    with torch.inference_mode():
        shared = model.forward_features(pixels_of('a'))
        bins = model.metric(name, shared.features, shared.embeddings)
        depth = model.predict_depth(shared, [name])[0]
    assert bins.centers.shape == bins.probabilities.shape == (1, 16, 64, 96)
    assert torch.allclose(bins.probabilities.sum(dim=1), torch.ones(1, 64, 96), atol=1e-5)
    assert (bins.probabilities >= 0).all()
    assert (bins.centers > 0).all()
    assert torch.allclose(bins.mean(), depth)
    assert (depth >= bins.centers.amin(dim=1) - 1e-4).all()
    assert (depth <= bins.centers.amax(dim=1) + 1e-4).all()


def test_bounded_bins_are_sorted_and_within_the_range(bounded):
    with torch.inference_mode():
        shared = bounded.forward_features(pixels_of('a', 'b'))
        bins = bounded.metric('outdoor', shared.features, shared.embeddings)
    assert (bins.centers.diff(dim=1) >= 0).all()
    assert bins.centers.min() >= 1e-3
    assert bins.centers.max() <= 80
    assert bins.centers.max() - bins.centers.min() > 20
    assert torch.allclose(bins.probabilities.sum(dim=1), torch.ones(2, 64, 96), atol=1e-5)


def outdoor(model, **changes):
    """Return a model of other ``changes`` to the configuration of its head, same weights."""
    head = replace(model.config.metric.heads[0], **changes)
    other = ZoeDepth(replace(model.config, metric=replace(model.config.metric, heads=(head,))))
    other.load_state_dict(model.state_dict())
    return other.eval()


def test_bounded_depth_is_linear_in_the_range(bounded):
    """Trap T1: the released K is trained for 80 m; built for 10 m it returns an eighth."""
    pixels = pixels_of('a', 'b')
    # In float64: two models of the same weights may already round differently in float32.
    long, short = (outdoor(bounded, depth_range=(1e-3, most)).double() for most in (80.0, 10.0))
    with torch.inference_mode():
        far, near = long(pixels), short(pixels)
    assert torch.allclose(
        (far - 1e-3) / (80 - 1e-3), (near - 1e-3) / (10 - 1e-3), rtol=0, atol=1e-12)
    assert (far / near).median() == pytest.approx(8, rel=1e-3)


def test_unbounded_depth_does_not_know_the_range():
    model = made_up.tiny_model(('outdoor',))
    pixels = pixels_of('a')
    with torch.inference_mode():
        assert torch.equal(outdoor(model, depth_range=(1.0, 2.0))(pixels), model(pixels))


def test_second_channel_of_bounded_attractors_has_no_effect(bounded):
    """Trap T4, which the weights of K depend on."""
    pixels = pixels_of('a')
    with torch.inference_mode():
        expected = bounded(pixels)
        for first, same in ((1, True), (0, False)):
            other = outdoor(bounded)
            for net in other.metric.heads['outdoor'].attractors:
                net[2].weight[first::2] += 1
                net[2].bias[first::2] -= 1
            assert torch.equal(other(pixels), expected) is same


@pytest.mark.parametrize('heads, matters', [(('indoor',), True), (('indoor', 'outdoor'), False)])
def test_relative_depth_reaches_the_heads_of_n_and_k_alone(heads, matters):
    """Trap T5."""
    model, pixels = made_up.tiny_model(heads), pixels_of('a')
    with torch.inference_mode():
        before = model(pixels)
        model.decoder.relative.conv3.bias += 5
        assert torch.equal(model(pixels), before) is not matters


# Independence.

def test_images_of_a_batch_do_not_know_of_each_other(model, mixed):
    pixels, _ = mixed
    with torch.inference_mode():
        together = model(pixels)
        for image, depth in zip(pixels, together):
            assert_near(depth, model(image[None])[0])


def test_each_image_gets_the_head_that_is_named(model):
    pixels, names = pixels_of(*'abcde'), ['outdoor', 'indoor', 'indoor', 'outdoor', 'indoor']
    with torch.inference_mode():
        shared = model.forward_features(pixels)
        depth = model.predict_depth(shared, names)[0]
        of = {name: model.predict_depth(shared, [name] * 5)[0] for name in ('indoor', 'outdoor')}
    for i, name in enumerate(names):
        other = 'outdoor' if name == 'indoor' else 'indoor'
        assert_near(depth[i], of[name][i])
        assert (depth[i] - of[other][i]).norm() > 0.1 * depth[i].norm()


def test_forward_is_trunk_choice_and_measure(model, mixed):
    pixels, heads = mixed
    with torch.inference_mode():
        shared = model.forward_features(pixels)
        assert torch.equal(model(pixels), model.predict_depth(shared, heads)[0])


def test_choice_without_a_router():
    model = made_up.tiny_model(('outdoor',))
    assert model.router is None
    assert model.forward_features(pixels_of('a')).logits is None
    assert model.choose(None, 3) == ['outdoor'] * 3


def test_eval_repeats_itself(model):
    pixels = pixels_of('a', 'b')
    with torch.inference_mode():
        assert torch.equal(model(pixels), model(pixels))


def test_threads_in_one_model(model):
    """The official code keeps features in a table of the module, so threads mix images (T13)."""
    inputs = [pixels_of(name, size=size) for name in 'abcd' for size in ((64, 96), (96, 64))]
    with torch.inference_mode():
        expected = [model(pixels) for pixels in inputs]

    @torch.inference_mode()
    def run(i):
        return model(inputs[i % len(inputs)])

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, range(4 * len(inputs))))
    for i, depth in enumerate(results):
        assert_near(depth, expected[i % len(inputs)])


def test_two_models_in_one_process():
    models, pixels = [made_up.tiny_model(seed=seed) for seed in (0, 1)], pixels_of('a')
    with torch.inference_mode():
        alone = [model(pixels) for model in models]
        assert (alone[0] - alone[1]).norm() > 0.1 * alone[0].norm()
        # One in the middle of the other.
        shared = [model.forward_features(pixels) for model in models]
        heads = [model.choose(one.logits, 1) for model, one in zip(models, shared)]
        nested = [model.predict_depth(*rest)[0] for model, *rest in zip(models, shared, heads)]
    with ThreadPoolExecutor(2) as pool:
        parallel = list(pool.map(torch.inference_mode()(lambda model: model(pixels)), models * 4))
    for i in range(2):
        assert torch.equal(nested[i], alone[i])
        for depth in parallel[i::2]:
            assert_near(depth, alone[i])


# Precision.

@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_leaves_the_heads_alone(dtype):
    model = made_up.tiny_model()
    exact = made_up.tiny_model()
    assert model.set_precision(dtype) is model
    for name, parameter in model.named_parameters():
        half = made_up.is_halved(name, dtype)
        assert parameter.dtype == (dtype if half else torch.float32), name
    pixels = pixels_of('a', 'b')
    with torch.inference_mode():
        shared, precise = model.forward_features(pixels), exact.forward_features(pixels)
        assert {shared.features.relative.dtype, shared.logits.dtype,
                shared.embeddings.bottleneck.dtype} == {torch.float32}
        fine = precise.features.fine
        assert 0 < (shared.features.fine - fine).norm() < 0.05 * fine.norm()
        depth = model.predict_depth(shared, ['indoor', 'outdoor'])[0]
        expected = exact.predict_depth(precise, ['indoor', 'outdoor'])[0]
    assert depth.dtype == torch.float32
    assert torch.isfinite(depth).all()
    assert (depth - expected).abs().median() < 0.05 * expected.median()


def test_full_precision_comes_back():
    model, pixels = made_up.tiny_model(), pixels_of('a')
    expected = model.set_precision(torch.float32)(pixels)
    model.set_precision(torch.bfloat16).set_precision(torch.float32)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    depth = model(pixels)
    assert (depth - expected).abs().median() < 0.05 * expected.median()


# Descriptions.

@pytest.mark.parametrize('config', [*VARIANTS.values(), made_up.tiny_config(),
                                    made_up.tiny_config(('outdoor',), bounded=True)],
                         ids=lambda config: config.title)
def test_description_comes_back(config):
    assert ZoeConfig.from_dict(config.as_dict()) == config
    again = ZoeConfig.from_dict(json.loads(json.dumps(config.as_dict())))
    assert again == config
    assert hash(again) == hash(config)


def test_description_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        VARIANTS['n'].variant = 'm'


@pytest.mark.parametrize('spoil', [
    lambda values: values.clear(),
    lambda values: values.pop('title'),
    lambda values: values.pop('metric'),
    lambda values: values.pop('backbone'),
    lambda values: values.update(colour='red'),
    lambda values: values.update(metric=None),
    lambda values: values.update(backbone=[1, 2]),
    lambda values: values['metric'].update(heads=None),
    lambda values: values['metric'].update(heads=['indoor']),
    lambda values: values['metric'].update(bin=64),
    lambda values: values['router'].update(depth=3)])
def test_description_that_is_none(spoil):
    values = json.loads(json.dumps(VARIANTS['nk'].as_dict()))
    spoil(values)
    with pytest.raises(ValueError, match=r'^not a model description: '):
        ZoeConfig.from_dict(values)


def test_released_variants():
    """Specification sections 1.1 and 3.7, traps T1, T3 and T5."""
    n, k, nk = VARIANTS['n'], VARIANTS['k'], VARIANTS['nk']
    assert [config.image_size for config in (n, k, nk)] == [(384, 512), (384, 768), (384, 512)]
    assert [config.head_names for config in (n, k, nk)] == [
        ('indoor',), ('outdoor',), ('indoor', 'outdoor')]
    assert k.metric.heads[0].depth_range == (1e-3, 80.0)
    assert [config.metric.bounded for config in (n, k, nk)] == [False, True, False]
    assert [config.metric.relative_input for config in (n, k, nk)] == [True, True, False]
    assert n.metric.heads[0].attractors == k.metric.heads[0].attractors == (16, 8, 4, 1)
    assert {head.attractors for head in nk.metric.heads} == {(16, 16, 16, 16)}
