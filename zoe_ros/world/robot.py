"""The robot that carries the camera of a recorded drive: its 2D lidar, and its frames in TF."""
from __future__ import annotations

from collections.abc import Iterator
import math
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from zoe_ros.anchor.transform import Transform
from zoe_ros.bag_messages import TYPESTORE
from zoe_ros.bag_writer import stamped
from zoe_ros.camera import Camera
from zoe_ros.world.render import Pose, Renderer

SCAN, TF, TF_STATIC = '/scan', '/tf', '/tf_static'
ODOM, BASE, LASER = 'odom', 'base_link', 'laser'
# The lidar is in front of the camera, at this share of its height.
_FORWARD, _HEIGHT = 0.1, 0.6
_FIELD, _RETURNS = math.radians(240), 481
_NEAREST, _FARTHEST = 0.05, 20.0    # [m]
_NOISE = 0.01                       # standard deviation of ranges [m]
_types = TYPESTORE.types


class Robot:
    """
    Scans and transforms of a robot in a scene.

    Frames: ``odom`` is the frame of the world, ``base_link`` is on the floor below the camera. The
    camera moves on the robot, because drives tilt it.
    """

    def __init__(self, renderer: Renderer, camera_frame: str, first: Pose, seed: int) -> None:
        """
        Mount the lidar.

        :param first: pose of the camera, whose height decides that of the lidar.
        :param seed: of the noise.
        """
        self._renderer, self._camera_frame = renderer, camera_frame
        self._rng = np.random.default_rng(seed)
        self._mount = Transform(np.eye(3), np.array([_FORWARD, 0, _HEIGHT * first.position[2]]))
        step = _FIELD / (_RETURNS - 1)
        # A fisheye of one row has rays at equal angles, from left to right.
        self._row = Camera(_RETURNS, 1, 1 / step, 1 / step, (_RETURNS - 1) / 2, 0, 'equidistant')

    def fixed(self, stamp: int) -> tuple[str, Any]:
        """Return topic and message of what is fixed to the robot; ``stamp`` [ns]."""
        return TF_STATIC, _transforms([(BASE, LASER, self._mount)], stamp)

    def moving(self, pose: Pose, stamp: int) -> tuple[str, Any]:
        """Return topic and message of where robot and camera are at a stamp [ns]."""
        base, camera = _base(pose), Transform(pose.rotation, np.array(pose.position))
        return TF, _transforms([(ODOM, BASE, base), (
            BASE, self._camera_frame, base.inverse().after(camera))], stamp)

    def scan(self, pose: Pose, stamp: int) -> tuple[str, Any]:
        """Return topic and message of a scan at a stamp [ns]; ``pose`` is that of the camera."""
        x, y, z = _base(pose).after(self._mount).translation
        depth = self._renderer.depth(Pose((float(x), float(y), float(z)), pose.yaw), self._row)[0]
        ranges = depth * np.hypot(1, self._row.rays[0, :, 0])
        ranges += self._rng.normal(0, _NOISE, _RETURNS)
        ranges[~(ranges < _FARTHEST)] = np.inf      # REP 117: no return
        step = _FIELD / (_RETURNS - 1)
        return SCAN, _types['sensor_msgs/msg/LaserScan'](
            header=stamped(stamp, LASER), angle_min=_FIELD / 2, angle_max=-_FIELD / 2,
            angle_increment=-step, time_increment=0.0, scan_time=0.1, range_min=_NEAREST,
            range_max=_FARTHEST, ranges=ranges.astype(np.float32),
            intensities=np.zeros(0, np.float32))


def between(a: Pose, b: Pose, part: float) -> Pose:
    """Return the pose at a part of the way from one to another, turned the short way."""
    turn = math.remainder(b.yaw - a.yaw, 2 * math.pi)
    x, y, z = np.asarray(a.position) + (np.subtract(b.position, a.position)) * part
    return Pose((float(x), float(y), float(z)), a.yaw + turn * part,
                a.pitch + (b.pitch - a.pitch) * part, a.roll + (b.roll - a.roll) * part)


def _base(pose: Pose) -> Transform:
    """Return where the robot is below a camera: x forward, y left, z up."""
    x, y, _ = pose.position
    c, s = math.cos(pose.yaw + math.pi / 2), math.sin(pose.yaw + math.pi / 2)
    return Transform(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.array([x, y, 0.0]))


def _transforms(links: list[tuple[str, str, Transform]], stamp: int) -> Any:
    """Return a tf2_msgs/TFMessage of (parent, child, pose of the child in the parent)."""
    return _types['tf2_msgs/msg/TFMessage'](transforms=list(_stamped(links, stamp)))


def _stamped(links: list[tuple[str, str, Transform]], stamp: int) -> Iterator[Any]:
    for parent, child, pose in links:
        x, y, z = pose.translation
        qx, qy, qz, qw = Rotation.from_matrix(pose.rotation).as_quat()
        yield _types['geometry_msgs/msg/TransformStamped'](
            header=stamped(stamp, parent), child_frame_id=child,
            transform=_types['geometry_msgs/msg/Transform'](
                translation=_types['geometry_msgs/msg/Vector3'](x=x, y=y, z=z),
                rotation=_types['geometry_msgs/msg/Quaternion'](x=qx, y=qy, z=qz, w=qw)))
