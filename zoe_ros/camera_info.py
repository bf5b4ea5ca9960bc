"""
Cameras from CameraInfo, and which CameraInfo belongs to an image.

Messages are duck-typed: the same code serves rclpy's classes and those of rosbags.
"""
from __future__ import annotations

from bisect import bisect_right, insort
from collections import OrderedDict
from operator import itemgetter
from threading import Lock
from types import SimpleNamespace
from typing import Any

import numpy as np

from zoe_ros.camera import Camera
from zoe_ros.headers import frame_name, nanoseconds

_recorded = itemgetter(0)


def camera_from_info(info: Any, size: tuple[int, int], rectified: bool) -> Camera:
    """
    Return the camera that took an image, from its CameraInfo.

    :param size: (height, width) of the image [px].
    :param rectified: the image was rectified and P holds; else K and the distortion do.
    :raises ValueError: not calibrated, another size, or a distortion that is not known.
    """
    own = info_of_image(info, size)
    if own is None:
        raise ValueError(f'CameraInfo is for {_describe_size(info)}, '
                         f'the image has {size[1]} x {size[0]}')
    name, values = ('P', own.p) if rectified else ('K', own.k)
    matrix = np.asarray(values, np.float64).reshape(3, -1)
    fx, fy, cx, cy = (float(matrix[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
    if not (np.isfinite([fx, fy, cx, cy]).all() and fx > 0 and fy > 0):
        reason = ' (the images are rectified)' if rectified else ''
        raise ValueError(f'the camera is not calibrated: {name} of CameraInfo{reason} has '
                         f'fx {fx:g}, fy {fy:g}, cx {cx:g}, cy {cy:g}')
    return Camera(
        width=size[1], height=size[0], fx=fx, fy=fy, cx=cx, cy=cy,
        model='plumb_bob' if rectified else info.distortion_model,
        distortion=() if rectified else tuple(float(d) for d in info.d))


def info_of_image(info: Any, size: tuple[int, int]) -> Any | None:
    """
    Return CameraInfo whose numbers are those of an image of this size.

    sensor_msgs states width, height, K and P at the camera's full resolution. An image may show
    a region of that (``roi``), and one pixel in it for several (``binning``). Some drivers leave
    width and height at 0; the image has them, too.

    :param size: (height, width) of the image [px].
    :return: ``info`` itself where nothing is to be done; None if it is for another size.
    """
    stated = info.height, info.width
    if size == stated:
        return info
    if stated != (0, 0) and size not in _image_sizes(info):
        return None
    x, y, _, _ = _region(info)
    columns, rows = _binning(info)
    k, p = np.array(info.k, np.float64).reshape(3, 3), np.array(info.p, np.float64).reshape(3, 4)
    for matrix in (k, p):
        matrix[0, 2] -= x
        matrix[1, 2] -= y
        matrix[0] /= columns
        matrix[1] /= rows
    roi = type(info.roi)(x_offset=0, y_offset=0, height=0, width=0,
                         do_rectify=info.roi.do_rectify)
    return SimpleNamespace(
        header=info.header, height=size[0], width=size[1], d=info.d, k=k.ravel(), r=info.r,
        p=p.ravel(), distortion_model=info.distortion_model, binning_x=0, binning_y=0, roi=roi)


def image_size(info: Any) -> tuple[int, int]:
    """Return the (height, width) of the images of a camera by its CameraInfo [px]."""
    return _image_sizes(info)[0]


def _image_sizes(info: Any) -> list[tuple[int, int]]:
    """Return the sizes that images of a CameraInfo may have: an odd last row may be dropped."""
    x, y, width, height = _region(info)
    columns, rows = _binning(info)
    if x + width > info.width or y + height > info.height or columns > width or rows > height:
        return [(info.height, info.width)]      # no region of this image
    return [(h, w) for h in (height // rows, -(-height // rows))
            for w in (width // columns, -(-width // columns))]


def _region(info: Any) -> tuple[int, int, int, int]:
    """Return x, y, width and height of ``roi``, by which zeros mean the whole image."""
    roi = info.roi
    if roi.width and roi.height:
        return roi.x_offset, roi.y_offset, roi.width, roi.height
    return 0, 0, info.width, info.height


def _binning(info: Any) -> tuple[int, int]:
    """Return the columns and rows that make one; 0 means 1."""
    return max(info.binning_x, 1), max(info.binning_y, 1)


def _describe_size(info: Any) -> str:
    x, y, width, height = _region(info)
    columns, rows = _binning(info)
    text = f'{info.width} x {info.height} pixels'
    if (x, y, width, height) != (0, 0, info.width, info.height):
        text += f' with a region of {width} x {height}'
    return text + (f' with binning {columns} x {rows}' if (columns, rows) != (1, 1) else '')


class CameraInfoBuffer:
    """
    The CameraInfo that belongs to an image: same stamp, else the latest of the same frame.

    Frames are compared without a leading slash, as tf2 has it. Where all CameraInfo have one
    frame that is empty or another than the image's, they are of this camera all the same: many
    drivers fill in the frame of the body.

    :param capacity: how many to remember; None for all, in a bag that is read ahead.
    :param tolerance: how far the other stamp may be from the image's [s]; 0 for any.
    :param other_frames: CameraInfo of another frame than the image's holds as well.
    :ivar now: when the image was recorded [ns]. Of several CameraInfo of one stamp, the one that
        was recorded nearest to it is used: some drivers stamp nothing, some clocks jump.
    """

    def __init__(self, capacity: int | None = 30, tolerance: float = 0.0,
                 other_frames: bool = True) -> None:
        """Start empty."""
        self._capacity = capacity
        self._tolerance = tolerance * 1e9
        self._other_frames = other_frames
        self.now = 0
        self._lock = Lock()     # a subscription adds while a worker looks up
        # frame, stamp -> time of recording and CameraInfo
        self._by_key: OrderedDict[tuple[str, int], list[tuple[int, Any]]] = OrderedDict()
        self._stamps: dict[str, list[int]] = {}     # of each frame
        self._unsorted: set[str] = set()

    def add(self, info: Any, recorded: int | None = None) -> None:
        """
        Remember a CameraInfo; it is never changed.

        :param recorded: time of recording [ns]. Without one, it replaces others of its stamp.
        """
        frame, stamp = key = (frame_name(info.header), nanoseconds(info.header.stamp))
        with self._lock:
            if key not in self._by_key:
                stamps = self._stamps.setdefault(frame, [])
                if stamps and stamps[-1] > stamp:
                    # Sorted once, when one is looked up: a bag may hold a million in any order.
                    self._unsorted.add(frame)
                stamps.append(stamp)
            if recorded is None:
                self._by_key[key] = [(0, info)]
            else:
                insort(self._by_key.setdefault(key, []), (recorded, info), key=_recorded)
            self._by_key.move_to_end(key)
            if self._capacity is not None and len(self._by_key) > self._capacity:
                self._forget_oldest()

    def find(self, header: Any) -> Any | None:
        """Return the CameraInfo for an image with this header, or None."""
        stamp = nanoseconds(header.stamp)
        with self._lock:
            frame = self._frame_for(frame_name(header))
            if frame is None:
                return None
            if frame in self._unsorted:
                self._stamps[frame].sort()
                self._unsorted.remove(frame)
            stamps = self._stamps[frame]
            # The latest that is not younger than the image; before the first one: the first.
            nearest = stamps[max(bisect_right(stamps, stamp) - 1, 0)]
            if 0 < self._tolerance < abs(stamp - nearest):
                return None
            entries = self._by_key[frame, nearest]
            after = bisect_right(entries, self.now, key=_recorded)
            return min(entries[max(after - 1, 0):after + 1],
                       key=lambda entry: abs(entry[0] - self.now))[1]

    def frames(self) -> list[str]:
        """Return the frames of the CameraInfo that are remembered."""
        with self._lock:
            return sorted(self._stamps)

    def _frame_for(self, frame: str) -> str | None:
        if frame in self._stamps:
            return frame
        known = list(self._stamps)
        if not frame or known == ['']:      # nothing is known that could differ
            return known[0] if len(known) == 1 else None
        return known[0] if len(known) == 1 and self._other_frames else None

    def _forget_oldest(self) -> None:
        (frame, stamp), _ = self._by_key.popitem(last=False)
        self._stamps[frame].remove(stamp)
        if not self._stamps[frame]:
            del self._stamps[frame]
            self._unsorted.discard(frame)
