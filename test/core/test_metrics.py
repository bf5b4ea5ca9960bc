"""The figures against cases computed by hand and against their definitions."""
import math

import numpy as np
import pytest

from zoe_ros.metrics import depth_metrics, mean_metrics, METRICS, relative_improvement


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
