"""How cameras are carried: by robots, cars, drones and hands, with their fields of view."""
from __future__ import annotations

from dataclasses import dataclass, replace
import math

import numpy as np

from zoe_ros.camera import Camera
from zoe_ros.world.furniture import Rng
from zoe_ros.world.render import Pose, Scene

Range = tuple[float, float]


@dataclass(frozen=True)
class Mount:
    """
    What carries a camera.

    :param field: of view, horizontal [degrees].
    :param height: above the floor [m]; None: that of the scene.
    :param pitch: its mean and standard deviation [rad]; positive looks up. None: of the scene.
    :param roll: standard deviation [rad].
    """

    field: Range
    height: Range | None = None
    pitch: tuple[float, float] | None = None
    roll: float = 0.0


MOUNTS = {
    'robot': Mount((50, 95)),
    'narrow': Mount((40, 55)),
    'low': Mount((60, 110), (0.1, 0.4), (0.03, 0.06), 0.02),
    'handheld': Mount((45, 85), (1.2, 1.8), (-0.15, 0.2), 0.12),
    'drone': Mount((60, 100), (2.0, 10.0), (-0.45, 0.25), 0.08),
    'car': Mount((50, 90), (1.1, 2.2), (-0.03, 0.03), 0.01),
    'wide car': Mount((90, 120), (1.1, 2.2), (-0.03, 0.04), 0.01),
    'near': Mount((40, 75)),
}


def mount(scene: Scene, name: str, rng: Rng) -> Scene:
    """Return a scene whose camera is carried in another way along the same path."""
    chosen = MOUNTS[name]
    height = None if chosen.height is None else math.exp(rng.uniform(*np.log(chosen.height)))
    tilt = None if chosen.pitch is None else (rng.normal(*chosen.pitch), chosen.pitch[1])
    roll = rng.normal(0, chosen.roll)
    walk = []
    for pose in scene.walk:
        x, y, z = pose.position
        sway = rng.normal(0, 0.15, 2)
        walk.append(Pose(
            (x, y, z if height is None else height), pose.yaw,
            pose.pitch if tilt is None else tilt[0] + tilt[1] * float(sway[0]),
            pose.roll + roll + chosen.roll * float(sway[1])))
    # A low camera sees the floor closer than the objects that it may approach.
    near = scene.clearance if height is None else min(scene.clearance, 0.6 * height)
    return replace(scene, walk=walk, clearance=near)


def draw_camera(name: str, size: tuple[int, int], rng: Rng) -> Camera:
    """Return a camera of ``size`` (height, width) with a field of view of the mount."""
    return camera_of(rng.uniform(*MOUNTS[name].field), size)


def camera_of(field: float, size: tuple[int, int]) -> Camera:
    """Return a camera of ``size`` (height, width) with a horizontal field of view [degrees]."""
    height, width = size
    focal = float(width / 2 / np.tan(np.radians(field) / 2))
    return Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)


def look_at(position: np.ndarray, target: np.ndarray, roll: float) -> Pose:
    """Return the pose of a camera that looks at a point [m]."""
    x, y, z = (float(v) for v in target - position)
    a, b, c = (float(v) for v in position)
    return Pose((a, b, c), math.atan2(-x, y), math.atan2(z, math.hypot(x, y)), roll)
