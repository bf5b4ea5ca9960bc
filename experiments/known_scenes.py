"""
Compare mobile-lite in scenes of its training with new ones, by how near the scenes are.

    zoe world world/ $WORLD --scenes 120 --held-out 120
    python experiments/known_scenes.py world/

$WORLD stands for `--recipe varied --textures textures/ --frames 3 --seed 7`. Frames and seed are
those of experiments/make_mobile_lite.py: the model has learnt from these frames of the training.
With `--frames 1` they are other frames of the same scenes. "Scaled" is REL after a factor for each
image that makes the medians equal, "too far" what that factor takes away.
"""
from __future__ import annotations

import sys

import numpy as np

from zoe_ros import DepthEstimator
from zoe_ros.datasets import Dataset
from zoe_ros.datasets.open import open_datasets
from zoe_ros.metrics import depth_metrics, shape_metrics

RANGES = (0, 1), (1, 2), (2, 4), (4, 8), (8, 100)   # of the median of true depth [m]
FEWEST = 4                                          # images of a range that is shown


def main() -> None:
    """Print the table."""
    estimator = DepthEstimator.load('mobile-lite', precision='fp32')
    print(f'{"scenes":32} images   REL  scaled too far')
    for split in ('train', 'test'):
        for dataset in open_datasets(sys.argv[1:], split):
            images = measure(estimator, dataset)
            tell(f'{split} {dataset.name}', images)
            for near, far in RANGES:
                chosen = images[(near <= images[:, 0]) & (images[:, 0] < far)]
                if len(chosen) >= FEWEST:
                    tell(f'    median {near} to {far} m', chosen)


def measure(estimator: DepthEstimator, dataset: Dataset) -> np.ndarray:
    """Return median of true depth [m], REL, REL after scaling, log of the factor, (images, 4)."""
    images = []
    for index in range(len(dataset)):
        sample = dataset[index]
        where = dataset.protocol.pick(sample.depth)
        if where.size:
            truth = sample.depth.ravel()[where]
            depth = estimator.predict(sample.image, sample.camera).depth.ravel()[where]
            images.append((
                np.median(truth), depth_metrics(depth, truth)['REL'],
                shape_metrics(depth, truth)['REL scaled'],
                np.log(np.median(depth) / np.median(truth))))
    return np.array(images)


def tell(name: str, images: np.ndarray) -> None:
    """Print a line of the table."""
    _, rel, scaled, factor = images.mean(axis=0)
    print(f'{name:32} {len(images):6} {rel:.3f}   {scaled:.3f}  {np.expm1(factor):+6.1%}')


if __name__ == '__main__':
    main()
