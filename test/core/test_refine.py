"""From network depth to depth for mapping: scale, filters, size and range, by hand."""
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from zoe_ros.anchor.correction import Correction, NOTHING
from zoe_ros.refine import limit, refine, resize
from zoe_ros.settings import FrameSettings

NAN, INF = float('nan'), float('inf')
INTERPOLATIONS = ('edges', 'linear', 'nearest')
# What 'edges' takes for one surface, see refine.py.
SAME = 0.05
quick = settings(deadline=None, max_examples=100)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
shapes = st.tuples(st.integers(2, 12), st.integers(2, 12))


def tensor(values):
    """Return a float32 tensor."""
    return torch.as_tensor(np.asarray(values, np.float32))


def same(one, other):
    """Tell whether two tensors are equal, NaN where NaN is."""
    return np.array_equal(one.numpy(), other.numpy(), equal_nan=True)


def plane(height, width, centre=5.0, down=0.01, right=0.02):
    """Return the depth of a smooth surface: less than 5 % from pixel to pixel."""
    y, x = np.mgrid[:height, :width]
    return tensor(centre + down * y + right * x)


def step(height=6, width=8, at=3, near=1.0, far=4.0):
    """Return a near surface left of column ``at``, and a far one."""
    depth = np.full((height, width), near)
    depth[:, at:] = far
    return tensor(depth)


def fields_of(low=0.125, high=100.0, missing=False):
    """Return a strategy of any depth, with NaN in it if ``missing``."""
    value = st.floats(low, high, width=32)
    if missing:
        value = st.one_of(value, st.just(NAN))
    return shapes.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=value))


# --- scale and filters ----------------------------------------------------------------------


@pytest.mark.parametrize('scale', [1e-60, 1e60])
def test_a_scale_that_leaves_no_number_leaves_no_depth(scale):
    depth, _ = refine(tensor([[1, 2.5]]), None, FrameSettings(), Correction(scale))
    assert depth.isnan().all()


def test_scale_by_hand():
    depth, deviation = tensor([[1, 2.5]]), tensor([[0.5, 0.25]])
    scaled, spread = refine(depth, deviation, FrameSettings(), Correction(2.0))
    assert scaled.tolist() == [[2, 5]] and spread.tolist() == [[1, 0.5]]
    # The inputs belong to the caller.
    assert depth.tolist() == [[1, 2.5]] and deviation.tolist() == [[0.5, 0.25]]
    same_depth, none = refine(depth, None, FrameSettings(), Correction())
    assert same_depth.tolist() == depth.tolist() and none is None


def test_a_shift_by_hand():
    # 1/z = 1/q + 0.1 (1 - 2/q); beyond 4 m as at 4 m.
    correction = Correction(2.0, 0.1, 2.0, 1.0, 4.0)
    depth, deviation = tensor([[0.5, 1, 2, 8, NAN]]), tensor([[0.1, 0.1, 0.1, 0.1, 0.1]])
    shifted, spread = refine(depth, deviation, FrameSettings(), correction)
    expected = [1 / 0.9, 2, 4 / 1.2, 16 / 1.2]
    assert np.allclose(shifted[0, :4], expected) and shifted[0, 4].isnan()
    assert np.allclose(spread[0, :4], [0.2 / 0.9, 0.2, 0.2 / 1.2, 0.2 / 1.2])
    # As the recorded graph of a GPU does it, with and without a shift.
    for one in (correction, Correction(2.0)):
        numbers, tensors = (
            refine(depth, None, FrameSettings(), c)[0]
            for c in (one, Correction(*torch.tensor(one).unbind())))
        assert np.array_equal(numbers, tensors, equal_nan=True)


def test_the_doubt_about_a_scale_takes_the_place_of_that_of_the_network():
    correction = Correction(2.0, left=0.5, doubt=0.03)
    depth, deviation = tensor([[1, 2, NAN]]), tensor([[0.08, 0, 0.1]])
    for one in (correction, Correction(*torch.tensor(correction).unbind())):
        refined, spread = refine(depth, deviation, FrameSettings(), one)
        assert np.allclose(refined, [[2, 4, NAN]], equal_nan=True)
        assert np.allclose(spread[0, :2], [0.1, 0.12])      # the hypotenuse of 0.08 and 0.06
    # What is more certain is kept.
    settings = FrameSettings(max_relative_uncertainty=0.06)
    kept, plain = (refine(depth, deviation, settings, c)[0] for c in (correction, Correction(2.0)))
    assert kept[0, 0] == 2 and plain[0, 0].isnan()


def test_a_recorded_graph_changes_no_bit_without_a_doubt():
    rng = np.random.default_rng(0)
    depth, deviation = tensor(rng.uniform(0.1, 80, (2, 96, 128)))
    numbers, tensors = (refine(depth, 0.1 * deviation, FrameSettings(), one) for one in (
        Correction(1.3), Correction(*torch.tensor(Correction(1.3)).unbind())))
    assert torch.equal(numbers[1], tensors[1])


def test_what_is_no_depth_is_nan():
    depth = tensor([[1, 0, -0.0, -3], [NAN, INF, -INF, 1e-30]])
    for interpolation in INTERPOLATIONS:
        for scale in (1.0, 0.1, 30.0):
            refined, _ = refine(
                depth, None, FrameSettings(interpolation=interpolation), Correction(scale))
            expected = tensor([[scale, NAN, NAN, NAN], [NAN, NAN, NAN, 1e-30 * scale]])
            assert np.allclose(refined, expected, rtol=1e-6, atol=0, equal_nan=True)


def test_by_default_nothing_else_is_removed():
    rng = np.random.default_rng(3)
    depth = tensor(rng.uniform(0.1, 80, (20, 30)))
    refined, deviation = refine(depth, 3 * depth, FrameSettings(), Correction())
    assert same(refined, depth) and same(deviation, 3 * depth)


def test_uncertain_depth_is_removed():
    depth = tensor([[2, 2, 2, 2, 0, 4]])
    deviation = tensor([[0, 0.5, 0.51, NAN, 0.1, 0.9]])
    for scale in (1.0, 3.0):    # a share does not know the unit
        refined, spread = refine(
            depth, deviation, FrameSettings(max_relative_uncertainty=0.25), Correction(scale))
        assert same(refined, scale * tensor([[2, 2, NAN, NAN, NAN, 4]]))
        # It is not cut itself: it says why there is no depth.
        assert same(spread, scale * deviation)


@quick
@given(fields_of(), st.floats(0.01, 2), st.floats(0.1, 10))
def test_uncertainty_filter_keeps_just_the_certain(values, share, scale):
    depth = tensor(values)
    deviation = depth.flip(0) * 0.5
    refined, _ = refine(
        depth, deviation, FrameSettings(max_relative_uncertainty=share), Correction(scale))
    kept = ~refined.isnan()
    ratio = deviation.double() / depth.double()
    assert (ratio[kept] <= share * (1 + 1e-5)).all() and (ratio[~kept] >= share * (1 - 1e-5)).all()
    assert same(refined[kept], (depth * scale)[kept])


@pytest.mark.parametrize('turn', [False, True])
@pytest.mark.parametrize('at', [1, 3, 7])
def test_both_sides_of_a_jump_are_removed_and_no_more(at, turn):
    depth = step(at=at)
    expected = depth.clone()
    expected[:, at - 1:at + 1] = NAN
    if turn:
        depth, expected = depth.T, expected.T
    for scale in (1.0, 7.5):
        refined, _ = refine(depth, None, FrameSettings(edge_threshold=0.1), Correction(scale))
        assert same(refined, expected * scale)


def test_edge_threshold_is_a_share_of_the_nearer():
    depth = step(near=2.0, far=3.0)
    for threshold, removed in ((0.49, True), (0.51, False), (100.0, False)):
        refined, _ = refine(depth, None, FrameSettings(edge_threshold=threshold), NOTHING)
        assert bool(refined.isnan().any()) is removed


def test_a_smooth_plane_has_no_edges():
    for threshold in (0.1, 0.05):
        depth = plane(30, 40)
        refined, _ = refine(depth, None, FrameSettings(edge_threshold=threshold), NOTHING)
        assert same(refined, depth)


def test_a_flying_point_is_removed():
    depth = plane(9, 11)
    depth[4, 5] = 3.0
    refined, _ = refine(depth, None, FrameSettings(edge_threshold=0.1), NOTHING)
    gone = refined.isnan()
    assert gone[3:6, 4:7].all() and gone.sum() == 9


def test_a_missing_pixel_is_no_edge():
    depth = plane(9, 11)
    depth[4, 5] = NAN
    depth[0, 0] = 0.0
    refined, _ = refine(depth, None, FrameSettings(edge_threshold=0.1), NOTHING)
    assert refined.isnan().sum() == 2
    assert refined[4, 5].isnan() and refined[0, 0].isnan()
    nothing, _ = refine(torch.full((4, 4), NAN), None, FrameSettings(edge_threshold=0.1), NOTHING)
    assert nothing.isnan().all()


@quick
@given(fields_of(missing=True), st.floats(0.01, 5))
def test_what_the_edge_filter_leaves_has_no_jump(values, threshold):
    depth = tensor(values)
    refined = refine(depth, None, FrameSettings(edge_threshold=threshold), NOTHING)[0].numpy()
    kept = ~np.isnan(refined)
    assert np.array_equal(refined[kept], values[kept])
    for one, other in ((refined[1:], refined[:-1]), (refined[:, 1:], refined[:, :-1]),
                       (refined[1:, 1:], refined[:-1, :-1]), (refined[1:, :-1], refined[:-1, 1:])):
        ratio = np.fmax(one, other) / np.fmin(one, other)
        both = ~np.isnan(one) & ~np.isnan(other)
        assert (ratio[both] <= (1 + threshold) * (1 + 1e-5)).all()


# --- size -----------------------------------------------------------------------------------


@pytest.mark.parametrize('interpolation', INTERPOLATIONS)
def test_nothing_is_done_at_the_same_size(interpolation):
    depth = tensor([[1, NAN, 3], [9, 0.1, INF]])
    assert same(resize(depth, depth, (2, 3), interpolation), depth)


@quick
@given(fields_of(), sizes)
def test_linear_is_torchs_with_corners_aligned(values, size):
    depth = tensor(values)
    resized = resize(depth, depth, size, 'linear')
    assert tuple(resized.shape) == size and resized.dtype == torch.float32
    if size != depth.shape:
        expected = F.interpolate(depth[None, None], size, mode='bilinear', align_corners=True)
        assert same(resized, expected[0, 0])
    # And by the formula.
    rows, columns = (np.linspace(0, n - 1, m) if m > 1 else np.zeros(1)
                     for n, m in zip(values.shape, size))
    by_rows = np.stack([np.interp(rows, np.arange(len(column)), column)
                        for column in values.T.astype(np.float64)], axis=1)
    by_hand = np.stack([np.interp(columns, np.arange(len(row)), row) for row in by_rows])
    assert np.allclose(resized, by_hand, rtol=1e-4, atol=1e-3)


@quick
@given(fields_of(missing=True), sizes)
def test_nearest_takes_values_of_the_input(values, size):
    depth = tensor(values)
    resized = resize(depth, depth, size, 'nearest').numpy()
    assert resized.shape == size
    rows, columns = (np.linspace(0, n - 1, m) if m > 1 else np.zeros(1)
                     for n, m in zip(values.shape, size))
    # Each is one of those that are nearest: half way there are two, or four.
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            near = [values[r, c]
                    for r in {round(row - 1e-6), round(row + 1e-6)}
                    for c in {round(column - 1e-6), round(column + 1e-6)}]
            assert any(np.array_equal(resized[i, j], value, equal_nan=True) for value in near)


def test_nearest_by_hand():
    depth = tensor([[1, 2, 3]])
    depth = torch.cat([depth, 10 * depth])
    resized = resize(depth, depth, (2, 6), 'nearest')
    # Columns 0, 0.4, 0.8, 1.2, 1.6, 2 of the input.
    assert resized.tolist() == [[1, 1, 2, 2, 3, 3], [10, 10, 20, 20, 30, 30]]


@quick
@given(st.integers(0, 2 ** 32 - 1), shapes, sizes, st.floats(1.5, 50), st.floats(0, 0.0099))
def test_edges_never_makes_a_value_between_two_surfaces(seed, shape, size, ratio, slope):
    # Two surfaces of any outline, one in front of the other; neither is flat.
    rng = np.random.default_rng(seed)
    in_front = rng.random(shape) < rng.random()
    relief = 1 + slope * rng.random(shape)
    values = np.where(in_front, relief, ratio * relief).astype(np.float32)
    depth = tensor(values)
    resized = resize(depth, depth, size, 'edges').numpy()
    on_near = (resized >= 1 - 1e-5) & (resized <= 1 + slope + 1e-5)
    on_far = (resized >= ratio * (1 - 1e-5)) & (resized <= ratio * (1 + slope + 1e-5))
    assert (on_near | on_far).all()
    # Both are there still, unless pixels were left out.
    if size[0] >= shape[0] and size[1] >= shape[1]:
        assert (on_near.any(), on_far.any()) == (in_front.any(), not in_front.all())


def test_edges_on_a_step_by_hand():
    depth = step(height=4, width=8, at=3)
    resized = resize(depth, depth, (25, 71), 'edges').numpy()
    # Column 10 k of the image is column k of the network; half way, at 25, the nearest changes.
    assert np.allclose(resized[:, :25], 1, rtol=1e-6)
    assert np.allclose(resized[:, 26:], 4, rtol=1e-6)
    assert set(resized[:, 25].tolist()) in ({1.0}, {4.0})
    # While linear draws a curtain between the two.
    linear = resize(depth, depth, (25, 71), 'linear').numpy()
    assert ((linear > 1.1) & (linear < 3.9)).sum() == 9 * 25


@quick
@given(fields_of(missing=True), sizes)
def test_every_value_of_edges_is_near_a_neighbour(values, size):
    depth = tensor(values)
    resized = resize(depth, depth, size, 'edges').numpy()
    if size == values.shape:
        return
    rows, columns = (np.linspace(0, n - 1, m) if m > 1 else np.zeros(1)
                     for n, m in zip(values.shape, size))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            # One pixel to each side, where rounding cannot tell which cell it is.
            around = values[max(0, int(row - 1e-4)):int(row + 1e-4) + 2,
                            max(0, int(column - 1e-4)):int(column + 1e-4) + 2]
            known = around[~np.isnan(around)]
            if not len(known):
                assert np.isnan(resized[i, j])
            elif not np.isnan(resized[i, j]):
                off = np.abs(resized[i, j] / known - 1).min()
                assert off <= SAME + 1e-5
                assert known.min() * (1 - 1e-5) <= resized[i, j] <= known.max() * (1 + 1e-5)


@quick
@given(shapes, sizes, st.floats(0.5, 50), st.floats(0, 0.02), st.floats(0, 0.02))
def test_edges_is_linear_on_a_smooth_surface(shape, size, near, down, right):
    depth = plane(*shape, near, near * down, near * right)
    assert same(resize(depth, depth, size, 'edges'), resize(depth, depth, size, 'linear'))


def test_edges_is_linear_away_from_the_edge():
    depth = step(8, 12, at=6) * plane(8, 12, 1.0, 0.001, 0.002)
    edges, linear = (resize(depth, depth, (64, 96), how).numpy() for how in ('edges', 'linear'))
    column = np.linspace(0, 11, 96)
    beside = (column < 5) | (column > 6)
    assert np.array_equal(edges[:, beside], linear[:, beside])
    # And smooth there, not in steps.
    assert (np.diff(edges[0, column < 5]) > 0).all()


@quick
@given(fields_of(missing=True), sizes)
def test_a_missing_pixel_eats_less_than_with_linear(values, size):
    depth = tensor(values)
    edges, linear, nearest = (resize(depth, depth, size, how).numpy() for how in INTERPOLATIONS)
    assert not (np.isnan(edges) & ~np.isnan(linear)).any()
    # It is missing just where it is the nearest.
    assert np.array_equal(np.isnan(edges), np.isnan(nearest) & np.isnan(linear))


def test_a_missing_pixel_by_hand():
    depth = plane(5, 5, 10.0)
    depth[2, 2] = NAN
    resized = resize(depth, depth, (41, 41), 'edges').numpy()
    # Column 10 k is column k: half a pixel to each side. What lies half way may do either.
    hole, decided = np.zeros((41, 41), bool), np.arange(41) % 10 != 5
    hole[16:25, 16:25] = True
    decided = np.ix_(decided, decided)
    assert np.array_equal(np.isnan(resized[decided]), hole[decided])
    smooth = resize(plane(5, 5, 10.0), plane(5, 5, 10.0), (41, 41), 'linear').numpy()
    assert np.nanmax(np.abs(resized / smooth - 1)) < 0.005


def test_what_belongs_to_depth_is_resized_along_its_edges():
    # The deviation is smooth where depth jumps, and jumps where depth is smooth.
    depth, deviation = step(4, 8, at=3), tensor(np.linspace(1, 2, 8)[None].repeat(4, 0))
    deviation[:, 6:] = 9.0
    resized = resize(deviation, depth, (4, 71), 'edges')[0].numpy()
    column = np.arange(71) / 10
    within = (column > 2) & (column < 3)
    assert set(resized[within].tolist()) == {float(deviation[0, 2]), float(deviation[0, 3])}
    linear = resize(deviation, depth, (4, 71), 'linear')[0].numpy()
    assert np.array_equal(resized[~within], linear[~within])
    assert ((resized > 2.1) & (resized < 8.9)).sum() == 9


@pytest.mark.parametrize('interpolation', INTERPOLATIONS)
@pytest.mark.parametrize('size', [(1, 1), (1, 9), (7, 1), (2, 2), (100, 3)])
def test_corners_stay_corners(interpolation, size):
    depth = step(4, 6) * plane(4, 6)
    resized = resize(depth, depth, size, interpolation)
    assert tuple(resized.shape) == size
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        expected = depth[0 if size[0] == 1 else row, 0 if size[1] == 1 else column]
        assert resized[row, column] == pytest.approx(float(expected), rel=1e-6)


def test_all_is_missing():
    for interpolation in INTERPOLATIONS:
        depth = torch.full((3, 4), NAN)
        assert resize(depth, depth, (9, 9), interpolation).isnan().all()


# --- range ----------------------------------------------------------------------------------

VALUES = [[NAN, 0.1, 0.5, 5.0], [9.999, 10.0, 10.001, 500.0]]


@pytest.mark.parametrize('chosen, expected', [
    ({}, VALUES),
    ({'min_depth': 0.5}, [[NAN, -INF, 0.5, 5.0], [9.999, 10.0, 10.001, 500.0]]),
    ({'max_depth': 10}, [[NAN, 0.1, 0.5, 5.0], [9.999, 10.0, INF, INF]]),
    ({'min_depth': 1, 'max_depth': 10}, [[NAN, -INF, -INF, 5.0], [9.999, 10.0, INF, INF]]),
    ({'max_depth': 10, 'far_value': 10}, [[NAN, 0.1, 0.5, 5.0], [9.999, 10.0, 10.0, 10.0]]),
    ({'min_depth': 1, 'max_depth': 10, 'far_value': 99.5},
     [[NAN, -INF, -INF, 5.0], [9.999, 10.0, 99.5, 99.5]])])
def test_values_of_rep_117_by_hand(chosen, expected):
    depth = tensor(VALUES)
    limited = limit(depth, FrameSettings(**chosen))
    assert limited.dtype == torch.float32
    assert same(limited, tensor(expected))
    assert same(depth, tensor(VALUES))


def test_far_and_near_values_of_refined_depth():
    # Beyond the highest maximum there is no number.
    assert same(limit(tensor([[1000, 1001, 1e-9]]), FrameSettings()), tensor([[1000, INF, 1e-9]]))


@quick
@given(fields_of(missing=True), st.floats(0, 50), st.floats(51, 1000),
       st.one_of(st.just(0.0), st.floats(1000, 10000)))
def test_range_by_rule(values, low, high, far):
    limited = limit(tensor(values), FrameSettings(
        min_depth=low, max_depth=high, far_value=far)).numpy()
    # Torch compares with the setting as a float32.
    near, beyond = values < np.float32(low), values > np.float32(high)
    assert np.isneginf(limited[near]).all()
    assert (limited[beyond] == (np.float32(far) or np.inf)).all()
    other = ~near & ~beyond
    assert np.array_equal(limited[other], values[other], equal_nan=True)
