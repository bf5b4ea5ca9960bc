"""Which head an image goes through: one that is given, the router's, or its average over time."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

# A new head must be this probable before it takes over: between 0.4 and 0.6 nothing changes.
_TAKE_OVER = 0.6
# A gap in time of so many time constants starts anew: another bag, a loop, another place.
_FORGET_AFTER = 5.0
# A camera that stamps all its images alike still moves on [s].
_SHORTEST_GAP = 0.01


class Chooser(Protocol):
    """
    Chooses the head of one image.

    :ivar only: the head, where it is known beforehand: then the router is not asked.
    """

    @property
    def only(self) -> str | None:
        """Return the head, where it is known beforehand."""

    def __call__(self, logits: np.ndarray | None) -> tuple[str, dict[str, float]]:
        """
        Return the head, and the probability of each.

        :param logits: (heads,) by the router, in the model's order; None where it was not asked.
        """


class FixedHead:
    """Chooses a head that is given, with certainty."""

    def __init__(self, head: str, names: Sequence[str]) -> None:
        """Choose ``head`` of the model's ``names``."""
        self.only = head
        self._names = names

    def __call__(self, logits: np.ndarray | None) -> tuple[str, dict[str, float]]:
        """See :class:`Chooser`."""
        return self.only, {name: float(name == self.only) for name in self._names}


def known_head(router: str, names: Sequence[str]) -> FixedHead | None:
    """
    Return the choice of a head that is known beforehand: forced, or the only one; else None.

    :param router: 'auto', or the head that is forced; :param names: of the model's heads.
    """
    if len(names) == 1:
        return FixedHead(names[0], names)
    return None if router == 'auto' else FixedHead(router, names)


class LikeliestHead:
    """Chooses the router's most probable head for this image alone."""

    only = None

    def __init__(self, names: Sequence[str]) -> None:
        """Choose of the model's ``names``."""
        self._names = names

    def __call__(self, logits: np.ndarray | None) -> tuple[str, dict[str, float]]:
        """See :class:`Chooser`."""
        assert logits is not None
        return self._names[int(logits.argmax())], dict(zip(self._names, _softmax(logits).tolist()))


class TrackedHead:
    """Chooses a head by the evidence of a video up to this frame."""

    only = None

    def __init__(self, tracker: HeadTracker, names: Sequence[str], stamp: float,
                 time_constant: float) -> None:
        """Keep what :meth:`HeadTracker.choose` takes."""
        self._tracker, self._names = tracker, names
        self._stamp, self._time_constant = stamp, time_constant

    def __call__(self, logits: np.ndarray | None) -> tuple[str, dict[str, float]]:
        """See :class:`Chooser`."""
        assert logits is not None
        return self._tracker.choose(logits, self._names, self._stamp, self._time_constant)


class HeadTracker:
    """
    Chooses the head of each frame of one camera.

    An exponential average of the logits with hysteresis; it starts anew when time jumps. The
    published model decides for each frame on its own, and flickers where it is unsure.
    """

    def __init__(self) -> None:
        """Start without a memory."""
        self._logits: np.ndarray | None = None
        self._stamp = 0.0
        self._head = 0

    def choose(self, logits: np.ndarray, names: Sequence[str], stamp: float,
               time_constant: float) -> tuple[str, dict[str, float]]:
        """
        Return the head for a frame, and the averaged probability of each.

        :param logits: (heads,) of this frame by the router.
        :param names: of the heads, in the order of the logits.
        :param stamp: of the image [s].
        :param time_constant: [s]; 0 for this frame on its own.
        """
        gap = stamp - self._stamp
        # A frame that the network failed on says nothing.
        logits = np.nan_to_num(np.array(logits, np.float64), nan=0, posinf=0, neginf=0)
        if (time_constant == 0 or self._logits is None
                or not 0 <= gap <= _FORGET_AFTER * time_constant):
            self._logits = logits
            self._head = int(self._logits.argmax())
        else:
            weight = 1 - np.exp(-(gap or _SHORTEST_GAP) / time_constant)
            self._logits += weight * (logits - self._logits)
        self._stamp = stamp
        probabilities = _softmax(self._logits)
        best = int(probabilities.argmax())
        if probabilities[best] >= _TAKE_OVER:
            self._head = best
        return names[self._head], dict(zip(names, probabilities.tolist()))


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max())
    return exponents / exponents.sum()
