"""Fits the deviation of depth to measured errors: ``zoe calibrate``."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from tqdm import tqdm

from zoe_ros.command_settings import CalibrateSettings
from zoe_ros.datasets import Dataset, DatasetError
from zoe_ros.datasets.open import open_datasets, require_bag_for_topics
from zoe_ros.inference.choices import two_models
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.model.calibration import Calibration, save_calibration
from zoe_ros.model.config import PAIRS
from zoe_ros.model.pair import ModelPair

SHARE = 0.6827      # of normally distributed values within one standard deviation
_PIXELS = 2000      # of each image, so that images count alike, of a lidar or of the world
_STRIPS = 8         # of an image, for the scale of a row
_CELLS = 20         # of equal numbers of pixels, in the order of their predicted deviation
_LEAST = 1e-6       # relative deviation
_STEEPEST = 4.0     # exponent; a steeper map would explode beyond the data


@dataclass(frozen=True, eq=False)
class Pairs:
    """
    Predicted relative deviations and measured relative errors of pixels, (n,) each.

    :param by_row, by_image: errors that are left if the scale of a row of the image is right, and
        if that of the whole image is.
    :param images: number of images that the pixels are from.
    """

    deviation: np.ndarray
    error: np.ndarray
    by_row: np.ndarray
    by_image: np.ndarray
    images: int


def run_calibration(settings: CalibrateSettings) -> str:
    """
    Calibrate the deviation of a model, write the result beside its weights, return a report.

    :raises ValueError, OSError: the data, the weights or a setting cannot be used.
    """
    if settings.variant in PAIRS:
        raise ValueError(two_models(settings.variant))
    require_bag_for_topics(settings.data, settings)
    datasets = open_datasets(settings.data, 'test', settings)
    estimator = DepthEstimator.load(settings.variant, settings.weights or None, settings.device,
                                    settings.precision, settings.aspect)
    model = estimator.model
    assert not isinstance(model, ModelPair)
    weights, = estimator.weights
    model.calibrations = {}
    found = measure(estimator, datasets)
    maps = {head: fit(pairs) for head, pairs in found.items()}
    path = save_calibration(weights, maps, [dataset.name for dataset in datasets])
    lines = ['head     images  within one deviation  calibrated  max(floor, factor * s^exponent), '
             'left with the scale of a row and of the image']
    for head, pairs in found.items():
        chosen = maps[head]
        lines.append(f'{head:8} {pairs.images:6} {within(pairs):21.3f} '
                     f'{within(pairs, chosen):11.3f}  floor {chosen.floor:.3f}, factor '
                     f'{chosen.factor:.3f}, exponent {chosen.exponent:.2f}, left '
                     + ' and '.join(f'{share:.2f}' for share in chosen.left or ()))
    lines += [f'{head:8} no images, not calibrated'
              for head in model.config.head_names if head not in found]
    return '\n'.join([*lines, '', f'the calibration is {path}'])


def measure(estimator: DepthEstimator, datasets: Sequence[Dataset]) -> dict[str, Pairs]:
    """
    Compare predictions with true depth, at the pixels that the protocols of the datasets count.

    An image that the router sends to the head of another domain does not count: its error is
    that of the router.

    :return: name of the head -> its pairs, only of heads with images.
    :raises DatasetError: no head has images.
    """
    random = np.random.default_rng(0)
    found: dict[str, list[np.ndarray]] = {}
    for dataset in datasets:
        for index in tqdm(range(len(dataset)), desc=dataset.name, unit='image',
                          disable=None):
            sample = dataset[index]
            prediction = estimator.predict(sample.image, sample.camera, deviation=True)
            assert prediction.deviation is not None
            where = dataset.protocol.pick(sample.depth)
            where = where[np.isfinite(prediction.deviation.ravel()[where])]
            if (not where.size
                    or prediction.head != estimator.model.config.head_for(sample.domain)):
                continue
            chosen = random.choice(where, _PIXELS)
            depth = prediction.depth.ravel()[chosen].astype(np.float64)
            found.setdefault(prediction.head, []).append(np.stack([
                prediction.deviation.ravel()[chosen] / depth,
                *_errors(sample.depth, prediction.depth, where, chosen)]))
    if not found:
        raise DatasetError('no image with true depth went to the head of its domain: give other '
                           'data, or name the domain')
    joined = {head: np.concatenate(parts, axis=1) for head, parts in sorted(found.items())}
    return {head: Pairs(deviation, error, by_row, by_image, len(found[head]))
            for head, (deviation, error, by_row, by_image) in joined.items()}


def _errors(truth: np.ndarray, predicted: np.ndarray, where: np.ndarray,
            chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return relative errors, and those beyond the scale of a row and of the whole image, (n,) each.

    :param truth, predicted: (h, w) [m].
    :param where: flat indices of pixels with both; :param chosen: (n,) those of the errors.
    """
    ratio = (truth.ravel()[where] / predicted.ravel()[where].astype(np.float64)).clip(_LEAST)
    # Strips, because the rows of a lidar's depth have few pixels. Each pixel gets that of another
    # place, as a lidar sees one height of the scene.
    strip = where // truth.shape[1] * _STRIPS // truth.shape[0]
    rows = np.array([np.median(ratio[strip == k]) for k in range(_STRIPS) if (strip == k).any()])
    error = truth.ravel()[chosen] / predicted.ravel()[chosen].astype(np.float64)
    by_row = rows[np.arange(len(chosen)) % len(rows)]
    return (np.abs(error - 1), np.abs(error / by_row - 1),
            np.abs(error / np.median(ratio) - 1))


def fit(pairs: Pairs) -> Calibration:
    """
    Fit the map whose deviation holds the error of 68 % of the pixels, at each predicted deviation.

    Quantiles of cells of similar deviation are matched, so a few wild pixels do not matter. The
    cells with the least deviation share the floor; the others are on a line in logarithms. The
    number of cells on the floor is the one that fits best.
    """
    order = np.argsort(pairs.deviation, kind='stable')
    cells = [cell for cell in np.array_split(order, _CELLS) if cell.size]
    x = np.log([max(float(np.median(pairs.deviation[cell])), _LEAST) for cell in cells])
    y = np.log([max(float(np.quantile(pairs.error[cell], SHARE)), _LEAST) for cell in cells])

    def candidate(low: int) -> tuple[float, Calibration]:
        floor = float(np.median(y[:low])) if low else float(y.min())
        slope, offset = _line(x[low:], y[low:])
        loss = np.abs(np.maximum(floor, offset + slope * x) - y).sum()
        return float(loss), Calibration(float(np.exp(offset)), slope, float(np.exp(floor)))

    best = min((candidate(low) for low in range(len(cells) - 1)), key=lambda pair: pair[0])[1]
    # The share over all pixels is exact.
    rest = float(np.quantile(pairs.error / _apply(best, pairs), SHARE))
    whole = Calibration(best.factor * rest, best.exponent, best.floor * rest)
    mapped = _apply(whole, pairs)
    row, image = (float(np.quantile(left / mapped, SHARE))
                  for left in (pairs.by_row, pairs.by_image))
    return replace(whole, left=(row, image))


def within(pairs: Pairs, calibration: Calibration | None = None) -> float:
    """Return the share of pixels whose error is within one deviation."""
    deviation = pairs.deviation if calibration is None else _apply(calibration, pairs)
    return float(np.mean(pairs.error <= deviation))


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return slope, within its limits, and offset of the line with the least squares."""
    spread = x - x.mean()
    square = float(spread @ spread)
    slope = min(max(float(spread @ y) / square, 0.0), _STEEPEST) if square > 0 else 0.0
    return slope, float(y.mean() - slope * x.mean())


def _apply(calibration: Calibration, pairs: Pairs) -> np.ndarray:
    """Return the calibrated relative deviations."""
    values = torch.from_numpy(pairs.deviation)
    return calibration(values, torch.ones_like(values)).numpy()
