"""The head of a video: evidence averaged over time, by hand."""
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from zoe_ros.inference.routing import HeadTracker

NAMES = ('indoor', 'outdoor')
INDOOR, OUTDOOR = np.array([2.0, -2.0], np.float32), np.array([-2.0, 2.0], np.float32)
START = 1_700_000_000.0
# Other processes of the machine may be at work.
slow = settings(deadline=None)
logits_of = st.lists(st.floats(-30, 30), min_size=2, max_size=2).map(np.array)


def heads(tracker, frames, time_constant=1.0, step=0.1, start=START):
    """Return the head of each frame of logits, ``step`` [s] apart."""
    return [tracker.choose(logits, NAMES, start + i * step, time_constant)[0]
            for i, logits in enumerate(frames)]


def logits_for(probability):
    """Return logits of which the first head has that probability."""
    return np.array([np.log(probability / (1 - probability)), 0.0])


# --- each frame on its own ------------------------------------------------------------------


@slow
@given(st.lists(logits_of, min_size=1, max_size=20))
def test_without_time_each_frame_is_on_its_own(frames):
    tracker = HeadTracker()
    for i, logits in enumerate(frames):
        head, probabilities = tracker.choose(logits, NAMES, START + i * 0.1, 0)
        assert head == NAMES[int(np.argmax(logits))]
        exponents = np.exp(logits - logits.max())
        assert list(probabilities) == list(NAMES)
        assert list(probabilities.values()) == pytest.approx(exponents / exponents.sum())


def test_the_first_frame_decides_at_once():
    # Even where it is unsure: there is nothing else to go by.
    for logits, head in ((INDOOR, 'indoor'), (OUTDOOR, 'outdoor'),
                         (logits_for(0.51), 'indoor'), (logits_for(0.49), 'outdoor')):
        for time_constant in (0, 1e-3, 1, 3600):
            assert HeadTracker().choose(logits, NAMES, START, time_constant)[0] == head


def test_probabilities_by_hand():
    tracker = HeadTracker()
    _, first = tracker.choose(np.array([1.0, 0.0]), NAMES, START, 2.0)
    assert first == pytest.approx({'indoor': 0.7310586, 'outdoor': 0.2689414})
    # After 2 ln 2 seconds half of the weight is new: (1 + -1) / 2 against (0 + 2) / 2.
    _, second = tracker.choose(
        np.array([-1.0, 2.0]), NAMES, START + 2 * np.log(2), 2.0)
    assert second == pytest.approx({'indoor': 0.2689414, 'outdoor': 0.7310586}, rel=1e-5)
    # What was returned is the caller's.
    assert first['indoor'] == pytest.approx(0.7310586)


# --- over time ------------------------------------------------------------------------------


@pytest.mark.parametrize('usual, odd', [(INDOOR, OUTDOOR), (OUTDOOR, INDOOR)])
@pytest.mark.parametrize('rate', [2, 10, 30])
def test_a_single_odd_frame_does_not_flip_the_head(usual, odd, rate):
    frames = [usual] * 20
    for at in (1, 7, 19):
        frames[at] = odd
    assert len(set(heads(HeadTracker(), frames, step=1 / rate))) == 1
    # As each for itself it would, three times.
    flips = np.diff([head == 'indoor' for head in heads(HeadTracker(), frames, 0)])
    assert flips.sum() == 5


def test_flicker_is_smoothed_away():
    frames = [INDOOR, OUTDOOR] * 50
    assert set(heads(HeadTracker(), frames)) == {'indoor'}


@pytest.mark.parametrize('before, after', [(INDOOR, OUTDOOR), (OUTDOOR, INDOOR)])
@pytest.mark.parametrize('time_constant', [0.5, 1.0, 4.0])
@pytest.mark.parametrize('rate', [10, 30, 100])
def test_a_lasting_change_takes_about_the_time_constant(before, after, time_constant, rate):
    steady, changed = 3 * rate, round(6 * time_constant * rate)
    found = heads(
        HeadTracker(), [before] * steady + [after] * changed, time_constant, 1 / rate)
    old, new = (('indoor', 'outdoor') if before is INDOOR else ('outdoor', 'indoor'))
    switch = found.index(new)
    # Once, and for good.
    assert found == [old] * switch + [new] * (len(found) - switch)
    # By hand: 4 (1 - 2 exp(-t)) is ln 1.5, where the new head has a probability of 0.6.
    expected = -np.log((1 - np.log(1.5) / 4) / 2) * time_constant
    took = (switch - steady + 1) / rate     # the change is known with its first frame
    assert expected - 1e-6 <= took <= expected + 1 / rate + 1e-6
    assert 0.5 * time_constant < took < time_constant + 1 / rate


def test_the_rate_of_frames_does_not_matter():
    # The same seconds of evidence in few frames or many: a weight of 1 - exp(-0.75) by hand.
    expected = 1 / (1 + np.exp(-4 * (1 - 2 * np.exp(-0.75))))
    for count in (1, 2, 15, 300):
        tracker = HeadTracker()
        tracker.choose(INDOOR, NAMES, START, 2.0)
        for i in range(1, count + 1):
            _, last = tracker.choose(OUTDOOR, NAMES, START + 1.5 * i / count, 2.0)
        assert last['outdoor'] == pytest.approx(expected, rel=1e-5)


def test_nothing_changes_within_the_band():
    for probability in (0.41, 0.45, 0.5, 0.55, 0.59):
        for first, head in ((INDOOR, 'indoor'), (OUTDOOR, 'outdoor')):
            frames = [first] + [logits_for(probability)] * 100
            assert set(heads(HeadTracker(), frames)) == {head}
    # Just outside it does.
    assert heads(HeadTracker(), [OUTDOOR] + [logits_for(0.61)] * 100)[-1] == 'indoor'
    assert heads(HeadTracker(), [INDOOR] + [logits_for(0.39)] * 100)[-1] == 'outdoor'


def test_around_the_middle_the_head_is_kept_both_ways():
    # Back and forth between 0.45 and 0.55: who came first stays.
    sway = [logits_for(0.45)] * 30 + [logits_for(0.55)] * 30
    assert set(heads(HeadTracker(), [INDOOR, *sway * 3])) == {'indoor'}
    assert set(heads(HeadTracker(), [OUTDOOR, *sway * 3])) == {'outdoor'}


# --- a new start ----------------------------------------------------------------------------


def test_time_that_goes_back_starts_anew():
    for back in (1e-3, 5.0, 1e9):
        tracker = HeadTracker()
        assert heads(tracker, [INDOOR] * 50)[-1] == 'indoor'
        head, probabilities = tracker.choose(OUTDOOR, NAMES, START + 4.9 - back, 1.0)
        assert head == 'outdoor'
        assert probabilities['outdoor'] == pytest.approx(1 / (1 + np.exp(-4)))
        # And goes on from there.
        assert tracker.choose(INDOOR, NAMES, START + 4.95 - back, 1.0)[0] == 'outdoor'


@pytest.mark.parametrize('time_constant', [0.5, 1.0, 4.0])
def test_a_long_gap_starts_anew(time_constant):
    # After a shorter one the new frame has nearly all of the weight, which does as well here:
    # what tells them apart is whether anything is left of the frames before.
    for constants, forgotten in ((4.9, False), (5.1, True), (1e6, True)):
        tracker = HeadTracker()
        heads(tracker, [INDOOR] * 30, time_constant)
        gap = constants * time_constant
        _, probabilities = tracker.choose(OUTDOOR, NAMES, START + 2.9 + gap, time_constant)
        alone = float(1 / (1 + np.exp(-4)))
        assert (probabilities['outdoor'] == pytest.approx(alone, abs=1e-9)) is forgotten
    # Unsure after a gap: by this frame alone, not as before it.
    tracker = HeadTracker()
    heads(tracker, [INDOOR] * 30, time_constant)
    assert tracker.choose(
        logits_for(0.45), NAMES, START + 2.9 + 6 * time_constant, time_constant)[0] == 'outdoor'


def test_a_frame_of_the_same_time_changes_nothing():
    # The mirrored pass of 'flip' comes with the stamp of its image.
    tracker = HeadTracker()
    tracker.choose(INDOOR, NAMES, START, 1.0)
    head, probabilities = tracker.choose(OUTDOOR, NAMES, START, 1.0)
    assert head == 'indoor' and probabilities['indoor'] > 0.9


def test_images_of_one_stamp_change_the_head_in_the_end():
    # Some drivers stamp all images alike, for example with zero.
    tracker = HeadTracker()
    assert heads(tracker, [INDOOR], step=0) == ['indoor']
    assert heads(tracker, [OUTDOOR] * 30, step=0)[-1] == 'indoor'
    assert heads(tracker, [OUTDOOR] * 300, step=0)[-1] == 'outdoor'


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_frame_on_which_the_network_failed_counts_as_undecided(value):
    tracker = HeadTracker()
    broken = np.array([value, value])
    assert tracker.choose(broken, NAMES, START, 1.0)[1] == {'indoor': 0.5, 'outdoor': 0.5}
    assert heads(tracker, [OUTDOOR] * 30, start=START + 0.1)[-1] == 'outdoor'
    assert tracker.choose(broken, NAMES, START + 3.1, 1.0)[0] == 'outdoor'


def test_a_new_time_constant_takes_effect():
    tracker = HeadTracker()
    assert heads(tracker, [INDOOR] * 20 + [OUTDOOR])[-1] == 'indoor'
    assert tracker.choose(OUTDOOR, NAMES, START + 2.1, 0)[0] == 'outdoor'
    assert tracker.choose(INDOOR, NAMES, START + 2.2, 1.0)[0] == 'outdoor'


# --- in general -----------------------------------------------------------------------------

videos = st.lists(st.tuples(logits_of, st.floats(-20, 20)), min_size=1, max_size=30)


@slow
@given(videos, st.one_of(st.just(0.0), st.floats(1e-3, 3600)))
def test_any_video_has_a_head_and_probabilities(frames, time_constant):
    tracker, other = HeadTracker(), HeadTracker()
    stamp, before = START, None
    for logits, gap in frames:
        stamp += gap
        given_logits = logits.copy()
        head, probabilities = tracker.choose(logits, NAMES, stamp, time_constant)
        assert np.array_equal(logits, given_logits)      # they belong to the caller
        assert head in NAMES and list(probabilities) == list(NAMES)
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-9)
        assert all(type(p) is float and 0 <= p <= 1 for p in probabilities.values())
        # A head that is sure is taken; else that of before, or the more probable one.
        best = max(probabilities, key=probabilities.get)
        if probabilities[best] >= 0.6 + 1e-9:
            assert head == best
        elif before is not None and head != best and probabilities[best] > 0.5 + 1e-9:
            assert head == before
        before = head
        # Equal inputs, equal results; two do not know of each other.
        HeadTracker().choose(-logits, NAMES, stamp, time_constant)
        assert other.choose(logits, NAMES, stamp, time_constant) == (head, probabilities)


def test_two_cameras_are_independent():
    left, right = HeadTracker(), HeadTracker()
    found = [(left.choose(INDOOR, NAMES, START + i / 10, 1.0)[0],
              right.choose(OUTDOOR, NAMES, START + i / 10, 1.0)[0]) for i in range(20)]
    assert set(found) == {('indoor', 'outdoor')}


@pytest.mark.parametrize('count', [1, 3, 5])
def test_any_number_of_heads(count):
    names = [f'head {i}' for i in range(count)]
    tracker = HeadTracker()
    for i in range(60):
        logits = np.zeros(count)
        logits[0 if i < 20 else -1] = 5.0
        head, probabilities = tracker.choose(logits, names, START + i / 10, 1.0)
        assert sum(probabilities.values()) == pytest.approx(1)
        if i == 19:
            assert head == names[0]
    assert head == names[-1] and len(probabilities) == count


def test_logits_of_any_size():
    tracker = HeadTracker()
    for i, size in enumerate((1e4, 1e30, -1e30, 3e38)):
        head, probabilities = tracker.choose(
            np.array([size, 0.0]), NAMES, START + 1e4 * i, 1.0)
        assert head == NAMES[int(size < 0)]
        assert sum(probabilities.values()) == pytest.approx(1)
