"""Metrics of one image: those of the paper (specification, 6.3), and of depth up to a scale."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

# Name -> whether larger is better.
METRICS = {'REL': False, 'RMSE': False, 'log10': False, 'RMSE log': False, 'SILog': False,
           'sq REL': False, 'delta1': True, 'delta2': True, 'delta3': True}
# Share of true depth within one predicted deviation, which is 0.68 where the deviation is the
# error; and area under the curve of risk against coverage.
WITHIN, AURC = 'within', 'AURC'
SHAPE_METRICS = {'REL scaled': False, 'REL aligned': False, 'Spearman': True}
_FARTHEST = 80.0    # of aligned depth [m], whose disparity could be zero or negative


def depth_metrics(depth: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """
    Compare the depths of valid pixels.

    :param depth: (n,) predicted [m], positive; :param truth: (n,) true [m], positive.
    :return: the metrics of ``METRICS``; RMSE in metres, sq REL in metres, SILog times 100.
    :raises ValueError: there is no pixel, or the sizes differ.
    """
    depth, truth = _pair(depth, truth)
    error = depth - truth
    logarithms = np.log(depth) - np.log(truth)
    ratio = np.maximum(depth / truth, truth / depth)
    return {
        'REL': _relative(depth, truth),
        'RMSE': float(np.sqrt(np.mean(error ** 2))),
        'log10': float(np.mean(np.abs(logarithms)) / np.log(10)),
        'RMSE log': float(np.sqrt(np.mean(logarithms ** 2))),
        'SILog': float(100 * np.std(logarithms)),
        'sq REL': float(np.mean(error ** 2 / truth)),
        **{f'delta{n}': float(np.mean(ratio < 1.25 ** n)) for n in (1, 2, 3)}}


def shape_metrics(depth: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """
    Compare the depths of valid pixels, but not their scale.

    :param depth: (n,) predicted [m], positive; :param truth: (n,) true [m], positive.
    :return: REL after the factor that makes the medians equal; REL after scale and shift of the
        disparity that fit best (least squares); Spearman's rank correlation, 0 for constant depth.
    :raises ValueError: there is no pixel, or the sizes differ.
    """
    depth, truth = _pair(depth, truth)
    disparity = np.stack([1 / depth, np.ones_like(depth)], axis=1)
    fitted = disparity @ np.linalg.lstsq(disparity, 1 / truth, rcond=None)[0]
    return {
        'REL scaled': _relative(depth * np.median(truth) / np.median(depth), truth),
        'REL aligned': _relative(1 / fitted.clip(min=1 / _FARTHEST), truth),
        'Spearman': _spearman(depth, truth)}


def doubt_metrics(depth: np.ndarray, deviation: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """
    Compare predicted deviations with the errors of valid pixels.

    :param depth: (n,) predicted [m], positive; :param truth: (n,) true [m], positive.
    :param deviation: (n,) predicted standard deviation [m]; NaN counts as the least certain.
    :return: the share of pixels whose truth is within one deviation; and the mean, over all
        coverages c, of the risk, which is REL of the fraction c of the pixels with the least
        relative deviation. A deviation that says nothing has the risk REL at each coverage.
    :raises ValueError: there is no pixel, or the sizes differ.
    """
    depth, truth = _pair(depth, truth)
    deviation, _ = _pair(deviation, truth)
    relative = np.nan_to_num(deviation / depth, nan=np.inf, posinf=np.inf)
    order = np.argsort(relative, kind='stable')
    errors = (np.abs(depth - truth) / truth)[order]
    # Equal deviations have no order: each of their pixels stands for the mean of them.
    _, starts, counts = np.unique(relative[order], return_index=True, return_counts=True)
    errors = np.repeat(np.add.reduceat(errors, starts) / counts, counts)
    risk = np.cumsum(errors) / np.arange(1, len(errors) + 1)
    return {WITHIN: float(np.mean(np.abs(depth - truth) <= deviation)),
            AURC: float(np.mean(risk))}


def _pair(depth: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both as (n,) float64, n at least 1."""
    depth, truth = np.asarray(depth, np.float64).ravel(), np.asarray(truth, np.float64).ravel()
    if depth.shape != truth.shape or not depth.size:
        raise ValueError(f'{depth.size} depths are compared with {truth.size}: both need the same '
                         'number of valid pixels, at least one')
    return depth, truth


def _relative(depth: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean(np.abs(depth - truth) / truth))


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value; equal values share the mean of their ranks."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]


def mean_metrics(rows: Sequence[Mapping[str, Any]],
                 names: Iterable[str] = tuple(METRICS)) -> dict[str, float]:
    """Average the named metrics of images; each image has the same weight."""
    return {name: float(np.mean([row[name] for row in rows])) for name in names}


def relative_improvement(figures: dict[str, float], reference: dict[str, float],
                         names: tuple[str, ...] = ('delta1', 'REL', 'RMSE')) -> float:
    """
    Return the mean relative improvement over a reference, mRI (paper, section 4.2).

    :return: the mean over ``names`` of (r - t) / r where smaller is better, and (t - r) / r where
        larger is better; 0.1 means 10 % better. NaN where the reference is 0.
    """
    gains = []
    for name in names:
        if reference[name] == 0:
            return float('nan')
        gain = (figures[name] - reference[name]) / reference[name]
        gains.append(gain if METRICS[name] else -gain)
    return float(np.mean(gains))
