"""Stamps to frames of a constant rate, as a LeRobot data set needs them."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SECOND = 1_000_000_000
# A pause that ends an episode: this long, and so many times as long as usual.
_PAUSE, _PAUSE_PERIODS = 1 * SECOND, 5
# LeRobot keeps times as float32 and refuses errors of 0.1 ms, which begin at 2048 s.
LONGEST = 1000      # [s]
# The frame after that of the image before is taken up to this distance [frames].
_SLACK = 0.75


class Place(NamedTuple):
    """
    Where an image belongs.

    :param starts: it is the first of an episode.
    :param repeats: the number of frames before it that no image was recorded for.
    """

    starts: bool
    repeats: int


class Timeline:
    """
    Gives each image its frame: the next one, or the one at its stamp if that is farther away.

    An episode starts with the first image, after a pause, after a step back in time, and after
    LONGEST.

    :ivar rate: the number of frames in a second.
    """

    def __init__(self, stamps: Sequence[int]) -> None:
        """
        Take the rate from stamps.

        :param stamps: of the first images [ns], in the order of recording.
        :raises ValueError: they do not increase.
        """
        period = float(np.median(np.diff(stamps))) if len(stamps) > 1 else SECOND
        if period <= 0:
            raise ValueError('the stamps of the images do not increase, so there is no frame '
                             'rate, which a LeRobot data set needs')
        self.rate = max(1, round(SECOND / period))
        self._pause = max(_PAUSE, _PAUSE_PERIODS * period)
        self._first = self._last = 0
        self._frame = -1        # the last one that has an image; -1: no episode yet

    def place(self, stamp: int) -> Place | None:
        """
        Return the place of an image; None if an earlier image has its frame.

        :param stamp: [ns].
        """
        exact = (stamp - self._first) * self.rate / SECOND
        # Stamps tremble: only a larger step loses or repeats an image.
        following = self._frame + 1
        frame = following if abs(exact - following) < _SLACK else round(exact)
        if (self._frame < 0 or abs(stamp - self._last) > self._pause
                or frame >= LONGEST * self.rate):
            self._first, self._last, self._frame = stamp, stamp, 0
            return Place(True, 0)
        if frame <= self._frame:
            return None
        repeats = frame - self._frame - 1
        self._last, self._frame = stamp, frame
        return Place(False, repeats)
