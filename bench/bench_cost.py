#!/usr/bin/env python3
"""
Measure the time of a frame over the resolution of the network and the number of cameras.

Calls `zoe bench` for each case, prints a table in Markdown and, with --plot, draws a picture.

    python bench/bench_cost.py [--variant mobile] [--frames 20] [--plot docs/cost.png]
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
import json
from pathlib import Path
from typing import Any

from zoe_ros.benchmark import bench
from zoe_ros.command_settings import BenchSettings

SIZES = ('96x128', '192x256', '288x384', '384x512', '480x640')
BATCHES = (1, 2, 4, 8)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--variant', default='mobile')
    parser.add_argument('--precision', default='fp32')
    parser.add_argument('--frames', type=int, default=20, help='of each measurement')
    parser.add_argument('--plot', type=Path, help='file of a picture')
    options = parser.parse_args()

    def facts(**choice: Any) -> dict[str, Any]:
        return dict(json.loads(bench(BenchSettings(
            variant=options.variant, precision=options.precision, frames=options.frames,
            **choice))[-1]))

    sizes = {size: facts(size=size) for size in SIZES}
    batches = {batch: facts(batch=batch) for batch in BATCHES}
    print('| network input | a frame [ms] | GFLOP |\n|---|---|---|')
    for size, row in sizes.items():
        print(f'| {size.replace("x", " x ")} | {row["p50_ms"]:.0f} | {row["gflop"]:.1f} |')
    print('\n| cameras | all of them [ms] | each [ms] |\n|---|---|---|')
    for batch, row in batches.items():
        print(f'| {batch} | {row["p50_ms"]:.0f} | {row["p50_ms"] / batch:.0f} |')
    if options.plot:
        plot(list(sizes.values()), list(batches.values()), options.plot)


def plot(sizes: Sequence[dict[str, Any]], batches: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the time over the resolution and over the number of cameras."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout='constrained')
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    pixels = [row['size'][0] * row['size'][1] / 1000 for row in sizes]
    times = [row['p50_ms'] for row in sizes]
    left.plot(pixels, times, marker='o')
    left.set(xlim=(0, 1.25 * max(pixels)), ylim=(0, 1.1 * max(times)),
             xlabel='network input [thousand pixels]', ylabel='latency per frame [ms]',
             title=f'one camera ({sizes[0]["variant"]}, {sizes[0]["precision"]})')
    for x, y, row in zip(pixels, times, sizes):
        left.annotate('{} x {}'.format(*row['size']), (x, y), (6, -12),
                      textcoords='offset points', fontsize='small')
    counts = [row['batch'] for row in batches]
    shares = [row['p50_ms'] / row['batch'] for row in batches]
    right.plot(counts, shares, marker='o')
    right.set(xlim=(0, None), ylim=(0, 1.1 * max(shares)), xticks=counts,
              xlabel='cameras in one batch', ylabel='latency per camera [ms]',
              title='several cameras, {} x {} each'.format(*batches[0]['size']))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == '__main__':
    main()
