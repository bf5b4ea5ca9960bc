"""Which head a video goes through: the router's evidence, averaged over time."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# A new head must be this probable before it takes over: between 0.4 and 0.6 nothing changes.
_TAKE_OVER = 0.6
# A gap in time of so many time constants starts anew: another bag, a loop, another place.
_FORGET_AFTER = 5.0
# A camera that stamps all its images alike still moves on [s].
_SHORTEST_GAP = 0.01


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
