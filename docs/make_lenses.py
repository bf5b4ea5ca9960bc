#!/usr/bin/env python3
"""
Draw the picture of docs/lenses.md: the image of a wide lens, its depth, and the cloud.

The scene is a small room, ray cast through the lens of a real robot's camera (wide and strongly
distorted), so that its depth is known exactly and no trained weights are needed. What is drawn
went through the package's own camera model, colours and messages.

    python docs/make_lenses.py docs/lenses.png
"""
from __future__ import annotations

from pathlib import Path
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont
import torch

from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.camera import Camera
from zoe_ros.cloud import Unprojection
from zoe_ros.colormap import colorize, INK, PAPER
from zoe_ros.messages import cloud_message

LENS = Camera(640, 480, 210.2, 211.5, 318.5, 252.5, 'plumb_bob',
              (0.1994, -0.2074, 0.0007, 0.0008, 0.0479))
NEAR, FAR = 0.8, 9.0
# x right, y down, z forward [m]: a room 5 m wide, 2.6 m high, 8 m deep, seen from 1.3 m height.
WALLS = (  # axis, position, colour
    (1, 1.3, (150, 120, 92)), (1, -1.3, (226, 224, 216)), (0, -2.2, (148, 172, 168)),
    (0, 2.8, (196, 166, 140)), (2, 8.0, (214, 204, 182)))
BOXES = (  # low corner, high corner, colour
    ((0.7, 0.5, 2.2), (1.9, 1.3, 3.0), (196, 84, 62)),
    ((-2.1, -0.6, 3.4), (-1.5, 1.3, 4.6), (72, 96, 138)),
    ((1.6, -0.7, 5.6), (2.7, 1.3, 7.2), (104, 128, 84)))
BALL = ((-0.7, 0.9, 2.4), 0.4, (230, 182, 70))
LIGHT = np.array([0.2, -1.0, 2.0])


def cast(rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the colours (h, w, 3) and the depth along z (h, w) [m] that rays (h, w, 2) see."""
    d = np.dstack([rays.astype(np.float64), np.ones(rays.shape[:2])])
    depth = np.full(d.shape[:2], np.inf)
    color, normal = np.zeros(d.shape), np.zeros(d.shape)

    def hit(t: np.ndarray, where: np.ndarray, paint: object, n: np.ndarray) -> None:
        nearer = where & (t > 0.05) & (t < depth)
        depth[nearer] = t[nearer]
        color[nearer] = paint if not callable(paint) else paint(d[nearer] * t[nearer, None])
        normal[nearer] = np.broadcast_to(n, d.shape)[nearer]

    with np.errstate(divide='ignore', invalid='ignore'):
        for axis, position, paint in WALLS:
            n = np.zeros(3)
            n[axis] = -np.sign(position)
            hit(position / d[..., axis], np.full(depth.shape, True), tiles(axis, paint), n)
        for low, high, paint in BOXES:
            a, b = np.array(low) / d, np.array(high) / d
            enter, leave = np.minimum(a, b).max(-1), np.maximum(a, b).min(-1)
            axis = np.minimum(a, b).argmax(-1)
            n = -np.eye(3)[axis] * np.sign(np.take_along_axis(d, axis[..., None], -1))
            hit(enter, enter < leave, paint, n)
        center, radius, paint = np.array(BALL[0]), BALL[1], BALL[2]
        a, b = (d * d).sum(-1), d @ center
        root = b * b - a * (center @ center - radius ** 2)
        t = (b - np.sqrt(root)) / a
        hit(t, root > 0, paint, (d * t[..., None] - center) / radius)

    points = d * depth[..., None]
    to_light = LIGHT - points
    to_light /= np.linalg.norm(to_light, axis=-1, keepdims=True)
    shade = 0.62 + 0.42 * (normal * to_light).sum(-1, keepdims=True).clip(0, 1)
    return (color * shade).clip(0, 255).astype(np.uint8), depth.astype(np.float32)


def tiles(axis: int, paint: tuple[int, int, int]) -> object:
    """Return a texture: tiles of half a metre, so that straight lines can be seen to be bent."""
    others = [i for i in range(3) if i != axis]

    def texture(points: np.ndarray) -> np.ndarray:
        cell = np.floor(points[:, others] * 2 + 100).sum(-1) % 2
        return np.array(paint) * (0.86 + 0.14 * cell[:, None])

    return texture


def look_at_cloud(cloud: object, size: tuple[int, int]) -> np.ndarray:
    """Draw a PointCloud2 as seen from behind and above the camera, (h, w, 3) uint8."""
    values = np.frombuffer(cloud.data, '<f4').reshape(-1, 4)
    rgb = values[:, 3].copy().view('<u4')
    values, rgb = values[values[:, 1] > -1.2], rgb[values[:, 1] > -1.2]     # without the ceiling
    colors = np.stack([rgb >> 16, rgb >> 8, rgb], axis=-1) & 255
    yaw, pitch = np.radians(24), np.radians(38)
    p = values[:, :3] - np.array([0.2, 0.6, 4.0])
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)],
                     [0, np.sin(pitch), np.cos(pitch)]])
    p = p @ (tilt @ turn).T + np.array([0, 0, 10.5])
    width, height = size
    u = (p[:, 0] / p[:, 2] * 1.02 * width + width / 2).astype(int)
    v = (p[:, 1] / p[:, 2] * 1.02 * width + height / 2).astype(int)
    canvas = np.full((height, width, 3), 30, np.uint8)
    for i in np.argsort(-p[:, 2]):
        if 0 <= u[i] < width - 1 and 0 <= v[i] < height - 1:
            canvas[v[i]:v[i] + 2, u[i]:u[i] + 2] = colors[i]
    return canvas


def main(path: Path) -> None:
    """Draw the three panels with a line of text under each."""
    image, depth = cast(LENS.rays)
    every = 2
    points = Unprojection.from_camera(LENS, every)(torch.from_numpy(depth)).numpy()
    cloud = cloud_message(BAG_TYPES, None, points, image[::every, ::every])
    panels = (
        ('image_raw, with the lens of the robot', Image.fromarray(image)),
        ('depth/image: metres along the optical axis', Image.fromarray(
            colorize(depth, NEAR, FAR))),
        ('points: walls are flat again', Image.fromarray(look_at_cloud(cloud, (640, 480)))))
    gap, text, size = 10, 30, (440, 330)
    sheet = Image.new('RGB', (3 * size[0] + 4 * gap, size[1] + 2 * gap + text), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for i, (title, panel) in enumerate(panels):
        x = gap + i * (size[0] + gap)
        sheet.paste(panel.resize(size, Image.Resampling.LANCZOS), (x, gap))
        draw.text((x, size[1] + gap + 8), title, fill=INK, font=font)
    sheet.save(path, optimize=True)
    print(f'wrote {path}')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
