"""Reads rosbags without ROS: images, depth and CameraInfo."""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
import gc
from pathlib import Path
from typing import Any

import numpy as np

from zoe_ros.bag_messages import deserialize, IMAGE_TYPES, INFO_TYPE, InfoDecoder
from zoe_ros.camera_info import CameraInfoBuffer, image_size
from zoe_ros.errors import first_line
from zoe_ros.headers import frame_name, nanoseconds
from zoe_ros.images import decode_depth, decode_image, is_depth, is_readable_depth, MessageError
from zoe_ros.outputs import own_topics, perhaps_own_topics
from zoe_ros.storage import EVER, StorageError
from zoe_ros.storage.recording import (
    is_folder,
    is_storage_name,
    METADATA,
    Recording,
    starts_as_storage,
    storage_files,
)
from zoe_ros.topic_names import info_topics_of, raw_first, says_depth, shared_parts


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
    An image, or another message, of a bag.

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
    if is_folder(path) and ((path / METADATA).is_file() or storage_files(path)):
        return True
    return (is_storage_name(path.name) or path.suffix.lower() == '.bag'
            or path.name == METADATA or starts_as_storage(path))


class BagReader:
    """
    The images of one topic of a bag, in the order of recording; a context manager.

    :ivar topic: the image topic.
    :ivar info_topic: the topic of its CameraInfo, or None.
    :ivar info_topics: all topics of CameraInfo.
    :ivar infos: all of its CameraInfo.
    :ivar count: the number of images that the bag says it holds.
    :ivar notes: what a user should know although nothing is missing.
    """

    def __init__(self, path: Path, topic: str | None = None) -> None:
        """
        Open a bag.

        Only images and CameraInfo matter. They are read with the types of ROS 2 as released: what
        a bag says about types, its own or others', cannot spoil that.

        :param path: a rosbag2 folder, an .mcap or a .db3 file.
        :param topic: the image topic; not needed where there is only one.
        :raises BagError: it cannot be read, or has no such images.
        :raises SeveralTopicsError: the topic must be chosen.
        """
        self._path = path
        if path.suffix.lower() == '.bag':
            raise self._ros1()
        try:
            self._recording = Recording(path)
        except (StorageError, OSError) as error:
            raise self._unreadable(first_line(error)) from None
        try:
            self.notes = self._recording.notes
            self._topics = {channel.topic: channel.kind for channel in self._recording.channels
                            if channel.kind in (*IMAGE_TYPES, INFO_TYPE)
                            and channel.encoding == 'cdr'
                            and self._recording.count(channel.topic, (channel.kind,))}
            names = {channel.topic for channel in self._recording.channels}
            self._own, self._perhaps_own = own_topics(names), perhaps_own_topics(names)
            self._firsts: dict[str, Any | None] = {}
            self.info_topics = sorted(
                name for name, kind in self._topics.items() if kind == INFO_TYPE)
            self.topic = self._choose(topic)
            self.count = self._recording.count(self.topic, (self._topics[self.topic],))
            self.info_topic = self._info_topic()
            self.infos = self._read_infos()
        except BaseException:
            self._recording.close()
            raise

    def __enter__(self) -> BagReader:
        """Return self; the bag is open already."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the bag."""
        self._recording.close()

    def __iter__(self) -> Iterator[BagImage]:
        """
        Give each image that can be read.

        :raises BagError: after the last one, if there should be more.
        """
        given = 0
        for image in self.between():
            given += 1
            yield image
        self.require_whole(given)

    def between(self, start: int = 0, stop: int = EVER) -> Iterator[BagImage]:
        """
        Give each image that can be read and was recorded at a time from ``start`` until ``stop``.

        :param start, stop: [ns]; ``stop`` itself does not belong to it.
        """
        for image in self._messages(self.topic, start, stop):
            self.infos.now = image.recorded
            yield image

    def require_whole(self, given: int) -> None:
        """
        Compare the number of images that could be read with what the bag says.

        :raises BagError: there should be more, or damage is known.
        """
        self._recording.verify()
        defects = self._recording.defects()
        if defects or given < self.count:
            reason = f' ({"; ".join(defects)})' if defects else ''
            raise BagError(f'{self._path} cannot be read as a rosbag to its end{reason}: it gave '
                           f'{given} of at least {self.count} images on {self.topic}')

    def topics(self, kind: str) -> list[str]:
        """Return the topics of a message type that hold messages."""
        return sorted({channel.topic for channel in self._recording.channels
                       if channel.kind == kind and channel.encoding == 'cdr'
                       and self._recording.count(channel.topic, (kind,))})

    def messages(self, topic: str, kind: str) -> Iterator[BagImage]:
        """Give the messages of a topic of any type, in the order of recording."""
        for _, recorded, data in self._recording.messages(topic, (kind,)):
            yield BagImage(recorded, partial(deserialize, data, kind))

    def images(self, topic: str) -> Iterator[BagImage]:
        """Give the images of any image topic, in the order of recording."""
        return self._messages(topic)

    def other_cameras(self) -> dict[str, str]:
        """Return the image topics of other cameras -> the topics of CameraInfo beside them."""
        images = raw_first(topic for topic, kind in self._topics.items()
                           if kind in IMAGE_TYPES and topic not in self._own
                           and not self._is_depth(topic))
        beside = {topic: self._info_beside(topic) for topic in images}
        return {topic: info for topic, info in beside.items()
                if info and info != self.info_topic and topic != self.topic}

    def headers(self, topic: str) -> Iterator[tuple[int, Any]]:
        """
        Give when each image of a topic was recorded [ns], and its header; damaged ones not.

        :raises BagError: as when the images are read.
        """
        for item in self if topic == self.topic else self._messages(topic):
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

    def info_of(self, header: Any, recorded: int) -> Any | None:
        """Return the CameraInfo of an image by its header and its time of recording [ns]."""
        self.infos.now = recorded
        return self.infos.find(header)

    def depth_topics(self, named: Collection[str] = ()) -> dict[str, Any]:
        """
        Return the first message of each topic of depth images.

        Compressed depth is left out if the bag has the same depth raw. Images of mono16 count if
        nothing else is depth and their topic has it in its name.

        :param named: by the user: they have depth, also as mono16.
        """
        first = {name: self._first(name) for name, kind in self._topics.items()
                 if kind in IMAGE_TYPES}
        readable = {name: message for name, message in first.items()
                    if message is not None and is_readable_depth(message)}
        chosen = (raw_first(name for name in readable if is_depth(readable[name]))
                  or raw_first(filter(says_depth, readable)))
        return {name: message for name, message in readable.items()
                if name in chosen or name in named}

    def sensor_depth_topics(self, option: str) -> dict[str, Any]:
        """
        Return :meth:`depth_topics` without those of a node of this package.

        :param option: by which the user names a topic all the same.
        :raises BagError: there are only these.
        """
        found = self.depth_topics()
        measured = {topic: first for topic, first in found.items() if topic not in self._own
                    and not (topic in self._perhaps_own and _is_dense(first))}
        if found and not measured:
            raise BagError(f'{self._path} has no depth of a sensor, only {_listing(found)}, which '
                           'looks like the output of zoe_ros: record the depth of a sensor, or '
                           f'name this by {option} all the same')
        return measured

    def _messages(self, topic: str, start: int = 0, stop: int = EVER) -> Iterator[BagImage]:
        for kind, recorded, data in self._recording.messages(
                topic, (self._topics[topic],), start, stop):
            yield BagImage(recorded, partial(deserialize, data, kind))

    def _first(self, topic: str) -> Any | None:
        """Return the first message of a topic, read once, if it can be read."""
        if topic not in self._firsts:
            self._firsts[topic] = None
            with suppress(MessageError, StopIteration):
                self._firsts[topic] = next(self._messages(topic)).message
        return self._firsts[topic]

    def _read_infos(self) -> CameraInfoBuffer:
        """Read ahead; what is damaged is left out."""
        # Beside the images it is of their camera; elsewhere it might be of another one.
        infos = CameraInfoBuffer(
            capacity=None, other_frames=self.info_topic in info_topics_of(self.topic))
        if self.info_topic:
            held, given = self._recording.count(self.info_topic, (INFO_TYPE,)), 0
            decode = InfoDecoder()
            with _without_collection():
                for kind, recorded, data in self._recording.messages(
                        self.info_topic, (INFO_TYPE,)):
                    with suppress(MessageError):
                        infos.add(decode(data, kind), recorded)
                        given += 1
            if given < held:
                self.notes.append(f'{held - given} of {held} CameraInfo on {self.info_topic} '
                                  'cannot be read: the one before each is used')
        return infos

    def _choose(self, topic: str | None) -> str:
        topics = [name for name, kind in self._topics.items() if kind in IMAGE_TYPES]
        if not topics:
            self._refuse_without_images(topic)
        if topic is not None:
            if topic not in topics:
                raise BagError(f'{self._path} has no images on {topic}; it has '
                               f'{_listing(topics)}')
            return topic
        colored = raw_first(name for name in topics
                            if name not in self._own and not self._is_depth(name))
        if len(colored) > 1:
            raise SeveralTopicsError(self._path, colored)
        if not colored:
            raise BagError(f'{self._path} has no images to work on; it has '
                           f'{_listing(topics)} with depth')
        return colored[0]

    def _refuse_without_images(self, topic: str | None) -> None:
        channels = self._recording.channels
        encodings = {channel.encoding for channel in channels}
        if 'ros1' in encodings and 'cdr' not in encodings:
            raise self._ros1()
        if self._recording.defects():
            raise self._unreadable('; '.join(self._recording.defects()))
        others = _listing({
            channel.topic + ('' if channel.encoding == 'cdr' else f' ({channel.encoding})')
            for channel in channels if channel.count}) or 'nothing'
        what = 'images to work on' if topic is None else f'images on {topic}'
        raise BagError(f'{self._path} has no {what}: no images at all; it has {others}')

    def _is_depth(self, topic: str) -> bool:
        """Look at the first message: an RGB-D bag has one topic of color images, not two."""
        first = self._first(topic)
        if first is None:
            return False
        # Some drivers publish depth as if it were brightness.
        return is_depth(first) or (says_depth(topic) and is_readable_depth(first))

    def _info_topic(self) -> str | None:
        """Return the topic of this camera's CameraInfo, by its name or else by its content."""
        beside = self._info_beside(self.topic)
        if beside:
            return beside
        if len(self.info_topics) < 2:
            return self.info_topics[0] if self.info_topics else None
        image = self._first(self.topic)
        if image is None:
            return None
        try:
            size = decode_image(image).shape[:2]
        except MessageError:
            return None
        fitting = [name for name in self.info_topics if _fits(self._first(name), image, size)]
        nearest = max((shared_parts(name, self.topic) for name in fitting), default=0)
        fitting = [name for name in fitting if shared_parts(name, self.topic) == nearest]
        return fitting[0] if len(fitting) == 1 else None

    def _info_beside(self, topic: str) -> str | None:
        return next((name for name in info_topics_of(topic) if name in self.info_topics), None)

    def _unreadable(self, reason: str) -> BagError:
        return BagError(f'{self._path} cannot be read as a rosbag ({reason}); if its '
                        'recording was cut off, try "ros2 bag reindex" or "mcap recover"')

    def _ros1(self) -> BagError:
        return BagError(f'{self._path} is a bag of ROS 1: convert it, for example with '
                        '"rosbags-convert --src ... --dst ..."')


@contextmanager
def _without_collection() -> Iterator[None]:
    """Pause garbage collection, which would visit a million objects that stay, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _is_dense(message: Any) -> bool:
    """Tell whether an image has depth in every pixel, as no sensor has."""
    with suppress(MessageError):
        return bool(np.isfinite(decode_depth(message)).all())
    return False


def _fits(info: Any | None, image: Any, size: tuple[int, ...]) -> bool:
    """Tell whether CameraInfo has the frame of an image, and its (height, width) [px]."""
    return (info is not None and frame_name(info.header) == frame_name(image.header)
            and size in ((info.height, info.width), image_size(info)))


def _listing(topics: Any) -> str:
    return ', '.join(sorted(topics))
