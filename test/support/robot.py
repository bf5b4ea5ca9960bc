"""A robot in a scene of the synthetic world: a camera, a 2D lidar, and a network that errs."""
from dataclasses import dataclass, replace
import math

import numpy as np
from scipy.spatial.transform import Rotation

from zoe_ros.anchor.points import from_scan
from zoe_ros.anchor.transform import Transform
from zoe_ros.camera import Camera
from zoe_ros.world.cameras import camera_of
from zoe_ros.world.record import smooth
from zoe_ros.world.render import Pose, Renderer
from zoe_ros.world.robot import between

PERIOD = 0.1            # between images [s]
PITCH = -0.12           # of the camera: it looks down a little [rad]
# Of the lidar in the camera, seen by the robot: forward and up [m].
FORWARD, UP = 0.10, -0.35
_STEP = 0.06            # between images [m]
_FIELD, _RETURNS = math.radians(170), 511
# A turning lidar: a whole turn in a period, clockwise from behind, rendered sector by sector.
TURNING = 1080
_SECTORS = 36


def forward(pose):
    """Return the unit vector in which a robot looks."""
    return np.array([-math.sin(pose.yaw), math.cos(pose.yaw), 0])


def lidar_pose(pose):
    """Return the pose of the lidar of a robot whose camera has a pose."""
    x, y, z = (float(v) for v in np.asarray(pose.position) + FORWARD * forward(pose)
               + (0, 0, UP))
    return Pose((x, y, z), pose.yaw)


def optical(pose):
    """Return the transform from the optical frame of a pose to the world."""
    return Transform(pose.rotation, np.asarray(pose.position, np.float64))


def numbers(transform):
    """Return x y z qx qy qz qw of a transform, as TF states it."""
    return [*transform.translation, *Rotation.from_matrix(transform.rotation).as_quat()]


# From x forward, y left, z up to the optical frame.
BODY_TO_OPTICAL = Transform(np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), np.zeros(3))


def lidar_to_camera(pose):
    """Return the transform from the frame of the lidar to the optical frame."""
    return optical(pose).inverse().after(optical(lidar_pose(pose))).after(BODY_TO_OPTICAL)


@dataclass(frozen=True, eq=False)
class Drive:
    """A drive through a scene; at ``poses[2 * k]`` image k is taken, 50 ms later pose 2 k + 1."""

    renderer: Renderer
    camera: Camera
    poses: list[Pose]

    def __len__(self):
        """Return the number of images."""
        return (len(self.poses) - 1) // 2

    def pose(self, index, later=False):
        """Return the pose of the camera at an image, or half a period later."""
        return self.poses[2 * index + later]

    def truth(self, index):
        """Return true depth of an image, (h, w) [m]."""
        return self.renderer.depth(self.pose(index), self.camera)

    def scan(self, index, later=False, wrong=0.0, rng=None):
        """
        Return the points of a scan.

        :param wrong: share of returns that are replaced by any range.
        """
        step = _FIELD / (_RETURNS - 1)
        # A fisheye of one row has rays at equal angles, from left to right.
        row = Camera(_RETURNS, 1, 1 / step, 1 / step, (_RETURNS - 1) / 2, 0, 'equidistant')
        depth = self.renderer.depth(lidar_pose(self.pose(index, later)), row)[0]
        ranges = depth * np.hypot(1, row.rays[0, :, 0])
        if wrong:
            bad = rng.random(_RETURNS) < wrong
            ranges[bad] = rng.uniform(0.1, 12, bad.sum())
        return from_scan(ranges, _FIELD / 2, -step, 0.05, 30.0)

    def turning_scan(self, index, wrong, rng):
        """
        Return the fields of a scan whose first ray is at an image, and that takes a period.

        :param wrong: see :meth:`scan`.
        """
        step, rays = 2 * math.pi / TURNING, TURNING // _SECTORS
        row = Camera(rays, 1, 1 / step, 1 / step, (rays - 1) / 2, 0, 'equidistant')
        ranges = []
        for sector in range(_SECTORS):
            part = (sector + 0.5) / _SECTORS
            pose = lidar_pose(self.at((index + part) * PERIOD))
            depth = self.renderer.depth(
                replace(pose, yaw=pose.yaw + math.pi - 2 * math.pi * part), row)[0]
            ranges.append(depth * np.hypot(1, row.rays[0, :, 0]))
        ranges = np.concatenate(ranges)
        bad = rng.random(TURNING) < wrong
        ranges[bad] = rng.uniform(0.1, 12, bad.sum())
        return {'ranges': ranges, 'angle_min': math.pi - step / 2, 'angle_increment': -step,
                'range_min': 0.05, 'range_max': 30.0, 'time_increment': PERIOD / TURNING}

    def at(self, stamp):
        """Return the pose of the camera at a stamp [s]; image 0 is at 0."""
        place = min(max(2 * stamp / PERIOD, 0), len(self.poses) - 1)
        first = min(int(place), len(self.poses) - 2)
        return between(self.poses[first], self.poses[first + 1], place - first)

    def motion(self, start, stop):
        """Return the motion of the camera between two stamps [s]."""
        one, other = (optical(self.at(stamp)) for stamp in (start, stop))
        return other.inverse().after(one)

    def turned(self, rate, period):
        """Return the same way, on which the robot looks left and right [rad/s], [s]."""
        swing, turn = rate * period / (2 * math.pi), 2 * math.pi / period * PERIOD / 2
        return replace(self, poses=[
            replace(pose, yaw=pose.yaw + swing * math.sin(turn * k))
            for k, pose in enumerate(self.poses)])


def drive(build, seed, images, size=(192, 256)):
    """
    Return a drive of some images through a scene.

    :param build: function of rng and poses -> scene.
    """
    for attempt in range(50):
        rng = np.random.default_rng((seed, attempt))
        scene = build(rng, 30)
        renderer, camera = Renderer(scene), camera_of(70, size)
        walk = [replace(pose, pitch=PITCH, roll=0.0) for pose in scene.walk]
        run = []
        for pose in smooth(walk, _STEP / 2):
            run = [*run, pose] if renderer.clear(pose, camera) else []
            if len(run) == 2 * images + 1:
                return Drive(renderer, camera, run)
    raise AssertionError('no scene has so long a way')


def predicted(truth, rng, spread=0.06):
    """
    Return depth as a network predicts it: blurred at edges, and wrong over areas of the image.

    Its median error is 0, so that the right scale is 1.

    :param spread: standard deviation of the log of its errors.
    """
    height, width = truth.shape
    coarse = truth[::2, ::2]
    soft = _resized(np.where(np.isfinite(coarse), coarse, np.nanmax(truth)), (height, width))
    error = sum(part * _resized(rng.normal(size=size), (height, width))
                for part, size in ((0.8, (4, 5)), (0.6, (12, 16))))
    depth = soft * np.exp(spread * error / error.std())
    return (depth * np.nanmedian(truth / depth)).astype(np.float32)


def _resized(values, size):
    """Resize (h, w) linearly, corners aligned."""
    for axis in (0, 1):
        at = np.linspace(0, values.shape[axis] - 1, size[axis])
        values = np.apply_along_axis(
            lambda line, at=at: np.interp(at, np.arange(len(line)), line), axis, values)
    return values
