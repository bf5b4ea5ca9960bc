"""Baselines that do not look at the image: a model should be better than each of them."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zoe_ros.datasets.folders import RgbdFolder
from zoe_ros.metrics import depth_metrics, mean_metrics, METRICS, SHAPE_METRICS, shape_metrics

# A typical depth of each domain [m].
CONSTANT = {'indoor': 2.5, 'outdoor': 12.0}
BANDS = 24          # of rows, over the height of an image


@dataclass(frozen=True, eq=False)
class _Truth:
    """
    The true depth of a source [m].

    :param medians: (frames,).
    :param bands: (frames, BANDS), the median of each band of rows; NaN where a band has no depth.
    """

    medians: np.ndarray
    bands: np.ndarray


def measure_baselines(sources: Sequence[RgbdFolder]) -> dict[str, dict[str, dict[str, float]]]:
    """
    Measure three baselines on each source.

    'constant' is the typical depth of the domain, 'median' that of the other sources of the same
    group, and 'ramp' a depth for each row, fitted on other sources of the same group. The last
    two are left out for a source that is alone in its group.

    :return: name of the source -> name of the baseline -> mean metrics of the images.
    """
    truths = {source.name: _read_truth(source) for source in sources}
    measured = {}
    for source in sources:
        others = [truths[other.name] for other in sources
                  if other.group == source.group and other is not source]
        profiles = {'constant': np.full(BANDS, CONSTANT[source.domain])}
        medians = np.concatenate([np.empty(0), *(other.medians for other in others)])
        if medians.size:
            profiles['median'] = np.full(BANDS, np.median(medians))
            # Every second source is the definition of the published figures.
            profiles['ramp'] = _fit_ramp(others[::2] if len(others) >= 3 else others)
        measured[source.name] = _measure(source, profiles)
    return measured


def _read_truth(source: RgbdFolder) -> _Truth:
    depths = [source.depth(index) for index in range(len(source))]
    depths = [depth for depth in depths if source.protocol.pick(depth).size]
    bands = [[_median(band) for band in np.array_split(depth, BANDS)] for depth in depths]
    return _Truth(np.array([_median(depth) for depth in depths]),
                  np.array(bands).reshape(len(depths), BANDS))


def _median(depth: np.ndarray) -> float:
    """Return the median of the values, NaN if there are none."""
    known = depth[np.isfinite(depth)]
    return float(np.median(known)) if known.size else float('nan')


def _fit_ramp(truths: Sequence[_Truth]) -> np.ndarray:
    """Return the depth of each band, (BANDS,) [m]; each source has the same weight."""
    sources = [[_median(band) for band in truth.bands.T] for truth in truths]
    ramp = np.array([_median(band) for band in np.array(sources).T])
    known = np.flatnonzero(np.isfinite(ramp))
    return np.interp(np.arange(BANDS), known, ramp[known])


def _measure(source: RgbdFolder,
             profiles: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return the mean metrics of depth profiles over the bands, by the name of the profile."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in profiles}
    for index in range(len(source)):
        truth = source.depth(index)
        where = source.protocol.pick(truth)
        if not where.size:
            continue
        height, width = truth.shape
        middles = (np.arange(BANDS) + 0.5) * height / BANDS
        for name, profile in profiles.items():
            depth = np.interp(np.arange(height), middles, profile)[where // width]
            true = truth.ravel()[where]
            rows[name].append({**depth_metrics(depth, true), **shape_metrics(depth, true)})
    return {name: mean_metrics(found, (*METRICS, *SHAPE_METRICS))
            for name, found in rows.items() if found}
