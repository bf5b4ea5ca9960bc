"""File layouts of published datasets: which files form a sample, and the unit of their depth."""
from __future__ import annotations

from collections.abc import Callable
import csv
from dataclasses import dataclass
from functools import partial
from pathlib import Path
import re

import numpy as np

from zoe_ros.camera import Camera
from zoe_ros.datasets import DatasetError
from zoe_ros.datasets.files import (
    camera_file,
    file_at,
    files_in,
    folder_at,
    only_file,
    partner,
    png_depth,
    read_lines,
    read_values,
    relative_name,
    scaled,
)
from zoe_ros.extras import require

# NYU's colour camera at 640 x 480, from its toolbox.
_NYU = Camera(640, 480, 518.857901, 519.469611, 325.582449, 253.736166)
# DIODE's laser scanner, from its devkit.
_DIODE = Camera(1024, 768, 886.81, 927.06, 512.0, 384.0)
# The standard camera of Hypersim; a few scenes use a tilted lens with another camera.
_HYPERSIM = Camera(1024, 768, 886.81, 886.81, 511.5, 383.5)
_VKITTI = Camera(1242, 375, 725.0087, 725.0087, 620.5, 187.0)
# Nominal values of DIML's ZED camera at 1920 x 1080; no calibration is distributed.
_DIML = Camera(1920, 1080, 1400.0, 1400.0, 959.5, 539.5)


@dataclass(frozen=True)
class Item:
    """
    The files of one sample.

    :param depth: returns depth (h, w) [m] along the optical axis; 0, negative or NaN for none.
    :param camera: (height, width) of the image -> its camera.
    """

    name: str
    image: Path
    depth: Callable[[], np.ndarray]
    camera: Callable[[tuple[int, int]], Camera]


def nyu(root: Path, split: str) -> list[Item]:
    """
    Return NYU Depth v2 as BTS distributes it: sync/ for training, official_splits/test.

    If the root has nyudepthv2_train_files_with_gt.txt, only the files of that list are used.
    """
    folder = root / ('sync' if split == 'train' else 'official_splits/test')
    picked = root / 'nyudepthv2_train_files_with_gt.txt'
    if split == 'train' and picked.is_file():
        images = [folder / line.split()[0].lstrip('/') for line in read_lines(picked)]
    else:
        images = files_in(folder, '*/rgb_*.jpg', '<scene>/rgb_00000.jpg, sync_depth_00000.png')
    items = []
    for image in images:
        depth = image.with_name(image.name.replace('rgb_', 'sync_depth_')).with_suffix('.png')
        items.append(Item(relative_name(folder, image), image,
                          partial(png_depth, partner(image, depth), 1000), partial(scaled, _NYU)))
    return items


def kitti(root: Path, split: str) -> list[Item]:
    """Return KITTI's Eigen split: raw/, data_depth_annotated/, and the split as a list."""
    listing = file_at(root / f'eigen_{split}_files_with_gt.txt',
                      'the list of the Eigen split, as BTS and ZoeDepth publish it')
    folders = [folder_at(root / 'data_depth_annotated' / part, 'the annotated depth maps')
               for part in ('train', 'val')]
    items = []
    for line in read_lines(listing):
        image, depth = line.split()[:2]
        if depth == 'None':     # 45 of the 697 test images have no true depth
            continue
        found = [folder / depth for folder in folders if (folder / depth).is_file()]
        if not found:
            raise DatasetError(f'{depth}, which {listing} names, is neither in {folders[0]} nor '
                               'in val beside it')
        items.append(Item(image.removesuffix('.png'), root / 'raw' / image,
                          partial(png_depth, found[0], 256),
                          partial(_kitti_camera, root / 'raw' / image.split('/')[0])))
    return items


def _kitti_camera(date: Path, size: tuple[int, int]) -> Camera:
    path = file_at(date / 'calib_cam_to_cam.txt', "the calibration of KITTI's raw data")
    match = re.search(r'^P_rect_02: (.*)$', path.read_text(), re.MULTILINE)
    if match is None:
        raise DatasetError(f'{path} has no line P_rect_02')
    p = [float(number) for number in match[1].split()]
    return Camera(size[1], size[0], p[0], p[5], p[2], p[6])


def sunrgbd(root: Path, split: str) -> list[Item]:
    """Return SUN RGB-D: SUNRGBD/ and, for the split, SUNRGBDtoolbox/traintestSUNRGBD."""
    path = file_at(root / 'SUNRGBDtoolbox' / 'traintestSUNRGBD' / 'allsplit.mat',
                   "the split, from SUN RGB-D's toolbox")
    matlab = require('this dataset', 'train', 'scipy.io')
    try:
        entries = matlab.loadmat(path, squeeze_me=True)[f'all{split}']
    except Exception as error:  # scipy's errors have no common base class
        raise ValueError(f'{path.name}: {error}') from None
    items = []
    for entry in np.atleast_1d(entries):
        # '/n/fs/sun3d/data/SUNRGBD/kv2/...': paths on the authors' machine
        folder = root / ('SUNRGBD' + str(entry).partition('SUNRGBD')[2].rstrip('/'))
        items.append(Item(
            folder.relative_to(root / 'SUNRGBD').as_posix(), only_file(folder / 'image', '*.jpg'),
            partial(_sunrgbd_depth, only_file(folder / 'depth_bfx', '*.png')),
            partial(camera_file, folder / 'intrinsics.txt')))
    return items


def _sunrgbd_depth(path: Path) -> np.ndarray:
    """Rotate the bits by three, like the toolbox."""
    values = read_values(path).astype(np.uint16)
    return ((values >> 3) | (values << 13)).astype(np.float32) / 1000


def ibims(root: Path, split: str) -> list[Item]:
    """Return iBims-1 (core, raw): rgb/, depth/, mask_invalid/, mask_transp/, calib/."""
    _measuring_only('iBims-1', split)
    listing = file_at(root / 'imagelist.txt', 'the list of images of iBims-1')
    return [Item(name, root / 'rgb' / f'{name}.png', partial(_ibims_depth, root, name),
                 partial(camera_file, root / 'calib' / f'{name}.txt'))
            for name in map(str.strip, read_lines(listing))]


def _ibims_depth(root: Path, name: str) -> np.ndarray:
    """Return depth without pixels that are invalid or transparent, where a mask is 0."""
    depth, known, opaque = (read_values(root / folder / f'{name}.png')
                            for folder in ('depth', 'mask_invalid', 'mask_transp'))
    return np.where((known > 0) & (opaque > 0), depth * np.float32(50 / 65535), 0)


def diode(part: str, root: Path, split: str) -> list[Item]:
    """Return a part of DIODE, 'indoors' or 'outdoor', with its validity mask."""
    folder = root / ('train' if split == 'train' else 'val') / part
    return [Item(relative_name(folder, image), image, partial(_diode_depth, image),
                 partial(scaled, _DIODE))
            for image in files_in(folder, 'scene_*/scan_*/*.png', 'scene_*/scan_*/*.png')]


def _diode_depth(image: Path) -> np.ndarray:
    depth, mask = (np.load(partner(image, image.with_name(f'{image.stem}_{kind}.npy')))
                   for kind in ('depth', 'depth_mask'))
    return np.where(mask > 0, depth.reshape(mask.shape), 0)


def hypersim(root: Path, split: str) -> list[Item]:
    """Return Hypersim: ai_*/images/scene_cam_*, and the split as its CSV file."""
    listing = file_at(root / 'metadata_images_split_scene_v1.csv', "Hypersim's split")
    with listing.open(newline='') as file:
        rows = [row for row in csv.DictReader(file) if row['split_partition_name'] == split]
    items = []
    for row in rows:
        images, camera = root / row['scene_name'] / 'images', row['camera_name']
        frame = f'frame.{int(row["frame_id"]):04}'
        items.append(Item(
            f'{row["scene_name"]}/{camera}/{frame}',
            images / f'scene_{camera}_final_preview' / f'{frame}.tonemap.jpg',
            partial(_hypersim_depth,
                    images / f'scene_{camera}_geometry_hdf5' / f'{frame}.depth_meters.hdf5'),
            partial(scaled, _HYPERSIM)))
    return items


def _hypersim_depth(path: Path) -> np.ndarray:
    """Convert the file's distances to the camera (despite the file name) into depth."""
    hdf5 = require('this dataset', 'train', 'h5py')
    with hdf5.File(file_at(path, 'the depth of a frame')) as file:
        distance = np.asarray(file['dataset'], np.float32)
    rays = scaled(_HYPERSIM, distance.shape[:2]).rays
    return distance / np.sqrt(1 + (rays ** 2).sum(axis=-1))


def vkitti2(root: Path, split: str) -> list[Item]:
    """
    Return Virtual KITTI 2, left camera: Scene*/<variation>/frames/{rgb,depth}/Camera_0.

    The paper tests on 8 % that were drawn without a seed; here it is every 12th or 13th image.
    """
    images = files_in(root, 'Scene*/*/frames/rgb/Camera_0/rgb_*.jpg',
                      'Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg')
    items = []
    for number, image in enumerate(images):
        if (2 * number % 25 < 2) == (split == 'test'):
            depth = (image.parents[2] / 'depth' / 'Camera_0' / image.name.replace('rgb', 'depth')
                     ).with_suffix('.png')
            items.append(Item(relative_name(root, image), image,
                              partial(png_depth, partner(image, depth), 100),
                              partial(scaled, _VKITTI)))
    return items


def diml(root: Path, split: str) -> list[Item]:
    """Return DIML outdoor: folders outleft/ and depthmap/ with files of the same names."""
    _measuring_only('DIML outdoor', split)
    return [Item(relative_name(root, image), image,
                 partial(png_depth, partner(image, image.parents[1] / 'depthmap' / image.name),
                         1000),
                 partial(scaled, _DIML))
            for image in files_in(root, 'outleft/*.png', 'outleft/*.png and depthmap/*.png')]


def _measuring_only(name: str, split: str) -> None:
    if split != 'test':
        raise DatasetError(f'{name} is for measuring: it has no part to learn from')
