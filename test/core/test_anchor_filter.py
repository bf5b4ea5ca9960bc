"""The scale over time: held, gated, slow after a gap, and the same to the bit."""
import math

import numpy as np
import pytest

from zoe_ros.anchor.filter import predict, start, STEP, UNKNOWN, update, usable_shift
from zoe_ros.anchor.fit import Fit, Shift

PERIOD = 0.1


def measured(log_scale, deviation=0.02, share=0.9, shift=None, areas=12):
    """Return a fit."""
    return Fit(log_scale, deviation ** 2, 100, 10.0, 0.06, share, areas, shift)


def run(fits, begin=0.0):
    """Return the state after each of some fits, one a period; None for no fit."""
    states = []
    for index, fit in enumerate(fits):
        stamp = begin + index * PERIOD
        if not states:
            state = start(fit, stamp)
        else:
            state = predict(states[-1], stamp, 0.0)
            state = state if fit is None else update(state, fit)[0]
        states.append(state)
    return states


def test_a_mean_is_steadier_than_one_frame():
    rng = np.random.default_rng(0)
    values = 0.2 + rng.normal(0, 0.02, 400)
    states = run([measured(value) for value in values])[20:]
    outputs = np.array([state.output for state in states])
    assert abs(outputs.mean() - 0.2) < 0.005
    assert outputs.std() < 0.8 * 0.02
    # Its deviation is not that of a mean of 400: consecutive frames err alike.
    assert all(0.009 < state.deviation < 0.02 for state in states)


def test_many_frames_of_one_scene_are_hardly_better_than_one():
    # All within a moment, so that time adds nothing.
    state = start(measured(0.2, 0.06), 0.0)
    for _ in range(200):
        state, _ = update(state, measured(0.2, 0.06))
    assert state.deviation == pytest.approx(0.03)


def test_the_deviation_grows_with_time_and_way():
    state = start(measured(0.2), 0.0)
    still = [predict(state, stamp, 0.0) for stamp in (0.0, 1.0, 4.0)]
    assert [s.output for s in still] == [0.2] * 3
    assert still[1].variance == pytest.approx(0.02 ** 2 + 0.05 ** 2)
    assert still[2].variance == pytest.approx(0.02 ** 2 + 4 * 0.05 ** 2)
    assert predict(state, 1.0, 5.0).variance > still[1].variance
    # After a long time nothing is known but what is known of any network.
    assert predict(state, 1e6, 0.0).variance == UNKNOWN ** 2
    # An image that comes late makes nothing more certain.
    assert predict(still[2], 3.9, 0.0) == still[2]


@pytest.mark.parametrize('drift', [0.0, 0.05, -0.3])
def test_no_jump_after_ten_seconds_without_a_sensor(drift):
    states = run([measured(0.2)] * 50 + [None] * 100 + [measured(0.2 + drift)] * 50)
    outputs = np.array([state.output for state in states])
    assert (outputs[50:150] == outputs[49]).all()
    assert np.abs(np.diff(outputs[49:])).max() <= STEP + 1e-12
    assert outputs[-1] == pytest.approx(0.2 + drift, abs=0.005)
    # The deviation covers what the output still lacks.
    assert abs(0.2 + drift - outputs[155]) <= states[155].deviation + 1e-9
    deviations = [state.deviation for state in states]
    assert deviations[149] > 5 * deviations[49] and deviations[-1] < 0.03


def test_a_short_gap_needs_no_slow_return():
    states = run([measured(0.0)] * 20 + [None] * 5 + [measured(0.06)] * 3)
    assert states[-3].output - states[-4].output > STEP
    assert states[-1].output == states[-1].log_scale


def test_after_a_slow_return_a_change_is_followed_at_once():
    states = run([measured(0.2)] * 50 + [None] * 100 + [measured(0.3)] * 30 + [measured(-0.4)])
    assert states[151].output - states[150].output == pytest.approx(STEP)
    assert states[-1].output == pytest.approx(-0.4, abs=0.01)


def test_a_weak_outlier_is_not_used():
    state = run([measured(0.2)] * 30)[-1]
    state = predict(state, state.stamp + PERIOD, 0.0)
    after, reason = update(state, measured(0.8, share=0.4))
    assert after.output == state.output and after.variance == state.variance
    assert reason == 'outlier: 1.82 times the scale of the last frames'
    # A few weak ones in a row are a change.
    states = run([measured(0.2)] * 30 + [measured(0.8, share=0.4)] * 5)
    assert [round(s.output, 1) for s in states[-6:]] == [0.2] * 5 + [0.8]
    # One good fit in between, and they are none.
    alternating = [measured(0.8, share=0.4), measured(0.2)] * 20
    assert all(abs(s.output - 0.2) < 0.01 for s in run([measured(0.2)] * 30 + alternating))


def test_a_change_on_which_the_pairs_agree_is_followed_at_once():
    states = run([measured(0.2)] * 30 + [measured(-0.4)])
    assert states[-1].output == pytest.approx(-0.4, abs=0.01)
    # But not where the fit itself is uncertain.
    states = run([measured(0.2)] * 30 + [measured(-0.4, deviation=0.1)])
    assert states[-1].output == states[-2].output


def test_a_network_that_flickers_is_followed_and_not_trusted_while_held():
    rng = np.random.default_rng(1)
    values = rng.uniform(-0.5, 0.5, 60)
    states = run([measured(value, share=0.45) for value in values])
    errors = np.abs([state.output - value for state, value in zip(states, values)])
    assert np.median(errors[20:]) < 0.005
    held = predict(states[-1], states[-1].stamp + PERIOD, 0.0)
    assert states[-1].deviation < 0.03 and 0.15 < held.deviation < 0.6


def test_equal_sequences_give_equal_bits():
    rng = np.random.default_rng(2)
    fits = [None if rng.random() < 0.2 and k else measured(
        rng.normal(0, 0.2), rng.uniform(0.01, 0.1), rng.uniform(0.35, 1)) for k in range(500)]
    assert run(fits) == run(fits)


def shift_of(value, deviation=0.01):
    """Return a shift of pairs at 1 to 5 m."""
    return Shift(value, deviation ** 2, 3.0, 1.0, 5.0)


def test_a_shift_is_used_only_as_far_as_it_is_certain():
    for value, used in ((0.02, 0.0), (0.03, 0.0), (0.04, 0.01), (-0.05, -0.02)):
        state = start(measured(0.0, shift=shift_of(value)), 0.0)
        assert usable_shift(state) == pytest.approx(used)
    assert usable_shift(start(measured(0.0), 0.0)) == 0
    # At most 30 % at the ends of the range: 2 m from its centre.
    assert usable_shift(start(measured(0.0, shift=shift_of(9.0)), 0.0)) == pytest.approx(0.15)


def test_a_shift_is_averaged_and_not_extrapolated():
    rng = np.random.default_rng(3)
    states = run([measured(0.0, shift=shift_of(0.06 + rng.normal(0, 0.01))) for _ in range(200)])
    used = np.array([usable_shift(state) for state in states[20:]])
    assert used.std() < 0.01 and math.sqrt(states[-1].shift.variance) < 0.01
    assert usable_shift(run([measured(0.0, shift=shift_of(0.06)), measured(0.0)])[-1]) == 0


def test_the_areas_are_those_of_the_last_fit():
    states = run([measured(0.0, areas=12), measured(0.0, areas=4), None])
    assert [state.areas for state in states] == [12, 4, 4]
