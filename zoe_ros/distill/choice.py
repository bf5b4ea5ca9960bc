"""Which frames of a video are worth a label: those that differ from the last labelled one."""
from __future__ import annotations

import numpy as np
from PIL import Image

_SIZE = (32, 24)        # (width, height) of the images that are compared [px]
_LEAST_CONTRAST = 5.0   # grey levels; below this an image holds mostly noise


class FrameChooser:
    """Chooses the frames of one video, in their order."""

    def __init__(self, difference: float) -> None:
        """
        Start before the first frame, which is always chosen.

        :param difference: least difference from the last chosen frame, see :func:`difference`.
        """
        self._least = difference
        self._last: np.ndarray | None = None

    def takes(self, image: np.ndarray) -> bool:
        """Tell whether a frame (h, w, 3) uint8 RGB is chosen."""
        small = _small_grey(image)
        if self._last is not None and difference(self._last, small) < self._least:
            return False
        self._last = small
        return True


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """
    Return the mean absolute difference of two grey images (h, w) in units of their contrast.

    A change of exposure alone is no difference, because brightness and contrast are normalised.
    """
    return float(np.abs(_standard(first) - _standard(second)).mean())


def _standard(grey: np.ndarray) -> np.ndarray:
    return (grey - grey.mean()) / max(float(grey.std()), _LEAST_CONTRAST)


def _small_grey(image: np.ndarray) -> np.ndarray:
    small = Image.fromarray(image).convert('L').resize(_SIZE, Image.Resampling.BOX)
    return np.asarray(small, np.float32)
