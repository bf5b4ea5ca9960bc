"""A picture of a cloud, seen from behind and above the camera."""
from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np
from PIL import Image, ImageDraw

from zoe_ros.camera import Camera

BACKGROUND = (26, 28, 34)
_OUTLINE = (255, 160, 40)       # of the camera
_PITCH, _YAW = 36.0, -16.0      # of the second viewpoint [degrees]
_OVERSAMPLING = 2
_PIXELS = 350_000               # of a larger image only every n-th row and column is drawn
_LARGEST = 9                    # side of a point [px]
# Points between a pixel and the one below: seen from above, a floor has large gaps between rows.
_STEPS = 4
# A step of depth to the next column or row by more than this share is an edge. The pixels of an
# edge lie between near and far, where there is nothing. A floor is steep from row to row.
_EDGE = (0.03, 0.08)
# What is higher above the camera than this share of the median depth hides the rest: the ceiling
# of a room, the sky.
_CEILING = 0.35


def draw_cloud(image: np.ndarray, depth: np.ndarray, camera: Camera,
               size: tuple[int, int]) -> Image.Image:
    """
    Draw the points of a frame; those of edges and of the ceiling are left out.

    A point is as large as the patch of surface that its pixel shows.

    :param image: (h, w, 3) uint8 RGB.
    :param depth: (h, w) float32 [m]; what is not finite is no value.
    :param camera: of the image.
    :param size: (width, height) of the picture [px].
    """
    width, height = (_OVERSAMPLING * n for n in size)
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
    stride = math.ceil(math.sqrt(depth.size / _PIXELS))
    thin = (slice(None, None, stride), slice(None, None, stride))
    points, colors = _surface(image[thin], depth[thin], camera.rays[thin], stride)
    if not len(points):
        return Image.fromarray(canvas).resize(size)
    eye = _Eye.of(points, width, height)
    u, v, distance = eye.project(points)
    sides = 1.2 * stride * eye.focal * points[:, 2] / camera.fx / np.maximum(distance, 1e-6)
    _paint(canvas, u, v, distance, sides, colors)
    picture = Image.fromarray(canvas)
    _outline(picture, eye, camera, 0.15 * float(np.median(points[:, 2])))
    return picture.resize(size, Image.Resampling.BOX)


def _surface(image: np.ndarray, depth: np.ndarray, rays: np.ndarray,
             stride: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the points (n, 3) [m] that are drawn, and their colours (n, 3).

    :param rays: (h, w, 2), as of a Camera.
    :param stride: between the columns and rows that are given [px].
    """
    z = np.where(np.isfinite(depth), depth, np.nan)
    edge = np.zeros(z.shape, bool)
    with np.errstate(invalid='ignore'):
        edge[:, 1:] |= np.abs(np.diff(z, axis=1)) > stride * _EDGE[0] * z[:, 1:]
        edge[1:] |= np.abs(np.diff(z, axis=0)) > stride * _EDGE[1] * z[1:]
    z[edge] = np.nan
    values = np.dstack([rays * z[..., None], z, image])
    parts = [values[:-1] * (1 - t) + values[1:] * t for t in np.arange(_STEPS) / _STEPS]
    values = np.concatenate([*parts, values[-1:]]).reshape(-1, 6)
    values = values[np.isfinite(values).all(axis=-1)]
    if len(values):
        values = values[values[:, 1] > -_CEILING * np.median(values[:, 2])]
    return values[:, :3], values[:, 3:].astype(np.uint8)


@dataclass(frozen=True, eq=False)
class _Eye:
    """
    The second viewpoint.

    :param rotation: from the frame of the camera to that of the eye, (3, 3).
    :param shift: the same, (3,) [m].
    :param focal: focal length [px].
    :param center: of its picture, (2,) [px].
    """

    rotation: np.ndarray
    shift: np.ndarray
    focal: float
    center: np.ndarray

    @staticmethod
    def of(points: np.ndarray, width: int, height: int) -> _Eye:
        """Choose the eye for points (n, 3), so that most of them and the camera are in sight."""
        c, s = np.cos(np.radians(_YAW)), np.sin(np.radians(_YAW))
        turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        c, s = np.cos(np.radians(_PITCH)), np.sin(np.radians(_PITCH))
        rotation = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ turn
        middle = float(np.median(points[:, 2]))
        shift = np.array([0, 0, 2.2 * middle]) - rotation @ [0, 0.1 * middle, 1.1 * middle]
        eye = _Eye(rotation, shift, 1.0, np.zeros(2))
        u, v, distance = eye.project(np.concatenate([points[::7], np.zeros((1, 3))]))
        ahead = distance > 0
        (left, right), (top, bottom) = (
            np.percentile(x[ahead], [3, 97]) for x in (u, v))
        bottom = max(bottom, v[-1])
        focal = 0.92 * min(width / max(right - left, 1e-6), height / max(bottom - top, 1e-6))
        center = np.array([width - focal * (left + right), height - focal * (top + bottom)]) / 2
        return _Eye(rotation, shift, focal, center)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return where points (n, 3) [m] are in the picture, and their distance.

        :return: u (n,) and v (n,) [px], and depth (n,) [m], not positive behind the eye.
        """
        x, y, z = (points @ self.rotation.T + self.shift).T
        with np.errstate(divide='ignore', invalid='ignore'):
            return (self.focal * x / z + self.center[0], self.focal * y / z + self.center[1], z)


def _paint(canvas: np.ndarray, u: np.ndarray, v: np.ndarray, distance: np.ndarray,
           sides: np.ndarray, colors: np.ndarray) -> None:
    """
    Paint points as squares, the nearest last.

    :param canvas: (height, width, 3) uint8, painted on.
    :param u, v: centres of the squares, (n,) [px].
    :param distance: from the eye, (n,) [m].
    :param sides: of the squares, (n,) [px].
    :param colors: (n, 3) uint8.
    """
    height, width = canvas.shape[:2]
    order = np.argsort(-distance)
    order = order[distance[order] > 0]
    sides = np.ceil(sides[order]).clip(1, _LARGEST).astype(int)
    left = np.floor(u[order] - sides / 2 + 0.5).clip(-_LARGEST, width).astype(int)
    top = np.floor(v[order] - sides / 2 + 0.5).clip(-_LARGEST, height).astype(int)
    nearest = np.full(height * width, -1)       # the number of the point that a pixel shows
    for side in np.unique(sides):
        rank = np.flatnonzero(sides == side)
        for down, right in np.ndindex(side, side):
            x, y = left[rank] + right, top[rank] + down
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            np.maximum.at(nearest, (y * width + x)[inside], rank[inside])
    painted = nearest >= 0
    canvas.reshape(-1, 3)[painted] = colors[order[nearest[painted]]]


def _outline(picture: Image.Image, eye: _Eye, camera: Camera, deep: float) -> None:
    """Draw the camera as a pyramid, ``deep`` [m], that opens towards what it sees."""
    x, y = deep * camera.width / 2 / camera.fx, deep * camera.height / 2 / camera.fy
    corners = np.array([(0, 0, 0), (-x, -y, deep), (x, -y, deep), (x, y, deep), (-x, y, deep)])
    u, v, _ = eye.project(corners)
    at = list(zip(u.tolist(), v.tolist()))
    draw = ImageDraw.Draw(picture)
    for corner in at[1:]:
        draw.line([at[0], corner], fill=_OUTLINE, width=3)
    draw.line([*at[1:], at[1]], fill=_OUTLINE, width=3)
