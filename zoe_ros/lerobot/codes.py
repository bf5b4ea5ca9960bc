"""
Depth as 12-bit codes, which LeRobot stores in videos without loss.

Equal steps of the logarithm of depth, so that the largest rounding error is the same share of the
depth everywhere: half a step is 0.085 %.
"""
from __future__ import annotations

import numpy as np

NEAREST, FARTHEST = 0.1, 100.0      # [m], depth of the first and the last code
LAST = (1 << 12) - 1
# The code of a pixel without depth. LeRobot has no such code and reads it as NEAREST.
NO_DEPTH = 0

_STEP = np.log(FARTHEST / NEAREST) / LAST


def to_codes(depth: np.ndarray) -> np.ndarray:
    """
    Return (h, w) uint16 codes of depth.

    Depth outside of the range gets the nearest code of a depth, +Inf the last one.

    :param depth: (h, w) float32 [m]; NaN and -Inf are pixels without depth.
    """
    known = depth > 0
    with np.errstate(invalid='ignore', divide='ignore'):
        steps = np.log(np.where(known, depth, NEAREST) / NEAREST) / _STEP
    codes = np.rint(steps).clip(NO_DEPTH + 1, LAST).astype(np.uint16)
    return np.where(known, codes, np.uint16(NO_DEPTH))


def from_codes(codes: np.ndarray) -> np.ndarray:
    """Return (h, w) float32 depth [m] of codes, as LeRobot reads them."""
    return (NEAREST * np.exp(_STEP * codes)).astype(np.float32)
