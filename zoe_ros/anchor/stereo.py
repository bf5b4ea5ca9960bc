"""
Metric points by a second camera: features of the left image, found again in the right one.

Both images are rectified, so that a point is in the same row of both. In the right image it is
farther left by the disparity, which is focal length * baseline / depth.
"""
from __future__ import annotations

import numpy as np

from zoe_ros.anchor.opencv import load_opencv
from zoe_ros.anchor.points import ImagePoints
from zoe_ros.camera import Camera

_WIDTH = 640            # features of larger images are found and matched at this width [px]
_FEATURES = 300
_APART = 8              # [px]
_LOUD = 0.005           # least quality of a feature, of that of the best
_SEARCHED = 320         # width at which rows are searched, block by block [px]
_BLOCK = 11             # side of a block [px of the search]
_NEAREST = 0.3          # [m]; sets the largest disparity
_MULTIPLE = 16          # of which OpenCV wants the number of disparities
_UNIT = 1 / 16          # of OpenCV's disparity [px]
_UNIQUE = 10            # the best block must be better than the others by so many percent
_BOTH_WAYS = 1          # disparities searched from left and from right differ by at most this
_WINDOW = (15, 15)      # of the refinement to parts of a pixel [px]
_ASTRAY = 3.0           # the refinement ends at most so far from the search [px]
_RETURN = 0.3           # the refinement back ends at most so far from the feature [px]
_MATCHED = 0.15         # least share of the features; in a wrong image 10 % match by chance
_FEWEST = 8
_MISALIGNED = 1.0       # median distance of rows from which a pair is not rectified [px]
_OFF_ROW = 1.0          # of a single match, beyond the median [px]
_FARTHEST = 2.0         # least disparity [px]
# Standard deviation of disparity by calibration and matching together [px].
_DEVIATION = 0.25


class PairError(ValueError):
    """
    A pair of images that gives no points.

    :param cause: a few words for counting.
    """

    def __init__(self, cause: str, text: str) -> None:
        """Keep the cause beside the text for people."""
        super().__init__(text)
        self.cause = cause


class StereoMatcher:
    """Finds the features of left images in right ones; it remembers no image."""

    def __init__(self) -> None:
        """
        Load OpenCV.

        :raises ValueError: it is not installed.
        """
        self._cv = load_opencv('stereo')

    def points(self, left: np.ndarray, right: np.ndarray, camera: Camera,
               baseline: float) -> ImagePoints:
        """
        Return the metric points of a left image.

        :param left, right: (h, w, 3) uint8 RGB, rectified, of one moment.
        :param camera: of the left image; :param baseline: from it to the right camera [m].
        :raises PairError: few features match, or matches are not in the same row.
        """
        scale = max(1.0, left.shape[1] / _WIDTH)
        one, other = (self._smaller(self._cv.cvtColor(image, self._cv.COLOR_RGB2GRAY), scale)
                      for image in (left, right))
        other = self._as_bright(other, one)
        focal = camera.fx / scale
        corners = self._cv.goodFeaturesToTrack(one, _FEATURES, _LOUD, _APART)
        found = np.zeros((0, 2), np.float32) if corners is None else corners[:, 0]
        start, now = self._refine(one, other, *self._search(
            one, other, found, focal * baseline / _NEAREST))
        _check(len(start), len(found))
        disparity, rows = (start - now).astype(np.float64).T
        level = _level(rows, scale)
        _check(int(level.sum()), len(found))
        near = level & (disparity > _FARTHEST)
        u, v = ((start[near] + 0.5) * scale - 0.5).astype(np.float64).T
        dropped = {'off the row': int((~level).sum()), 'far': int((level & ~near).sum())}
        return ImagePoints(u, v, focal * baseline / disparity[near],
                           (left.shape[0], left.shape[1]),
                           {cause: number for cause, number in dropped.items() if number},
                           _DEVIATION / (focal * baseline))

    def _smaller(self, image: np.ndarray, scale: float) -> np.ndarray:
        if scale == 1:
            return image
        height, width = (max(1, round(side / scale)) for side in image.shape)
        return self._cv.resize(image, (width, height), interpolation=self._cv.INTER_AREA)

    def _as_bright(self, image: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return an image with the mean and contrast of another: exposures may differ."""
        (mean,), (contrast,) = (values[0] for values in self._cv.meanStdDev(image))
        (wanted,), (spread,) = (values[0] for values in self._cv.meanStdDev(other))
        factor = spread / max(contrast, 1.0)
        return self._cv.convertScaleAbs(image, alpha=factor, beta=wanted - factor * mean)

    def _search(self, one: np.ndarray, other: np.ndarray, points: np.ndarray,
                most: float) -> tuple[np.ndarray, np.ndarray]:
        """
        Search points (n, 2) of one image along the rows of the other, to about a pixel.

        :param most: the largest disparity [px].
        :return: the points that are found, (m, 2), and where, (m, 2) [px].
        """
        scale = max(1.0, one.shape[1] / _SEARCHED)
        pair = [self._smaller(image, scale) for image in (one, other)]
        height, width = pair[0].shape
        if not len(points) or min(height, width) <= _BLOCK:
            return points[:0], points[:0]
        count = -int(-min(most / scale, width / 2) // _MULTIPLE) * _MULTIPLE
        # OpenCV leaves out as many columns on the left as there are disparities.
        pair = [self._cv.copyMakeBorder(image, 0, 0, count, 0, self._cv.BORDER_REPLICATE)
                for image in pair]
        matcher = self._cv.StereoBM_create(count, _BLOCK)
        matcher.setUniquenessRatio(_UNIQUE)
        matcher.setDisp12MaxDiff(_BOTH_WAYS)
        disparity = matcher.compute(*pair)[:, count:]
        column, row = np.rint((points + 0.5) / scale - 0.5).astype(int).clip(
            0, (width - 1, height - 1)).T
        moved = disparity[row, column].astype(np.float32) * np.float32(_UNIT * scale)
        found = moved > 0
        there = points[found]
        return there, there - np.stack([moved[found], np.zeros_like(moved[found])], axis=1)

    def _refine(self, one: np.ndarray, other: np.ndarray, points: np.ndarray,
                near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Find points (n, 2) of one image in the other, to parts of a pixel.

        :param near: about where they are, (n, 2) [px].
        :return: the points that are found there and back, (m, 2), and where, (m, 2) [px].
        """
        if not len(points):
            return points, near
        options = {'winSize': _WINDOW, 'maxLevel': 0, 'flags': self._cv.OPTFLOW_USE_INITIAL_FLOW}
        follow = self._cv.calcOpticalFlowPyrLK
        now, there, _ = follow(one, other, points[:, None], near[:, None].copy(), **options)
        again, back, _ = follow(other, one, now, points[:, None].copy(), **options)
        good = ((there[:, 0] == 1) & (back[:, 0] == 1)
                & (np.abs(now[:, 0] - near).max(axis=1) < _ASTRAY)
                & (np.linalg.norm(again[:, 0] - points, axis=1) < _RETURN))
        return points[good], now[good, 0]


def _level(rows: np.ndarray, scale: float) -> np.ndarray:
    """
    Tell which matches are in the same row, (n,) bool.

    :param rows: (n,) by which each match is off [px]; :param scale: of a pixel, for the report.
    :raises PairError: most are not.
    """
    apart = float(np.median(np.abs(rows)))
    if apart > _MISALIGNED:
        raise PairError('not rectified', 'the rows of left and right image are '
                                         f'{apart * scale:.1f} pixels apart')
    return np.abs(rows - np.median(rows)) < _OFF_ROW


def _check(matches: int, features: int) -> None:
    """
    Check that enough features match.

    :raises PairError: there are too few.
    """
    if matches < max(_FEWEST, _MATCHED * features):
        raise PairError('no match', f'{matches} of {features} features of the left image are in '
                                    'the right one')
