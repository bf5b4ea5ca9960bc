"""The picture of an evaluation: image, truth, prediction and error of some samples."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoe_ros.colormap import colorize, INK, PAPER
from zoe_ros.datasets import Sample

_WORST = 0.3        # relative error at the end of the scale
_SPARSE = 0.3       # share of pixels with depth, below which each of them is drawn larger
_REACH = 2          # by how many pixels to each side
_HEIGHT, _WIDTH, _GAP, _LINE = 150, 200, 6, 16      # [px]


@dataclass(frozen=True, eq=False)
class Row:
    """
    A sample in the picture.

    :param depth: (h, w) predicted [m].
    :param near, far: ends of the scale of truth and prediction [m], near < far.
    :param caption: what the sample stands for.
    """

    sample: Sample
    depth: np.ndarray
    near: float
    far: float
    caption: str


def draw(rows: Sequence[Row]) -> Image.Image:
    """Draw a line for each sample; truth and prediction of a sample have the same scale."""
    step = _LINE + _HEIGHT + _GAP
    sheet = Image.new('RGB', (4 * (_WIDTH + _GAP) + _GAP, _LINE + _GAP + len(rows) * step), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for column, title in enumerate((
            'image', 'truth', 'prediction', f'error / truth, 0 ... {_WORST:.0%}')):
        pen.text((_GAP + column * (_WIDTH + _GAP), 5), title, INK, font)
    for number, row in enumerate(rows):
        top = _LINE + _GAP + number * step
        text = f'{row.caption}; {row.near:.2g} ... {row.far:.2g} m'
        # The font of older versions of Pillow has few letters, and fails on others.
        pen.text((_GAP, top), text.encode('ascii', 'replace').decode(), INK, font)
        truth = _enlarge(row.sample.depth)
        for column, pixels in enumerate((
                row.sample.image, colorize(truth, row.near, row.far),
                colorize(row.depth, row.near, row.far),
                _grey(np.abs(row.depth - truth) / truth / _WORST))):
            tile = Image.fromarray(pixels).resize((_WIDTH, _HEIGHT), Image.Resampling.BILINEAR)
            sheet.paste(tile, (_GAP + column * (_WIDTH + _GAP), top + _LINE))
    return sheet


def _enlarge(depth: np.ndarray) -> np.ndarray:
    """Return depth (h, w) [m] with larger points, if it is sparse like that of a lidar."""
    if np.isfinite(depth).mean() > _SPARSE:
        return depth
    height, width = depth.shape
    padded = np.pad(depth, _REACH, constant_values=np.nan)
    shifts = range(2 * _REACH + 1)
    # The nearest of several points: it hides the others.
    return np.fmin.reduce([padded[y:y + height, x:x + width] for y in shifts for x in shifts])


def _grey(values: np.ndarray) -> np.ndarray:
    """Return (h, w, 3) uint8, white at 0 and black at 1; grey-blue for NaN."""
    shade = (255 * (1 - np.clip(np.nan_to_num(values), 0, 1))).astype(np.uint8)
    return np.where(np.isfinite(values)[..., None], shade[..., None],
                    np.array((190, 200, 215), np.uint8))
