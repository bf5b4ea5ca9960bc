"""
Ablations of the paper's design choices on the synthetic world: a table in Markdown.

All models learn by the recipe of mobile-lite and see the same batches; they differ in one choice.
Runs that exist are not repeated, so several processes can train different seeds.

    python experiments/ablations.py world/ runs/
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
import json
from pathlib import Path

import numpy as np
from small_runs import SMALL_RUN, table

from zoe_ros.datasets import Dataset
from zoe_ros.datasets.open import open_datasets
from zoe_ros.evaluate import evaluate, ROUTING
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.metrics import depth_metrics, mean_metrics
from zoe_ros.model.config import VARIANTS, ZoeConfig
from zoe_ros.training.trainer import train

BASE = VARIANTS['mobile-lite']


def one_head(config: ZoeConfig) -> ZoeConfig:
    """Return a model with one head for all ranges, without a router."""
    head = replace(config.metric.heads[0], name='indoor', depth_range=(1e-3, 80.0))
    return replace(config, router=None, metric=replace(config.metric, heads=(head,)))


def metric(**changes: object) -> ZoeConfig:
    """Return mobile-lite with other choices for its metric heads."""
    return replace(BASE, metric=replace(BASE.metric, **changes))  # type: ignore[arg-type]


# Row of the table -> model, and training of the router.
CHOICES: dict[str, tuple[ZoeConfig, str]] = {
    'two heads, trained router (R.2), inverse attractors, log-binomial': (BASE, 'trained'),
    'labeled router (R.1; labels at inference, too)': (BASE, 'labeled'),
    'auto router (R.3)': (BASE, 'auto'),
    'one head': (one_head(BASE), 'trained'),
    'exponential attractors': (metric(attraction='exponential'), 'trained'),
    'splitter': (metric(kind='splitter'), 'trained'),
    'one set of bins for an image (as in AdaBins)': (metric(kind='global'), 'trained'),
    'convolution, no bins': (metric(kind='convolution'), 'trained'),
    'softmax': (metric(distribution='softmax'), 'trained'),
}
COLUMNS = ('indoor REL', 'indoor delta1', 'outdoor REL', 'outdoor delta1', ROUTING)


def main() -> None:
    """Train and evaluate missing models, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('world', help='folder of zoe world')
    parser.add_argument('folder', type=Path, help='for the runs')
    parser.add_argument('--size', default='96x128', help='input of the network')
    parser.add_argument('--steps', type=int, default=400, help='of each run')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    options = parser.parse_args()
    data = open_datasets([options.world], 'train')
    held_out = open_datasets([options.world], 'test')
    rows = {name: [measured(name, seed, options, data, held_out) for seed in options.seeds]
            for name in CHOICES}
    rows['constant depth (median of the training images)'] = [constant(data, held_out)]
    text = table('choice', rows, COLUMNS)
    (options.folder / 'table.md').write_text(text)
    print(text)


def measured(name: str, seed: int, options: argparse.Namespace, data: Sequence[Dataset],
             held_out: Sequence[Dataset]) -> dict[str, float]:
    """Return the metrics of a choice; train the model if necessary."""
    run = options.folder / f'{list(CHOICES).index(name)}-seed{seed}'
    result = run / 'figures.json'
    if result.is_file():
        return dict(json.loads(result.read_text()))
    config, routing = CHOICES[name]
    path = train(replace(
        SMALL_RUN, data=(options.world,), size=options.size, steps=options.steps, seed=seed,
        routing=routing, output=str(run)), data, config=config)
    figures: dict[str, float] = {}
    for dataset in held_out:
        # 'labeled' forces the head at inference, too; a single head needs no choice.
        estimator = DepthEstimator.load(
            weights=path, device='cpu', precision='fp32',
            router=dataset.domain if routing == 'labeled' else 'auto')
        for key, value in evaluate(estimator, dataset).figures.items():
            if key in ('REL', 'delta1', ROUTING):
                figures[f'{dataset.domain} {key}'] = value
    accuracy = [value for key, value in figures.items() if key.endswith(ROUTING)]
    if accuracy:
        figures[ROUTING] = float(np.mean(accuracy))
    result.write_text(json.dumps(figures))
    return figures


def constant(data: Sequence[Dataset], held_out: Sequence[Dataset]) -> dict[str, float]:
    """Return the metrics of predicting one constant depth for all pixels."""
    figures = {}
    values = np.concatenate([dataset[i].depth[::8, ::8].ravel() for dataset in data
                             for i in range(0, len(dataset), 4)])
    middle = float(np.nanmedian(values))
    for dataset in held_out:
        truths = [dataset[i].depth for i in range(len(dataset))]
        truths = [truth[dataset.protocol.mask(truth)] for truth in truths]
        mean = mean_metrics([depth_metrics(np.full(t.shape, middle), t)
                             for t in truths if t.size])
        figures.update({f'{dataset.domain} {key}': mean[key] for key in ('REL', 'delta1')})
    return figures


if __name__ == '__main__':
    main()
