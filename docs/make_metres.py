#!/usr/bin/env python3
"""
Draw the picture of docs/metres.md: errors of depth over time, without and with a 2D lidar.

Four rendered drives through rooms, each run twice by the model in the package.

    python docs/make_metres.py docs/metres.png [--textures FOLDER]
"""
from __future__ import annotations

import argparse
from pathlib import Path
import tempfile

from matplotlib import pyplot as plt
import numpy as np

from zoe_ros.bag import BagReader
from zoe_ros.command_settings import WorldSettings
from zoe_ros.headers import nanoseconds
from zoe_ros.images import decode_depth
from zoe_ros.outputs import DEPTH, SCALE
from zoe_ros.run import run
from zoe_ros.settings import RunSettings
from zoe_ros.world import record

SEEDS, FRAMES = (1, 2, 3, 4), 20
PLAIN, ANCHORED = '#c46d3e', '#28666e'


def depths(bag: Path, topic: str) -> dict[int, np.ndarray]:
    """Return the depth images of a bag: stamp [ns] -> (h, w) [m]."""
    with BagReader(bag, topic) as reader:
        messages = [item.message for item in reader]
    return {nanoseconds(m.header.stamp): decode_depth(m) for m in messages}


def scales(bag: Path) -> list[float]:
    """Return the scales in the results of a run."""
    with BagReader(bag, f'/{DEPTH}') as reader:
        return [item.message.pose.pose.position.x for item in reader.messages(
            f'/{SCALE}', 'geometry_msgs/msg/PoseWithCovarianceStamped')]


def errors(found: dict[int, np.ndarray], truth: dict[int, np.ndarray]) -> list[float]:
    """Return REL of each frame."""
    values = []
    for stamp, true in truth.items():
        ratio = found[stamp] / true
        values.append(float(np.mean(np.abs(ratio[np.isfinite(ratio)] - 1))))
    return values


def main() -> None:
    """Record, run and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('picture', type=Path)
    parser.add_argument('--textures', default='', help='folder of images for the surfaces')
    arguments = parser.parse_args()
    figure, axes = plt.subplots(1, len(SEEDS), figsize=(11, 2.8), sharey=True,
                                layout='constrained')
    for axis, seed in zip(axes, SEEDS):
        with tempfile.TemporaryDirectory() as folder:
            bag = record.record_world(WorldSettings(
                f'{folder}/drive', bag='indoor', frames=FRAMES, seed=seed,
                textures=arguments.textures))
            truth = depths(bag, record.DEPTH)
            seconds = np.arange(FRAMES) / 10
            for anchor, colour, label in (('none', PLAIN, 'the network alone'),
                                          ('scan', ANCHORED, 'anchored to the 2D lidar')):
                results = run(RunSettings(data=str(bag), anchor=anchor, output=f'{folder}/results',
                                          variant='mobile-lite', precision='fp32')) / 'bag'
                rel = errors(depths(results, f'/{DEPTH}'), truth)
                axis.plot(seconds, rel, color=colour, label=label, linewidth=2)
                print(f'drive {seed}, {label}: REL {np.mean(rel):.3f}'
                      + (f', scale {np.median(scales(results)):.2f}' if anchor != 'none' else ''))
        axis.set_title(f'drive {seed}', fontsize=10)
        axis.set_xlabel('time [s]')
    axes[0].set_ylabel('mean relative error')
    axes[0].set_ylim(bottom=0)
    axes[0].legend(frameon=False, fontsize=8)
    for axis in axes:
        axis.spines[['top', 'right']].set_visible(False)
    figure.savefig(arguments.picture, dpi=110)


if __name__ == '__main__':
    main()
