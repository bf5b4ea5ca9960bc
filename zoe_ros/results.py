"""What a run leaves behind: a folder, a summary of figures, and a picture to look at."""
from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import datetime
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoe_ros.colormap import colorize, INK, PAPER

# Depth is counted in bins 0.5 % wide, so that a bag of any length needs no more memory.
_NEAREST, _BIN, _BINS = 1e-3, np.log(1.005), 2800       # up to 1.1 km


def new_folder(root: Path) -> Path:
    """
    Create ``root``/<date and time>, with a number behind it if that exists.

    :raises OSError: it cannot be created.
    """
    stamp = datetime.now().strftime('%Y-%m-%d_%H-%M-%S')
    for attempt in range(1, 1000):
        folder = root / (stamp if attempt == 1 else f'{stamp}_{attempt}')
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not root.is_dir():
                raise
            continue
        return folder
    raise FileExistsError(f'no free name under {root}')


def link_latest(folder: Path) -> None:
    """
    Point the link ``latest`` beside ``folder`` at it, in one step.

    Left out where the disk knows no links or something else has that name.
    """
    new = folder.parent / f'.latest-{os.getpid()}'
    with suppress(OSError):
        new.symlink_to(folder.name)
        new.replace(folder.parent / 'latest')
    new.unlink(missing_ok=True)


class Statistics:
    """Figures over the frames of a run."""

    def __init__(self) -> None:
        """Start with no frame."""
        self.frames = 0
        self.heads: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._latency: list[float] = []
        self._histogram = np.zeros(_BINS, np.int64)
        self._pixels = 0

    def add(self, depth: np.ndarray, head: str, seconds: float) -> None:
        """Count a frame that took ``seconds`` from message to messages."""
        self.frames += 1
        self.heads[head] += 1
        self._latency.append(seconds)
        valid = depth[np.isfinite(depth)]
        bins = (np.log(valid / _NEAREST) / _BIN).clip(0, _BINS - 1).astype(np.int64)
        self._histogram += np.bincount(bins, minlength=_BINS)
        self._pixels += depth.size

    def depth_percentile(self, percent: float) -> float:
        """Return a percentile of all valid depth so far [m]; NaN without any."""
        total = self._histogram.sum()
        if total == 0:
            return float('nan')
        bin_ = int(np.searchsorted(self._histogram.cumsum(), total * percent / 100))
        return float(_NEAREST * np.exp((bin_ + 0.5) * _BIN))

    def summary(self) -> dict[str, Any]:
        """Return the figures with their units in the names, fit for JSON (None for no value)."""
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
        rounded = {key: float(f'{value:.4g}') if np.isfinite(value) else None
                   for key, value in figures.items()}
        return {'frames': self.frames, 'dropped': dict(self.dropped), **rounded,
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
    return '\n'.join(f'  {name:<18} {value}' for name, value in rows)


class ContactSheet:
    """
    A picture of up to ``capacity`` frames, evenly spaced over a run: photograph beside depth.

    All frames share one range of colours, which is drawn with its metres underneath.
    """

    def __init__(self, total: int, capacity: int = 12, width: int = 320) -> None:
        """Plan for ``total`` frames, each at most ``width`` pixels wide."""
        count = min(total, capacity)
        self._wanted = set(np.linspace(0, total - 1, count).round().astype(int).tolist())
        self._width = width if count > 1 else 2 * width
        self._tiles: list[tuple[Image.Image, np.ndarray]] = []

    def add(self, index: int, image: np.ndarray, depth: np.ndarray) -> None:
        """Offer frame number ``index``; it is taken if it belongs on the sheet."""
        if index not in self._wanted:
            return
        height, width = depth.shape
        scale = min(1.0, self._width / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        rows = np.linspace(0, height - 1, size[1]).round().astype(int)
        columns = np.linspace(0, width - 1, size[0]).round().astype(int)
        self._tiles.append((Image.fromarray(image).resize(size), depth[np.ix_(rows, columns)]))

    def save(self, path: Path, near: float, far: float) -> None:
        """Draw the sheet over the range ``near`` to ``far`` [m]; without frames there is none."""
        if not self._tiles:
            return
        if not near < far:
            near, far = 0.1, 10.0
        across = 1 if len(self._tiles) == 1 else 2
        down = -(-len(self._tiles) // across)
        gap = 8
        tile_w = max(photo.width for photo, _ in self._tiles)
        tile_h = max(photo.height for photo, _ in self._tiles)
        pair_w = 2 * tile_w + gap // 2
        width = across * pair_w + (across + 1) * gap
        sheet = Image.new('RGB', (width, down * (tile_h + gap) + gap + 44), PAPER)
        for i, (photo, depth) in enumerate(self._tiles):
            x = gap + (i % across) * (pair_w + gap)
            y = gap + (i // across) * (tile_h + gap)
            sheet.paste(photo, (x, y))
            sheet.paste(Image.fromarray(colorize(depth, near, far)), (x + tile_w + gap // 2, y))
        _draw_scale(sheet, near, far, top=sheet.height - 44, margin=gap)
        sheet.save(path)


def _draw_scale(sheet: Image.Image, near: float, far: float, top: int, margin: int) -> None:
    """Draw the range of colours with round numbers of metres below it."""
    draw = ImageDraw.Draw(sheet)
    width = sheet.width - 2 * margin
    ramp = colorize(np.geomspace(near, far, width), near, far)
    sheet.paste(Image.fromarray(np.repeat(ramp[None], 14, axis=0)), (margin, top))
    font = ImageFont.load_default()
    right = -1.0
    for metres in _round_numbers(near, far):
        text = f'{metres:g} m'
        x = margin + (width - 1) * np.log(metres / near) / np.log(far / near)
        half = draw.textlength(text, font=font) / 2
        if x - half < right + 10 or x - half < 0 or x + half > sheet.width:
            continue
        draw.line([(x, top + 14), (x, top + 19)], fill=INK)
        draw.text((x - half, top + 22), text, fill=INK, font=font)
        right = x + half


def _round_numbers(near: float, far: float) -> list[float]:
    decades = range(int(np.floor(np.log10(near))), int(np.ceil(np.log10(far))) + 1)
    numbers = [float(f'{m}e{d}') for d in decades for m in (1, 1.5, 2, 3, 4, 5, 6, 8)]
    return [n for n in numbers if near <= n <= far]
