"""Pairs of true and predicted depth: where the image shows the points of a sensor."""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from zoe_ros.anchor.points import ImagePoints
from zoe_ros.camera import Camera

NEAREST = 0.1           # [m]; nearer points belong to the robot itself, or to dirt on the lens
# Predicted depth of the 3 x 3 pixels around a point spans at most this ratio on one surface.
_SAME_SURFACE = 1.06
# A point is hidden by another at less than this share of its depth, within so many pixels.
_IN_FRONT = 0.85
_HIDING = 3
# A point that is farther than expected by this ratio, with a depth edge within so many pixels, is
# behind the near side of the edge: the sensor sees past that side, and the camera does not.
_BEHIND = 1.15
_BESIDE = 6
# The expected ratio holds if more than this share of the ratios is so close to it [log].
_AS_EXPECTED, _ENOUGH = 0.1, 0.3


class Pairs(NamedTuple):
    """
    True and predicted depth of the same pixels.

    :param true: (n,) [m] by the sensor; :param predicted: (n,) [m] by the network.
    :param place: (n, 2) row and column, in widths of the image.
    :param left_out: cause -> number of points without a pair.
    :param deviation: (n,) standard deviation of the log of true depth; None where that is as good
        as exact.
    """

    true: np.ndarray
    predicted: np.ndarray
    place: np.ndarray
    left_out: dict[str, int]
    deviation: np.ndarray | None = None


def project(points: np.ndarray, camera: Camera) -> ImagePoints:
    """
    Project points into the image, through the lens model of the camera.

    :param points: (n, 3) [m] in the optical frame.
    :return: the points in front of the camera that fall on the image.
    """
    x, y, z = points.T
    front = z > NEAREST
    dropped = _count({}, 'behind', z <= 0)
    _count(dropped, 'too near', (z > 0) & ~front)
    x, y, z = x[front], y[front], z[front]
    u, v = camera.project(x / z, y / z)
    with np.errstate(invalid='ignore'):
        seen = (u > -0.5) & (u < camera.width - 0.5) & (v > -0.5) & (v < camera.height - 0.5)
    _count(dropped, 'outside', ~seen)
    return ImagePoints(u[seen], v[seen], z[seen], (camera.height, camera.width), dropped)


def find_pairs(points: ImagePoints, depth: np.ndarray, expected: float | None) -> Pairs:
    """
    Read predicted depth at the points, without crossing a depth edge.

    :param depth: (h, w) [m] predicted; NaN and infinity for no value.
    :param expected: log of true over predicted depth; None: the median of the points.
    """
    height, width = depth.shape
    if points.size != depth.shape:
        nothing = np.zeros(0)
        return Pairs(nothing, nothing, np.zeros((0, 2)), {'image size': len(points.z)})
    left_out: dict[str, int] = {}
    with np.errstate(invalid='ignore'):
        inside = ((points.u > -0.5) & (points.u < width - 0.5) & (points.v > -0.5)
                  & (points.v < height - 0.5))
        near = inside & ~((points.z > NEAREST) & (points.z < np.inf))
    _count(left_out, 'outside', ~inside)
    _count(left_out, 'out of range', near)
    inside &= ~near
    z = points.z[inside]
    row, column = (np.rint(w[inside]).astype(np.int64) for w in (points.v, points.u))
    hidden = _behind_another(row, column, z, (height, width))

    around = np.sort(_window(depth, row, column, 1), axis=1)
    with np.errstate(invalid='ignore'):     # NaN is sorted to the end, and compares as False
        known = (around[:, 0] > 0) & (around[:, -1] < np.inf)
        smooth = known & (around[:, -1] <= _SAME_SURFACE * around[:, 0])
    _count(left_out, 'no prediction', ~known)
    _count(left_out, 'depth edge', known & ~smooth)
    z, row, column, hidden = z[smooth], row[smooth], column[smooth], hidden[smooth]
    predicted = around[smooth, around.shape[1] // 2].astype(np.float64)

    occluded = _occluded(z, predicted, depth, row, column, hidden, expected)
    _count(left_out, 'occluded', occluded)
    place = np.stack([row, column], axis=1)[~occluded] / width
    z = z[~occluded]
    return Pairs(z, predicted[~occluded], place, left_out,
                 points.deviation * z if points.deviation else None)


def _count(counts: dict[str, int], cause: str, mask: np.ndarray) -> dict[str, int]:
    number = int(np.count_nonzero(mask))
    if number:
        counts[cause] = counts.get(cause, 0) + number
    return counts


def _behind_another(row: np.ndarray, column: np.ndarray, z: np.ndarray,
                    size: tuple[int, int]) -> np.ndarray:
    """Tell which points have a much nearer one within a few pixels, (n,) bool."""
    nearest = np.full([n // _HIDING + 3 for n in size], np.inf)
    row, column = row // _HIDING + 1, column // _HIDING + 1
    np.minimum.at(nearest, (row, column), z)
    for image in (nearest, nearest.T):
        image[1:-1] = np.minimum(np.minimum(image[:-2], image[1:-1]), image[2:])
    return nearest[row, column] < _IN_FRONT * z


def _usual(ratio: np.ndarray, expected: float | None) -> float:
    """Return the usual log ratio of points: the expected one, if enough points agree."""
    if expected is not None and np.mean(np.abs(ratio - expected) < _AS_EXPECTED) > _ENOUGH:
        return expected
    # The scale has changed, or is not known yet.
    return float(np.median(ratio))


def _window(depth: np.ndarray, row: np.ndarray, column: np.ndarray, reach: int) -> np.ndarray:
    """Return the 3 x 3 values ``reach`` pixels apart around pixels, (n, 9); at borders fewer."""
    height, width = depth.shape
    rows = np.clip(row[:, None] + np.array([-reach, 0, reach]), 0, height - 1)
    columns = np.clip(column[:, None] + np.array([-reach, 0, reach]), 0, width - 1)
    return np.take(depth, rows[:, :, None] * width + columns[:, None, :]).reshape(len(row), 9)


def _occluded(true: np.ndarray, predicted: np.ndarray, depth: np.ndarray, row: np.ndarray,
              column: np.ndarray, hidden: np.ndarray, expected: float | None) -> np.ndarray:
    """
    Tell which points the sensor sees past something that hides them from the camera, (n,) bool.

    They are farther than expected, and beside a nearer point or the near side of a depth edge. A
    wrong return in front of good ones hides none of them, because they are where they should be.

    :param hidden: (n,) bool, a nearer point is beside.
    """
    occluded = np.zeros(len(true), bool)
    if not len(true):
        return occluded
    ratio = np.log(true) - np.log(predicted)
    farther = np.flatnonzero(ratio > _usual(ratio, expected) + math.log(_BEHIND))
    ring = _window(depth, row[farther], column[farther], _BESIDE)
    with np.errstate(invalid='ignore'):     # the sky may be infinite
        edge = (ring > _BEHIND * predicted[farther, None]).any(axis=1)
    occluded[farther] = edge | hidden[farther]
    return occluded
