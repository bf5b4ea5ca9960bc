"""
Photographs whose depth comes from a second camera beside the first.

Depth is baseline * focal length / (disparity + offset). The disparity is stored as PFM, or found
here by semi-global matching.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import json
import re

import numpy as np
from photograph_files import colour, Lens, Name, pfm, reduced, scaled, View
from photograph_sources import Files
from PIL import Image

BLOCK = 5               # side of the windows that are compared [px]
FAR = 10.0              # matched depth beyond is left out: its error grows with its square [m]
LEFT_RIGHT = 1.0        # how far the disparities of both images may differ [px]
GRAINS = 200, 1         # smaller patches [pixels], with larger steps around [px], are noise


def with_disparity(files: Files, path: str, *, disparity: Name, calibration: Name) -> View:
    """Read an image of Middlebury and its disparity."""
    rig = Rig.of_middlebury(files.read(calibration(files, path)))
    return View(colour(files.read(path)), rig.depth(pfm(files.read(disparity(files, path)))),
                rig.lens)


def with_pair(files: Files, path: str, *, right: Name, rig: Callable[[bytes], Rig],
              calibration: Name, most: int) -> View:
    """
    Read a rectified pair of images, and measure depth by matching them.

    :param most: largest disparity at 640 px of width [px].
    """
    pair = rig(files.read(calibration(files, path)))
    left = colour(files.read(path))
    size = reduced(left.shape[1::-1])
    small = pair.scaled(left.shape[1::-1], size)
    one, other = (np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
                  for image in (left, colour(files.read(right(files, path)))))
    depth = small.depth(matched(one, other, most))
    return View(one, np.where(depth > FAR, 0, depth), small.lens)


# --- the cameras, and matching --------------------------------------------------------------


@dataclass(frozen=True)
class Rig:
    """
    Two cameras side by side, rectified.

    :param lens: of the left camera; :param baseline: [m].
    :param offset: what the columns of both principal points differ by [px].
    """

    lens: Lens
    baseline: float
    offset: float = 0.0

    @classmethod
    def of_middlebury(cls, data: bytes) -> Rig:
        """Return the rig of a calib.txt."""
        values = dict(re.findall(r'(\w+)\s*=\s*(\[[^]]*\]|\S+)', data.decode()))
        k = [float(number) for number in values['cam0'].strip('[]').replace(';', ' ').split()]
        return cls((k[0], k[4], k[2], k[5]), float(values['baseline']) / 1000,
                   float(values['doffs']))

    @classmethod
    def of_opencv(cls, data: bytes) -> Rig:
        """Return the rig of the matrix Q of OpenCV's stereoRectify, with lengths in metres."""
        q = np.array(data.split(), float).reshape(4, 4)
        focal = float(q[2, 3])
        return cls((focal, focal, -float(q[0, 3]), -float(q[1, 3])), 1 / float(abs(q[3, 2])))

    @classmethod
    def of_stereodemo(cls, data: bytes) -> Rig:
        """Return the rig of a stereodemo_calibration.json."""
        about = json.loads(data)
        return cls((about['fx'], about['fy'], about['cx0'], about['cy']),
                   about['baseline_meters'], about['cx1'] - about['cx0'])

    def depth(self, disparity: np.ndarray) -> np.ndarray:
        """Return depth [m]; infinite disparity has no value."""
        with np.errstate(divide='ignore'):
            depth = self.baseline * self.lens[0] / (disparity + self.offset)
        return np.where(np.isfinite(disparity), depth, 0)

    def scaled(self, size: tuple[int, int], other: tuple[int, int]) -> Rig:
        """Return the rig of resized images; sizes are (width, height)."""
        return Rig(scaled(self.lens, size, other), self.baseline,
                   self.offset * other[0] / size[0])


def matched(left: np.ndarray, right: np.ndarray, most: int) -> np.ndarray:
    """
    Return the disparity of the left image [px], by semi-global matching; infinite: none.

    :param most: the largest disparity [px].
    """
    there = search(left, right, most)
    # Mirrored, the right image is a left one.
    back = search(right[:, ::-1], left[:, ::-1], most)[:, ::-1]
    places = np.arange(there.shape[1]) - np.where(there < np.inf, there, 0).round().astype(int)
    agreed = np.take_along_axis(back, places.clip(0), axis=1)
    sound = (places >= 0) & (there < np.inf) & (agreed < np.inf)
    sound[sound] = abs(there[sound] - agreed[sound]) <= LEFT_RIGHT
    return np.where(sound, there, np.inf)


def search(left: np.ndarray, right: np.ndarray, most: int) -> np.ndarray:
    """Return the disparity of the left image [px], not checked by that of the right one."""
    import cv2

    steps = -(-most // 16) * 16
    matcher = cv2.StereoSGBM.create(
        0, steps, BLOCK, 8 * 3 * BLOCK ** 2, 32 * 3 * BLOCK ** 2, uniquenessRatio=15,
        speckleWindowSize=GRAINS[0], speckleRange=GRAINS[1], mode=cv2.STEREO_SGBM_MODE_HH)
    # OpenCV leaves out as many columns at the left as there are steps.
    padded = [np.pad(image, ((0, 0), (steps, 0), (0, 0)), mode='edge') for image in (left, right)]
    found = matcher.compute(*padded)[:, steps:]
    return np.where(found > 0, found / np.float32(16), np.float32(np.inf))
