"""
The scale of one head over time: a one-dimensional Kalman filter on its logarithm.

All functions are pure: the same sequence of fits and stamps gives the same scale to the bit.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
import math

from zoe_ros.anchor.fit import Fit, Shift

# Deviation of the log-scale of a network that nothing has been compared with: 10 to 60 % is usual.
UNKNOWN = 0.3
# Random walk of the log-scale: another view, another light.
_PER_SECOND = 0.05 ** 2
_PER_METRE = 0.03 ** 2
# Consecutive frames show the same scene, on which a network errs alike: a mean over many frames is
# hardly better than one frame. The variance stays above this share of that of a fit.
_ALIKE = 0.25
# A fit so many deviations from the filter is an outlier, unless its pairs agree well: then the
# scale of the network has changed.
_GATE = 3.0
_AGREEMENT = 0.5        # share of the weight
_PRECISE = 0.06         # standard deviation [log]
_PATIENCE = 5           # after so many outliers in a row the filter follows
# Share of a frame in the mean of squared jumps between frames.
_LEARN = 0.2
# After a gap of the sensor the output moves by at most this much a frame [log], so that a map does
# not tear.
_GAP = 1.0              # [s]
STEP = math.log(1.02)
_SHIFT_GATE = 3.0       # deviations by which a shift must exceed 0 to be used at all
_LARGEST_SHIFT = 0.3    # change of depth by the shift within the range of the pairs


@dataclass(frozen=True)
class State:
    """
    What is known of the scale of one head.

    :param log_scale: mean; :param variance: of the log, at ``stamp``.
    :param output: log-scale that depth is multiplied with; after a gap it follows the mean slowly.
    :param stamp: of the last frame [s]; :param measured: of the last fit that was used [s].
    :param outliers: fits in a row that were not used.
    :param returning: the output does not yet show the mean.
    :param jumps: variance of the changes from frame to frame beyond what fits explain. Some
        networks have a steady scale, and others flicker.
    :param areas: of the last fit that was used.
    """

    log_scale: float
    variance: float
    output: float
    stamp: float
    measured: float
    outliers: int = 0
    returning: bool = False
    jumps: float = 0.0
    shift: Shift | None = None
    areas: int = 0

    @property
    def prior(self) -> tuple[float, float]:
        """Return mean and variance of the log-scale of this frame before its fit."""
        return self.log_scale, self.variance + self.jumps

    @property
    def deviation(self) -> float:
        """Return the standard deviation of the output's log, its lag behind the mean included."""
        held = self.jumps if self.stamp > self.measured else 0.0
        return math.hypot(math.sqrt(self.variance + held), self.log_scale - self.output)


def start(fit: Fit, stamp: float) -> State:
    """Return the state after the first fit of a head."""
    return State(fit.log_scale, fit.variance, fit.log_scale, stamp, stamp,
                 shift=_with_shift(None, fit.shift), areas=fit.areas)


def predict(state: State, stamp: float, travelled: float) -> State:
    """
    Return the state at a later frame: the same scale, less certain.

    :param stamp: [s]; :param travelled: way of the camera [m].
    """
    # Images may arrive a little out of order.
    stamp = max(stamp, state.stamp)
    growth = _PER_SECOND * (stamp - state.stamp) + _PER_METRE * travelled
    return replace(state, variance=min(state.variance + growth, UNKNOWN ** 2), stamp=stamp)


def update(state: State, fit: Fit) -> tuple[State, str]:
    """
    Return the state with the fit of its frame, and the reason why it was not used, or ''.

    :param state: predicted to the stamp of the frame.
    """
    mean, variance = state.prior
    innovation = fit.log_scale - mean
    unexplained = max(innovation ** 2 - state.variance - fit.variance, 0.0)
    if innovation ** 2 > _GATE ** 2 * (variance + fit.variance):
        sure = fit.share >= _AGREEMENT and fit.variance <= _PRECISE ** 2
        if not sure and state.outliers + 1 < _PATIENCE:
            return _moved(replace(state, outliers=state.outliers + 1)), (
                f'outlier: {math.exp(innovation):.2f} times the scale of the last frames')
        # The scale has changed by itself: what was known of the old one does not hold.
        variance = max(variance, innovation ** 2)
    gain = variance / (variance + fit.variance)
    returning = state.returning or state.stamp - state.measured > _GAP
    return _moved(replace(
        state, log_scale=mean + gain * innovation,
        variance=max((1 - gain) * variance, _ALIKE * fit.variance), measured=state.stamp,
        outliers=0, returning=returning, shift=_with_shift(state.shift, fit.shift),
        jumps=state.jumps + _LEARN * (unexplained - state.jumps), areas=fit.areas)), ''


def usable_shift(state: State) -> float:
    """
    Return the shift that the covariance carries [1/m].

    It grows from 0 at three deviations, so that noise does not switch it on and off.
    """
    shift = state.shift
    if shift is None:
        return 0.0
    size = abs(shift.value) - _SHIFT_GATE * math.sqrt(shift.variance)
    reach = max(shift.high - shift.centre, shift.centre - shift.low)
    if size <= 0 or reach <= 0:
        return 0.0
    return math.copysign(min(size, _LARGEST_SHIFT / reach), shift.value)


def _moved(state: State) -> State:
    """Return the state with the output of this frame."""
    if not state.returning:
        return replace(state, output=state.log_scale)
    lag = state.log_scale - state.output
    if abs(lag) <= STEP:
        return replace(state, output=state.log_scale, returning=False)
    return replace(state, output=state.output + math.copysign(STEP, lag))


def _with_shift(old: Shift | None, new: Shift | None) -> Shift | None:
    """
    Return the mean of the shift so far and that of a frame, by their variances.

    Depth of a frame without spread tells nothing of a shift: the old one would be extrapolated.
    """
    if old is None or new is None:
        return new
    gain = old.variance / (old.variance + new.variance)
    return new._replace(value=old.value + gain * (new.value - old.value),
                        variance=max((1 - gain) * old.variance, _ALIKE * new.variance))
