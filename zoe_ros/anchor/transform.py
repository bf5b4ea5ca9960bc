"""Rigid transforms between the frames of sensors and cameras."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np

# Quaternions that were rounded to three digits differ from unit length by less than this.
_LENGTH = 0.01
# No robot is farther from anything; larger numbers come from damaged messages [m].
_FARTHEST = 1e9


@dataclass(frozen=True, eq=False)
class Transform:
    """
    Takes points of one frame into another: ``rotation @ point + translation``.

    :param rotation: (3, 3); :param translation: (3,) [m].
    """

    rotation: np.ndarray
    translation: np.ndarray

    @staticmethod
    def from_numbers(values: Sequence[float]) -> Transform:
        """
        Return the transform of x y z [m] and a quaternion qx qy qz qw, as TF states it.

        :raises ValueError: these are not seven finite numbers, the place is beyond all sense, or
            the quaternion has no unit length.
        """
        numbers = np.asarray(values, np.float64)
        if numbers.shape != (7,) or not np.isfinite(numbers).all():
            raise ValueError('a transform is seven finite numbers, x y z qx qy qz qw, not '
                             + ' '.join(f'{v:g}' for v in numbers.ravel()))
        if np.abs(numbers[:3]).max() > _FARTHEST:
            raise ValueError('the translation ({:g} {:g} {:g}) of a transform is not within '
                             '{:g} m'.format(*numbers[:3], _FARTHEST))
        length = math.hypot(*numbers[3:])
        if abs(length - 1) > _LENGTH:
            raise ValueError('the quaternion (qx qy qz qw) = ({:g} {:g} {:g} {:g}) of a transform '
                             'has length {:g} instead of 1'.format(*numbers[3:], length))
        return Transform(_rotation(*(numbers[3:] / length)), numbers[:3])

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Take points (n, 3) [m] into the other frame."""
        return points @ self.rotation.T + self.translation

    def after(self, first: Transform) -> Transform:
        """Return the transform that does ``first``, then this one."""
        return Transform(self.rotation @ first.rotation, self(first.translation[None])[0])

    def inverse(self) -> Transform:
        """Return the transform back."""
        return Transform(self.rotation.T, -self.rotation.T @ self.translation)


IDENTITY = Transform(np.eye(3), np.zeros(3))


def _rotation(x: float, y: float, z: float, w: float) -> np.ndarray:
    """Return the (3, 3) rotation of a unit quaternion."""
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])
