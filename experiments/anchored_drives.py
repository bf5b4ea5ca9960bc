"""
Measure what the deviation of depth is worth with a 2D lidar, on rendered drives through rooms.

    python experiments/anchored_drives.py

Renders six drives of 20 frames by `zoe world`. Prints for each drive, and for all, REL without and
with `anchor: scan`, and the share of true depth within one deviation, by a calibration without and
with the shares of the doubt that an anchor leaves.
"""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
import tempfile

import numpy as np

from zoe_ros import DepthEstimator
from zoe_ros.bag import BagReader
from zoe_ros.bag_anchor import BagAnchor
from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.command_settings import WorldSettings
from zoe_ros.datasets.bags import RecordedDepth
from zoe_ros.images import decode_depth
from zoe_ros.outputs import UNCERTAINTY
from zoe_ros.pipeline import Pipeline
from zoe_ros.settings import RunSettings
from zoe_ros.world.record import record_world

SEEDS = range(11, 17)
FRAMES = 20


def main() -> None:
    """Print the table."""
    plain = DepthEstimator.load('mobile-lite', precision='fp32')
    whole = DepthEstimator.load('mobile-lite', precision='fp32')
    whole.model.calibrations = {head: replace(found, left=None)
                                for head, found in whole.model.calibrations.items()}
    ways = (plain, 'none'), (whole, 'scan'), (plain, 'scan')
    print('seed  REL: no anchor, anchor  within one deviation: before, after')
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            drive = Path(folder) / str(seed)
            record_world(WorldSettings(str(drive), bag='indoor', frames=FRAMES, seed=seed))
            (alone, _), (_, before), (anchored, after) = (measure(drive, *way) for way in ways)
            rows.append((alone, anchored, before, after))
            print(seed, *(f'{value:.3f}' for value in rows[-1]))
    print('mean', *np.mean(rows, axis=0).round(3))


def measure(drive: Path, estimator: DepthEstimator, anchor: str) -> tuple[float, float]:
    """Return REL of a drive, and the share of its depth within one deviation."""
    settings = RunSettings(data=str(drive), anchor=anchor)
    errors, shares = [], []
    with BagReader(drive) as bag:
        robot = BagAnchor(bag, settings) if settings.follows_robot() else None
        truths = RecordedDepth.find(bag)
        pipeline = Pipeline(estimator, BAG_TYPES, settings, bag.infos, rectified=True,
                            anchor=robot and robot.anchor)
        for image in bag:
            if robot:
                robot.hear_until(image.recorded)
            frame = pipeline.process(image.message, (UNCERTAINTY,))
            truth, doubt = truths.at(image), decode_depth(frame.messages[UNCERTAINTY])
            known = np.isfinite(truth) & np.isfinite(frame.depth)
            error = np.abs(frame.depth - truth)[known]
            errors.append((error / truth[known]).mean())
            shares.append((error <= doubt[known]).mean())
    return float(np.mean(errors)), float(np.mean(shares))


if __name__ == '__main__':
    main()
