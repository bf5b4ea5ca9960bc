"""Depth as colour, over a fixed range that is equal for all frames."""
from __future__ import annotations

import numpy as np

# Near is warm and light, far is cold and dark. Lightness falls evenly, so that the image is clear
# in grey and for colour-blind people. Own anchors, RGB.
_ANCHORS = np.array([
    (255, 247, 188), (254, 217, 118), (253, 173, 74), (245, 122, 66), (221, 76, 84),
    (176, 46, 108), (124, 35, 118), (73, 30, 106), (30, 20, 66), (8, 8, 24)], np.float64)
NO_VALUE = (96, 96, 96)
INK, PAPER = (40, 40, 44), (250, 250, 248)       # of text around pictures
_TABLE = np.stack([
    np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, len(_ANCHORS)), channel)
    for channel in _ANCHORS.T], axis=1).round().astype(np.uint8)


def colorize(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """
    Paint depth on a logarithmic scale.

    :param depth: (...,) [m]; NaN is painted grey.
    :param near, far: [m], 0 < near < far; values outside get the colours of the ends.
    :return: (..., 3) uint8 RGB.
    """
    with np.errstate(divide='ignore', invalid='ignore'):
        level = np.log(depth / near) / np.log(far / near)
    index = np.nan_to_num(np.clip(level, 0, 1) * 255).round().astype(np.uint8)
    colors = _TABLE[index]
    colors[np.isnan(depth)] = NO_VALUE
    return colors
