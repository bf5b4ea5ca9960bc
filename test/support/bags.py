"""Messages and bags made on the spot, with rosbags; and the classes of both ROS clients."""
from collections.abc import Callable
from dataclasses import dataclass
import io
from pathlib import Path
from typing import Any
import zlib

import numpy as np
from PIL import Image
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.messages import MessageTypes, pack_array, POSES, PoseTypes

TYPESTORE = get_typestore(Stores.LATEST)
STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
# Between the stamp of an image and its recording: a mistaken use of one for the other shows.
DELAY = 7 * SECOND
FRAME = 'camera_optical_frame'
# A real robot's drive; not part of this repository.
HALLWAY_BAG = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'hallway'
# Its camera: a wide angle with strong distortion.
HALLWAY = {
    'height': 480, 'width': 640,
    'k': (210.24, 0, 318.5, 0, 211.48, 252.5, 0, 0, 1),
    'd': (0.19941624, -0.20736409, 0.00070405, 0.00080602, 0.04787549)}


@dataclass(frozen=True)
class Family:
    """
    The message classes of one ROS client, to build the same message with either.

    :param classes: ROS name of a type -> class.
    :param to_bytes: message -> its CDR; equal messages have equal bytes, padding included.
    """

    name: str
    types: MessageTypes
    classes: Callable[[str], Any]
    to_bytes: Callable[[Any], bytes]

    def header(self, stamp=START, frame=FRAME):
        """Return a header; ``stamp`` in nanoseconds."""
        time = self.classes('builtin_interfaces/msg/Time')(
            sec=stamp // SECOND, nanosec=stamp % SECOND)
        return self.classes('std_msgs/msg/Header')(stamp=time, frame_id=frame)

    def image(self, data, height, width, step, encoding, big_endian=0, **header):
        """Return a sensor_msgs/Image with exactly these bytes and numbers, right or wrong."""
        return self.types.image(
            header=self.header(**header), height=height, width=width, encoding=encoding,
            is_bigendian=big_endian, step=step, data=self.pack(data))

    def compressed(self, data, form='jpeg', **header):
        """Return a sensor_msgs/CompressedImage with exactly these bytes."""
        return self.classes('sensor_msgs/msg/CompressedImage')(
            header=self.header(**header), format=form, data=self.pack(data))

    def photo(self, rgb, encoding='rgb8', padding=0, **header):
        """Return a good sensor_msgs/Image of a photograph in rgb8, bgr8 or mono8 (its red)."""
        height, width = rgb.shape[:2]
        pixels = {'rgb8': rgb, 'bgr8': rgb[..., ::-1], 'mono8': rgb[..., :1]}[encoding]
        rows = pixels.reshape(height, -1)
        rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
        return self.image(rows.tobytes(), height, width, rows.shape[1], encoding, **header)

    def info(self, height, width, k=None, d=(), p=None, model='plumb_bob', **header):
        """Return a sensor_msgs/CameraInfo; without ``k`` one that sees 60 degrees or so."""
        if k is None:
            k = (width * 0.9, 0, width / 2 - 0.5, 0, width * 0.8, height / 2 + 0.5, 0, 0, 1)
        if p is None:
            p = (*k[:3], 0, *k[3:6], 0, *k[6:9], 0)
        roi = self.classes('sensor_msgs/msg/RegionOfInterest')(
            x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
        return self.types.camera_info(
            header=self.header(**header), height=height, width=width, distortion_model=model,
            d=np.array(d, np.float64), k=np.array(k, np.float64), r=np.eye(3).reshape(9),
            p=np.array(p, np.float64), binning_x=0, binning_y=0, roi=roi)

    def pack(self, data):
        """Pack bytes as this client holds them."""
        return self.types.pack(np.frombuffer(bytes(data), np.uint8))


ROSBAGS = Family('rosbags', BAG_TYPES, TYPESTORE.types.__getitem__,
                 lambda message: bytes(TYPESTORE.serialize_cdr(message, message.__msgtype__)))


def rclpy_family():
    """Return the classes of rclpy; skips the test where there is no rclpy."""
    serialize = pytest.importorskip('rclpy.serialization').serialize_message
    modules = {name: pytest.importorskip(f'{name}.msg')
               for name in ('sensor_msgs', 'std_msgs', 'builtin_interfaces', 'geometry_msgs')}

    def classes(name):
        package, _, kind = name.split('/')
        return getattr(modules[package], kind)

    types = MessageTypes(
        image=classes('sensor_msgs/msg/Image'),
        compressed_image=classes('sensor_msgs/msg/CompressedImage'),
        camera_info=classes('sensor_msgs/msg/CameraInfo'),
        point_cloud=classes('sensor_msgs/msg/PointCloud2'),
        point_field=classes('sensor_msgs/msg/PointField'),
        pose=PoseTypes(*(classes(f'geometry_msgs/msg/{name}') for name in POSES)),
        pack=pack_array)
    return Family('rclpy', types, classes, lambda message: without_padding(message, serialize))


def without_padding(message, serialize):
    """Return the CDR of a message of rclpy with zeros as padding, where rclpy leaves any bytes."""
    package, kind = type(message).__module__.partition('.')[0], type(message).__name__
    name = f'{package}/msg/{kind}'
    copy = TYPESTORE.deserialize_cdr(serialize(message), name)
    return bytes(TYPESTORE.serialize_cdr(copy, name))


# --- photographs ----------------------------------------------------------------------------


def picture(height=48, width=64, seed=0):
    """Return a photograph with smooth shades and a few edges, (height, width, 3) uint8 RGB."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    shades = np.stack([x + 0.3 * np.sin(9 * y + seed), 0.4 + y * x, 1 - 0.8 * y], axis=-1)
    shades[height // 3:height // 2, width // 4 + seed % 5:width // 2] *= 0.4
    return (shades.clip(0, 1) * 255).round().astype(np.uint8)


def encoded(pixels, form='PNG', **options):
    """Return an array of any shape that Pillow knows as the bytes of a picture file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


# --- bags -----------------------------------------------------------------------------------


def write_bag(path, messages, storage='mcap', cut=()):
    """
    Write a rosbag2 folder; return its path.

    :param messages: (topic, message) or (topic, message, time of recording [ns]), in this order;
        without a time they are a tenth of a second apart.
    :param cut: indices of messages of which only the first half of the bytes is written.
    """
    with Writer(path, version=8, storage_plugin=STORAGES[storage]) as writer:
        connections = {}
        for i, (topic, message, *recorded) in enumerate(messages):
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPESTORE)
            data = TYPESTORE.serialize_cdr(message, kind)
            writer.write(connections[topic], recorded[0] if recorded else START + i * SECOND // 10,
                         data[:len(data) // 2] if i in cut else data)
    return path


def storage_file(bag):
    """Return the one .mcap or .db3 file in a bag folder."""
    file, = (path for path in bag.iterdir() if path.suffix in ('.mcap', '.db3'))
    return file


def stamps(count, first=START, step=SECOND // 10):
    """Return the stamps of ``count`` frames [ns]."""
    return [first + i * step for i in range(count)]


def recorded(count):
    """Return when :func:`camera_messages` were recorded [ns]."""
    return stamps(count, START + DELAY)


def camera_messages(count, name='/camera/image_raw', info='/camera/camera_info', size=(48, 64),
                    encoding='rgb8', **camera):
    """
    Return what a camera publishes: each image with its CameraInfo before it.

    They are recorded ``DELAY`` after their stamps.

    :param info: topic of the CameraInfo, or None.
    :param encoding: of Image messages, or 'jpeg' or 'png' for CompressedImage.
    """
    messages = []
    for i, stamp in enumerate(stamps(count)):
        rgb = picture(*size, seed=i)
        if info:
            messages.append((info, ROSBAGS.info(*size, stamp=stamp, **camera), stamp + DELAY))
        if encoding in ('jpeg', 'png'):
            message = ROSBAGS.compressed(encoded(rgb, encoding), encoding, stamp=stamp)
        else:
            message = ROSBAGS.photo(rgb, encoding, stamp=stamp)
        messages.append((name, message, stamp + DELAY))
    return messages


def read_bag(path):
    """Read a bag without zoe_ros: topic -> list of (time of recording [ns], message)."""
    found = {}
    with AnyReader([path], default_typestore=TYPESTORE) as reader:
        for connection, recorded, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            found.setdefault(connection.topic, []).append((recorded, message))
    return found


def cloud_points(cloud):
    """Return the x, y, z of an organised PointCloud2 of ours, (height, width, 3)."""
    values = np.frombuffer(bytes(cloud.data), '<f4').reshape(cloud.height, cloud.width, 4)
    return values[..., :3]


def depth_of(message):
    """Return the array in a 32FC1 image."""
    return np.frombuffer(bytes(message.data), '<f4').reshape(message.height, message.width)


def key(message):
    """Return what must not change on the way of a message: its stamp [ns] and its frame."""
    header = message.header
    return header.stamp.sec * SECOND + header.stamp.nanosec, header.frame_id


def damaged_in_the_middle(path, info='/camera/camera_info', count=20):
    """
    Write an MCAP bag whose chunks have checksums, and noise in its third quarter.

    :return: the path, and how many images lie outside of the damaged chunk.
    """
    # rosbags closes a chunk when it exceeds a megabyte: five of these images.
    file = storage_file(write_bag(path, camera_messages(count, info=info, size=(240, 320))))
    data = bytearray(file.read_bytes())
    chunks, at = [], 8      # after the magic: records of opcode, size and content
    while at < len(data) - 8:
        opcode, size = data[at], int.from_bytes(data[at + 1:at + 9], 'little')
        at += 9
        if opcode == 6:
            # Times and size take 24 bytes, the checksum 4, no compression 4, another size 8.
            checksum = zlib.crc32(data[at + 40:at + size])
            data[at + 24:at + 28] = checksum.to_bytes(4, 'little')
            chunks.append((at + 40, at + size))
        at += size
    assert len(chunks) == count // 5
    file.write_bytes(data)
    assert sum(map(len, read_bag(path).values())) == count * (2 if info else 1)
    start, end = chunks[2]
    data[(start + end) // 2:end - 99] = bytes(end - 99 - (start + end) // 2)
    file.write_bytes(data)
    return path, 15
