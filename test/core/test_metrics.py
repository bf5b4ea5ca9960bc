"""The figures against cases computed by hand and against their definitions."""
import math

import numpy as np
import pytest

from zoe_ros.metrics import (
    AURC,
    depth_metrics,
    doubt_metrics,
    mean_metrics,
    METRICS,
    relative_improvement,
    SHAPE_METRICS,
    shape_metrics,
    WITHIN,
)


def test_a_case_by_hand():
    # Errors: +1 of 1, 0 of 2, -2 of 4.
    figures = depth_metrics(np.array([2.0, 2.0, 2.0]), np.array([1.0, 2.0, 4.0]))
    log2 = math.log(2)
    assert figures == pytest.approx({
        'REL': (1 + 0 + 0.5) / 3,
        'RMSE': math.sqrt((1 + 0 + 4) / 3),
        'log10': 2 * math.log10(2) / 3,
        'RMSE log': math.sqrt(2 / 3) * log2,
        'SILog': 100 * math.sqrt(2 / 3) * log2,
        'sq REL': (1 + 0 + 1) / 3,
        'delta1': 1 / 3, 'delta2': 1 / 3, 'delta3': 1 / 3})
    assert set(figures) == set(METRICS)


def test_perfect_depth():
    depth = np.array([[0.5, 3.0], [10.0, 79.0]])
    figures = depth_metrics(depth, depth)
    for name, more_is_better in METRICS.items():
        assert figures[name] == (1.0 if more_is_better else 0.0)


@pytest.mark.parametrize('ratio, deltas', [
    (1.2499, (1, 1, 1)), (1.2501, (0, 1, 1)), (1.5624, (0, 1, 1)), (1.5626, (0, 0, 1)),
    (1.9530, (0, 0, 1)), (1.9532, (0, 0, 0)), (1 / 1.2501, (0, 1, 1))])
def test_thresholds_of_delta(ratio, deltas):
    figures = depth_metrics(np.array([ratio * 3.0]), np.array([3.0]))
    assert tuple(figures[f'delta{n}'] for n in (1, 2, 3)) == deltas


def test_a_wrong_scale_does_not_matter_to_silog_alone():
    truth = np.array([1.0, 2.0, 5.0])
    figures = depth_metrics(1.5 * truth, truth)
    assert figures['SILog'] == pytest.approx(0, abs=1e-6)
    assert figures['REL'] == pytest.approx(0.5)
    assert figures['log10'] == pytest.approx(math.log10(1.5))


def test_doubt_by_hand():
    # Errors 0.1, 1 and 0.5 of the truth; the second pixel is the least certain.
    depth, truth = np.array([1.1, 4.0, 1.0]), np.array([1.0, 2.0, 2.0])
    figures = doubt_metrics(depth, np.array([0.2, 3.9, 0.5]), truth)
    assert figures == pytest.approx({
        WITHIN: 2 / 3, AURC: (0.1 + 0.6 / 2 + 1.6 / 3) / 3})


@pytest.mark.parametrize('deviation', [0.0, 0.25, np.nan])
def test_deviation_that_says_nothing_has_the_risk_of_all_pixels(deviation):
    random = np.random.default_rng(0)
    depth, truth = random.uniform(1, 5, (2, 100))
    figures = doubt_metrics(depth, deviation * depth, truth)
    assert figures[AURC] == pytest.approx(depth_metrics(depth, truth)['REL'])


def test_a_pixel_without_deviation_is_the_least_certain():
    depth, truth = np.array([1.0, 1.5]), np.array([1.0, 1.0])
    known = doubt_metrics(depth, np.array([0.1, 0.2]), truth)
    assert doubt_metrics(depth, np.array([0.1, np.nan]), truth) == known
    assert doubt_metrics(depth, np.array([np.nan, 0.2]), truth)[AURC] > known[AURC]


def test_images_count_the_same_whatever_their_pixels():
    small = depth_metrics(np.array([2.0]), np.array([1.0]))
    large = depth_metrics(np.ones(99), np.ones(99))
    assert mean_metrics([small, large])['REL'] == pytest.approx(0.5)


@pytest.mark.parametrize('depth, truth, words', [
    (np.ones(2), np.ones(3), '^2 depths are compared with 3: '),
    (np.ones(0), np.ones(0), '^0 depths are compared with 0: ')])
def test_refusals(depth, truth, words):
    with pytest.raises(ValueError, match=words):
        depth_metrics(depth, truth)


def test_relative_improvement_against_the_paper():
    # Table 3, SUN RGB-D: ZoeD-M12-N over NeWCRFs is said to be 16.0 percent better.
    newcrfs = {'delta1': 0.798, 'REL': 0.151, 'RMSE': 0.424}
    zoe = {'delta1': 0.864, 'REL': 0.119, 'RMSE': 0.346}
    assert relative_improvement(zoe, newcrfs) == pytest.approx(0.160, abs=5e-4)
    # Table 2 averages REL alone over four datasets, 25.2 percent.
    pairs = [(.077, .109), (.057, .076), (.186, .189), (.105, .190)]
    gains = [relative_improvement({'REL': t}, {'REL': r}, ('REL',)) for t, r in pairs]
    assert np.mean(gains) == pytest.approx(0.252, abs=2e-3)
    assert np.isnan(relative_improvement({'REL': 0.1}, {'REL': 0.0}, ('REL',)))


def test_shape_metrics_forgive_scale_and_shift():
    truth = np.array([1.0, 1.5, 2.0, 5.0])
    assert shape_metrics(3 * truth, truth) == pytest.approx(
        {'REL scaled': 0, 'REL aligned': 0, 'Spearman': 1}, abs=1e-9)
    # Disparity up to scale and shift; the scale of depth alone does not repair that.
    shifted = shape_metrics(1 / (0.5 / truth + 0.3), truth)
    assert shifted['REL aligned'] == pytest.approx(0, abs=1e-9)
    assert shifted['REL scaled'] > 0.05 and shifted['Spearman'] == pytest.approx(1)


def test_shape_metrics_by_hand():
    figures = shape_metrics(np.array([2.0, 4.0, 3.0]), np.array([1.0, 2.0, 4.0]))
    # Medians 3 and 2: scaled to 4/3, 8/3, 2.
    assert figures['REL scaled'] == pytest.approx((1 / 3 + 1 / 3 + 1 / 2) / 3)
    assert figures['Spearman'] == pytest.approx(0.5)        # 1 - 6 * (0 + 1 + 1) / (3 * 8)
    slope, offset = np.polyfit([1 / 2, 1 / 4, 1 / 3], [1, 1 / 2, 1 / 4], 1)
    fitted = 1 / (slope * np.array([1 / 2, 1 / 4, 1 / 3]) + offset)
    assert figures['REL aligned'] == pytest.approx(
        np.mean(np.abs(fitted - [1, 2, 4]) / [1, 2, 4]))


def test_shape_metrics_of_constant_and_of_unrelated_depth():
    truth = np.array([1.0, 2.0, 4.0])
    constant = shape_metrics(np.full(3, 7.0), truth)
    assert constant['REL scaled'] == pytest.approx((1 + 0 + 0.5) / 3)
    assert constant['Spearman'] == 0 and set(constant) == set(SHAPE_METRICS)
    # A fit whose disparity is negative somewhere is cut at 80 m.
    depth = np.array([1, 1.01, 1.02, 30.0])
    far = shape_metrics(depth, np.array([1.0, 3.0, 20.0, 60.0]))
    assert np.isfinite(far['REL aligned'])
    assert shape_metrics(truth[::-1], truth)['Spearman'] == pytest.approx(-1)


def test_equal_depths_share_a_rank():
    spearman = pytest.importorskip('scipy.stats').spearmanr
    random = np.random.default_rng(0)
    a, b = random.integers(1, 9, 300), random.integers(1, 40, 300)
    assert shape_metrics(a, b)['Spearman'] == pytest.approx(spearman(a, b).statistic)
