"""
Fit the rule of zoe_ros/sky.py to worlds of `zoe world`, or measure `sky: 'inf'`.

    python experiments/sky_rule.py fit calibration/             # prints BIAS and WEIGHTS
    python experiments/sky_rule.py measure held-out/ real/      # worlds, and RGB-D folders

The fit is a logistic regression on outdoor frames. The bias is that of a precision of 98 % in
these frames, because bright facades cost up to three percent in other scenes. Pixels that show
neither the sky nor a surface with depth (trees of a panorama, for example) are left out of fit,
precision and recall; the table has the share of them that is marked.
"""
from __future__ import annotations

import argparse
from collections.abc import Iterable

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.datasets import Dataset, Sample
from zoe_ros.datasets.open import open_datasets
from zoe_ros.datasets.world import WorldDataset
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.pipeline import Pipeline
from zoe_ros.settings import FrameSettings
from zoe_ros.sky import BIAS, terms, WEIGHTS

PRECISION = 0.98
DARK, BLUE = 120, 8     # mean light of a sky, and blue minus red, in values of 8 bits
DECAY = 1e-4            # of the weights


def main() -> None:
    """Fit or measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=('fit', 'measure'))
    parser.add_argument('data', nargs='+')
    parser.add_argument('--variant', default='mobile-lite')
    options = parser.parse_args()
    estimator = DepthEstimator.load(options.variant, precision='fp32')
    datasets = open_datasets(options.data, 'test')
    if options.what == 'measure':
        print(table(datasets, estimator))
        return
    bias, weights = fit(estimator, [dataset for dataset in datasets
                                    if isinstance(dataset, WorldDataset)
                                    and dataset.domain == 'outdoor'])
    names = ('depth', 'contrast', 'roughness', 'row', 'blue')
    print('was', BIAS, dict(zip(names, WEIGHTS)))
    print('is ', round(bias, 2), dict(zip(names, (round(float(weight), 2) for weight in weights))))


def fit(estimator: DepthEstimator, worlds: Iterable[WorldDataset]) -> tuple[float, np.ndarray]:
    """Return bias and weights, (n,)."""
    frames = [frame for world in worlds for frame in values_of(estimator, world)]
    values, is_sky = (torch.cat(part) for part in zip(*frames))
    mean, spread = values.mean(dim=0), values.std(dim=0)
    weights = torch.zeros(values.shape[1] + 1, requires_grad=True)
    search = torch.optim.LBFGS([weights], max_iter=200, line_search_fn='strong_wolfe')

    def loss() -> torch.Tensor:
        search.zero_grad()
        odds = (values - mean) / spread @ weights[1:] + weights[0]
        found = F.binary_cross_entropy_with_logits(odds, is_sky)
        found = found + DECAY * weights[1:].square().sum()
        found.backward()
        return found

    search.step(loss)
    chosen = weights.detach()[1:] / spread
    return -threshold((values @ chosen).numpy(), is_sky.numpy()), chosen.numpy()


def threshold(odds: np.ndarray, is_sky: np.ndarray) -> float:
    """Return the lowest odds above which at least ``PRECISION`` of the pixels are sky."""
    order = np.argsort(-odds)
    precision = np.cumsum(is_sky[order]) / np.arange(1, len(odds) + 1)
    return float(odds[order[np.flatnonzero(precision >= PRECISION)[-1]]])


@torch.inference_mode()
def values_of(estimator: DepthEstimator, world: WorldDataset
              ) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    """Yield terms (n, terms) and share of sky (n,) of the pixels of each frame that are known."""
    for index in tqdm(range(len(world)), desc=world.name):
        sample, sky = world[index], torch.from_numpy(world.sky(index))
        prediction = estimator.predict(sample.image, sample.camera)
        if prediction.head != 'outdoor':
            continue
        pixels = torch.from_numpy(sample.image).permute(2, 0, 1) / 127.5 - 1
        known = sky | torch.from_numpy(sample.valid)
        whole = F.avg_pool2d(torch.stack([sky, known]).float()[None], 2)[0]
        values = torch.stack(terms(pixels, torch.from_numpy(prediction.depth)), dim=-1)
        yield values[whole[1] == 1], whole[0][whole[1] == 1]


def table(datasets: Iterable[Dataset], estimator: DepthEstimator) -> str:
    """Return a table with a line for each kind of frames."""
    counts: dict[str, list[np.ndarray]] = {}
    for dataset in datasets:
        for kind, count in measure(estimator, dataset):
            counts.setdefault(f'{dataset.name} {kind}', []).append(count)
    lines = [f'{"frames":40} number  precision  recall  marked where nothing is known  false sky']
    return '\n'.join([*lines, *(line(name, np.array(counts[name])) for name in sorted(counts))])


def measure(estimator: DepthEstimator, dataset: Dataset) -> Iterable[tuple[str, np.ndarray]]:
    """Yield kinds of each frame with its numbers of pixels: of each class marked, and in all."""
    pipeline = Pipeline(estimator, BAG_TYPES, FrameSettings(sky='inf'), CameraInfoBuffer(),
                        rectified=False)
    for index in tqdm(range(len(dataset)), desc=dataset.name):
        sample = dataset[index]
        found = np.isposinf(pipeline.predict_image(sample.image, sample.camera)[0])
        sky = dataset.sky(index) if isinstance(dataset, WorldDataset) else np.zeros_like(found)
        classes = np.stack([sky, sample.valid, ~sample.valid & ~sky])
        count = np.stack([(classes & found).sum(axis=(1, 2)), classes.sum(axis=(1, 2))])
        yield from ((kind, count) for kind in kinds_of(sample, sky))


def kinds_of(sample: Sample, sky: np.ndarray) -> list[str]:
    """Return the names of the groups to which a frame belongs."""
    kinds = ['all']
    if sky.any():
        red, _, blue = sample.image[sky].mean(axis=0)
        light = sample.image[sky].mean()
        kinds += ['with a dark sky' if light < DARK else 'with a blue sky'
                  if blue - red > BLUE else 'with a grey or warm sky', sample.name.split('-')[-1]]
    return kinds


def line(name: str, counts: np.ndarray) -> str:
    """Return a line of the table; ``counts`` are those of frames, (n, 2, 3)."""
    (true, false, unsure), (sky, depth, unknown) = counts.sum(axis=0)

    def share(part: int, whole: int) -> str:
        return f'{100 * part / whole:.2f} %' if whole else '-'

    return (f'{name:40} {len(counts):6}  {share(true, (true + false) * bool(sky)):>9} '
            f'{share(true, sky):>8} {share(unsure, unknown):>29} {share(false, depth):>10}')


if __name__ == '__main__':
    main()
