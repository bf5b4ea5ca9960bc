"""An RGB-D bag of the synthetic world, as a robot that drives through a scene would record it."""
from __future__ import annotations

from collections.abc import Sequence
import itertools
import math
from pathlib import Path

import numpy as np
from tqdm import tqdm

from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.bag_writer import BagWriter, info_from_camera, stamped
from zoe_ros.command_settings import WorldSettings
from zoe_ros.datasets import DatasetError, DOMAINS
from zoe_ros.messages import color_message, depth_message
from zoe_ros.results import check_output
from zoe_ros.world.make import build_scene
from zoe_ros.world.render import Pose
from zoe_ros.world.robot import between, Robot

IMAGE, INFO, DEPTH = '/camera/image_rect', '/camera/camera_info', '/camera/depth/image_rect'
FRAME = 'camera_optical_frame'
_START = 1_700_000_000 * 10 ** 9    # [ns], fixed, so that equal settings give equal bags
_PERIOD = 10 ** 8                   # [ns]
_STEP = {'indoor': 0.06, 'outdoor': 0.5}    # between frames [m]
_TURN = 0.05                        # between frames [rad]
_THIRD = 2      # part of the seed that differs from both splits


def record_world(settings: WorldSettings) -> Path:
    """
    Write ``settings.frames`` frames of one scene of ``settings.bag`` at 10 Hz; return the bag.

    The scene is in neither split. A camera without distortion, its images as raw rgb8 and its
    depth as 32FC1; a laser scan 50 ms before each image, and the frames of the robot in TF.

    :raises DatasetError: the folder exists, Embree is missing, or no walk is long enough.
    """
    path = Path(settings.folder).expanduser()
    if path.exists():
        raise DatasetError(f'{path} exists: a bag needs a new folder')
    check_output(path.parent)
    for attempt in range(100):
        rng = np.random.default_rng((settings.seed, _THIRD, DOMAINS.index(settings.bag), attempt))
        _, renderer, camera, response = build_scene(rng, settings, settings.bag, 30)
        way = smooth(renderer.scene.walk, _STEP[settings.bag])
        poses = _longest([pose if renderer.clear(pose, camera) else None for pose in way])
        if len(poses) >= settings.frames:
            break
    else:
        raise DatasetError(f'found no walk of {settings.frames} frames: choose fewer frames or '
                           'another seed')
    path.parent.mkdir(parents=True, exist_ok=True)
    robot = Robot(renderer, FRAME, poses[0], settings.seed)
    with BagWriter(path) as bag:
        bag.write(*robot.fixed(_START - _PERIOD), _START - _PERIOD)
        for index, pose in enumerate(tqdm(poses[:settings.frames], desc=str(path),
                                          unit='frame', disable=None)):
            image, depth = renderer.frame(pose, camera, response, rng)
            stamp = _START + index * _PERIOD
            scanned = stamp - _PERIOD // 2
            before = between(poses[max(index - 1, 0)], pose, 0.5)
            bag.write(*robot.moving(before, scanned), scanned)
            bag.write(*robot.scan(before, scanned), scanned)
            bag.write(*robot.moving(pose, stamp), stamp)
            header = stamped(stamp, FRAME)
            bag.write(INFO, info_from_camera(camera, header), stamp)
            bag.write(IMAGE, color_message(BAG_TYPES, header, image), stamp)
            bag.write(DEPTH, depth_message(BAG_TYPES, header, depth), stamp)
    return path


def smooth(walk: Sequence[Pose], step: float) -> list[Pose]:
    """Return poses between those of a walk, at most ``step`` [m] and a small turn apart."""
    poses = []
    for a, b in itertools.pairwise(walk):
        turn = math.remainder(b.yaw - a.yaw, 2 * math.pi)
        way = math.dist(a.position, b.position)
        count = max(1, math.ceil(way / step), math.ceil(abs(turn) / _TURN))
        poses += [between(a, b, part) for part in np.arange(count) / count]
    return poses + [walk[-1]]


def _longest(poses: list[Pose | None]) -> list[Pose]:
    """Return the longest sequence of poses without a None."""
    best: list[Pose] = []
    run: list[Pose] = []
    for pose in poses:
        run = [] if pose is None else [*run, pose]
        best = max(best, run, key=len)
    return best
