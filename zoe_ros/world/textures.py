"""Procedural textures in metres: the colour of a surface at a point, filtered to a footprint."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from zoe_ros.world.photos import Photo

Color = tuple[float, float, float]
_NOISE = 512            # pixels of a period of the noise


@dataclass(frozen=True, eq=False)
class Material:
    """
    The texture of a surface.

    :param pattern: a name in ``PATTERNS``.
    :param color, second: albedo, linear RGB; the pattern decides where the second appears.
    :param size: of the pattern along u and v [m].
    :param contrast: strength of the variation from place to place.
    :param shift: of each row of bricks or planks, as a fraction of their length; -1: random.
    :param joint: width of the joint between tiles, bricks or planks [m].
    :param glow: light given off, as a multiple of ``color``.
    :param seed: moves the noise, so that no two materials look alike.
    :param use: what the surface is, which tells the photographs that fit, as in
        :data:`zoe_ros.world.photos.USES`.
    :param photo: takes the place of the pattern; of a facade's wall, between the windows.
    """

    pattern: str
    color: Color
    second: Color = (0.0, 0.0, 0.0)
    size: tuple[float, float] = (1.0, 1.0)
    contrast: float = 0.1
    shift: float = 0.0
    joint: float = 0.0
    glow: float = 0.0
    seed: int = 0
    use: str = 'object'
    photo: Photo | None = None


def paint(color: Color, contrast: float = 0.05, seed: int = 0, use: str = 'object') -> Material:
    """Return a plain, slightly uneven surface."""
    return Material('plain', color, contrast=contrast, seed=seed, size=(1.5, 1.5), use=use)


def lamp(color: Color, glow: float) -> Material:
    """Return a surface that gives off light."""
    return Material('plain', color, contrast=0.0, glow=glow)


@cache
def _pyramid() -> tuple[np.ndarray, np.ndarray]:
    """Return noise of mean 0 and variance 1 with a 1/f spectrum, at 10 scales; and offsets."""
    rng = np.random.default_rng(0)
    frequency = np.fft.fftfreq(_NOISE)
    radius = np.hypot(frequency[:, None], frequency[None]) * _NOISE
    spectrum = np.fft.fft2(rng.normal(size=(_NOISE, _NOISE))) / np.maximum(radius, 2.0) ** 1.1
    spectrum[0, 0] = 0
    level = np.fft.ifft2(spectrum).real
    level = (level / level.std()).clip(-2.5, 2.5)
    levels, offsets = [], [0]
    while True:
        levels.append(level.ravel())
        offsets.append(offsets[-1] + level.size)
        if len(level) == 1:
            return np.concatenate(levels).astype(np.float32), np.array(offsets)
        level = level.reshape(len(level) // 2, 2, -1, 2).mean(axis=(1, 3))


def noise(u: np.ndarray, v: np.ndarray, period: float, footprint: np.ndarray,
          seed: int) -> np.ndarray:
    """Return noise of mean 0 that repeats after ``period`` [m], filtered to a footprint [m]."""
    values, offsets = _pyramid()
    texels = _NOISE / period
    level = np.log2(np.maximum(footprint * texels, 1.0)).astype(np.int64)
    level = np.minimum(level, len(offsets) - 2)
    side = _NOISE >> level
    scale = (side / period).astype(np.float32)
    i = np.floor(u * scale).astype(np.int64) + (seed * 7919) % 4096
    j = np.floor(v * scale).astype(np.int64) + (seed * 104729) % 4096
    return values[offsets[level] + (i & (side - 1)) * side + (j & (side - 1))]


def chance(i: np.ndarray, j: np.ndarray, seed: int) -> np.ndarray:
    """Return a random number in [0, 1) for each cell (i, j)."""
    x = (i.astype(np.int64) * 73856093 ^ j.astype(np.int64) * 19349663 ^ seed * 83492791)
    x = x.astype(np.uint32)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return (x >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24)


def band(distance: np.ndarray, half: float | np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Return the fraction of a footprint within ``half`` of a line that is ``distance`` away."""
    low = np.maximum(distance - footprint / 2, -half)
    high = np.minimum(distance + footprint / 2, half)
    return np.maximum(high - low, 0) / footprint


def _mix(a: Color, b: Color, part: np.ndarray) -> np.ndarray:
    a_, b_ = np.asarray(a, np.float32), np.asarray(b, np.float32)
    return a_ + (b_ - a_) * part[:, None]


def _plain(m: Material, u: np.ndarray, v: np.ndarray, f: np.ndarray) -> np.ndarray:
    color = np.asarray(m.color, np.float32)
    if not m.contrast:
        return np.broadcast_to(color, (len(u), 3))
    return color * (1 + m.contrast * noise(u, v, m.size[0], f, m.seed))[:, None]


def _mottled(m: Material, u: np.ndarray, v: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Two colours mixed by coarse noise, and fine grain: carpet, grass, asphalt, leaves."""
    part = (0.5 + 0.35 * noise(u, v, m.size[0], f, m.seed)).clip(0, 1)
    grain = noise(v, u, m.size[1], f, m.seed + 1)
    return _mix(m.color, m.second, part) * (1 + m.contrast * grain)[:, None]


def _bond(m: Material, u: np.ndarray, v: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Tiles, bricks or planks, ``size`` long and high, with joints of the second colour."""
    length, height = m.size
    y = v / height
    row = np.floor(y)
    shift = chance(row, row, m.seed) if m.shift < 0 else (row * m.shift) % 1
    x = u / length + shift
    column = np.floor(x)
    du = np.abs(x - column - 0.5) - 0.5      # 0 at the joint, -0.5 in the middle
    dv = np.abs(y - row - 0.5) - 0.5
    joint = np.maximum(band(du * length, m.joint / 2, np.minimum(f, length)),
                       band(dv * height, m.joint / 2, np.minimum(f, height)))
    fade = np.minimum(1, height / f)
    piece = (chance(row, column, m.seed + 1) - 0.5) * fade
    grain = noise(u * (0.15 if m.shift < 0 else 1), v, 1.0, f, m.seed)
    shade = 1 + m.contrast * (2 * piece + 0.4 * grain)
    return _mix(m.color, m.second, joint) * shade[:, None]


def _stripes(m: Material, u: np.ndarray, v: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Stripes along v of the second colour, ``size`` [m]: period and width."""
    period, width = m.size
    x = u / period
    part = band((np.abs(x - np.floor(x) - 0.5)) * period, width / 2, np.minimum(f, period))
    return _mix(m.color, m.second, part) * (1 + m.contrast * noise(u, v, 1.0, f, m.seed))[:, None]


def _checker(m: Material, u: np.ndarray, v: np.ndarray, f: np.ndarray) -> np.ndarray:
    odd = (np.floor(u / m.size[0]) + np.floor(v / m.size[1])) % 2
    part = 0.5 + (odd - 0.5) * np.clip(m.size[0] / f - 1, 0, 1)
    return _mix(m.color, m.second, part) * (1 + m.contrast * noise(u, v, 1.0, f, m.seed))[:, None]


def _picture(m: Material, u: np.ndarray, v: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Random colours around the two given: posters, screens, the view of a window."""
    period = 3 * m.size[0]
    rows = [noise(u, v, period, f, m.seed + k) for k in range(3)]
    part = (v / m.size[1] + 0.2 * rows[0]).clip(0, 1)
    spread = np.stack(rows, axis=-1) * m.contrast
    return (_mix(m.color, m.second, part) * (1 + spread)).clip(0.01, 0.95)


def _spines(m: Material, u: np.ndarray, v: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Backs of books, ``size[0]`` wide on average, up to ``size[1]`` high."""
    x = u / m.size[0]
    x = x + 0.45 * np.sin(x * 2.1 + m.seed)
    cell = np.floor(x)
    hue = np.stack([chance(cell, cell * 0 + k, m.seed) for k in range(3)], axis=-1)
    fade = np.minimum(1, m.size[0] / f)[:, None]
    color = 0.04 + 0.5 * (hue * fade + 0.5 * (1 - fade)) ** 2
    gap = np.maximum(band(np.abs(x - cell - 0.5) * m.size[0] - m.size[0] / 2, 0.002, f),
                     v > m.size[1] * (0.7 + 0.3 * chance(cell, cell + 9, m.seed)))
    return color * (1 - 0.9 * gap)[:, None]


def _facade(m: Material, u: np.ndarray, v: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Windows of 1.1 x 1.5 m in a cell of ``size``: their spacing and the height of a storey."""
    red, green, blue = m.color
    if m.photo is not None:
        wall = m.photo.color(u, v, f)
    elif m.shift:
        wall = _bond(m, u, v, f)
    else:
        wall = _mottled(Material('mottled', m.color, (0.9 * red, 0.9 * green, 0.9 * blue),
                                 (8.0, 0.5), 0.03, seed=m.seed), u, v, f)
    spacing, storey = m.size
    i, j = np.floor(u / spacing), np.floor(v / storey)
    x, y = u - (i + 0.5) * spacing, v - j * storey - 1.65
    half_x, half_y = 0.3 * min(spacing, 2.2), 0.75
    frame = np.minimum(band(x, half_x + 0.08, f), band(y, half_y + 0.08, f))
    cross = np.minimum(band(np.abs(x), 0.03, f) + band(np.abs(y - 0.3), 0.03, f), 1)
    glass = np.minimum(band(x, half_x, f), band(y, half_y, f)) * (1 - cross)
    each = chance(i, j, m.seed)
    pane = _mix((0.03, 0.04, 0.05), (0.35, 0.42, 0.5),
                (0.25 + 0.5 * each + 0.3 * y / storey
                 + 0.1 * noise(u, v, 6, f, m.seed)).clip(0, 1))
    curtain = (each > 0.7) & (np.abs(x) > half_x * 0.45)
    pane = np.where(curtain[:, None], np.float32(0.45) * (0.7 + 0.6 * each[:, None]), pane)
    color = wall + (np.asarray(m.second, np.float32) - wall) * frame[:, None]
    return color + (pane - color) * glass[:, None]


PATTERNS: dict[str, Callable[[Material, np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    'plain': _plain, 'mottled': _mottled, 'bond': _bond, 'stripes': _stripes,
    'checker': _checker, 'picture': _picture, 'spines': _spines, 'facade': _facade}


def albedo(materials: list[Material], number: np.ndarray, u: np.ndarray, v: np.ndarray,
           footprint: np.ndarray) -> np.ndarray:
    """
    Return the colour of surfaces at points.

    :param number: (n,) of the material of each point.
    :param u, v, footprint: (n,) [m]; a footprint is the size of a pixel on the surface.
    :return: (n, 3) float32, linear RGB.
    """
    color = np.empty((len(number), 3), np.float32)
    order = np.argsort(number, kind='stable')
    ends = np.searchsorted(number[order], np.arange(len(materials) + 1))
    for material, start, end in zip(materials, ends[:-1], ends[1:]):
        if start < end:
            at = order[start:end]
            if material.photo is not None and material.pattern != 'facade':
                color[at] = material.photo.color(u[at], v[at], footprint[at])
            else:
                color[at] = PATTERNS[material.pattern](material, u[at], v[at], footprint[at])
    return color
