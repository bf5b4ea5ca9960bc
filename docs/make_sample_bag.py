#!/usr/bin/env python3
"""
Make the sample bag that ships with the package: a drive, and a look around in two real places.

The drive is a room and a street of `zoe world`, with their true depth at half the rate of the
images. The scenes belong to neither split of any world, so no shipped model has seen them. The
real places are panoramas under CC0, cut to the view of a camera that turns.

The panoramas come with Debian's package blender-data, and are read by OpenEXR of PyPI:

    apt-get install blender-data && pip install OpenEXR && make sample

Each scene and place has its row in LICENSES.md beside the bag: change both together.
test/test_sample_licences.py compares the frames with the sources that the rows name.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
import io
from pathlib import Path
import shutil
import tempfile

import numpy as np
from PIL import Image
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
import torch
import torch.nn.functional as nnf

from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.bag_writer import info_from_camera, stamped
from zoe_ros.camera import Camera
from zoe_ros.command_settings import WorldSettings
from zoe_ros.datasets.bags import RgbdBag
from zoe_ros.messages import millimetre_message
from zoe_ros.world.record import record_world

TARGET = Path(__file__).parents[1] / 'zoe_ros' / 'data' / 'sample'
PANORAMAS = Path('/usr/share/blender/datafiles/studiolights/world')
IMAGE, INFO, DEPTH = (
    '/camera/image_raw/compressed', '/camera/camera_info', '/camera/depth/image_raw')
FRAME = 'camera_optical_frame'
WIDTH, HEIGHT = 480, 360
PERIOD, PAUSE = 100_000_000, 4_000_000_000      # between images, and between places [ns]
START = 1_700_000_000_000_000_000   # [ns]; any
STORE = get_typestore(Stores.LATEST)
# Domain and seed, as for `zoe world --bag`. Chosen by eye from fifty of each domain.
DRIVES = (('indoor', 102), ('outdoor', 134))
DRIVE_FRAMES = 16


@dataclass(frozen=True)
class Place:
    """
    A panorama and how a camera turns in it.

    :param name: of the panorama.
    :param yaws: the first and the last direction of the camera [degrees].
    :param field: its horizontal field of view [degrees].
    """

    name: str
    yaws: tuple[float, float]
    field: float


PLACES = (Place('interior', (98, 122), 66), Place('city', (78, 104), 80))
PLACE_FRAMES = 4
PITCH = -7.0        # of the camera in a panorama [degrees]


@dataclass(frozen=True, eq=False)
class Shot:
    """
    What the bag holds of one moment.

    :param image: (h, w, 3) uint8 RGB.
    :param depth: (h, w) float32 [m], NaN = none; None where it is not known.
    """

    image: np.ndarray
    camera: Camera
    depth: np.ndarray | None = None


def drive(domain: str, seed: int, width: int = WIDTH, height: int = HEIGHT) -> list[Shot]:
    """Render a drive through a scene."""
    with tempfile.TemporaryDirectory() as folder:
        bag = record_world(WorldSettings(
            f'{folder}/bag', frames=DRIVE_FRAMES, height=height, width=width, seed=seed,
            bag=domain))
        return [Shot(sample.image, sample.camera, sample.depth)
                for sample in RgbdBag(bag, domain)]


def turn(place: Place) -> list[Shot]:
    """Look around in a panorama."""
    panorama = read_panorama(place.name)
    focal = WIDTH / 2 / np.tan(np.radians(place.field) / 2)
    camera = Camera(WIDTH, HEIGHT, focal, focal, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    return [Shot(look(panorama, camera, float(yaw)), camera)
            for yaw in np.linspace(*place.yaws, PLACE_FRAMES)]


def read_panorama(name: str) -> np.ndarray:
    """Return a panorama as a screen shows it, (h, w, 3) float32 in [0, 1]."""
    import OpenEXR

    pixels = OpenEXR.File(str(PANORAMAS / f'{name}.exr')).channels()['RGB'].pixels
    light = np.asarray(pixels, np.float32)
    light *= 0.5 / np.median(light.max(axis=-1))
    # Highlights are compressed (Reinhard, white at 3), then encoded by the gamma of a screen.
    return (light * (1 + light / 9) / (1 + light)).clip(0, 1) ** (1 / 2.2)


def look(panorama: np.ndarray, camera: Camera, yaw: float) -> np.ndarray:
    """
    Return what a camera sees of a panorama, (h, w, 3) uint8 RGB.

    :param panorama: (h, w, 3) in [0, 1], equirectangular.
    :param yaw: direction of the camera [degrees], to the right of the panorama's middle.
    """
    pitch = np.radians(PITCH)
    x, y = camera.rays[..., 0], camera.rays[..., 1]
    down, ahead = np.cos(pitch) * y - np.sin(pitch), np.sin(pitch) * y + np.cos(pitch)
    turned = np.arctan2(x, ahead) / (2 * np.pi) + yaw / 360         # [turns]
    tilted = np.arctan2(down, np.hypot(x, ahead)) / np.pi           # [half turns]
    # The panorama is repeated to both sides, so that a view across its seam is whole.
    wide = torch.from_numpy(np.concatenate([panorama] * 3, axis=1)).permute(2, 0, 1)[None]
    grid = np.stack([2 / 3 * ((turned + 0.5) % 1 - 0.5), 2 * tilted], axis=-1)[None]
    seen = nnf.grid_sample(wide, torch.from_numpy(grid.astype(np.float32)), mode='bicubic',
                           align_corners=False)[0].permute(1, 2, 0).numpy()
    return (seen * 255).round().clip(0, 255).astype(np.uint8)


def shots() -> Iterator[tuple[int, Shot]]:
    """Give all that the bag shows, in order, each with its stamp [ns]."""
    stamp = START
    places = [partial(drive, *seed) for seed in DRIVES] + [partial(turn, p) for p in PLACES]
    for place in places:
        for shot in place():
            yield stamp, shot
            stamp += PERIOD
        # The router averages over time: without a pause it would keep the head of the last place.
        stamp += PAUSE


def write_bag(path: Path) -> None:
    """Write the bag as the new folder ``path``."""
    writer = Writer(path, version=8, storage_plugin=StoragePlugin.MCAP)
    # Chunks of the MCAP file, which every reader of MCAP unpacks; the bag stays a plain one.
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        topics = {topic: writer.add_connection(topic, f'sensor_msgs/msg/{kind}', typestore=STORE)
                  for topic, kind in ((INFO, 'CameraInfo'), (IMAGE, 'CompressedImage'),
                                      (DEPTH, 'Image'))}
        for number, (stamp, shot) in enumerate(shots()):
            header = stamped(stamp, FRAME)
            messages = {INFO: info_from_camera(shot.camera, header),
                        IMAGE: jpeg_message(header, shot)}
            if shot.depth is not None and number % 2 == 0:
                messages[DEPTH] = millimetre_message(BAG_TYPES, header, shot.depth)
            for topic, message in messages.items():
                data = STORE.serialize_cdr(message, message.__msgtype__)
                writer.write(topics[topic], stamp, data)


def jpeg_message(header: object, shot: Shot) -> object:
    """Return the image as a camera driver publishes it."""
    jpeg = io.BytesIO()
    Image.fromarray(shot.image).save(jpeg, 'JPEG', quality=88)
    return STORE.types['sensor_msgs/msg/CompressedImage'](
        header=header, format='bgr8; jpeg compressed bgr8',
        data=np.frombuffer(jpeg.getvalue(), np.uint8))


def main() -> None:
    """Replace the bag and leave the licences beside it."""
    with tempfile.TemporaryDirectory() as folder:
        write_bag(Path(folder) / TARGET.name)
        shutil.copytree(Path(folder) / TARGET.name, TARGET, dirs_exist_ok=True)
    print(f'wrote {TARGET}')


if __name__ == '__main__':
    main()
