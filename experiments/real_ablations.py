"""
What each part of the training of mobile-lite brings on photographs: a table in Markdown.

Each row leaves out one part. All models take the same number of steps, straight to metric depth,
and are evaluated on photographs of sources that none of them was trained with. Runs that exist are
not repeated, so several processes can train different seeds.

    python experiments/real_ablations.py work/ textures/ --photographs lab/ mosd/ --held-out boxes/
"""
from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
import json
from pathlib import Path

from make_mobile import zoe
from make_mobile_lite import repeats_of, WORLD
import numpy as np
from small_runs import SMALL_RUN, table

from zoe_ros.datasets.folders import ImageFolder
from zoe_ros.datasets.open import open_datasets
from zoe_ros.evaluate import evaluate, group_figures
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.model.config import VARIANTS
from zoe_ros.training.trainer import train


@dataclass(frozen=True)
class Parts:
    """The parts of a training; by default all of them."""

    recipe: str = 'varied'
    textures: bool = True
    encoder: bool = True
    faults: float = 0.6
    canonical: bool = True
    photographs: bool = True
    shape: float = 0.5


ALL = Parts()
ROWS = {
    'all parts': ALL,
    'encoder from random weights, not ImageNet': replace(ALL, encoder=False),
    'patterns on the surfaces, not images': replace(ALL, textures=False),
    'rooms, corridors and streets only': replace(ALL, recipe='plain'),
    'no faults of cameras': replace(ALL, faults=0.0),
    'no canonical focal length': replace(ALL, canonical=False),
    'no relative loss beside SILog': replace(ALL, shape=0.0),
    'no photographs': replace(ALL, photographs=False),
}
RANDOM_ENCODER = {'encoder_weights': '', 'encoder_factor': 1.0, 'encoder_norms': 'batch'}
# Column -> group, key of the metrics, and whether the camera is given.
COLUMNS = {
    'rooms: REL': ('room', 'REL', True), 'as is': ('room', 'REL', False),
    'aligned': ('room', 'REL aligned', True),
    'streets: REL': ('street', 'REL', True), 'as is ': ('street', 'REL', False),
    'aligned ': ('street', 'REL aligned', True),
    'right head': ('', 'router accuracy', True)}


def main() -> None:
    """Render, train and evaluate what is missing, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='for worlds and runs')
    parser.add_argument('textures', help='what experiments/fetch_textures.py has fetched')
    parser.add_argument('--photographs', nargs='+', required=True, help='RGB-D folders to train')
    parser.add_argument('--held-out', nargs='+', required=True, help='RGB-D folders to evaluate')
    parser.add_argument('--scenes', type=int, default=250, help='of each domain')
    parser.add_argument('--size', default='96x128', help='input of the network')
    parser.add_argument('--steps', type=int, default=400)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    options = parser.parse_args()
    figures = {name: [measured(name, seed, options) for seed in options.seeds] for name in ROWS}
    text = table('training', figures, COLUMNS)
    (options.folder / 'table.md').write_text(text)
    print(text)


def measured(name: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Return the figures of a row; train its model if necessary."""
    run = options.folder / f'{list(ROWS).index(name)}-seed{seed}'
    result = run / 'figures.json'
    if result.is_file():
        return dict(json.loads(result.read_text()))
    parts = ROWS[name]
    data = [world(parts, options), *(options.photographs if parts.photographs else [])]
    datasets = open_datasets(data, 'train')
    photographs = [d for d in datasets if isinstance(d, ImageFolder)]
    path = train(replace(
        SMALL_RUN, data=tuple(data), size=options.size, steps=options.steps, seed=seed,
        faults=parts.faults, shape_weight=parts.shape, repeat=tuple(repeats_of(photographs)),
        output=str(run), **({} if parts.encoder else RANDOM_ENCODER)), datasets,
        config=replace(VARIANTS['mobile-lite'], canonical_focal=parts.canonical))
    figures = evaluated(path, options.held_out)
    result.write_text(json.dumps(figures))
    return figures


def world(parts: Parts, options: argparse.Namespace) -> str:
    """Render the world of a row unless it exists; return its folder."""
    folder = options.folder / f'world-{parts.recipe}-{"images" if parts.textures else "patterns"}'
    # The last of equal options counts.
    zoe(['world', str(folder), *WORLD, '--recipe', parts.recipe, '--scenes', str(options.scenes),
         '--held-out', '1', '--workers', '1',
         *(['--textures', options.textures] if parts.textures else [])])
    return str(folder)


def evaluated(model: Path, held_out: list[str]) -> dict[str, float]:
    """Return the columns of a model."""
    estimator = DepthEstimator.load(weights=model, device='cpu', precision='fp32')
    folders = open_datasets(held_out, 'test')
    results = {given: [evaluate(estimator, folder, intrinsics=given) for folder in folders]
               for given in (True, False)}
    groups = {given: group_figures(rows) for given, rows in results.items()}
    rows = [row for result in results[True] for row in result.rows]
    return {column: groups[given][group]['model'][key] if group else
            float(np.mean([row[key] for row in rows]))
            for column, (group, key, given) in COLUMNS.items()}


if __name__ == '__main__':
    main()
