"""
ROS messages from arrays: the one place that knows their fields.

Messages are duck-typed: the same code serves rclpy's classes and those of rosbags.
"""
from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from zoe_ros.depth_codec import encode_depth, FORMAT

_FLOAT32 = 7  # sensor_msgs/PointField.FLOAT32
# Of geometry_msgs, in the order of PoseTypes.
POSES = ('PoseWithCovarianceStamped', 'PoseWithCovariance', 'Pose', 'Point', 'Quaternion')


class PoseTypes(NamedTuple):
    """geometry_msgs/PoseWithCovarianceStamped, and what it is made of."""

    stamped: Any
    with_covariance: Any
    pose: Any
    point: Any
    quaternion: Any


@dataclass(frozen=True)
class MessageTypes:
    """
    The message classes of one ROS client, and the way it wants bytes.

    :param pack: contiguous array -> what fills a ``uint8[]`` field at once. rclpy copies an array
        of numpy element by element, a thousand times slower than an ``array.array``.
    """

    image: Any
    compressed_image: Any
    camera_info: Any
    point_cloud: Any
    point_field: Any
    pose: PoseTypes
    pack: Callable[[np.ndarray], Any]


def pack_array(values: np.ndarray) -> array[int]:
    """Pack for rclpy."""
    packed = array('B')
    packed.frombytes(np.ascontiguousarray(values).data.cast('B'))
    return packed


def pack_numpy(values: np.ndarray) -> np.ndarray:
    """Pack for rosbags."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


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


def compressed_depth_message(types: MessageTypes, header: Any, depth: np.ndarray) -> Any:
    """Return depth (height, width) float32 [m] as a CompressedImage, see :mod:`.depth_codec`."""
    data = np.frombuffer(encode_depth(depth), np.uint8)
    return types.compressed_image(header=header, format=FORMAT, data=types.pack(data))


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


def pinhole_info(types: MessageTypes, info: Any) -> Any:
    """Return CameraInfo of rectified images for consumers that read K: K of P, no distortion."""
    p = np.reshape(info.p, (3, 4))
    if not p[0, 0]:
        return info     # not calibrated
    return types.camera_info(
        header=info.header, height=info.height, width=info.width, distortion_model='plumb_bob',
        d=np.zeros(5), k=p[:, :3].ravel(), r=np.eye(3).ravel(), p=info.p,
        binning_x=info.binning_x, binning_y=info.binning_y, roi=info.roi)


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


def scale_message(types: MessageTypes, header: Any, value: float, deviation: float) -> Any:
    """
    Return the scale of depth as a geometry_msgs/PoseWithCovarianceStamped.

    No standard message has one number with its variance: ``position.x`` is the scale, and the
    first entry of the covariance its variance.

    :param value: factor on depth; :param deviation: its standard deviation.
    """
    kinds = types.pose
    covariance = np.zeros(36)
    covariance[0] = deviation ** 2
    pose = kinds.pose(position=kinds.point(x=value, y=0.0, z=0.0),
                      orientation=kinds.quaternion(x=0.0, y=0.0, z=0.0, w=1.0))
    return kinds.stamped(
        header=header, pose=kinds.with_covariance(pose=pose, covariance=covariance))
