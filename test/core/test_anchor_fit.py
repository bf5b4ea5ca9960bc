"""The scale of one frame: robust, honest about its variance, and one number on a flat wall."""
import math

import numpy as np
import pytest

from zoe_ros.anchor.fit import fit
from zoe_ros.anchor.pairs import Pairs


def make_pairs(log_ratio, true=None, seed=0):
    """Return pairs with these log ratios, anywhere in the image, at 1 to 8 m."""
    rng = np.random.default_rng(seed)
    log_ratio = np.asarray(log_ratio, np.float64)
    true = rng.uniform(1, 8, log_ratio.shape) if true is None else true
    return Pairs(true, true / np.exp(log_ratio), rng.uniform((0, 0), (0.75, 1), (len(true), 2)),
                 {})


def ratios(log_scale, count=200, noise=0.05, outliers=0.0, seed=0):
    """Return log ratios around a scale, of which a share is anything."""
    rng = np.random.default_rng(seed)
    found = log_scale + rng.normal(0, noise, count)
    wrong = rng.random(count) < outliers
    found[wrong] = rng.uniform(-1.5, 1.5, wrong.sum())
    return found


def test_the_areas_in_which_pairs_agree():
    # In a row of a scan and everywhere; a fifth is wrong, and falls anywhere.
    rng, good = np.random.default_rng(0), ratios(0.0, count=500)
    wrong = rng.random(500) < 0.2
    for height, areas in ((0.02, 4), (0.75, 12)):
        place = rng.uniform((0.3, 0), (0.3 + height, 1), (500, 2)) if height < 0.1 else (
            rng.uniform((0, 0), (0.75, 1), (500, 2)))
        place[wrong] = rng.uniform((0, 0), (0.75, 1), (wrong.sum(), 2))
        good[wrong] = rng.uniform(-1.5, 1.5, wrong.sum())
        found, _ = fit(make_pairs(good)._replace(place=place), None)
        assert found.areas == areas


@pytest.mark.parametrize('factor', [0.6, 1.0, 1.6])
@pytest.mark.parametrize('outliers', [0.0, 0.2, 0.4])
def test_the_scale_is_found_among_outliers(factor, outliers):
    found, reason = fit(make_pairs(ratios(math.log(factor), outliers=outliers)), None)
    assert reason == ''
    assert abs(found.log_scale - math.log(factor)) < 0.015
    assert abs(found.log_scale - math.log(factor)) < 3 * math.sqrt(found.variance)
    assert found.residual == pytest.approx(0.05, rel=0.35)
    assert found.pairs == pytest.approx(200 * (1 - outliers), rel=0.2)


def test_without_noise_the_scale_is_exact():
    found, _ = fit(make_pairs(np.full(50, 0.3)), None)
    assert found.log_scale == pytest.approx(0.3, abs=1e-12)
    # The sensor and its mount have errors that no number of pairs shows.
    assert math.sqrt(found.variance) == pytest.approx(0.004)


@pytest.mark.parametrize('count, cause', [(0, 'too few pairs'), (7, 'too few pairs'), (8, '')])
def test_a_minimum_of_pairs(count, cause):
    found, reason = fit(make_pairs(np.zeros(count)), None)
    assert (found is None) is bool(cause) and reason.partition(':')[0] == cause


def test_pairs_in_one_corner_are_too_few():
    pairs = make_pairs(np.zeros(100))
    found, reason = fit(pairs._replace(place=pairs.place * 0.05), None)
    assert found is None
    assert reason == 'too few areas: 100 pairs in 1.0 of 3 areas of the image'


def test_pairs_that_do_not_agree_give_no_scale():
    found, reason = fit(make_pairs(np.linspace(-1.5, 1.5, 100)), None)
    assert found is None and reason.startswith('no agreement: ')


@pytest.mark.parametrize('factor', [1e-3, 1000.0])
def test_millimetres_taken_for_metres_give_no_scale(factor):
    found, reason = fit(make_pairs(ratios(math.log(factor))), None)
    assert found is None and reason.startswith('implausible: ')


@pytest.mark.parametrize('length', [0.02, 0.1, 0.25])
def test_the_variance_is_honest_where_neighbours_err_alike(length):
    # Errors are alike over squares of this many widths of the image; their origin is anywhere.
    rng = np.random.default_rng(5)
    normal = []
    for seed in range(150):
        pairs = make_pairs(np.zeros(400), seed=seed)
        cell = np.floor((pairs.place + rng.uniform(0, 1, 2)) / length).astype(int)
        field = rng.normal(0, 0.06, (150, 150))
        error = field[cell[:, 0], cell[:, 1]] + rng.normal(0, 0.02, 400)
        found, _ = fit(pairs._replace(predicted=pairs.true * np.exp(-error)), None)
        normal.append(found.log_scale / math.sqrt(found.variance))
    assert 0.4 < np.std(normal) < 1.7
    # As if all pairs were independent, the deviation would be several times too small.


def test_correlated_pairs_count_for_less():
    rng = np.random.default_rng(6)
    pairs = make_pairs(np.zeros(400))
    cell = np.floor(pairs.place / 0.25).astype(int)
    alike = rng.normal(0, 0.06, (5, 5))[cell[:, 0], cell[:, 1]]
    apart = rng.normal(0, 0.06, 400)
    few, many = (fit(pairs._replace(predicted=pairs.true * np.exp(-error)), None)[0]
                 for error in (alike, apart))
    assert few.effective < 20 < 0.5 * many.effective
    assert few.variance > 4 * many.variance


def test_the_last_scale_decides_between_two_groups():
    # 55 % are at one scale and 45 % at another: on a glass front, both are there in each frame.
    for larger, other in ((0.0, 0.4), (0.4, 0.0)):
        log_ratio = np.where(np.arange(300) % 20 < 11, larger, other) + ratios(0, 300, 0.02)
        pairs = make_pairs(log_ratio)
        for prior in (0.0, 0.4):
            found, _ = fit(pairs, (prior, 0.02 ** 2))
            assert found.log_scale == pytest.approx(prior, abs=0.02)
        assert fit(pairs, None)[0].log_scale == pytest.approx(larger, abs=0.02)
        # A prior that knows nothing decides nothing.
        assert fit(pairs, (other, 0.3 ** 2))[0].log_scale == pytest.approx(larger, abs=0.02)


def test_a_group_that_nobody_supports_is_given_up():
    found, _ = fit(make_pairs(ratios(0.4, noise=0.03, outliers=0.1)), (0.0, 0.02 ** 2))
    assert found.log_scale == pytest.approx(0.4, abs=0.01)


def test_the_result_comes_from_the_pairs_alone():
    # The filter knows the prior already; it would count twice.
    pairs = make_pairs(ratios(0.03, noise=0.05))
    assert fit(pairs, (0.0, 1e-6))[0].log_scale == pytest.approx(
        fit(pairs, None)[0].log_scale, abs=1e-3)


def test_a_cluster_of_pairs_does_not_outvote_the_rest():
    # 200 pairs on one near thing, where the network errs; 60 over the whole image.
    pairs = make_pairs(np.concatenate([np.full(200, 0.5), ratios(0.0, 60, 0.02)]))
    place = pairs.place.copy()
    place[:200] = 0.4 + 0.04 * place[:200]
    found, _ = fit(pairs._replace(place=place), None)
    assert abs(found.log_scale) < 0.02


def shifted(value, true, noise=0.02, seed=0):
    """Return pairs whose predicted disparity is off by a shift [1/m], and a scale of 1.3."""
    rng = np.random.default_rng(seed)
    log_ratio = -np.log(1 / (1.3 * (1 / true - value))) + np.log(true)
    return make_pairs(log_ratio + rng.normal(0, noise, true.shape), true)


@pytest.mark.parametrize('value', [-0.04, 0.03])
def test_a_wide_range_of_depths_carries_a_shift(value):
    true = np.random.default_rng(3).uniform(1, 5, 400)
    shift = fit(shifted(value, true), None)[0].shift
    assert shift.value == pytest.approx(value, abs=0.012)
    assert abs(shift.value) > 3 * math.sqrt(shift.variance)
    assert 1 < shift.low < 1.3 and 4.5 < shift.high < 5.2


def test_a_flat_wall_carries_no_shift():
    rng = np.random.default_rng(4)
    for spread in (0.0, 0.01, 0.05):
        for seed in range(20):
            true = 3 * np.exp(rng.normal(0, spread, 300))
            shift = fit(make_pairs(ratios(0.2, 300, 0.05, seed=seed), true), None)[0].shift
            assert shift is None or abs(shift.value) < 3 * math.sqrt(shift.variance)


def test_noise_of_the_sensor_is_no_range_of_depths():
    # On a wall, the errors of the sensor are on both axes and would make a slope.
    rng = np.random.default_rng(7)
    true = 3 * np.exp(rng.normal(0, 0.03, 300))
    pairs = make_pairs(np.zeros(300), true)._replace(predicted=np.full(300, 3.0))
    assert fit(pairs, None)[0].shift is None


def test_noise_is_seldom_taken_for_a_shift():
    carried = 0
    for seed in range(100):
        shift = fit(make_pairs(ratios(0.2, 200, 0.08, seed=seed), seed=seed), None)[0].shift
        carried += abs(shift.value) > 3 * math.sqrt(shift.variance)
    assert carried == 0


def test_points_of_triangulation_count_less_the_farther_they_are():
    # Of 200 points the far half is wrong, as by a disparity that is wrong for all.
    true = np.where(np.arange(200) < 100, 2.0, 7.0)
    pairs = make_pairs(np.where(true > 5, 0.3, 0.2) + ratios(0, noise=0.01), true)
    plain, _ = fit(pairs, None)
    stated, _ = fit(pairs._replace(deviation=0.03 * true), None)
    assert plain.log_scale == pytest.approx(0.25, abs=0.01)
    assert stated.log_scale == pytest.approx(0.2, abs=0.02)
    # What all have in common is no smaller for many points.
    assert math.sqrt(stated.variance) > 0.05 and math.sqrt(plain.variance) < 0.02


def test_an_error_of_disparity_is_no_shift_of_the_network():
    # All of 1/z is wrong by 0.02 / m, which the pair itself may be.
    true = np.random.default_rng(1).uniform(1.5, 6, 200)
    pairs = make_pairs(ratios(0, noise=0.01) - 0.02 * true, true)
    plain, _ = fit(pairs, None)
    stated, _ = fit(pairs._replace(deviation=0.02 * true), None)
    assert plain.shift.value > 3 * math.sqrt(plain.shift.variance)
    assert stated.shift.value < 1.5 * math.sqrt(stated.shift.variance)
