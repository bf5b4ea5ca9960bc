"""Pairs of images for stereo: rendered ones, and textured ones of any depth."""
from dataclasses import replace

import bags
import numpy as np

from zoe_ros.camera import Camera

SIZE = (240, 320)
FOCAL = 280.0
CAMERA = Camera(SIZE[1], SIZE[0], FOCAL, FOCAL, 159.5, 119.5)
K = (FOCAL, 0, CAMERA.cx, 0, FOCAL, CAMERA.cy, 0, 0, 1)
BASELINE = 0.12


def right_pose(pose, baseline):
    """Return the pose of a camera to the right of another one [m]."""
    x, y, z = np.asarray(pose.position) + baseline * pose.rotation[:, 0]
    return replace(pose, position=(float(x), float(y), float(z)))


def shifted(image, columns=0.0, rows=0.0):
    """Return an image whose content is moved to the right and down [px]."""
    height, width = image.shape[:2]
    v, u = np.mgrid[:height, :width].astype(np.float64)
    return sampled(image, u - columns, v - rows)


def sampled(image, u, v):
    """Return the image at places between its pixels (bilinear), (h, w, 3) uint8."""
    height, width = image.shape[:2]
    u, v = u.clip(0, width - 1), v.clip(0, height - 1)
    column, row = np.minimum(u.astype(int), width - 2), np.minimum(v.astype(int), height - 2)
    right, down = (u - column)[..., None], (v - row)[..., None]
    upper = (1 - right) * image[row, column] + right * image[row, column + 1]
    lower = (1 - right) * image[row + 1, column] + right * image[row + 1, column + 1]
    return np.rint((1 - down) * upper + down * lower).astype(np.uint8)


def texture(seed=0, size=SIZE):
    """Return an image full of features, (h, w, 3) uint8 RGB."""
    rng = np.random.default_rng(seed)
    grey = sum(weight * np.kron(rng.normal(size=(-(-size[0] // side), -(-size[1] // side))),
                                np.ones((side, side)))[:size[0], :size[1]]
               for weight, side in ((20, 3), (25, 7), (25, 19)))
    for axis in (0, 1):
        grey = (np.roll(grey, 1, axis) + 2 * grey + np.roll(grey, -1, axis)) / 4
    return np.repeat((128 + grey).clip(0, 255)[..., None], 3, axis=2).astype(np.uint8)


def right_view(left, depth, baseline=BASELINE, focal=FOCAL):
    """
    Return what the right camera sees of smooth depth.

    :param depth: (h, w) of the left image [m].
    """
    v, u = np.mgrid[:left.shape[0], :left.shape[1]].astype(np.float64)
    disparity = focal * baseline / depth
    column = u
    for _ in range(10):     # of the point in the left image that is seen at u in the right one
        at = np.rint(column).astype(int).clip(0, left.shape[1] - 1)
        column = u + disparity[np.rint(v).astype(int), at]
    return sampled(left, column, v)


def info(stamp=bags.START, baseline=0.0, family=bags.ROSBAGS, k=K, size=SIZE):
    """Return the CameraInfo of a camera ``baseline`` to the right of the left one [m]."""
    p = (*k[:3], -k[0] * baseline, *k[3:6], 0, *k[6:9], 0)
    return family.info(*size, k=k, p=p, stamp=stamp)


def larger(camera, times):
    """Return a camera of more pixels with the same view."""
    return Camera(camera.width * times, camera.height * times, camera.fx * times,
                  camera.fy * times, (camera.cx + 0.5) * times - 0.5,
                  (camera.cy + 0.5) * times - 0.5)
