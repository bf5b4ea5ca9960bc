"""The results of a run: a folder, and a summary."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
import os
from pathlib import Path
from typing import Any

import numpy as np

from zoe_ros.metrics import depth_metrics, mean_metrics

# Depth is counted in bins 0.5 % wide, so that memory does not grow with the length of a bag.
_NEAREST, _BIN, _BINS = 1e-3, np.log(1.005), 2800       # up to 1.1 km


def check_output(root: Path) -> None:
    """
    Check that a folder is at a path or can be made there, before the work for it begins.

    :raises OSError: it cannot.
    """
    place = next(place for place in (root, *root.absolute().parents) if os.path.lexists(place))
    if not place.is_dir():
        raise NotADirectoryError(
            f'{root} cannot be the folder of the results: it is a file, or below one')
    if not os.access(place, os.W_OK):
        raise PermissionError(f'{root} cannot be written: choose a folder of your own')


def new_folder(root: Path) -> Path:
    """
    Create ``root``/<date and time>, with a number appended if the folder exists.

    :raises OSError: the folder cannot be created.
    """
    check_output(root)
    stamp = datetime.now().strftime('%Y-%m-%d_%H-%M-%S')
    for attempt in range(1, 1000):
        folder = root / (stamp if attempt == 1 else f'{stamp}_{attempt}')
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f'no free name under {root}')


def link_latest(folder: Path) -> None:
    """
    Atomically point the link ``latest`` in the parent folder at ``folder``.

    No link is made if the disk does not support links, or if a file has that name.
    """
    new = folder.parent / f'.latest-{os.getpid()}'
    new.unlink(missing_ok=True)     # of a process with this number that was killed
    with suppress(OSError):
        new.symlink_to(folder.name)
        new.replace(folder.parent / 'latest')
    new.unlink(missing_ok=True)


def told_apart(names: Sequence[str]) -> list[str]:
    """Return the names of data with a number behind each that was there before."""
    return [name if name not in names[:place] else f'{name} ({names[:place].count(name) + 1})'
            for place, name in enumerate(names)]


class Statistics:
    """Statistics over the frames of a run."""

    def __init__(self) -> None:
        """Start without frames."""
        self.frames = 0
        self.heads: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._latency: list[float] = []
        self._histogram = np.zeros(_BINS, np.int64)
        self._pixels = 0
        self._errors: list[dict[str, float]] = []

    def add(self, depth: np.ndarray, head: str, seconds: float) -> None:
        """Count a frame that took ``seconds`` from the input to the output messages."""
        self.frames += 1
        self.heads[head] += 1
        self._latency.append(seconds)
        valid = depth[np.isfinite(depth)]
        bins = (np.log(valid / _NEAREST) / _BIN).clip(0, _BINS - 1).astype(np.int64)
        self._histogram += np.bincount(bins, minlength=_BINS)
        self._pixels += depth.size

    def compare(self, depth: np.ndarray, truth: np.ndarray) -> None:
        """
        Compare a frame with true depth of the same size, at pixels where both are valid.

        :param depth, truth: (h, w) float32 [m].
        """
        if depth.shape != truth.shape:
            return
        both = np.isfinite(depth) & np.isfinite(truth)
        if both.any():
            self._errors.append(depth_metrics(depth[both], truth[both]))

    def as_record(self) -> dict[str, Any]:
        """Return what was counted of frames, but not of dropped images, for JSON."""
        bins = np.flatnonzero(self._histogram)
        return {'heads': dict(self.heads), 'latency': self._latency, 'pixels': self._pixels,
                'bins': bins.tolist(), 'counts': self._histogram[bins].tolist(),
                'errors': self._errors}

    def add_record(self, record: dict[str, Any]) -> None:
        """Count the frames of :meth:`as_record` of other statistics, after those so far."""
        self.frames += len(record['latency'])
        self.heads.update(record['heads'])
        self._latency += record['latency']
        self._pixels += record['pixels']
        self._histogram[record['bins']] += record['counts']
        self._errors += record['errors']

    def depth_percentile(self, percent: float) -> float:
        """Return a percentile of all valid depth so far [m]; NaN without any."""
        total = self._histogram.sum()
        if total == 0:
            return float('nan')
        bin_ = int(np.searchsorted(self._histogram.cumsum(), total * percent / 100))
        return float(_NEAREST * np.exp((bin_ + 0.5) * _BIN))

    def summary(self) -> dict[str, Any]:
        """Return the statistics for JSON, with units in the names; None for no value."""
        latency = self._latency or [float('nan')]
        valid = int(self._histogram.sum())
        figures = {
            'rate_hz': len(latency) / sum(latency),
            'latency_p50_ms': 1e3 * float(np.percentile(latency, 50)),
            'latency_p95_ms': 1e3 * float(np.percentile(latency, 95)),
            'depth_p5_m': self.depth_percentile(5),
            'depth_p50_m': self.depth_percentile(50),
            'depth_p95_m': self.depth_percentile(95),
            'share_without_depth': 1 - valid / self._pixels if self._pixels else float('nan'),
        }
        if self._errors:
            mean = mean_metrics(self._errors)
            figures |= {'error_rel': mean['REL'], 'error_delta1': mean['delta1']}
        rounded = {key: float(f'{value:.4g}') if np.isfinite(value) else None
                   for key, value in figures.items()}
        compared = {'frames_compared': len(self._errors)} if self._errors else {}
        return {'frames': self.frames, 'dropped': dict(self.dropped), **rounded, **compared,
                'frames_per_head': dict(self.heads)}


def table(summary: dict[str, Any]) -> str:
    """Return a summary as a table for people."""
    def number(key: str, pattern: str = '{:.3g}') -> str:
        return '-' if summary[key] is None else pattern.format(summary[key])

    dropped = ', '.join(f'{n} ({cause})' for cause, n in sorted(summary['dropped'].items()))
    heads = ', '.join(f'{n} {head}' for head, n in sorted(summary['frames_per_head'].items()))
    rows = [
        ('frames', f'{summary["frames"]}' + (f', dropped {dropped}' if dropped else '')),
        ('rate', number('rate_hz') + ' frames/s'),
        ('latency p50 / p95',
         f'{number("latency_p50_ms", "{:.0f}")} / {number("latency_p95_ms", "{:.0f}")} ms'),
        ('depth p5 - p95', f'{number("depth_p5_m")} - {number("depth_p95_m")} m'),
        ('without depth', number('share_without_depth', '{:.1%}')),
        ('frames per head', heads or '-'),
    ]
    if 'frames_compared' in summary:
        rows.append(('REL / delta1', f'{number("error_rel")} / {number("error_delta1")} against '
                     f"the bag's own depth of {summary['frames_compared']} frames"))
    return '\n'.join(f'  {name:<18} {value}' for name, value in rows)
