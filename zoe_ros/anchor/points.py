"""
Sparse metric points of laser scans, clouds and sparse depth images.

Damaged data never raises an error here, because one bad message must not stop a robot: bad values
are dropped, and each cause is counted.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# More points than this cost time and hardly improve one number; they are thinned evenly.
_MOST = 4000
_FARTHEST = 1000.0      # [m]; larger coordinates come from damaged data
_MILLIMETRE = 1e-3
_BEYOND = 65535         # of 16UC1: all that is farther
# No point is measured so long before or after the stamp of its message; the slowest lidars turn
# five times a second [s].
_LONGEST = 0.5


class SensorPoints(NamedTuple):
    """
    Points in the frame of their sensor.

    :param xyz: (n, 3) float64 [m], finite.
    :param dropped: cause -> number of values that were left out.
    :param times: (n,) float64 [s], when each point was measured, after the stamp of the message;
        None if all were at the stamp.
    """

    xyz: np.ndarray
    dropped: dict[str, int]
    times: np.ndarray | None = None


class ImagePoints(NamedTuple):
    """
    Points in the image of the camera.

    :param u, v: (n,) float64 [px]; :param z: (n,) float64 [m] along the optical axis.
    :param size: (height, width) of the image [px].
    :param dropped: cause -> number of values that were left out.
    :param deviation: standard deviation of 1/z [1/m], which triangulation has: that of z grows
        with its square. 0 where z is as good as exact.
    """

    u: np.ndarray
    v: np.ndarray
    z: np.ndarray
    size: tuple[int, int]
    dropped: dict[str, int]
    deviation: float = 0.0


def from_scan(ranges: Any, angle_min: float, angle_increment: float, range_min: float,
              range_max: float, time_increment: float = 0.0) -> SensorPoints:
    """
    Return the points of a sensor_msgs/LaserScan, in the plane z = 0 of its frame.

    :param ranges: (n,) [m]; REP 117: infinity for no return, NaN for an error.
    :param angle_min, angle_increment: [rad]; :param range_min, range_max: [m].
    :param time_increment: from ray to ray [s]. One that is negative, not finite or too long is
        counted, and the scan is taken as of one moment.
    """
    found = _numbers(ranges)
    if found is None or found.ndim != 1:
        return SensorPoints(np.zeros((0, 3)), {'malformed': 1})
    dropped: dict[str, int] = {}
    limits = _numbers([angle_min, angle_increment, range_min, range_max])
    if limits is None or not np.isfinite(limits[:2]).all():
        return SensorPoints(np.zeros((0, 3)), _counted('angles', found.size))
    first, step, low, high = limits
    with np.errstate(invalid='ignore', over='ignore'):
        masks = {'nan': np.isnan(found), 'infinite': np.isinf(found)}
        # A range_max of NaN leaves nothing: a scan without limits is not trusted.
        masks['out of range'] = ~(masks['nan'] | masks['infinite']) & ~(
            (found >= low) & (found <= high) & (found > 0) & (found < _FARTHEST))
        keep = ~(masks['nan'] | masks['infinite'] | masks['out of range'])
        for cause, mask in masks.items():
            dropped |= _counted(cause, int(mask.sum()))
        index = _thinned(np.flatnonzero(keep), dropped)
        # Whole turns are removed first, so that absurd angles cannot overflow.
        angle = np.fmod(first + step * index, 2 * np.pi)
    usable = np.isfinite(angle)
    dropped |= _counted('angles', int((~usable).sum()))
    index, angle = index[usable], angle[usable]
    r, times = found[index], None
    if 0 < time_increment <= _LONGEST / max(found.size, 1):
        times = time_increment * index
    elif time_increment != 0:
        dropped['times'] = 1
    return SensorPoints(
        np.stack([r * np.cos(angle), r * np.sin(angle), np.zeros(len(r))], axis=1), dropped,
        times)


def from_cloud(xyz: Any, times: np.ndarray | None = None) -> SensorPoints:
    """
    Return the points of a cloud.

    :param xyz: (..., 3 or more) [m]; further columns, such as the intensity, are ignored.
    :param times: of all points, see :class:`SensorPoints`. If one of a point that is kept is not
        plausible, this is counted, and the cloud is taken as of one moment.
    """
    found = _numbers(xyz)
    if found is None or found.ndim < 2 or found.shape[-1] < 3:
        return SensorPoints(np.zeros((0, 3)), {'malformed': 1})
    points = found[..., :3].reshape(-1, 3)
    finite = np.isfinite(points).all(axis=1)
    with np.errstate(invalid='ignore'):
        near = (np.abs(points) < _FARTHEST).all(axis=1)
    # Drivers write zeros for rays without a return.
    returned = points.any(axis=1)
    dropped: dict[str, int] = {}
    dropped |= _counted('nan or infinite', int((~finite).sum()))
    dropped |= _counted('out of range', int((finite & ~near).sum()))
    dropped |= _counted('no return', int((finite & ~returned).sum()))
    index = _thinned(np.flatnonzero(finite & near & returned), dropped)
    return SensorPoints(points[index], dropped,
                        None if times is None else _plausible(times[index], dropped))


def from_depth(depth: Any) -> ImagePoints:
    """
    Return the pixels with depth of a sparse depth image that is registered to the camera.

    :param depth: (h, w), uint16 [mm] where 0 and 65535 are no value (REP 118), or floating-point
        [m].
    """
    image = np.asarray(depth) if hasattr(depth, 'dtype') else None
    found = None if image is None else _numbers(image)
    if image is None or found is None or found.ndim != 2 or image.dtype.kind not in 'uf':
        return ImagePoints(np.zeros(0), np.zeros(0), np.zeros(0), (0, 0), {'malformed': 1})
    if image.dtype.kind == 'u':
        found = np.where(found < _BEYOND, found * _MILLIMETRE, np.nan)
    with np.errstate(invalid='ignore'):
        good = (found > 0) & (found < _FARTHEST)
        # Most pixels of a sparse image have no value, which is no error.
        bad = (found < 0) | (found >= _FARTHEST)
    dropped = _counted('out of range', int(bad.sum()))
    at = _thinned(np.flatnonzero(good), dropped)
    height, width = found.shape
    v, u = np.divmod(at, max(width, 1))
    return ImagePoints(u.astype(np.float64), v.astype(np.float64), found.ravel()[at],
                       (height, width), dropped)


def _numbers(values: Any) -> np.ndarray | None:
    """Return values as float64, or None where they are no numbers."""
    try:
        found = np.asarray(values)
        return found.astype(np.float64) if found.dtype.kind in 'fiu' else None
    except (TypeError, ValueError, OverflowError):
        return None


def _plausible(times: np.ndarray, dropped: dict[str, int]) -> np.ndarray | None:
    """Return times of points [s] if a lidar can have them; else None, which is counted."""
    if (np.abs(times) <= _LONGEST).all():
        return times
    dropped['times'] = 1
    return None


def _counted(cause: str, count: int) -> dict[str, int]:
    return {cause: count} if count else {}


def _thinned(index: np.ndarray, dropped: dict[str, int]) -> np.ndarray:
    """Return evenly chosen entries, at most _MOST; count the others."""
    stride = -(-len(index) // _MOST)
    if stride <= 1:
        return index
    dropped['thinned'] = len(index) - len(index[::stride])
    return index[::stride]
