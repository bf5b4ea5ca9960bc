"""The sky in a panorama: the trees, houses and hills that it also shows are none."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np

from zoe_ros.world.photos import Photo, Pyramid

_WIDTH = 512            # of the map at most [px]
# Of square roots of linear light:
_EDGE = 0.08            # difference within 3 x 3 pixels that is no sky
_RED = 0.02             # redder than blue by this, the light is no sky,
_WHITE = 0.85           # unless all colours have this
_ZENITH = 2             # rows that are the zenith
_LEAST = 0.15           # of the upper half: less is the lamp of a room, or gaps between leaves


def sky_map(panorama: Photo) -> Photo:
    """Return a photo in the place of a panorama that is 1 in the sky and 0 elsewhere."""
    return replace(panorama, pyramid=_map(panorama.pyramid), gain=np.ones(3, np.float32),
                   limit=1.0)


@lru_cache(64)
def _map(panorama: Pyramid) -> Pyramid:
    level = next(k for k, (_, width) in enumerate(panorama.sizes) if width <= _WIDTH)
    (height, width), start = panorama.sizes[level], panorama.offsets[level]
    root = panorama.values[start:start + height * width].reshape(height, width, 3) / 255
    sky = find_sky(root)
    return Pyramid(np.repeat(255 * sky.reshape(-1, 1).astype(np.uint8), 3, axis=1), (0,),
                   ((height, width),), panorama.seamless, np.full(3, sky.mean(), np.float32))


def find_sky(root: np.ndarray) -> np.ndarray:
    """
    Return the sky of a panorama, (h, w) bool; nothing if there is too little to be sure.

    The sky is what even, bluish or white light connects with the zenith, and what it encloses:
    clouds, stars and the sun. The edges of the rest are left to the rest.

    :param root: (h, w, 3), square roots of linear RGB in [0, 1]; the horizon is in the middle.
    """
    light = root.mean(axis=-1)
    row = np.arange(len(root))[:, None]
    above = np.broadcast_to(row < len(root) // 2, light.shape)
    even = _around(light, np.maximum) - _around(light, np.minimum) < _EDGE
    colour = (root[..., 0] - root[..., 2] < _RED) | (root.min(axis=-1) > _WHITE)
    # One pixel is given back: evenness of 3 x 3 pixels ends before the edge itself.
    open_sky = _spread(_grow(even & colour & above, row < _ZENITH)) & above
    sky = ~_grow(~open_sky, ~above)
    return sky if sky.mean() > _LEAST / 2 else np.zeros_like(sky)


def _grow(where: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return the pixels of a map that are connected with seeds."""
    found, before = where & seeds, -1
    while found.sum() != before:
        before = found.sum()
        found = _spread(found) & where
    return found


def _spread(found: np.ndarray) -> np.ndarray:
    """Return a map with the four neighbours of its pixels; columns are a whole turn."""
    more = found | np.roll(found, 1, 1) | np.roll(found, -1, 1)
    more[1:] |= found[:-1]
    more[:-1] |= found[1:]
    return more


def _around(values: np.ndarray, extreme: Callable[..., np.ndarray]) -> np.ndarray:
    """Return the extreme of the 3 x 3 neighbourhood of each pixel."""
    high = np.pad(values, ((1, 1), (0, 0)), 'edge')
    values = extreme(extreme(high[:-2], high[2:]), values)
    return extreme(extreme(np.roll(values, 1, 1), np.roll(values, -1, 1)), values)
