#!/usr/bin/env python3
"""
Make the sample bag that ships with the package, from the photographs inside scikit-image.

A virtual camera pans over five real photographs for half a second each; the pictures are JPEG
images as a camera driver publishes them, with the CameraInfo of the camera that ZoeDepth's indoor
head was trained with. Deterministic for given versions of Pillow.

Each photograph has its row in LICENSES.md beside the bag: change both together.
test/test_sample_licences.py compares the frames with the photographs that the rows name.

    make sample
"""
from __future__ import annotations

import io
from pathlib import Path
import shutil
import tempfile

import numpy as np
from PIL import Image
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
from skimage import data

TARGET = Path(__file__).parents[1] / 'zoe_ros' / 'data' / 'sample'
PHOTOS = ('coffee', 'chelsea', 'astronaut', 'rocket', 'camera')
FRAMES_PER_PHOTO, RATE = 5, 10
WIDTH, HEIGHT = 480, 360
FOCAL = 518.8579 * WIDTH / 640      # NYU Depth v2's Kinect, whose images are 640 pixels wide
START = 1_700_000_000_000_000_000   # [ns]; any

STORE = get_typestore(Stores.ROS2_HUMBLE)
TYPES = STORE.types


def pan(picture: Image.Image) -> list[Image.Image]:
    """Return what the camera sees of a photograph, from its upper left to its lower right."""
    # A little larger than the image of the camera, so that there is room to move.
    scale = 1.15 * max(WIDTH / picture.width, HEIGHT / picture.height)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)),
                             Image.Resampling.LANCZOS)
    frames = []
    for step in np.linspace(0, 1, FRAMES_PER_PHOTO):
        left = round(step * (picture.width - WIDTH))
        top = round(step * (picture.height - HEIGHT))
        frames.append(picture.crop((left, top, left + WIDTH, top + HEIGHT)))
    return frames


def camera_info(header: object) -> object:
    """Return the CameraInfo of a pinhole camera."""
    cx, cy = (WIDTH - 1) / 2, (HEIGHT - 1) / 2
    k = np.array([FOCAL, 0, cx, 0, FOCAL, cy, 0, 0, 1], np.float64)
    p = np.array([FOCAL, 0, cx, 0, 0, FOCAL, cy, 0, 0, 0, 1, 0], np.float64)
    roi = TYPES['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)
    return TYPES['sensor_msgs/msg/CameraInfo'](
        header=header, height=HEIGHT, width=WIDTH, distortion_model='plumb_bob', d=np.zeros(5),
        k=k, r=np.eye(3).ravel(), p=p, binning_x=0, binning_y=0, roi=roi)


def main() -> None:
    """Write the bag anew, leaving the licences beside it alone."""
    with tempfile.TemporaryDirectory() as folder:
        write_bag(Path(folder) / TARGET.name)
        shutil.copytree(Path(folder) / TARGET.name, TARGET, dirs_exist_ok=True)
    print(f'wrote {TARGET}')


def write_bag(path: Path) -> None:
    """Write the bag as the new folder ``path``."""
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        images = writer.add_connection(
            '/camera/image_raw/compressed', 'sensor_msgs/msg/CompressedImage', typestore=STORE)
        infos = writer.add_connection(
            '/camera/camera_info', 'sensor_msgs/msg/CameraInfo', typestore=STORE)
        photos = [Image.fromarray(getattr(data, name)()) for name in PHOTOS]
        for i, picture in enumerate(frame for photo in photos for frame in pan(photo)):
            time = START + i * 1_000_000_000 // RATE
            stamp = TYPES['builtin_interfaces/msg/Time'](
                sec=time // 1_000_000_000, nanosec=time % 1_000_000_000)
            header = TYPES['std_msgs/msg/Header'](stamp=stamp, frame_id='camera_optical_frame')
            jpeg = io.BytesIO()
            picture.save(jpeg, 'JPEG', quality=88)
            kind = 'mono8' if picture.mode == 'L' else 'bgr8'
            image = TYPES['sensor_msgs/msg/CompressedImage'](
                header=header, format=f'{kind}; jpeg compressed {kind}',
                data=np.frombuffer(jpeg.getvalue(), np.uint8))
            for connection, message in ((infos, camera_info(header)), (images, image)):
                kind = message.__msgtype__
                writer.write(connection, time, STORE.serialize_cdr(message, kind))


if __name__ == '__main__':
    main()
