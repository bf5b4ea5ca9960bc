"""The parts of the network against formulas by hand and against timm."""
from dataclasses import replace
import math

import made_up
import numpy as np
import pytest
from timm.models.beit import Beit
import torch

from zoe_ros.model import metric
from zoe_ros.model.backbone import BeitBackbone, relative_position_bias, relative_position_index
from zoe_ros.model.config import BackboneConfig
from zoe_ros.model.distributions import log_binomial_coefficients, LogBinomial
from zoe_ros.model.metric import attract
from zoe_ros.model.router import sinusoid


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


def test_global_bins_are_those_of_the_whole_image():
    """All pixels share ascending centres, which follow the image and not a place in it."""
    config = replace(made_up.tiny_config().metric, kind='global')
    head = made_up.fill(metric.GlobalBinsHead(config, config.heads[0], 8, 4))
    bottleneck = torch.rand(2, 8, 3, 4, generator=torch.Generator().manual_seed(0))
    levels = tuple(torch.zeros(2, config.embedding_dim, 3 * 2 ** k, 4 * 2 ** k)
                   for k in range(1, 5))
    embeddings = metric.Embeddings(bottleneck, levels[0], levels)
    centers = head.centers(embeddings)
    assert centers.shape == (2, config.bins, 48, 64)
    assert (centers == centers[:, :, :1, :1]).all()
    assert (centers[0] != centers[1]).any()
    moved = embeddings._replace(bottleneck=bottleneck.flip(3))
    torch.testing.assert_close(head.centers(moved), centers)
    low, high = config.heads[0].depth_range
    assert (centers.diff(dim=1) > 0).all()
    assert centers.min() >= low and centers.max() <= high
