"""The picture of a training run."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def draw_curves(history: list[dict[str, Any]], path: Path) -> None:
    """
    Draw the losses and the metrics on held-out data over the steps.

    :param history: a dictionary for each step, with 'step', the parts of the loss, and
        metrics for the steps at which the held-out data was evaluated.
    """
    # Imported here: matplotlib is an extra, and slow to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    losses: list[str] = [name for name in ('loss', 'silog', 'routing') if name in history[0]]
    figures: list[str] = [name for name in ('REL', 'delta1', 'router accuracy')
                          if any(name in row for row in history)]
    figure = Figure(figsize=(5 * (1 + bool(figures)), 3.6), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + bool(figures), squeeze=False)[0]
    steps = np.array([row['step'] for row in history])
    for name in losses:
        values = np.array([row.get(name, np.nan) for row in history])
        axes[0].plot(steps, _smooth(values, max(1, len(values) // 100)), label=name)
    axes[0].set(xlabel='step', yscale='log', title='training loss')
    axes[0].legend()
    for name in figures:
        seen = [(row['step'], row[name]) for row in history if name in row]
        axes[1].plot(*zip(*seen), marker='.', label=name)
    if figures:
        axes[1].set(xlabel='step', ylim=(0, 1), title='held-out data')
        axes[1].legend()
    figure.savefig(path, format='png', dpi=110)


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Return the moving mean of the last ``width`` values; fewer at the start."""
    sums = np.cumsum(np.insert(values, 0, 0.0))
    first = np.maximum(np.arange(1, len(values) + 1) - width, 0)
    last = np.arange(1, len(values) + 1)
    return (sums[last] - sums[first]) / (last - first)
