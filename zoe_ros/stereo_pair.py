"""
The second camera of a rectified pair, from its messages.

Messages are duck-typed: the same code serves rclpy's classes and those of rosbags.
"""
from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Any

import numpy as np

from zoe_ros.anchor.points import ImagePoints
from zoe_ros.anchor.stereo import PairError, StereoMatcher
from zoe_ros.camera import Camera
from zoe_ros.camera_info import CameraInfoBuffer, info_of_image
from zoe_ros.headers import nanoseconds, UNSTAMPED
from zoe_ros.images import decode_image, MessageError
from zoe_ros.pace import BACK, Pace

# Right images that are remembered. The one of an image in the network is kept beyond that.
_RECENT = 10
# Images of a pair are taken at once. Between images of two moments the robot may have turned, and
# a turn of 0.1 degrees looks like a pixel of disparity.
_AT_ONCE = 3_000_000    # [ns]
_ALIKE = 0.01           # difference of focal lengths and centres within a pair [px]
_BASELINES = 0.005, 5.0     # [m]


class StereoPair:
    """
    Remembers the messages of a right camera, and gives the metric points of left images.

    Messages may come from another thread than left images.
    """

    def __init__(self) -> None:
        """
        Start without a message.

        :raises ValueError: OpenCV is not installed.
        """
        self._matcher = StereoMatcher()
        self._infos, self._rectified = CameraInfoBuffer(), False
        self._lock = Lock()
        self._recent: deque[Any] = deque(maxlen=_RECENT)
        self._expected: int | None = None
        self._kept: Any = None      # the right image of the expected left one
        self._pace = Pace()

    def hear_info(self, info: Any, rectified: bool) -> None:
        """
        Remember a CameraInfo of the right camera.

        :param rectified: the right images are rectified, so that matrix P holds.
        """
        self._rectified = rectified
        self._infos.add(info)

    def hear(self, image: Any) -> None:
        """Remember an image of the right camera, which is decoded only if it is used."""
        with self._lock:
            before, stamp = self._pace.newest, _stamp_of(image)
            self._pace.hear(stamp)
            if before is not None and stamp < before - BACK:
                self._recent.clear()    # a bag starts again
            self._recent.append(image)
            if self._expected is not None and _apart(image, self._expected) <= _AT_ONCE:
                self._kept = image

    def heard_left(self, header: Any) -> None:
        """Remember that a left image has come; see :meth:`is_behind`."""
        with self._lock:
            self._pace.image(nanoseconds(header.stamp))
            if self._pace.newest is None:
                self._recent.clear()

    def is_behind(self) -> bool:
        """Tell whether the right image of the last left image is still to come."""
        with self._lock:
            return self._pace.is_behind(_AT_ONCE)

    def expect(self, header: Any) -> None:
        """Keep the right image of this left one: the network may take long."""
        with self._lock:
            self._expected = nanoseconds(header.stamp)
            self._kept = self._find(self._expected)

    def points(self, header: Any, image: np.ndarray, camera: Camera, flaw: str) -> ImagePoints:
        """
        Return the metric points of a left image.

        :param header: of the left image; :param image: (h, w, 3) uint8 RGB.
        :param camera: that took it; :param flaw: why it is not rectified, see :func:`flaw_of`.
        :raises PairError: there is no right image of the same moment, or no rectified pair.
        """
        stamp = nanoseconds(header.stamp)
        if not stamp:
            raise PairError('stamp', UNSTAMPED)
        with self._lock:
            message = self._find(stamp)
        if message is None:
            raise PairError('no pair', 'nothing from the right camera within '
                                       f'{_AT_ONCE / 1e6:g} ms of the image')
        if flaw:
            raise PairError('not rectified', f'{flaw} of the left camera')
        try:
            right = decode_image(message)
        except MessageError as error:
            raise PairError(error.cause, f'right image: {error}') from None
        if right.shape != image.shape:
            raise PairError('size', f'the right image has {right.shape[1]} x {right.shape[0]} '
                                    f'pixels, the left one {image.shape[1]} x {image.shape[0]}')
        baseline = _baseline(self._infos.find(message.header), camera, self._rectified)
        return self._matcher.points(image, right, camera, baseline)

    def _find(self, stamp: int) -> Any:
        """Return the right image nearest to a stamp, if it was taken at once, or None."""
        # Of several with one stamp the last one.
        known = [*reversed(self._recent), *([] if self._kept is None else [self._kept])]
        nearest = min(known, key=lambda image: _apart(image, stamp), default=None)
        return None if nearest is None or _apart(nearest, stamp) > _AT_ONCE else nearest


def flaw_of(info: Any | None, rectified: bool) -> str:
    """
    Tell why the images of a camera are not rectified, or nothing if they are.

    :param info: their CameraInfo; :param rectified: its matrix P holds for the images.
    """
    if rectified or info is None:
        return ''
    if any(d != 0 for d in info.d) or info.distortion_model == 'equidistant':   # NaN is not 0
        return 'the distortion D of CameraInfo'
    if not np.allclose(np.reshape(info.r, (3, 3)), np.eye(3), atol=1e-6):
        return 'the rotation R of CameraInfo'
    if not np.allclose(np.reshape(info.p, (3, 4))[:, :3], np.reshape(info.k, (3, 3))):
        return 'the difference of K and P in CameraInfo'
    return ''


def _baseline(info: Any | None, left: Camera, rectified: bool) -> float:
    """
    Return the distance of the right camera [m].

    :raises PairError: it is not known, or the cameras are no rectified pair.
    """
    if info is None:
        raise PairError('no CameraInfo', 'there is none of the right camera')
    flaw = flaw_of(info, rectified)
    if flaw:
        raise PairError('not rectified', f'{flaw} of the right camera')
    own = info_of_image(info, (left.height, left.width))
    if own is None:
        raise PairError('size', f'CameraInfo of the right camera is for {info.width} x '
                                f'{info.height} pixels')
    matrix = np.reshape(np.asarray(own.p, np.float64), (3, 4))
    numbers = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    if not (np.isfinite(matrix).all() and matrix[0, 0] > 0):
        raise PairError('not calibrated', 'P of the right camera has no focal length')
    if not np.allclose(numbers, (left.fx, left.fy, left.cx, left.cy), rtol=1e-5, atol=_ALIKE):
        raise PairError('not rectified', 'fx fy cx cy of the right camera are {:g} {:g} {:g} {:g}'
                        .format(*numbers) + ', those of the left one '
                        f'{left.fx:g} {left.fy:g} {left.cx:g} {left.cy:g}')
    baseline = float(-matrix[0, 3] / matrix[0, 0]) + 0.0    # not -0
    if not _BASELINES[0] <= baseline <= _BASELINES[1]:
        raise PairError('baseline', f'P of the right camera puts it {baseline:g} m to the right '
                                    'of the left one')
    return baseline


def _stamp_of(image: Any) -> int:
    return nanoseconds(image.header.stamp)


def _apart(image: Any, stamp: int) -> int:
    return abs(_stamp_of(image) - stamp)
