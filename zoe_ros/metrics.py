"""The metrics of the paper for one image: REL, RMSE, log10, deltas (specification, 6.3)."""
from __future__ import annotations

import numpy as np

# Name -> whether larger is better.
METRICS = {'REL': False, 'RMSE': False, 'log10': False, 'RMSE log': False, 'SILog': False,
           'sq REL': False, 'delta1': True, 'delta2': True, 'delta3': True}


def depth_metrics(depth: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """
    Compare the depths of valid pixels.

    :param depth: (n,) predicted [m], positive; :param truth: (n,) true [m], positive.
    :return: the metrics of ``METRICS``; RMSE in metres, sq REL in metres, SILog times 100.
    :raises ValueError: there is no pixel, or the sizes differ.
    """
    depth, truth = np.asarray(depth, np.float64).ravel(), np.asarray(truth, np.float64).ravel()
    if depth.shape != truth.shape or not depth.size:
        raise ValueError(f'{depth.size} depths are compared with {truth.size}: both need the same '
                         'number of valid pixels, at least one')
    error = depth - truth
    logarithms = np.log(depth) - np.log(truth)
    ratio = np.maximum(depth / truth, truth / depth)
    return {
        'REL': float(np.mean(np.abs(error) / truth)),
        'RMSE': float(np.sqrt(np.mean(error ** 2))),
        'log10': float(np.mean(np.abs(logarithms)) / np.log(10)),
        'RMSE log': float(np.sqrt(np.mean(logarithms ** 2))),
        'SILog': float(100 * np.std(logarithms)),
        'sq REL': float(np.mean(error ** 2 / truth)),
        **{f'delta{n}': float(np.mean(ratio < 1.25 ** n)) for n in (1, 2, 3)}}


def mean_metrics(rows: list[dict[str, float]]) -> dict[str, float]:
    """Average the metrics of images; each image has the same weight."""
    return {name: float(np.mean([row[name] for row in rows])) for name in METRICS}


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
