"""
Messages of range sensors to points, and of transforms to frames.

Messages are duck-typed: the same code serves rclpy's classes and those of rosbags.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from zoe_ros.anchor.frames import Frames
from zoe_ros.anchor.points import from_cloud, from_depth, from_scan, ImagePoints, SensorPoints
from zoe_ros.headers import nanoseconds
from zoe_ros.images import decode_depth, MessageError

# sensor_msgs/PointField: kind of a coordinate. Other kinds are not used for coordinates.
_KINDS = {7: 'f4', 8: 'f8'}
# Fields with the time of each point: since the stamp of the cloud (Ouster: t, Velodyne: time,
# Livox: offset_time), or since the epoch (Hesai, RoboSense, Livox). Integers are nanoseconds.
_SINCE_EPOCH = 'timestamp'
_TIMES = ('t', 'time', 'offset_time', _SINCE_EPOCH)
_TIME_KINDS = {6: 'u4', **_KINDS}
# Livox writes nanoseconds since the epoch as float64; in seconds this is the year 3,170,800.
_NANOSECONDS = 1e14
# No angle of a scan is larger [rad], and none is stated to cover so many times what its rays do.
_FARTHEST_ANGLE = 1.5 * 2 * np.pi
_SAME_SPAN = 1.5


def sensor_points(message: Any) -> SensorPoints | ImagePoints:
    """
    Return the points of a LaserScan, a PointCloud2 or a depth image.

    :raises MessageError: a cloud without coordinates, a scan whose angles cannot be right, or a
        damaged message.
    """
    if hasattr(message, 'ranges'):
        _check_angles(message)
        return from_scan(np.asarray(message.ranges), message.angle_min, message.angle_increment,
                         message.range_min, message.range_max, message.time_increment)
    if hasattr(message, 'point_step'):
        rows = _rows(message)
        return from_cloud(_coordinates(message, rows), _times(message, rows))
    return from_depth(decode_depth(message))


def _check_angles(scan: Any) -> None:
    """
    Refuse a LaserScan whose angles cannot be right: its points would be in wrong places.

    An ``angle_max`` that nobody filled in counts as none, because points do not depend on it.
    Numbers that are not finite are left to :func:`.anchor.points.from_scan`.

    :raises MessageError: angles in degrees, or an increment for another number of rays.
    """
    first, last, step = scan.angle_min, scan.angle_max, abs(scan.angle_increment)
    covered = step * (len(scan.ranges) - 1)
    if _FARTHEST_ANGLE < max(abs(first), covered) < np.inf:
        raise MessageError('angles', f'its angles reach {max(abs(first), covered):.4g} rad, more '
                                     'than a turn: LaserScan has radians, not degrees')
    if len(scan.ranges) < 2 or last in (0, first) or not abs(last) <= _FARTHEST_ANGLE:
        return
    # Drivers differ by a ray at the end, and angle_max may be a turn away.
    stated = abs(last - first)
    if all(max(covered, span) - 2 * step > _SAME_SPAN * min(covered, span)
           for span in (stated, abs(stated - 2 * np.pi))):
        raise MessageError('angles', f'{len(scan.ranges)} ranges every {step:.4g} rad cover '
                                     f'{covered:.4g} rad, but angle_min to angle_max are '
                                     f'{stated:.4g} rad: its driver or a filter states a wrong '
                                     'angle_increment')


def _coordinates(cloud: Any, rows: np.ndarray) -> np.ndarray:
    """Return x, y, z of a PointCloud2, (n, 3) [m]."""
    fields = {field.name: field for field in cloud.fields}
    missing = {'x', 'y', 'z'} - set(fields)
    if missing:
        raise MessageError('data', f'the cloud has no field {", ".join(sorted(missing))}')
    columns = []
    for name in 'xyz':
        values = _column(cloud, rows, fields[name], _KINDS)
        if values is None:
            raise MessageError('data', f'field {name} of the cloud is not float32 or float64')
        columns.append(values)
    return np.stack(columns, axis=1)


def _times(cloud: Any, rows: np.ndarray) -> np.ndarray | None:
    """
    Return when the points of a PointCloud2 were measured, after its stamp, (n,) [s].

    None if the cloud does not tell; NaN if a field of this name cannot be read.
    """
    field = next((field for field in cloud.fields if field.name in _TIMES), None)
    if field is None:
        return None
    values = _column(cloud, rows, field, _TIME_KINDS)
    if values is None:
        return np.full(len(rows), np.nan)
    if field.datatype not in _KINDS:
        return values * 1e-9
    if field.name != _SINCE_EPOCH:
        return values
    seconds = np.where(values > _NANOSECONDS, values * 1e-9, values)
    return seconds - nanoseconds(cloud.header.stamp) / 1e9


def _column(cloud: Any, rows: np.ndarray, field: Any, kinds: dict[int, str]) -> np.ndarray | None:
    """Return the values of a field, (n,) float64; None if it has none of the kinds."""
    kind = kinds.get(field.datatype)
    if kind is None or field.offset + int(kind[1]) > cloud.point_step:
        return None
    order = '>' if cloud.is_bigendian else '<'
    values = np.ascontiguousarray(rows[:, field.offset:field.offset + int(kind[1])])
    with np.errstate(invalid='ignore'):     # a NaN may be a signalling one
        return values.view(order + kind)[:, 0].astype(np.float64)


def _rows(cloud: Any) -> np.ndarray:
    """Return the bytes of each point, (n, point_step)."""
    data = np.frombuffer(cloud.data, np.uint8)
    width, step, row = cloud.width, cloud.point_step, cloud.row_step
    if step and len(data) == cloud.height * width * step:
        # Without padding row_step is not needed, and many drivers state a wrong one.
        return data.reshape(-1, step)
    if not step or row < width * step or len(data) < cloud.height * row:
        raise MessageError('data', f'the cloud of {width} x {cloud.height} points has '
                                   f'{len(data)} bytes in rows of {row}')
    return data[:cloud.height * row].reshape(cloud.height, row)[:, :width * step].reshape(
        -1, step)


def add_odometry(frames: Frames, message: Any) -> int:
    """
    Add the pose of a nav_msgs/Odometry, unless TF tells where the robot is.

    :return: number of poses that are damaged and not used, see :func:`add_transforms`.
    """
    parent, child = (name.removeprefix('/')
                     for name in (message.header.frame_id, message.child_frame_id))
    p, q = message.pose.pose.position, message.pose.pose.orientation
    if not child:
        return 1        # nobody knows what the pose is of
    try:
        frames.move(child, parent, [p.x, p.y, p.z, q.x, q.y, q.z, q.w],
                    nanoseconds(message.header.stamp) / 1e9, by_tf=False)
    except ValueError:
        return 1
    return 0


def add_transforms(frames: Frames, message: Any, static: bool) -> int:
    """
    Add the transforms of a tf2_msgs/TFMessage.

    :param static: the message is one of /tf_static.
    :return: number of transforms that are damaged and not used.
    """
    damaged = 0
    for item in message.transforms:
        parent, child = (name.removeprefix('/')
                         for name in (item.header.frame_id, item.child_frame_id))
        t, q = item.transform.translation, item.transform.rotation
        numbers = [t.x, t.y, t.z, q.x, q.y, q.z, q.w]
        try:
            if static:
                frames.fix(child, parent, numbers)
            else:
                frames.move(child, parent, numbers, nanoseconds(item.header.stamp) / 1e9)
        except ValueError:
            damaged += 1
    return damaged
