#!/usr/bin/env python3
"""
Measure how many bags zoe fleet runs in an hour, and what a thousand hours of video cost.

    python bench/fleet_cost.py 'bags/*.mcap' --price 0.10 [--workers 2] [--variant mobile-lite]

Starting Ray and loading models do not count: the time runs from the moment when as many bags are
done as there are workers. Give several bags of about the same length for each worker. The last
line is JSON.
"""
from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from zoe_ros.fleet import run_fleet
from zoe_ros.run_many import find_data
from zoe_ros.settings import RunSettings


@dataclass(frozen=True)
class Cost:
    """
    What a fleet does in an hour.

    :param frames_per_s: of all workers together.
    :param video_hours: hours of video that an hour of the fleet processes.
    :param cost: of a thousand hours of video, in the currency of the price.
    """

    bags_per_hour: float
    frames_per_s: float
    video_hours: float
    cost: float


def cost(ends: list[tuple[float, int]], workers: int, video_rate: float, price: float) -> Cost:
    """
    Return the cost from the ends of the bags.

    :param ends: when each bag was done [s], in order, and its frames.
    :param video_rate: frames of a second of video [Hz].
    :param price: of an hour of the whole fleet.
    :raises ValueError: there are too few bags to measure.
    """
    if len(ends) <= workers:
        raise ValueError(f'{len(ends)} bags for {workers} workers: give several for each')
    seconds = ends[-1][0] - ends[workers - 1][0]
    counted = ends[workers:]
    frames_per_s = sum(frames for _, frames in counted) / seconds
    return Cost(3600 * len(counted) / seconds, frames_per_s, frames_per_s / video_rate,
                1000 * video_rate / frames_per_s * price)


def ends_of(output: Path) -> list[tuple[float, int]]:
    """Return when each bag of a fleet was done [s], in order, and its frames."""
    return sorted((path.stat().st_mtime, json.loads(path.read_text())['frames'])
                  for path in output.glob('*/summary.json'))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('data', nargs='+', help='bags, patterns or @lists, as for zoe fleet')
    parser.add_argument('--price', type=float, required=True, help='of an hour of all machines')
    parser.add_argument('--video-rate', type=float, default=10, help='of the videos [Hz]')
    parser.add_argument('--workers', type=int, required=True)
    parser.add_argument('--address', default='', help='of a cluster of Ray')
    parser.add_argument('--variant', default='')
    options = parser.parse_args()
    with TemporaryDirectory(prefix='fleet_cost_') as folder:
        settings = RunSettings(output=folder, variant=options.variant)
        list(run_fleet(find_data(options.data), settings, options.workers, options.address))
        ends = ends_of(Path(folder))
    found = cost(ends, options.workers, options.video_rate, options.price)
    print('| | |\n|---|---|')
    print(f'| bags an hour | {found.bags_per_hour:.0f} |')
    print(f'| frames a second | {found.frames_per_s:.1f} |')
    print(f'| hours of video at {options.video_rate:g} Hz in an hour | {found.video_hours:.2f} |')
    print(f'| cost of 1000 hours of video | {found.cost:.2f} |')
    print(json.dumps(asdict(found)))


if __name__ == '__main__':
    main()
