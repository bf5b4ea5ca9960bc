"""
One scale from pairs of true and predicted depth, by a robust estimator, with an honest variance.

A metric network errs mostly by one factor, so the fit has one number: the log of true over
predicted depth. Where a frame has a wide range of depths, the fit also states a shift in
disparity with its variance, see :class:`Shift`.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from zoe_ros.anchor.pairs import Pairs

_FEWEST = 8             # pairs
_FEWEST_AREAS = 3.0     # of the finest cells
# Sides of the cells in which errors may be alike, in widths of the image. The coarsest cells that
# matter differ from scene to scene, so the data decide.
_CELLS = 1 / 16, 1 / 8, 1 / 4, 1 / 2
_QUARTER = 2            # index of the cells of a quarter of the width
_OCCUPIED = 0.02        # least share of the votes in an area with pairs; wrong returns have less
_ROUNDS = 6
_TUKEY = 4.685          # 95 % efficiency on a normal distribution
# Deviation of log ratios that sets the reach of Tukey's weights. Without the upper bound two
# groups of ratios would be averaged; the lower bound is the noise of a good sensor.
_SPREAD = 0.01, 0.08
_AGREE = 0.15           # pairs within this log ratio of a scale agree with it
_LEAST_PULL = 0.3       # of the sum of the weights
_MEMBER = 0.5           # Tukey's weight of a pair that is counted: 2.5 deviations
_SUPPORT = 0.35         # smallest share of the weight that agrees
# The scale of the last frame is kept while this share of the best scale's support agrees with it.
_KEEP = 0.5
_CERTAIN = 0.1          # deviation of a prior that may select a group [log]
_LARGEST = 10.0         # factor; a larger one comes from wrong units or a wrong transform
# What no number of pairs removes: errors of calibration and of the sensor itself.
_FLOOR = 0.004
_SHIFT_FLOOR = 0.005    # [1/m]
# Error of the network for a single pixel [log]; a pair counts less where its true depth is worse.
_NETWORK = 0.06
_FLAT = 0.05            # relative deviation of depth below which it has no range


class Shift(NamedTuple):
    """
    An offset of disparity: 1/z = 1/q + value (1 - centre/q), where q is depth after the scale.

    At the centre the shift changes nothing, so that scale and shift are independent.

    :param value: [1/m]; :param variance: [1/m^2].
    :param centre: [m]; :param low, high: range of q that the pairs cover [m].
    """

    value: float
    variance: float
    centre: float
    low: float
    high: float


class Fit(NamedTuple):
    """
    The scale of one frame.

    :param log_scale: log of true over predicted depth; :param variance: of the log.
    :param pairs: number of pairs that agree; :param effective: number of independent ones.
    :param residual: robust standard deviation of the log ratios of one pair.
    :param share: of the weight that agrees, 0 ... 1.
    :param areas: number of squares of a quarter of the image's width in which pairs agree.
    :param shift: None where all pairs have one depth.
    """

    log_scale: float
    variance: float
    pairs: int
    effective: float
    residual: float
    share: float
    areas: int
    shift: Shift | None


def fit(pairs: Pairs, prior: tuple[float, float] | None) -> tuple[Fit | None, str]:
    """
    Fit a scale.

    :param prior: mean and variance of the log-scale by earlier frames, or None. The prior selects
        between groups of pairs and steadies the iteration. The result itself comes from the pairs
        alone, so that a filter may combine both.
    :return: the fit and ''; or None and the reason, as 'cause: details'.
    """
    count = len(pairs.true)
    if count < _FEWEST:
        return None, f'too few pairs: {count} of {_FEWEST}'
    ratio = np.log(pairs.true) - np.log(pairs.predicted)
    # Between one vote for a pair and one for a cell: a cell of many returns tells little more than
    # a cell of few, but a lone wrong return must not outvote a group.
    cells = [_cells(pairs.place, side) for side in _CELLS]
    weight = 1 / np.sqrt(np.bincount(cells[0])[cells[0]])
    if pairs.deviation is not None:
        weight = weight / (1 + (pairs.deviation / _NETWORK) ** 2)
    areas = _areas(weight, cells[0])
    if areas < _FEWEST_AREAS:
        return None, (f'too few areas: {count} pairs in {areas:.1f} of {_FEWEST_AREAS:g} areas of '
                      'the image')
    centre = _choose(ratio, weight, areas, prior)
    share = _support(ratio, weight, centre)
    if share < _SUPPORT:
        return None, f'no agreement: {share:.0%} of {count} pairs agree on a scale'
    if abs(centre) > math.log(_LARGEST):
        return None, f'implausible: a scale of {math.exp(centre):.3g}'
    return _describe(pairs, ratio, weight, cells, centre, share), ''


def selects(prior: tuple[float, float]) -> bool:
    """Tell whether a prior, mean and variance, is certain enough to select a group of pairs."""
    return prior[1] <= _CERTAIN ** 2


def _choose(ratio: np.ndarray, weight: np.ndarray, areas: float,
            prior: tuple[float, float] | None) -> float:
    """Return the centre of the ratios: the one near the prior, unless another is far better."""
    best = _iterate(ratio, weight, areas, _median(ratio, weight), None)
    if prior is None or not selects(prior) or abs(prior[0] - best) < _CERTAIN / 2:
        return best
    kept = _iterate(ratio, weight, areas, prior[0], prior)
    enough = _support(ratio, weight, kept) >= _KEEP * _support(ratio, weight, best)
    # The prior may hold back the iteration; its group has a centre of its own.
    return _iterate(ratio, weight, areas, kept, None, rounds=2) if enough else best


def _iterate(ratio: np.ndarray, weight: np.ndarray, areas: float, centre: float,
             prior: tuple[float, float] | None, rounds: int = _ROUNDS) -> float:
    """Return the centre to which iteratively reweighted means lead from a start."""
    spread = _spread(ratio, weight, centre)
    for _ in range(rounds):
        votes = weight * _tukey(ratio - centre, spread)
        total = votes.sum()
        if total <= 0:
            return centre
        mean = float(votes @ ratio / total)
        if prior is not None:
            precision = areas * float(total / weight.sum()) / spread ** 2
            mean = (precision * mean + prior[0] / prior[1]) / (precision + 1 / prior[1])
        centre = mean
    return centre


def _describe(pairs: Pairs, ratio: np.ndarray, weight: np.ndarray,
              cells: list[np.ndarray], centre: float, share: float) -> Fit:
    """Return the fit around a centre: mean, variance, and the shift."""
    errors = ratio - centre
    spread = _spread(ratio, weight, centre)
    clarity = _tukey(errors, spread)
    votes, agree = weight * clarity, clarity > _MEMBER
    # The derivative of Tukey's estimating equation: far pairs pull the less, the farther they are.
    near = 1 - (errors / (_TUKEY * spread)) ** 2
    pull = float(weight @ (np.sqrt(clarity) * (5 * near - 4)))
    pull = max(pull, _LEAST_PULL * float(votes.sum()))
    residual = 1.4826 * _median(np.abs(errors)[agree], weight[agree])
    variance = _variance_of_mean(errors, votes, cells, residual, pull)
    shift = _shift(pairs.true[agree], errors[agree], votes[agree], [c[agree] for c in cells])
    effective = residual ** 2 / variance if variance > 0 else math.inf
    if pairs.deviation is not None:
        # Most of it is an error of calibration, which all pairs have in common.
        variance += float(votes @ pairs.deviation / votes.sum()) ** 2
        if shift is not None:
            inverse = float(votes @ (pairs.deviation / pairs.true) / votes.sum())
            shift = shift._replace(variance=shift.variance + inverse ** 2)
    return Fit(centre, variance + _FLOOR ** 2, int(agree.sum()), effective, residual, share,
               _occupied(votes, cells[_QUARTER]), shift)


def _variance_of_mean(errors: np.ndarray, votes: np.ndarray, cells: list[np.ndarray],
                      residual: float, pull: float) -> float:
    """
    Return the variance of the mean of errors that are alike within cells of unknown size.

    By blocking: sums over cells are independent once the cells are large enough, and until then
    their variance grows with the size. At least that of independent finest cells.

    :param pull: what a sum of errors is divided by; the sum of votes for a plain mean.
    """
    found = residual ** 2 / _areas(votes, cells[0])
    for cell in cells:
        sums = np.bincount(cell, votes * errors)
        count = np.count_nonzero(np.bincount(cell, votes))
        if count > 2:
            found = max(found, float(sums @ sums) / pull ** 2 * count / (count - 1))
    return float(found)


def _shift(true: np.ndarray, errors: np.ndarray, votes: np.ndarray,
           cells: list[np.ndarray]) -> Shift | None:
    """
    Fit a line to log ratios over true depth, which is the shift for small shifts.

    Over predicted depth, the errors of the network would be on both axes and make a slope.
    """
    total = votes.sum()
    centre = float(votes @ true / total)
    across = true - centre
    width = float(votes @ (across * across) / total)
    if width < (_FLAT * centre) ** 2:
        return None
    slope = float(votes @ (across * errors) / total) / width
    left = errors - float(votes @ errors / total) - slope * across
    residual = math.sqrt(float(votes @ (left * left) / total))
    variance = _variance_of_mean(left, votes, cells, residual, float(total)) / width
    low, high = np.quantile(true, (0.02, 0.98))
    return Shift(-slope, variance + _SHIFT_FLOOR ** 2, centre, float(low), float(high))


def _tukey(residual: np.ndarray, spread: float) -> np.ndarray:
    """Return Tukey's biweights, (n,) 0 ... 1."""
    return np.maximum(1 - (residual / (_TUKEY * spread)) ** 2, 0) ** 2


def _spread(ratio: np.ndarray, weight: np.ndarray, centre: float) -> float:
    """Return the robust deviation around a centre, within bounds."""
    return min(max(1.4826 * _median(np.abs(ratio - centre), weight), _SPREAD[0]), _SPREAD[1])


def _support(ratio: np.ndarray, weight: np.ndarray, centre: float) -> float:
    """Return the share of the weight that agrees with a centre."""
    return float(weight[np.abs(ratio - centre) < _AGREE].sum() / weight.sum())


def _median(values: np.ndarray, weight: np.ndarray) -> float:
    """Return the weighted median."""
    order = np.argsort(values)
    sums = np.cumsum(weight[order])
    return float(values[order[np.searchsorted(sums, sums[-1] / 2)]])


def _cells(place: np.ndarray, side: float) -> np.ndarray:
    """Return the number of the cell of each pair, (n,)."""
    row, column = np.floor(place / side).astype(np.int64).T
    return row * (int(1 / side) + 1) + column


def _areas(votes: np.ndarray, cell: np.ndarray) -> float:
    """Return how many cells of equal votes the votes amount to."""
    sums = np.bincount(cell, votes)
    return float(sums.sum() ** 2 / (sums @ sums))


def _occupied(votes: np.ndarray, cell: np.ndarray) -> int:
    """Return the number of cells that have a share of the votes."""
    sums = np.bincount(cell, votes)
    return int(np.count_nonzero(sums > _OCCUPIED * sums.sum()))
