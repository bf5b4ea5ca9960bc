"""
Metric points without a range sensor: features of a video, triangulated with known motion.

A feature is followed from the image in which it was found. The way between the two places of the
camera, by odometry, is the base of a triangle. Where the camera stands still or only turns there
is no triangle, and so no point.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zoe_ros.anchor.opencv import load_opencv
from zoe_ros.anchor.points import ImagePoints
from zoe_ros.anchor.transform import Transform
from zoe_ros.camera import Camera

# Takes points of the camera's frame at one stamp [s] into its frame at another; None if unknown.
ExactMotion = Callable[[float, float], Transform | None]

_WIDTH = 640            # larger images are tracked at this width [px]
_FEATURES = 300
_FEWER = 200            # features are added when fewer are followed
_APART = 10             # [px]
_WINDOW = (15, 15)      # [px]
_BACK = 0.7             # a feature followed forth and back ends at most so far from its start [px]
# Features are located to about half a pixel, so this parallax gives depth to 8 %.
_PARALLAX = 6.0         # [px]
_MISFIT = 1.5           # distance of a triangulated point from its feature [px]
_OLDEST = 5.0           # odometry drifts, so features are forgotten after so long [s]
_GAP = 1.0              # time between images after which nothing is followed [s]
# A slower camera stands or turns: its images tell nothing new, whatever moves in them [m/s].
_STANDING = 0.02
_LOUD = 0.005           # least quality of a feature, of that of the best


@dataclass
class _Tracks:
    """
    Features in the last image, each row one of them.

    :param start: (n, 2) u, v where each was found; :param now: (n, 2) where each is [px].
    :param since: (n,) stamp of the image in which each was found [s].
    """

    start: np.ndarray
    now: np.ndarray
    since: np.ndarray

    def take(self, which: np.ndarray) -> _Tracks:
        """Return some of the tracks."""
        return _Tracks(self.start[which], self.now[which], self.since[which])


class FeatureTracker:
    """
    Follows features from image to image and triangulates them.

    :ivar reason: why the last image has no points: a few words for counting, and details; empty
        if it has points.
    """

    def __init__(self) -> None:
        """
        Start before the first image.

        :raises ValueError: OpenCV is not installed.
        """
        self._cv = load_opencv('odometry')
        self.reason = '', ''
        self._gray: np.ndarray | None = None
        self._camera: Camera | None = None
        self._stamp = 0.0
        self._tracks = _nothing()

    def points(self, image: np.ndarray, camera: Camera, stamp: float,
               motion: ExactMotion) -> ImagePoints:
        """
        Return the metric points of an image; the next call must bring the next image.

        :param image: (h, w, 3) uint8 RGB; :param stamp: [s].
        """
        scale = max(1.0, image.shape[1] / _WIDTH)
        gray = self._cv.cvtColor(image, self._cv.COLOR_RGB2GRAY)
        if scale > 1:
            size = (round(image.shape[1] / scale), round(image.shape[0] / scale))
            gray = self._cv.resize(gray, size, interpolation=self._cv.INTER_AREA)
        before, last, seen_by = self._gray, self._stamp, self._camera or camera
        self._gray, self._stamp, self._camera = gray, stamp, camera
        if (before is None or before.shape != gray.shape or not 0 <= stamp - last < _GAP
                or not camera.same_view(seen_by)):
            self._tracks = _nothing()
        else:
            self._follow(before, gray, stamp)
        self.reason = _obstacle(len(self._tracks.now), motion, last, stamp)
        tracks = _nothing() if any(self.reason) else self._tracks
        found = _triangulate(tracks, image.shape[:2], camera, stamp, motion, scale)
        if len(tracks.now) and not len(found.z):
            self.reason = 'no parallax', 'no feature is seen from two places far enough apart'
        if len(self._tracks.now) < _FEWER:
            self._find(gray, stamp)
        return found

    def _follow(self, before: np.ndarray, gray: np.ndarray, stamp: float) -> None:
        tracks = self._tracks.take(stamp - self._tracks.since < _OLDEST)
        if not len(tracks.now):
            self._tracks = tracks
            return
        old = tracks.now.astype(np.float32)[:, None]
        new, there, _ = self._cv.calcOpticalFlowPyrLK(before, gray, old, None, winSize=_WINDOW)
        again, back, _ = self._cv.calcOpticalFlowPyrLK(gray, before, new, None, winSize=_WINDOW)
        error = np.linalg.norm((again - old)[:, 0], axis=1)
        inside = ((new[:, 0] >= 0) & (new[:, 0] <= np.array(gray.shape[::-1]) - 1)).all(axis=1)
        tracks.now = new[:, 0].astype(np.float64)
        self._tracks = tracks.take(
            (there[:, 0] == 1) & (back[:, 0] == 1) & (error < _BACK) & inside)

    def _find(self, gray: np.ndarray, stamp: float) -> None:
        """Add features where none are followed."""
        free = np.full(gray.shape, 255, np.uint8)
        for u, v in np.rint(self._tracks.now).astype(int):
            self._cv.circle(free, (int(u), int(v)), _APART, 0, -1)
        corners = self._cv.goodFeaturesToTrack(
            gray, _FEATURES - len(self._tracks.now), _LOUD, _APART, mask=free)
        if corners is None:
            return
        new = corners[:, 0].astype(np.float64)
        self._tracks = _Tracks(
            np.concatenate([self._tracks.start, new]), np.concatenate([self._tracks.now, new]),
            np.concatenate([self._tracks.since, np.full(len(new), stamp)]))


def _obstacle(features: int, motion: ExactMotion, start: float, stop: float) -> tuple[str, str]:
    """
    Return why nothing can be triangulated, as a cause and details, which are empty if it can.

    :param features: number of those that are followed.
    :param start, stop: stamps of the last image and of this one [s].
    """
    if not features:
        return 'no features', 'no feature of the image before is found in this one'
    moved = motion(start, stop)
    if moved is None:
        return 'motion unknown', ('neither TF nor odometry tells where the camera was at the last '
                                  'two images')
    if np.linalg.norm(moved.translation) <= _STANDING * (stop - start):
        return 'no way', 'the camera stands still or only turns'
    return '', ''


def _nothing() -> _Tracks:
    return _Tracks(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0))


def _triangulate(tracks: _Tracks, size: tuple[int, ...], camera: Camera, stamp: float,
                 motion: ExactMotion, scale: float) -> ImagePoints:
    """
    Return the points of tracks with enough parallax, in the image of a stamp.

    :param scale: pixels of the image for each pixel of the tracks.
    """
    now, found = _to_image(tracks.now, scale), np.full(len(tracks.now), np.nan)
    for since in np.unique(tracks.since):
        of_image = tracks.since == since
        moved = motion(float(since), stamp) if since < stamp else None
        if moved is not None:
            found[of_image] = _depth(
                _rays(camera, _to_image(tracks.start[of_image], scale)),
                _rays(camera, now[of_image]), moved, camera.fx / scale)
    good = np.isfinite(found)
    dropped = {'no parallax': int((~good).sum())} if not good.all() else {}
    return ImagePoints(now[good, 0], now[good, 1], found[good], (size[0], size[1]), dropped)


def _depth(start: np.ndarray, now: np.ndarray, moved: Transform, focal: float) -> np.ndarray:
    """
    Return the depth of points that are seen along two rays, (n,) [m]; NaN where it is not known.

    :param start, now: (n, 3) rays with z = 1 in the camera before and after a motion.
    :param moved: takes points of the camera before into the camera after it.
    :param focal: [px] of the tracks.
    """
    turned = start @ moved.rotation.T
    way = moved.translation
    with np.errstate(all='ignore'):
        parallax = focal * np.linalg.norm(now[:, :2] - turned[:, :2] / turned[:, 2:], axis=1)
        # From z now = z0 turned + way, by the cross product with either ray.
        across = np.cross(now, turned)
        square = (across * across).sum(axis=1)
        depth = (np.cross(way, turned) * across).sum(axis=1) / square
        before = (np.cross(way, now) * across).sum(axis=1) / square
        seen = before[:, None] * turned + way
        misfit = focal * np.linalg.norm(seen[:, :2] / seen[:, 2:] - now[:, :2], axis=1)
        good = ((parallax > _PARALLAX) & (misfit < _MISFIT) & (depth > 0) & (before > 0)
                & np.isfinite(depth))
    return np.where(good, depth, np.nan)


def _to_image(points: np.ndarray, scale: float) -> np.ndarray:
    """Take pixels of a smaller image to those of the image; pixel (0, 0) is a centre."""
    return (points + 0.5) * scale - 0.5


def _rays(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Return the rays of points between pixels, (n, 3) with z = 1."""
    last = np.array([camera.width, camera.height]) - 1
    points = np.clip(points, 0, last)
    corner = np.minimum(np.floor(points).astype(int), last - 1)
    (right, down), (u, v) = (points - corner).T[:, :, None], corner.T
    rays = camera.rays
    upper = (1 - right) * rays[v, u] + right * rays[v, u + 1]
    lower = (1 - right) * rays[v + 1, u] + right * rays[v + 1, u + 1]
    return np.concatenate(
        [(1 - down) * upper + down * lower, np.ones((len(points), 1))], axis=1).astype(np.float64)
