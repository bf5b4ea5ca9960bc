"""What a scale does to depth: the same arithmetic for arrays of numpy and tensors of torch."""
from __future__ import annotations

from typing import Any, NamedTuple

# Depth is an array or a tensor.
Depth = Any


class Correction(NamedTuple):
    """
    A factor on depth and, if its shift is not 0, a shift of disparity within a range of depths.

    Numbers, or tensors of one number each.

    :param factor: the scale.
    :param shift: [1/m]: 1/z = 1/q + shift (1 - centre/q), where q is depth after the factor.
    :param centre: depth that the shift leaves alone [m].
    :param low, high: range of q beyond which the shift is not extrapolated [m].
    :param left: share of the deviation of depth that the scale does not remove.
    :param doubt: relative deviation of the scale; 0 where the deviation of depth includes it.
    """

    factor: Any = 1.0
    shift: Any = 0.0
    centre: Any = 1.0
    low: Any = 1.0
    high: Any = 1.0
    left: Any = 1.0
    doubt: Any = 0.0

    def after(self, factor: float) -> Correction:
        """Return the correction of depth that lacks a factor."""
        return self._replace(factor=factor * self.factor)

    def apply(self, depth: Depth, deviation: Depth | None) -> tuple[Depth, Depth]:
        """
        Return depth and its deviation at the scale, without the doubt about the scale itself.

        :param depth: [m]; :param deviation: [m] of the same shape, or None. Neither is changed.
        """
        scaled = depth * self.factor
        spread = None if deviation is None else deviation * self.factor
        if isinstance(self.shift, float) and not self.shift:
            return scaled, spread
        # A recorded graph has room for a shift, whether there is one or not.
        divisor = (scaled.clip(self.low, self.high) - self.centre) * self.shift + 1
        return scaled / divisor, None if spread is None else spread / divisor


NOTHING = Correction()
