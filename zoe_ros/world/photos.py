"""Photographs as textures: a folder of images, filtered to the footprint of a pixel."""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from zoe_ros.datasets import DatasetError
from zoe_ros.errors import first_line

SUFFIXES = ('.jpg', '.jpeg', '.png')
SIDE = 512              # of the finest level [px], at most
SKY_SIDE = 2048
# What a folder without images of a use takes instead; at last the images of no use.
_INSTEAD = {'ceiling': 'wall', 'facade': 'wall', 'roof': 'wall', 'paving': 'road',
            'road': 'ground', 'bark': 'wood', 'leaves': 'ground', 'object': 'wood',
            'metal': 'object', 'picture': 'object', 'fabric': 'floor', 'wood': 'floor'}
USES = ('sky', 'wall', 'floor', 'ground', *_INSTEAD)


@dataclass(frozen=True, eq=False)
class Pyramid:
    """
    An image at half the size again and again, down to one pixel.

    :param values: (n, 3) uint8, the square root of linear RGB, of all levels.
    :param offsets: of each level in ``values``.
    :param sizes: (height, width) of each level, powers of two.
    :param seamless: the image continues at its opposite edge.
    """

    values: np.ndarray
    offsets: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    seamless: bool
    mean: np.ndarray

    def at(self, x: np.ndarray, y: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """
        Return the colour at points, (n, 3) float32 linear RGB.

        :param x, y: in widths and heights of the image; the image repeats.
        :param footprint: the size of a pixel, in widths of the image.
        """
        level = np.rint(np.log2(np.maximum(footprint * self.sizes[0][1], 1.0))).astype(np.int64)
        level = np.minimum(level, len(self.sizes) - 1)
        height, width = np.array(self.sizes, np.int32)[level].T
        offset = np.array(self.offsets, np.int64)[level]
        u = (x * width - 0.5).astype(np.float32)
        v = (y * height - 0.5).astype(np.float32)
        i, j = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
        part_u, part_v = (u - i)[:, None], (v - j)[:, None]
        left, right = self._wrap(i, width), self._wrap(i + 1, width)
        upper, lower = (offset + self._wrap(k, height) * width for k in (j, j + 1))
        top = self._mix(upper + left, upper + right, part_u)
        bottom = self._mix(lower + left, lower + right, part_u)
        root = (top + (bottom - top) * part_v) / np.float32(255)
        return root * root

    def _mix(self, a: np.ndarray, b: np.ndarray, part: np.ndarray) -> np.ndarray:
        one = self.values[a].astype(np.float32)
        return one + (self.values[b] - one) * part

    def _wrap(self, i: np.ndarray, count: np.ndarray) -> np.ndarray:
        """Repeat a seamless image; mirror others, so that no edge is seen."""
        if self.seamless:
            return i & (count - 1)
        i = i & (2 * count - 1)
        return np.minimum(i, 2 * count - 1 - i)


@dataclass(frozen=True, eq=False)
class Photo:
    """
    A photograph on a surface.

    :param width: of one image on the surface [m].
    :param gain: (3,) by which the colours are multiplied.
    :param strength: of the differences from the mean colour.
    :param shift: of the image along x and y, in widths and heights.
    :param limit: of the result; no surface reflects all light.
    """

    pyramid: Pyramid
    width: float
    gain: np.ndarray
    strength: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    limit: float = 0.9

    def color(self, u: np.ndarray, v: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """Return the albedo at points of a surface [m], (n, 3)."""
        height, width = self.pyramid.sizes[0]
        x = u / self.width + self.shift[0]
        y = self.shift[1] - v * (width / height) / self.width   # v grows upwards, rows downwards
        shown, mean = self.pyramid.at(x, y, footprint / self.width), self.pyramid.mean
        shown = mean + (shown - mean) * np.float32(self.strength)
        return (shown * self.gain).clip(0.005, self.limit)


class Photos:
    """The images of a folder, by use: the names of its sub-folders, or for any use."""

    def __init__(self, folder: str | Path) -> None:
        """
        List the images.

        :raises DatasetError: there are none, or a file is no image.
        """
        root = Path(folder).expanduser()
        paths = sorted(path for path in root.rglob('*') if path.suffix.lower() in SUFFIXES)
        if not paths:
            raise DatasetError(f'{root} holds no textures: no {", ".join(SUFFIXES)} in it')
        self._paths: dict[str, list[Path]] = {}
        digest = hashlib.sha256()
        for path in paths:
            use = path.relative_to(root).parts[0]
            self._paths.setdefault(use if use in USES else '', []).append(path)
            try:
                with Image.open(path) as image:
                    size = image.size
            except (OSError, ValueError) as error:
                raise DatasetError(f'{path} is no image: {first_line(error)}') from None
            digest.update(f'{path.relative_to(root)} {size} {path.stat().st_size}\n'.encode())
        self.fingerprint = digest.hexdigest()[:16]

    def draw(self, use: str, rng: np.random.Generator) -> Pyramid | None:
        """Return a random image for a use, or None if the folder has none."""
        name: str | None = use
        while name is not None and name not in self._paths:
            name = _INSTEAD.get(name)
        paths = self._paths.get(name or '', [])
        if not paths or (use == 'sky' and name != 'sky'):
            return None
        return read_pyramid(paths[int(rng.integers(len(paths)))],
                            SKY_SIDE if use == 'sky' else SIDE)


@lru_cache(1024)
def read_pyramid(path: Path, side: int = SIDE) -> Pyramid:
    """
    Read an image; a transparent part takes the mean colour of the rest.

    :raises DatasetError: the file is no image.
    """
    try:
        with Image.open(path) as image:
            image = image.convert('RGBA')
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path} is no image: {first_line(error)}') from None
    size = tuple(min(side, 1 << round(np.log2(max(n, 1)))) for n in image.size)
    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS), np.float32) / 255
    solid = pixels[..., 3:]
    light = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)[..., :3]
    mean = (light * solid).sum(axis=(0, 1)) / max(float(solid.sum()), 1.0)
    light = light * solid + mean * (1 - solid)
    levels, offsets, sizes = [], [0], []
    seamless = _seamless(light)
    while True:
        levels.append(np.rint(255 * np.sqrt(light)).astype(np.uint8).reshape(-1, 3))
        sizes.append((light.shape[0], light.shape[1]))
        if light.shape[:2] == (1, 1):
            return Pyramid(np.concatenate(levels), tuple(offsets), tuple(sizes), seamless,
                           mean.astype(np.float32))
        offsets.append(offsets[-1] + len(levels[-1]))
        light = _halve(light)


def _halve(light: np.ndarray) -> np.ndarray:
    """Return the means of pairs of rows and columns; a single row or column stays."""
    for axis in (0, 1):
        n = light.shape[axis]
        if n > 1:
            even, odd = (np.take(light, range(k, n, 2), axis) for k in (0, 1))
            light = (even + odd) / 2
    return light


def _seamless(light: np.ndarray) -> bool:
    """Tell whether opposite edges differ about as little as neighbouring rows and columns do."""
    def jump(axis: int) -> bool:
        lines = np.moveaxis(np.sqrt(light), axis, 0)
        inside = np.abs(np.diff(lines, axis=0)).mean()
        return float(np.abs(lines[0] - lines[-1]).mean()) < 2.0 * float(inside) + 0.01
    return jump(0) and jump(1)
