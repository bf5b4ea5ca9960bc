"""Which head an image goes through: one that is given, the router's, or its average over time."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

# A new head must be this probable before it takes over: between 0.4 and 0.6 nothing changes.
_TAKE_OVER = 0.6
# After a gap of so many time constants the average starts again: another bag, a loop.
_FORGET_AFTER = 5.0
# Assumed between images of one stamp, of a camera that stamps all of them alike [s].
_SHORTEST_GAP = 0.01


class HeadChoice(NamedTuple):
    """
    The head of one image.

    :param probabilities: name of each head -> its probability.
    """

    head: str
    probabilities: dict[str, float]


# What picks the head of an image: the choice itself where it is known beforehand, so that the
# router need not run; else a function of the router's logits (heads,), in the model's order.
Chooser = HeadChoice | Callable[[np.ndarray], HeadChoice]


def known_choice(router: str, names: Sequence[str]) -> HeadChoice | None:
    """
    Return the choice of a head that is known beforehand: forced, or the only one; else None.

    :param router: 'auto', or the head that is forced; :param names: of the model's heads.
    """
    if len(names) > 1 and router == 'auto':
        return None
    head = names[0] if len(names) == 1 else router
    return HeadChoice(head, {name: float(name == head) for name in names})


def most_probable(logits: np.ndarray, names: Sequence[str]) -> HeadChoice:
    """
    Choose the head of an image on its own.

    :param logits: (heads,) by the router; :param names: of the heads, in the same order.
    """
    return HeadChoice(names[int(logits.argmax())], dict(zip(names, _softmax(logits).tolist())))


def known_heads(choosers: Sequence[Chooser], names: Sequence[str]) -> tuple[str, ...]:
    """
    Return the heads that images go through, or () where the router must run for one of them.

    :param choosers: of the images; :param names: of the model's heads, the order of the result.
    """
    known = {chooser.head for chooser in choosers if isinstance(chooser, HeadChoice)}
    if not all(isinstance(chooser, HeadChoice) for chooser in choosers):
        return ()
    return tuple(name for name in names if name in known)


def choose_heads(choosers: Sequence[Chooser], logits: np.ndarray | None) -> list[HeadChoice]:
    """
    Choose the head of each image.

    :param logits: (b, heads) by the router; None where all choices are known beforehand.
    """
    if logits is None:
        return [chooser for chooser in choosers if isinstance(chooser, HeadChoice)]
    return [chooser if isinstance(chooser, HeadChoice) else chooser(row)
            for chooser, row in zip(choosers, logits, strict=True)]


class HeadTracker:
    """
    Chooses the head of each frame of one camera.

    An exponential average of the logits with hysteresis; it starts again when time jumps. The
    published model decides for each frame on its own, and flickers where it is unsure.
    """

    def __init__(self) -> None:
        """Start before the first frame."""
        self._logits: np.ndarray | None = None
        self._stamp = 0.0
        self._head = 0

    def choose(self, logits: np.ndarray, names: Sequence[str], stamp: float,
               time_constant: float) -> HeadChoice:
        """
        Choose the head of a frame; the probabilities are averaged, too.

        :param logits: (heads,) of this frame by the router.
        :param names: of the heads, in the order of the logits.
        :param stamp: of the image [s].
        :param time_constant: [s]; 0 for this frame on its own.
        """
        gap = stamp - self._stamp
        # Logits of a frame on which the network failed count as undecided.
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
        return HeadChoice(names[self._head], dict(zip(names, probabilities.tolist())))


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max())
    return exponents / exponents.sum()
