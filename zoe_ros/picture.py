"""Pictures of frames: the image, its depth and its cloud side by side, with a scale in metres."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoe_ros.camera import Camera
from zoe_ros.cloud_picture import draw_cloud
from zoe_ros.colormap import colorize, INK, PAPER

GAP = 8                     # between panels [px]
_TITLE, _SCALE = 24, 48     # heights of a line of titles and of the scale [px]
_TILE = (230, 230)          # box of an image of the contact sheet [px]
_NARROW = 150               # a panel that is narrower gets a margin, for the sake of its title


@dataclass(frozen=True, eq=False)
class View:
    """
    One frame to be drawn.

    :param image: (h, w, 3) uint8 RGB.
    :param depth: (h, w) float32 [m]; what is not finite is no value.
    :param camera: of the image; None where it is not known, then there is no cloud.
    """

    image: np.ndarray
    depth: np.ndarray
    camera: Camera | None = None


def frame_row(view: View, near: float, far: float, box: tuple[int, int]) -> Image.Image:
    """
    Draw the image, its depth and, where the camera is known, its cloud from above.

    :param near, far: ends of the scale of colours [m].
    :param box: (width, height) that each panel fits into [px].
    """
    image, depth = _fit(view.image, box), _fit(colorize(view.depth, near, far), box)
    panels = [('image', image), ('depth', depth)]
    if view.camera is not None:
        # Wide enough for what a portrait or a sliver shows from above.
        size = (max(image.width, 3 * box[0] // 4), max(image.height, box[1] // 2))
        panels.append(('points, seen from above',
                       draw_cloud(view.image, view.depth, view.camera, size)))
    widths = [max(panel.width, _NARROW) for _, panel in panels]
    row = Image.new('RGB', (sum(widths) + GAP * (len(panels) - 1),
                            _TITLE + max(panel.height for _, panel in panels)), PAPER)
    draw, font, x = ImageDraw.Draw(row), _font(15), 0
    for (title, panel), width in zip(panels, widths):
        draw.text((x, 2), title, fill=INK, font=font)
        row.paste(panel, (x, _TITLE))
        x += width + GAP
    return row


def stack(rows: Sequence[Image.Image], near: float, far: float) -> Image.Image:
    """Put rows under each other on one sheet, and the scale of their colours below."""
    width = max(row.width for row in rows) + 2 * GAP
    height = sum(row.height + GAP for row in rows) + GAP + _SCALE
    sheet = Image.new('RGB', (width, height), PAPER)
    y = GAP
    for row in rows:
        sheet.paste(row, (GAP, y))
        y += row.height + GAP
    _draw_scale(sheet, near, far, top=y)
    return sheet


def _fit(pixels: np.ndarray, box: tuple[int, int]) -> Image.Image:
    """Scale (h, w, 3) pixels so that they fill a box (width, height) in one direction."""
    size = _fitting(pixels.shape[:2], box)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def _fitting(size: tuple[int, ...], box: tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) of an image of size (h, w) that fills a box in one direction."""
    height, width = size
    scale = min(box[0] / width, box[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _font(size: int) -> Any:
    """Return Pillow's own font, which has only one size before Pillow 10.1."""
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()


class RunPicture:
    """
    The picture of a run: its middle frame large, and a contact sheet of up to ``capacity`` frames.

    The frames of the sheet are evenly spaced over the run. All share one range of colours, which
    is drawn with its metres underneath.

    :ivar sheet: numbers of the frames of the sheet.
    :ivar middle: number of the large frame; without it, the last one before it is large.
    """

    def __init__(self, total: int, capacity: int = 12) -> None:
        """Plan for ``total`` frames."""
        count = min(total, capacity)
        self.sheet = frozenset(np.linspace(0, total - 1, count).round().astype(int).tolist())
        self.middle = total // 2
        self._large: View | None = None
        self._tiles: list[tuple[Image.Image, np.ndarray]] = []

    def add(self, index: int, view: View) -> None:
        """Offer frame number ``index``; what the picture needs of it is kept."""
        if self._large is None or index <= self.middle:
            self._large = view
        if index in self.sheet:
            self._tiles.append((_fit(view.image, _TILE), _shrink(view.depth, _TILE)))

    def save(self, path: Path, near: float, far: float) -> None:
        """Draw the picture over a range [m] and write it; without frames there is none."""
        if self._large is None:
            return
        if not near < far:
            near, far = 0.1, 10.0
        box = (470, 470) if self._large.camera is not None else (640, 640)
        rows = [frame_row(self._large, near, far, box)]
        if len(self._tiles) > 1:
            rows.append(self._contact_sheet(rows[0].width, near, far))
        stack(rows, near, far).save(path, 'PNG')

    def _contact_sheet(self, width: int, near: float, far: float) -> Image.Image:
        """Draw each tile above its depth, as many side by side as the width allows."""
        wide = max(photo.width for photo, _ in self._tiles)
        high = 2 * max(photo.height for photo, _ in self._tiles) + 2
        across = max(1, min(len(self._tiles), (width + GAP) // (wide + GAP)))
        down = -(-len(self._tiles) // across)
        sheet = Image.new('RGB', (across * (wide + GAP) - GAP, down * (high + GAP) - GAP), PAPER)
        for i, (photo, depth) in enumerate(self._tiles):
            x, y = (i % across) * (wide + GAP), (i // across) * (high + GAP)
            sheet.paste(photo, (x, y))
            sheet.paste(Image.fromarray(colorize(depth, near, far)), (x, y + photo.height + 2))
        return sheet


def _shrink(depth: np.ndarray, box: tuple[int, int]) -> np.ndarray:
    """Take those rows and columns of depth that fit a box (width, height)."""
    columns, rows = (np.linspace(0, have - 1, want).round().astype(int)
                     for have, want in zip(depth.shape[::-1], _fitting(depth.shape, box)))
    return depth[np.ix_(rows, columns)]


def _draw_scale(sheet: Image.Image, near: float, far: float, top: int) -> None:
    """Draw the range of colours with round numbers of metres below it."""
    draw, font = ImageDraw.Draw(sheet), _font(14)
    width = sheet.width - 2 * GAP
    ramp = colorize(np.geomspace(near, far, width), near, far)
    sheet.paste(Image.fromarray(np.repeat(ramp[None], 14, axis=0)), (GAP, top))
    right = -1.0
    for metres in _round_numbers(near, far):
        text = f'{metres:g} m'
        x = GAP + (width - 1) * np.log(metres / near) / np.log(far / near)
        half = draw.textlength(text, font=font) / 2
        if x - half < right + 12 or x - half < 0 or x + half > sheet.width:
            continue
        draw.line([(x, top + 14), (x, top + 19)], fill=INK)
        draw.text((x - half, top + 21), text, fill=INK, font=font)
        right = x + half


def _round_numbers(near: float, far: float) -> list[float]:
    decades = range(int(np.floor(np.log10(near))), int(np.ceil(np.log10(far))) + 1)
    numbers = [float(f'{m}e{d}') for d in decades for m in (1, 1.5, 2, 3, 4, 5, 6, 8)]
    return [n for n in numbers if near <= n <= far]
