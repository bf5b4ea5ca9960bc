"""
ROS messages to arrays and back: the one place that knows encodings, strides and field layouts.

Messages are duck-typed: the same code serves rclpy's classes and those of rosbags.
"""
from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
import importlib
import io
import os
import re
from threading import Lock
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from zoe_ros.camera import Camera
from zoe_ros.errors import first_line

# encoding: bytes of a sample, channels, and the channels that are red, green and blue.
# OpenCV's nameless 8UC3 is BGR by its convention.
_FAST = {
    'rgb8': (1, 3, (0, 1, 2)), 'bgr8': (1, 3, (2, 1, 0)), '8UC3': (1, 3, (2, 1, 0)),
    'rgba8': (1, 4, (0, 1, 2)), 'bgra8': (1, 4, (2, 1, 0)), '8UC4': (1, 4, (2, 1, 0)),
    'mono8': (1, 1, (0, 0, 0)), '8UC1': (1, 1, (0, 0, 0)), 'mono16': (2, 1, (0, 0, 0)),
}
_BY_CV_BRIDGE = (
    'bayer_', 'yuv422', 'uyvy', 'yuyv', 'nv21', 'nv24', 'rgb16', 'bgr16', 'rgba16', 'bgra16')
_PIXEL_BYTES = {'bayer_': 1, 'yuv422': 2, 'uyvy': 2, 'yuyv': 2, 'rgb16': 6, 'bgr16': 6,
                'rgba16': 8, 'bgra16': 8}
# encoding of a depth image: kind of a sample, and metres of its unit (REP-118)
_DEPTHS = {'32FC1': ('f4', 1.0), '16UC1': ('u2', 1e-3), '64FC1': ('f8', 1.0)}
DEPTH_ENCODINGS = tuple(_DEPTHS)
_FLOAT32 = 7  # sensor_msgs/PointField.FLOAT32


class MessageError(ValueError):
    """
    A message that cannot be used.

    :param cause: a short word for counting: 'size', 'data', 'encoding', 'corrupt', 'converter'.
    """

    def __init__(self, cause: str, text: str) -> None:
        """Keep the cause beside the text for people."""
        super().__init__(text)
        self.cause = cause


@dataclass(frozen=True)
class MessageTypes:
    """
    The message classes of one ROS client, and the way it wants bytes.

    :param pack: contiguous array -> what fills a ``uint8[]`` field at once. rclpy copies an array
        of numpy element by element, a thousand times slower than an ``array.array``.
    """

    image: Any
    camera_info: Any
    point_cloud: Any
    point_field: Any
    pack: Callable[[np.ndarray], Any]


def pack_array(values: np.ndarray) -> array[int]:
    """Pack for rclpy."""
    packed = array('B')
    packed.frombytes(np.ascontiguousarray(values).data.cast('B'))
    return packed


def pack_numpy(values: np.ndarray) -> np.ndarray:
    """Pack for rosbags."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


# --- in -------------------------------------------------------------------------------------


def decode_image(message: Any) -> np.ndarray:
    """
    Return the photograph in a sensor_msgs/Image or CompressedImage.

    :return: (height, width, 3) uint8 RGB.
    :raises MessageError: it is damaged, empty, or of an encoding that is not known.
    """
    return _decode_compressed(message) if hasattr(message, 'format') else _decode_raw(message)


def decode_depth(message: Any) -> np.ndarray:
    """
    Return the depth in a sensor_msgs/Image of 32FC1 [m] or 16UC1 [mm] (REP-118).

    :return: (height, width) float32 [m]; NaN for 0, for REP 117's infinities, and for 65535 mm,
        which stands for all that is farther.
    :raises MessageError: it is damaged, or no such image.
    """
    if hasattr(message, 'format'):
        raise MessageError('encoding', f"format '{message.format}' is not raw depth: let "
                                       'image_transport republish it')
    data = _message_bytes(message)
    if message.encoding not in _DEPTHS:
        raise MessageError('encoding', f"encoding '{message.encoding}' of a depth image is not "
                                       f'one of {", ".join(_DEPTHS)}')
    kind, unit = _DEPTHS[message.encoding]
    sample = np.dtype(('>' if message.is_bigendian else '<') + kind)
    rows = np.ascontiguousarray(_pixel_rows(message, data, sample.itemsize)).view(sample)
    depth = rows.astype(np.float32) * np.float32(unit)
    far = 65.535 if kind == 'u2' else np.inf
    with np.errstate(invalid='ignore'):
        depth[~((depth > 0) & (depth < np.float32(far)))] = np.nan
    return depth


def _message_bytes(message: Any) -> np.ndarray:
    """Return the bytes of an image that has as many as it says."""
    height, width, step = message.height, message.width, message.step
    if height < 1 or width < 1:
        raise MessageError('size', f'an image of {width} x {height} pixels')
    data = np.frombuffer(message.data, np.uint8) if len(message.data) else np.empty(0, np.uint8)
    if len(data) < height * step:
        raise MessageError('data', f'{len(data)} bytes of data are fewer than height x step = '
                                   f'{height} x {step}')
    return data


def _pixel_rows(message: Any, data: np.ndarray, pixel: int) -> np.ndarray:
    """Return the bytes of an image of ``pixel`` bytes each, without padding: (height, row)."""
    height, step, row = message.height, message.step, message.width * pixel
    if step < row:
        raise MessageError('data', f'step {step} is less than the {row} bytes of a row of '
                                   f'{message.width} pixels {message.encoding}')
    return data[:height * step].reshape(height, step)[:, :row]


def _decode_raw(message: Any) -> np.ndarray:
    height, width, encoding = message.height, message.width, message.encoding
    data = _message_bytes(message)
    if encoding not in _FAST:
        return _decode_other(message)
    size, channels, rgb = _FAST[encoding]
    rows = _pixel_rows(message, data, channels * size)
    if size == 2:
        kind = np.dtype('>u2' if message.is_bigendian else '<u2')
        rows = _to_8_bits(np.ascontiguousarray(rows).view(kind))
    pixels = rows.reshape(height, width, channels)
    return np.ascontiguousarray(pixels if rgb == (0, 1, 2) and channels == 3 else pixels[..., rgb])


def _decode_other(message: Any) -> np.ndarray:
    """Leave Bayer, YUV and 16-bit colour to cv_bridge."""
    encoding = message.encoding
    if not encoding.startswith(_BY_CV_BRIDGE):
        kind = ' (a depth image, not a photograph)' if encoding in DEPTH_ENCODINGS else ''
        raise MessageError('encoding', f"encoding '{encoding}'{kind} is not one of "
                                       f'{", ".join(_FAST)}, bayer_*, yuv*, rgb16, bgr16')
    try:
        bridge = importlib.import_module('cv_bridge').CvBridge()
    except (ImportError, AttributeError) as error:
        distribution = os.environ.get('ROS_DISTRO', '<distro>')
        raise MessageError(
            'converter', f"encoding '{encoding}' needs cv_bridge, which cannot be imported "
            f'({error}): apt install ros-{distribution}-cv-bridge') from None
    try:
        pixels = bridge.imgmsg_to_cv2(_without_padding(message), 'rgb8')
    except MessageError:
        raise
    except Exception as error:  # cv_bridge lets OpenCV's, numpy's and its own errors through
        raise MessageError('corrupt', f"cv_bridge cannot convert this '{encoding}' image: "
                                      f'{first_line(error)}') from None
    if pixels.shape != (message.height, message.width, 3) or pixels.dtype != np.uint8:
        raise MessageError('corrupt', f'cv_bridge made {pixels.dtype} {pixels.shape} of a '
                           f"'{encoding}' image of {message.width} x {message.height}")
    return np.ascontiguousarray(pixels)


def _without_padding(message: Any) -> Any:
    """Return an image without bytes between its rows: cv_bridge skews some that have them."""
    encoding = message.encoding
    size = next((size for start, size in _PIXEL_BYTES.items() if encoding.startswith(start)), None)
    if size is None:
        return message      # planes, not rows of pixels
    size *= 2 if encoding.startswith('bayer_') and '16' in encoding else 1
    rows = _pixel_rows(message, _message_bytes(message), size)
    return SimpleNamespace(
        header=message.header, height=message.height, width=message.width, encoding=encoding,
        is_bigendian=message.is_bigendian, step=rows.shape[1], data=rows.tobytes())


def _decode_compressed(message: Any) -> np.ndarray:
    if 'compressedDepth' in message.format:
        raise MessageError('encoding', f"format '{message.format}' is a depth image")
    data = bytes(message.data)
    if not data:
        raise MessageError('data', 'a compressed image without data')
    try:
        # Of the formats of Pillow only these two: what comes from outside meets little code.
        with Image.open(io.BytesIO(data), formats=('JPEG', 'PNG')) as picture:
            return photo_to_rgb(picture)
    except UnidentifiedImageError:
        raise MessageError('encoding', f"format '{message.format}': the data is neither JPEG nor "
                                       'PNG') from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MessageError('corrupt', f'a damaged {message.format} image: '
                                      f'{first_line(error)}') from None


def photo_to_rgb(picture: Image.Image) -> np.ndarray:
    """Return (height, width, 3) uint8 RGB of an opened picture of any mode."""
    if picture.mode.startswith('I'):
        # 16-bit grey: Pillow's own conversion would clip, not scale.
        grey = np.asarray(picture).clip(0, 65535).astype(np.uint16)
        return np.repeat(_to_8_bits(grey)[..., None], 3, axis=2)
    return np.array(picture.convert('RGB'))


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Scale 0 ... 65535 to 0 ... 255, rounded, as cv_bridge does."""
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def camera_from_info(info: Any, size: tuple[int, int], rectified: bool) -> Camera:
    """
    Return the camera that took an image, from its CameraInfo.

    :param size: (height, width) of the image [px].
    :param rectified: the image was rectified and P holds; else K and the distortion do.
    :raises ValueError: not calibrated, another size, or a distortion that is not known.
    """
    if (info.height, info.width) != size:
        raise ValueError(f'CameraInfo is for {info.width} x {info.height} pixels, '
                         f'the image has {size[1]} x {size[0]}')
    matrix = np.asarray(info.p if rectified else info.k, np.float64).reshape(3, -1)
    return Camera(
        width=size[1], height=size[0], fx=float(matrix[0, 0]), fy=float(matrix[1, 1]),
        cx=float(matrix[0, 2]), cy=float(matrix[1, 2]), model=info.distortion_model,
        distortion=() if rectified else tuple(float(d) for d in info.d))


def is_rectified(topic: str) -> bool:
    """Tell from its name whether a topic carries rectified images (image_proc's convention)."""
    return re.search(r'(?:^|[/_])rect(?:ified)?(?:[/_]|$)', topic) is not None


class CameraInfoBuffer:
    """
    The CameraInfo that belongs to an image: same stamp, else the latest of the same frame.

    :param capacity: how many to remember; None for all, in a bag that is read ahead.
    :param tolerance: how far the other stamp may be from the image's [s]; 0 for any.
    """

    def __init__(self, capacity: int | None = 30, tolerance: float = 0.0) -> None:
        """Start empty."""
        self._capacity = capacity
        self._tolerance = tolerance * 1e9
        self._lock = Lock()     # a subscription adds while a worker looks up
        self._by_key: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def add(self, info: Any) -> None:
        """Remember a CameraInfo; it is never changed."""
        key = (info.header.frame_id, nanoseconds(info.header.stamp))
        with self._lock:
            self._by_key[key] = info
            self._by_key.move_to_end(key)
            if self._capacity is not None and len(self._by_key) > self._capacity:
                self._by_key.popitem(last=False)

    def find(self, header: Any) -> Any | None:
        """Return the CameraInfo for an image with this header, or None."""
        stamp = nanoseconds(header.stamp)
        with self._lock:
            exact = self._by_key.get((header.frame_id, stamp))
            if exact is not None:
                return exact
            same_frame = [key for key in self._by_key if key[0] == header.frame_id]
            # The latest that is not younger than the image; before the first one: the first.
            before = [key for key in same_frame if key[1] <= stamp]
            key = max(before, key=_stamp_of) if before else min(
                same_frame, key=_stamp_of, default=None)
            if key is None or 0 < self._tolerance < abs(stamp - key[1]):
                return None
            return self._by_key[key]


def _stamp_of(key: tuple[str, int]) -> int:
    return key[1]


def nanoseconds(stamp: Any) -> int:
    """Return a builtin_interfaces/Time as one number [ns]."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


# --- out ------------------------------------------------------------------------------------


def depth_message(types: MessageTypes, header: Any, depth: np.ndarray) -> Any:
    """
    Return a 32FC1 image (REP-118): metres along the optical axis, NaN for no value.

    :param header: of the image that the depth belongs to.
    :param depth: (height, width) float32 [m].
    """
    height, width = depth.shape
    return types.image(
        header=header, height=height, width=width, encoding='32FC1', is_bigendian=0,
        step=4 * width, data=types.pack(depth.astype('<f4', copy=False)))


def millimetre_message(types: MessageTypes, header: Any, depth: np.ndarray) -> Any:
    """
    Return a 16UC1 image (REP-118): millimetres, 0 for no value, 65535 for all that is farther.

    :param depth: (height, width) float32 [m], REP 117's infinities included.
    """
    height, width = depth.shape
    with np.errstate(invalid='ignore'):
        millimetres = np.nan_to_num(np.rint(depth * 1000), nan=0, posinf=65535, neginf=0)
    return types.image(
        header=header, height=height, width=width, encoding='16UC1', is_bigendian=0,
        step=2 * width, data=types.pack(millimetres.clip(0, 65535).astype('<u2')))


def color_message(types: MessageTypes, header: Any, pixels: np.ndarray) -> Any:
    """Return an rgb8 image of (height, width, 3) uint8 RGB."""
    height, width = pixels.shape[:2]
    return types.image(header=header, height=height, width=width, encoding='rgb8', is_bigendian=0,
                       step=3 * width, data=types.pack(pixels))


def camera_info_message(types: MessageTypes, header: Any, info: Any,
                        size: tuple[int, int] | None = None,
                        scale: tuple[float, float] | None = None) -> Any:
    """
    Return a copy of ``info`` under another header; the original is left as it is.

    :param size: (height, width) [px] of an image that was resized, as image_proc's Resize does:
        the first row of K and P follows the width, the second the height.
    :param scale: (of rows, of columns); by default the ratio of the sizes. An image of every
        third pixel is a third of the scale, even where three does not divide its size.
    """
    height, width = size or (info.height, info.width)
    k, p, roi = info.k, info.p, info.roi
    if (height, width) != (info.height, info.width):
        sy, sx = scale or (height / info.height, width / info.width)
        factors = np.array([[sx], [sy], [1.0]])
        k = (np.reshape(k, (3, 3)) * factors).ravel()
        p = (np.reshape(p, (3, 4)) * factors).ravel()
        roi = type(roi)(
            x_offset=round(roi.x_offset * sx), y_offset=round(roi.y_offset * sy),
            height=round(roi.height * sy), width=round(roi.width * sx), do_rectify=roi.do_rectify)
    return types.camera_info(
        header=header, height=height, width=width, distortion_model=info.distortion_model,
        d=info.d, k=k, r=info.r, p=p, binning_x=info.binning_x, binning_y=info.binning_y, roi=roi)


def cloud_message(types: MessageTypes, header: Any, points: np.ndarray,
                  colors: np.ndarray | None) -> Any:
    """
    Return an organised PointCloud2: x, y, z and packed rgb, 16 bytes a point; 12 without colour.

    :param points: (rows, columns, 3) float32 [m] in the optical frame, NaN for no value.
    :param colors: (rows, columns, 3) uint8 RGB, or None.
    """
    rows, columns = points.shape[:2]
    names = ('x', 'y', 'z') if colors is None else ('x', 'y', 'z', 'rgb')
    data = np.zeros((rows, columns, len(names)), '<f4')
    data[..., :3] = points
    if colors is not None:
        data.view(np.uint8)[..., 12:15] = colors[..., ::-1]     # red << 16 | green << 8 | blue
    fields = [types.point_field(name=name, offset=4 * i, datatype=_FLOAT32, count=1)
              for i, name in enumerate(names)]
    step = 4 * len(names)
    return types.point_cloud(
        header=header, height=rows, width=columns, fields=fields, is_bigendian=False,
        point_step=step, row_step=step * columns, data=types.pack(data), is_dense=False)
