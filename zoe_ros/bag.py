"""Rosbags without ROS: images, depth and CameraInfo out of a bag, results into one."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
import signal
from threading import current_thread, main_thread
from types import TracebackType
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

from zoe_ros.camera import Camera
from zoe_ros.errors import first_line
from zoe_ros.messages import (
    CameraInfoBuffer,
    DEPTH_ENCODINGS,
    MessageError,
    MessageTypes,
    nanoseconds,
    pack_numpy,
)

_TYPESTORE = get_typestore(Stores.LATEST)
IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
INFO_TYPE = 'sensor_msgs/msg/CameraInfo'
SUFFIXES = ('.mcap', '.db3')

BAG_TYPES = MessageTypes(
    image=_TYPESTORE.types['sensor_msgs/msg/Image'],
    camera_info=_TYPESTORE.types[INFO_TYPE],
    point_cloud=_TYPESTORE.types['sensor_msgs/msg/PointCloud2'],
    point_field=_TYPESTORE.types['sensor_msgs/msg/PointField'],
    pack=pack_numpy)


class BagError(ValueError):
    """A bag that cannot be used; the text says why and what to do."""


class SeveralTopicsError(BagError):
    """There is more than one image topic to choose from: ``topics``."""

    def __init__(self, path: Path, topics: list[str]) -> None:
        """Keep the topics beside the text for people."""
        super().__init__(f'{path} has several image topics')
        self.topics = topics


@dataclass(frozen=True)
class BagImage:
    """
    An image of a bag.

    :param recorded: when it was recorded [ns].
    :param read: returns the message, or raises a MessageError.
    """

    recorded: int
    read: Callable[[], Any]

    @cached_property
    def message(self) -> Any:
        """
        Return the message.

        :raises MessageError: its bytes are damaged.
        """
        return self.read()


def is_bag(path: Path) -> bool:
    """Tell a rosbag2 folder or a bare storage file from other files; ROS 1's .bag counts."""
    return (path / 'metadata.yaml').is_file() or path.suffix in (*SUFFIXES, '.bag')


class BagReader:
    """
    The images of one topic of a bag, in the order of recording; a context manager.

    :ivar topic: the image topic.
    :ivar info_topic: the topic of its CameraInfo, or None.
    :ivar infos: all of its CameraInfo.
    :ivar count: the number of images.
    """

    def __init__(self, path: Path, topic: str | None = None) -> None:
        """
        Open a bag.

        :param path: a rosbag2 folder, an .mcap or a .db3 file.
        :param topic: the image topic; not needed where there is only one.
        :raises BagError: it cannot be read, or has no such images.
        :raises SeveralTopicsError: the topic must be chosen.
        """
        self._path = path
        if path.suffix == '.bag':
            raise BagError(f'{path} is a bag of ROS 1: convert it, for example with '
                           '"rosbags-convert --src ... --dst ..."')
        try:
            self._reader = AnyReader([path], default_typestore=_TYPESTORE)
            self._reader.open()
        except Exception as error:  # damaged storage surfaces as errors of many libraries
            raise self._unreadable(error) from None
        try:
            self.topic = self._choose(topic)
            self.info_topic = self._info_topic()
            self.count = self._reader.topics[self.topic].msgcount
            self.infos = CameraInfoBuffer(capacity=None)
            self._read_infos()
        except BaseException:
            self._reader.close()
            raise

    def __enter__(self) -> BagReader:
        """Return self; the bag is open already."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Close the bag."""
        self._reader.close()

    def __iter__(self) -> Iterator[BagImage]:
        """
        Give each image.

        :raises BagError: the bag is damaged from here on.
        """
        yield from self._messages(self.topic)

    def headers(self, topic: str) -> Iterator[tuple[int, Any]]:
        """Give when each image of a topic was recorded [ns], and its header; damaged ones not."""
        for item in self._messages(topic):
            with suppress(MessageError):
                yield item.recorded, item.message.header

    def image_at(self, topic: str, recorded: int, stamp: int) -> Any:
        """
        Return one image.

        :param recorded: when it was recorded [ns].
        :param stamp: of its header [ns]; several images may have been recorded at once.
        :raises BagError, MessageError: it is not there or damaged.
        """
        for item in self._messages(topic, recorded, recorded + 1):
            if nanoseconds(item.message.header.stamp) == stamp:
                return item.message
        raise BagError(f'{self._path} has no image of {topic} stamped {stamp} any more')

    def depth_topics(self) -> dict[str, Any]:
        """Return the first message of each topic of raw depth images."""
        found = {}
        for name, info in self._reader.topics.items():
            if info.msgtype == IMAGE_TYPES[0] and info.msgcount:
                with suppress(MessageError, StopIteration):
                    first = next(self._messages(name)).message
                    if first.encoding in DEPTH_ENCODINGS:
                        found[name] = first
        return found

    def _messages(self, topic: str, start: int | None = None,
                  stop: int | None = None) -> Iterator[BagImage]:
        connections = self._reader.topics[topic].connections
        messages = self._reader.messages(connections=connections, start=start, stop=stop)
        while True:
            try:
                connection, recorded, data = next(messages)
            except StopIteration:
                return
            except Exception as error:  # as above
                raise self._unreadable(error) from None
            yield BagImage(recorded, partial(self._deserialize, data, connection.msgtype))

    def _deserialize(self, data: bytes, kind: str) -> Any:
        try:
            return self._reader.deserialize(data, kind)
        except Exception as error:  # as above
            raise MessageError('corrupt', f'a damaged message: {first_line(error)}') from None

    def _read_infos(self) -> None:
        """Read ahead; what is damaged is left out, the images will meet the damage, too."""
        if self.info_topic:
            with suppress(BagError):
                for item in self._messages(self.info_topic):
                    with suppress(MessageError):
                        self.infos.add(item.message)

    def _choose(self, topic: str | None) -> str:
        topics = {name: info.msgtype for name, info in self._reader.topics.items()
                  if info.msgtype in IMAGE_TYPES and info.msgcount}
        if topic is not None:
            if topic not in topics:
                raise BagError(f'{self._path} has no images on {topic}; it has '
                               f'{_listing(topics) or "no images at all"}')
            return topic
        photographs = sorted(name for name in topics if not self._is_depth(name))
        if len(photographs) > 1:
            raise SeveralTopicsError(self._path, photographs)
        if not photographs:
            others = _listing(self._reader.topics) or 'nothing'
            raise BagError(f'{self._path} has no photographs to work on; it has {others}')
        return photographs[0]

    def _is_depth(self, topic: str) -> bool:
        """Look at the first message: an RGB-D bag has one photograph topic, not two."""
        with suppress(MessageError, StopIteration):
            first = next(self._messages(topic)).message
            if hasattr(first, 'format'):
                return 'compressedDepth' in first.format
            return first.encoding in DEPTH_ENCODINGS
        return False

    def _info_topic(self) -> str | None:
        """Return the sibling 'camera_info' of the image topic, or the only CameraInfo topic."""
        base = self.topic.removesuffix('/compressed').rsplit('/', 1)[0]
        infos = [name for name, info in self._reader.topics.items()
                 if info.msgtype == INFO_TYPE and info.msgcount]
        if f'{base}/camera_info' in infos:
            return f'{base}/camera_info'
        return infos[0] if len(infos) == 1 else None

    def _unreadable(self, error: Exception) -> BagError:
        return BagError(f'{self._path} cannot be read as a rosbag ({first_line(error)}); if its '
                        'recording was cut off, try "ros2 bag reindex" or "mcap recover"')


def stamped(stamp: int, frame: str) -> Any:
    """Return a std_msgs/Header; ``stamp`` in nanoseconds."""
    time = _TYPESTORE.types['builtin_interfaces/msg/Time'](
        sec=stamp // 10 ** 9, nanosec=stamp % 10 ** 9)
    return _TYPESTORE.types['std_msgs/msg/Header'](stamp=time, frame_id=frame)


def info_from_camera(camera: Camera, header: Any) -> Any:
    """Return the CameraInfo of a camera, which is not rectified by it."""
    k = np.array([camera.fx, 0, camera.cx, 0, camera.fy, camera.cy, 0, 0, 1], np.float64)
    p = np.insert(k, (3, 6, 9), 0.0)
    roi = _TYPESTORE.types['sensor_msgs/msg/RegionOfInterest'](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return BAG_TYPES.camera_info(
        header=header, height=camera.height, width=camera.width, distortion_model=camera.model,
        d=np.array(camera.distortion, np.float64), k=k, r=np.eye(3).ravel(), p=p, binning_x=0,
        binning_y=0, roi=roi)


def _listing(topics: Any) -> str:
    return ', '.join(sorted(topics))


class BagWriter:
    """
    Writes a rosbag2 folder with MCAP storage; a context manager.

    However it is left, what was written so far is a complete, readable bag.
    """

    def __init__(self, path: Path) -> None:
        """Create the folder ``path``, which must not exist."""
        # Version 8 of the metadata is the last that Iron reads; newer ROS read it as well.
        self._writer = Writer(path, version=8, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        """Return self; the bag is open already."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Finish the bag, also after an error: rosbags' own context manager would abandon it."""
        with _uninterrupted():
            self._writer.close()

    def write(self, topic: str, message: Any, recorded: int) -> None:
        """Write a message of :data:`BAG_TYPES` with its time of recording [ns]."""
        kind = message.__msgtype__
        data = _TYPESTORE.serialize_cdr(message, kind)
        with _uninterrupted():
            if topic not in self._connections:
                self._connections[topic] = self._writer.add_connection(
                    topic, kind, typestore=_TYPESTORE)
            self._writer.write(self._connections[topic], recorded, data)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait for the end of a record: half of one would spoil the bag."""
    if current_thread() is not main_thread():
        yield
        return
    waiting: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if waiting:
            signal.raise_signal(signal.SIGINT)
