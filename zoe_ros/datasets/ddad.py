"""DDAD as it is distributed: scenes in JSON (the format of DGP), images and laser scans."""
from __future__ import annotations

from functools import partial
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoe_ros.camera import Camera
from zoe_ros.datasets.files import file_at
from zoe_ros.datasets.layouts import Item

_CAMERA, _LASER = 'CAMERA_01', 'LIDAR'      # the front camera, which the paper tests on
_SPLITS = {'train': '0', 'test': '1'}       # validation: the test depth is not public
_NEAREST = 0.1                              # [m]


def ddad(root: Path, split: str) -> list[Item]:
    """Return DDAD: ddad.json, and folders of scenes with rgb/, point_cloud/ and calibration/."""
    listing = file_at(root / 'ddad.json', "DDAD's list of scenes")
    items = []
    for filename in json.loads(listing.read_text())['scene_splits'][_SPLITS[split]]['filenames']:
        path = file_at(root / filename, f'a scene that {listing} names')
        scene = json.loads(path.read_text())
        data = {datum['key']: datum for datum in scene['data']}
        for sample in scene['samples']:
            found = {data[key]['id']['name']: data[key]['datum'] for key in sample['datum_keys']}
            if not {_CAMERA, _LASER} <= set(found):
                continue
            image, cloud = found[_CAMERA]['image'], found[_LASER]['point_cloud']
            calibration = path.parent / 'calibration' / f'{sample["calibration_key"]}.json'
            items.append(Item(
                f'{path.parent.name}/{Path(image["filename"]).stem}',
                path.parent / image['filename'],
                partial(_depth, path.parent, image, cloud, calibration),
                partial(_camera, calibration)))
    return items


def _camera(path: Path, size: tuple[int, int]) -> Camera:
    content = json.loads(file_at(path, 'the calibration of a scene').read_text())
    k = content['intrinsics'][content['names'].index(_CAMERA)]
    return Camera(size[1], size[0], k['fx'], k['fy'], k['cx'], k['cy'])


def _depth(folder: Path, image: dict[str, Any], cloud: dict[str, Any],
           calibration: Path) -> np.ndarray:
    """Project the scan into the image, with the sensor poses at their two times."""
    with Image.open(file_at(folder / image['filename'], 'an image')) as picture:
        width, height = picture.size
    camera = _camera(calibration, (height, width))
    points = np.load(file_at(folder / cloud['filename'], 'a laser scan'))['data'][:, :3]
    (turn, shift), (camera_turn, camera_shift) = _pose(cloud['pose']), _pose(image['pose'])
    x, y, z = ((points @ turn.T + shift - camera_shift) @ camera_turn).T
    front = z > _NEAREST
    u, v = camera.project(x[front] / z[front], y[front] / z[front])
    return splat(np.rint(u), np.rint(v), z[front], (height, width))


def splat(u: np.ndarray, v: np.ndarray, z: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the nearest depth on each pixel, (h, w) [m]; 0 on pixels without a point."""
    height, width = size
    inside = (u >= 0) & (v >= 0) & (u < width) & (v < height)
    depth = np.full(size, np.inf)
    np.minimum.at(depth, (v[inside].astype(int), u[inside].astype(int)), z[inside])
    return np.where(np.isfinite(depth), depth, 0).astype(np.float32)


def _pose(pose: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotation (3, 3) and translation (3,) [m] from a sensor to the world."""
    w, x, y, z = (pose['rotation'][key] for key in ('qw', 'qx', 'qy', 'qz'))
    turn = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])
    return turn, np.array([pose['translation'][key] for key in 'xyz'])
