"""
The scale of predicted depth, steady from frame to frame.

The depth of the last frame is brought into the present one: by the motion of the camera, or as it
is while the image stands still. The median log ratio of both depths says by which factor the
network has changed its mind, and a low-pass filter keeps the slow part of its changes. Depth is
multiplied by one number, so no pixel is averaged with another one, and moving things stay sharp.
"""
from __future__ import annotations

from collections import Counter
import math
from typing import NamedTuple

import numpy as np

from zoe_ros.anchor.frames import Frames
from zoe_ros.anchor.pairs import NEAREST
from zoe_ros.anchor.transform import Transform
from zoe_ros.camera import Camera

_COLUMNS, _ROWS = 128, 96       # most pixels of an image that are compared
# After a gap of so many time constants the filter starts again.
_FORGET_AFTER = 5.0
# Memory fades by 1/e over this share of the distance of the scene [m/m]. The motion is in metres
# and depth is not yet, so each step adds an error of the scale that must not pile up.
_WAY = 0.1
_AGREE = 0.1            # pixels within this log ratio of the median are consistent
_CONSISTENT = 0.5       # smallest share of consistent pixels; fewer show another scene
_OVERLAP = 0.1          # smallest share of the pixels of a frame that the next one sees
# An image stands still if less than half of its textured pixels have moved by so much [px].
_MOVED = 0.25
_TEXTURE = 8.0          # difference of neighbouring pixels of a textured place [grey levels]
UNKNOWN_MOTION = 'motion unknown'     # why the filter has started again
_TEXTURED = 50          # fewest textured pixels that tell whether an image stands still


class Samples(NamedTuple):
    """
    The pixels of an image that are compared: all pairs of these rows and columns.

    :param rows, columns: (n,) int.
    :param step: [px] between neighbours.
    """

    rows: np.ndarray
    columns: np.ndarray
    step: int


class _Frame(NamedTuple):
    """
    What is remembered of a frame.

    :param depth: (rows, columns) [m]; of the last frame, after its factor.
    :param gray: (rows, columns) float32, the image; :param age: number of frames since
        the start.
    :param camera: that took it, None if it is not known.
    """

    depth: np.ndarray
    gray: np.ndarray
    head: str
    stamp: float
    frame: str
    age: int
    camera: Camera | None


def samples(height: int, width: int) -> Samples:
    """Choose the pixels of an image of this size that are compared."""
    step = max(1, math.ceil(max(height / _ROWS, width / _COLUMNS)))
    return Samples(np.arange(step // 2, height, step), np.arange(step // 2, width, step), step)


class SteadyScale:
    """
    Gives the factor that steadies the depth of each frame of one camera.

    :ivar counts: why the filter has started again -> how often.
    """

    def __init__(self, time_constant: float, frames: Frames) -> None:
        """
        Start before the first frame.

        :param time_constant: of the low-pass filter [s]; greater than 0.
        :param frames: of the robot; may be empty.
        """
        self.counts: Counter[str] = Counter()
        self._time_constant, self._frames = time_constant, frames
        self._past: _Frame | None = None
        self._stood: np.ndarray | None = None       # the first image of those that stand still
        self._view: tuple[Camera, np.ndarray] | None = None

    @staticmethod
    def of(time_constant: float, frames: Frames) -> SteadyScale | None:
        """Return the filter of a time constant [s], or None for 0: off."""
        return SteadyScale(time_constant, frames) if time_constant else None

    def forget(self) -> None:
        """Start again: depth is in another scale from now on."""
        if self._past is not None:
            self.counts['other settings'] += 1
        self._past = self._stood = None

    def factor(self, depth: np.ndarray, image: np.ndarray, camera: Camera | None, head: str,
               stamp: float, frame: str) -> float:
        """
        Return the factor on the depth of a frame; the next call must bring the next frame.

        :param depth: (rows, columns) float32 [m] by the network, at the :func:`samples` of the
            image; NaN and infinity for no value.
        :param image: (h, w, 3) uint8 RGB; :param camera: that took it, None if it is not known.
        :param head: that predicted the depth; :param frame: of the camera.
        :param stamp: of the image [s].
        """
        now, past = _Frame(depth, _gray(image), head, stamp, frame, 1, camera), self._past
        try:
            change, way = self._compare(now, samples(*image.shape[:2]), camera)
        except LookupError as reason:
            if past is not None:
                self.counts[str(reason)] += 1
            self._past, self._stood = now, now.gray
            return 1.0
        assert past is not None
        age, fading = past.age + 1, (stamp - past.stamp) / self._time_constant + way / _WAY
        # A plain mean over the first frames, which the filter takes over when it is as slow.
        gain = max(1 / age, 1 - math.exp(-fading))
        factor = math.exp((1 - gain) * change)
        self._past = now._replace(depth=depth * np.float32(factor), age=age)
        return factor

    def _compare(self, now: _Frame, at: Samples, camera: Camera | None) -> tuple[float, float]:
        """
        Compare a frame with the last one.

        :return: log ratio of the depth of the last frame to that of this one; and the way of the
            camera in between, as a share of the distance of the scene.
        :raises LookupError: they do not show the same scene by the same head; with the reason.
        """
        past = self._past
        if past is None:
            raise LookupError('first frame')
        if past.head != now.head:
            raise LookupError('another head')
        if (past.depth.shape != now.depth.shape or past.frame != now.frame
                # Two images may have one stamp, by a clock of coarse steps; without stamps all do.
                or not now.stamp
                or not 0 <= now.stamp - past.stamp < _FORGET_AFTER * self._time_constant):
            raise LookupError('gap')
        if camera is not None and past.camera is not None and not camera.same_view(past.camera):
            raise LookupError('another view')   # a region, or a zoom
        motion = None
        if camera is not None:
            motion = self._frames.motion(now.frame, past.stamp, now.stamp, exact=True)
        if motion is not None and camera is not None:
            self._stood = now.gray
            expected, seen = self._moved(past.depth, now.depth, motion, camera, at)
        elif self._stood is not None and stands_still(self._stood, now.gray):
            expected, seen = past.depth.ravel(), now.depth.ravel()
        else:
            raise LookupError(UNKNOWN_MOTION)
        with np.errstate(all='ignore'):
            ratio = np.log(expected / seen)
            known = np.isfinite(ratio) & (seen > 0)
        ratio, seen = ratio[known], seen[known]
        if len(ratio) < _OVERLAP * now.depth.size:
            raise LookupError('no overlap')
        near = ratio[np.abs(ratio - np.median(ratio)) < _AGREE]
        if len(near) < _CONSISTENT * len(ratio):
            raise LookupError('another scene')
        way = 0.0 if motion is None else float(np.linalg.norm(motion.translation))
        return float(np.median(near)), way / float(np.median(seen))

    def _moved(self, before: np.ndarray, now: np.ndarray, motion: Transform, camera: Camera,
               at: Samples) -> tuple[np.ndarray, np.ndarray]:
        """
        Bring depth into the present frame.

        :return: (n,) [m] depth of the last frame as this one should see it, and as this one does.
        """
        if self._view is None or self._view[0] is not camera:
            rays = camera.rays[at.rows[:, None], at.columns].reshape(-1, 2)
            self._view = camera, np.concatenate([rays, np.ones((len(rays), 1), np.float32)], 1)
        points = self._view[1] * before.reshape(-1, 1)
        x, y, z = (points @ motion.rotation.T.astype(np.float32)
                   + motion.translation.astype(np.float32)).T
        with np.errstate(all='ignore'):
            u, v = camera.project(x / z, y / z)
            column, row = ((w - start) / at.step + 0.5 for w, start in (
                (u, at.columns[0]), (v, at.rows[0])))
            inside = ((z > NEAREST) & (row >= 0) & (row < len(at.rows)) & (column >= 0)
                      & (column < len(at.columns)))
        return z[inside], now[row[inside].astype(np.intp), column[inside].astype(np.intp)]


def stands_still(before: np.ndarray, now: np.ndarray) -> bool:
    """
    Tell whether a camera stood still between two small gray images; False if it cannot be told.

    Things may move in less than half of the textured pixels, and the exposure may change.

    :param before, now: (rows, columns) float32, of equal size.
    """
    if before.shape != now.shape or min(now.shape) < 3:
        return False
    inner = before[1:-1, 1:-1]
    slope = np.maximum(np.abs(before[1:-1, 2:] - before[1:-1, :-2]),
                       np.abs(before[2:, 1:-1] - before[:-2, 1:-1])) / 2
    textured = slope > _TEXTURE
    if np.count_nonzero(textured) < _TEXTURED:
        return False
    change = now[1:-1, 1:-1] - inner
    moved = np.abs(change - np.median(change))[textured] / slope[textured]
    return bool(np.median(moved) < _MOVED)


def _gray(image: np.ndarray) -> np.ndarray:
    """Return a small gray image, (rows, columns) float32: means of some green values."""
    at = samples(*image.shape[:2])
    shape = len(at.rows), len(at.columns)
    gray = np.zeros(shape, np.float32)
    spread = {0, at.step // 4, at.step // 2, 3 * at.step // 4}
    for down in spread:
        for right in spread:
            part = image[down::at.step, right::at.step, 1][:shape[0], :shape[1]]
            gray[:part.shape[0], :part.shape[1]] += part
    return gray / len(spread) ** 2
