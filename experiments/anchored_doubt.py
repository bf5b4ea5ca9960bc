"""
Measure what the deviation of depth of mobile-lite is worth, on held-out frames of `zoe world`.

    python experiments/anchored_doubt.py held-out/

Prints the share of true depth within one deviation, for points as of a 2D lidar and all over the
image, before and after the deviation of the anchor replaces the doubt about the scale (only images
of the right head that get a scale). Then prints REL of the most certain pixels of all images.
"""
from __future__ import annotations

from collections.abc import Iterator
import sys

import numpy as np
from tqdm import tqdm

from zoe_ros import DepthEstimator, DepthPrediction
from zoe_ros.anchor.anchor import Anchor, Scale, Source
from zoe_ros.anchor.points import ImagePoints
from zoe_ros.datasets import Dataset, Sample
from zoe_ros.datasets.open import open_datasets

HEIGHTS = 0.1, 0.3, 0.6     # of a lidar below the camera [m]
POINTS = 150                # all over the image
PIXELS = 2000               # of each image for the coverage
COVERAGES = 0.1, 0.25, 0.5, 0.75, 0.9, 1.0


def main() -> None:
    """Print both tables."""
    estimator = DepthEstimator.load('mobile-lite', precision='fp32')
    datasets = open_datasets(sys.argv[1:], 'test')
    print(f'{"domain, points":36} images before after')
    for name, shares in anchored(estimator, datasets).items():
        print(f'{name:36} {len(shares):6}', *np.mean(shares, axis=0).round(3))
    print('coverage', *COVERAGES)
    print('after   ', *covered(estimator, datasets))
    estimator.model.calibrations = {}
    print('before  ', *covered(estimator, datasets))


def anchored(estimator: DepthEstimator, datasets: list[Dataset]) -> dict[str, list[np.ndarray]]:
    """Return domain and points -> shares within one deviation of each image, before and after."""
    found: dict[str, list[np.ndarray]] = {}
    for sample, prediction, where in predictions(estimator, datasets):
        for name, points in points_of(sample).items():
            shares = within(estimator, sample, prediction, where, points)
            if shares is not None and prediction.head == sample.domain:
                found.setdefault(f'{sample.domain}, {name}', []).append(shares)
    return found


def predictions(estimator: DepthEstimator, datasets: list[Dataset]
                ) -> Iterator[tuple[Sample, DepthPrediction, np.ndarray]]:
    """Yield each image with its prediction and the flat indices of the pixels that count."""
    for dataset in datasets:
        for index in tqdm(range(len(dataset)), desc=dataset.name):
            sample = dataset[index]
            where = dataset.protocol.pick(sample.depth)
            if where.size:
                yield sample, estimator.predict(sample.image, sample.camera, deviation=True), where


def points_of(sample: Sample) -> dict[str, np.ndarray | None]:
    """Return pixels (n, 2), row and column, that sensors see; None for no sensor."""
    valid = np.argwhere(sample.valid)
    spread = np.random.default_rng(0).choice(len(valid), min(POINTS, len(valid)), replace=False)
    rows = {f'row {height} m below the camera': row(sample, height) for height in HEIGHTS}
    return {'no anchor': None, **rows, f'{POINTS} points': valid[spread]}


def row(sample: Sample, height: float) -> np.ndarray:
    """Return pixels (n, 2) where a horizontal plane below a level camera meets surfaces."""
    depth, camera = sample.depth, sample.camera
    below = depth * ((np.arange(len(depth))[:, None] - camera.cy) / camera.fy) - height
    smooth = np.abs(depth[1:] / depth[:-1] - 1) < 0.1       # no depth edge, and no lack of depth
    met = (smooth & (below[:-1] < 0) & (below[1:] >= 0))[:, ::2]
    columns = np.flatnonzero(met.any(axis=0))
    return np.stack([met[:, columns].argmax(axis=0), 2 * columns], axis=-1)


def within(estimator: DepthEstimator, sample: Sample, prediction: DepthPrediction,
           where: np.ndarray, points: np.ndarray | None) -> np.ndarray | None:
    """Return the shares within one deviation, before and after, (2,); None without a scale."""
    depth, before, after = prediction.depth, prediction.deviation, prediction.deviation
    if points is not None:
        scale = scale_by(points, sample, prediction)
        if scale.reason:
            return None
        depth, before = scale.correction.apply(depth, before)
        left = estimator.calibration(prediction.head).left_at(scale.coverage)
        after = np.hypot(left * before, scale.deviation / scale.value * depth)
    inside = np.abs(depth - sample.depth) <= np.stack([before, after])
    return inside.reshape(2, -1)[:, where].mean(axis=1)


def scale_by(points: np.ndarray, sample: Sample, prediction: DepthPrediction) -> Scale:
    """Return the scale by the true depth of pixels."""
    anchor, depth, (v, u) = Anchor(), sample.depth, points.T
    anchor.configure(sample.camera, Source('scan'))
    anchor.observe(ImagePoints(u * 1.0, v * 1.0, depth[v, u] * 1.0, depth.shape, {}), 0.0, 'scan')
    return anchor.measure(prediction.depth, prediction.head, 0.0)


def covered(estimator: DepthEstimator, datasets: list[Dataset]) -> list[float]:
    """Return REL of the most certain pixels of all images together, for each coverage."""
    random, deviations, errors = np.random.default_rng(0), [], []
    for sample, prediction, where in predictions(estimator, datasets):
        chosen = random.choice(where, PIXELS)
        depth, truth = prediction.depth.ravel()[chosen], sample.depth.ravel()[chosen]
        deviations.append(prediction.deviation.ravel()[chosen] / depth)
        errors.append(np.abs(depth / truth - 1))
    ordered = np.concatenate(errors)[np.argsort(np.concatenate(deviations), kind='stable')]
    return [ordered[:int(len(ordered) * share)].mean().round(3) for share in COVERAGES]


if __name__ == '__main__':
    main()
