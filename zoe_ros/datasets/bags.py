"""RGB-D bags as datasets: pairs of image and depth that a robot recorded."""
from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from zoe_ros.bag import BagError, BagImage, BagReader
from zoe_ros.camera_info import camera_from_info, image_size
from zoe_ros.counts import counted
from zoe_ros.datasets import check_metres, DatasetError, EvalProtocol, Sample
from zoe_ros.headers import frame_name, nanoseconds, not_registered
from zoe_ros.images import decode_depth, decode_image, MessageError
from zoe_ros.topic_names import is_rectified

# Range of the heads of the released models.
PROTOCOLS = {'indoor': EvalProtocol(1e-3, 10.0), 'outdoor': EvalProtocol(1e-3, 80.0)}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Image:
    """Position of an image in a bag: stamp of the image, and time of recording [ns]."""

    stamp: int
    recorded: int

    @property
    def time(self) -> tuple[int, int]:
        """Return what to compare [ns]: recording counts where stamps are zero or the same."""
        return self.stamp or self.recorded, self.recorded


class RgbdBag:
    """
    The pairs of image and depth of a bag, in the order of their stamps.

    Depth must be registered to the image: each depth pixel belongs to the same image pixel.
    """

    def __init__(self, path: str | Path, domain: str, topic: str | None = None,
                 depth_topic: str | None = None, tolerance: float = 0.02) -> None:
        """
        Find the pairs; images are read on access.

        :param topic: of the images; needed if the bag has several image topics.
        :param depth_topic: needed if several have the frame and the size of the images.
        :param tolerance: largest difference between the stamps of a pair [s].
        :raises BagError: the bag cannot be read, or a topic must be chosen.
        :raises DatasetError: the bag has no depth, no pairs, or no CameraInfo.
        """
        self._path, self.domain, self.protocol = Path(path), domain, PROTOCOLS[domain]
        self.name = self._path.stem
        self._opened: tuple[int, BagReader] | None = None
        with BagReader(self._path, topic) as bag:
            self._topic = bag.topic
            headers = dict(bag.headers(bag.topic))
            if not headers:
                raise DatasetError(f'{path} has no image on {bag.topic} that can be read')
            self._depth_topic = choose_depth(self._path, bag, depth_topic)
            images, depths = (_in_order(bag, name) for name in (self._topic, self._depth_topic))
            self._pairs = pair(images, depths, tolerance)
            infos: list[Any] = [bag.info_of(headers[image.recorded], image.recorded)
                                for image, _ in self._pairs]
        if not self._pairs:
            raise DatasetError(
                f'{path}: none of {counted(len(images), "image")} of {self._topic} has one of the '
                f'{len(depths)} of {self._depth_topic} within {tolerance:g} s of its stamp: were '
                'they recorded at the same time, by the same clock?')
        if len(self._pairs) < len(images):
            log.info('%s: %d of %d images of %s have depth on %s within %g s', path,
                     len(self._pairs), len(images), self._topic, self._depth_topic, tolerance)
        if None in infos:
            raise DatasetError(f'{path} has no CameraInfo for the images of {self._topic}: record '
                               'its camera_info too')
        try:
            self._cameras = [camera_from_info(info, image_size(info), is_rectified(self._topic))
                             for info in infos]
        except ValueError as error:
            raise DatasetError(f'{path}, CameraInfo of {self._topic}: {error}') from None

    def __getstate__(self) -> dict[str, Any]:
        """Drop the open file when pickled: each process opens the bag itself."""
        return {**self.__dict__, '_opened': None}

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        """
        Return a pair, named after the time of the image [ns].

        :raises DatasetError: image or depth is damaged, or the two do not match.
        """
        image, depth = self._pairs[index]
        where = f'{self._path} at {image.time[0] / 1e9:.3f} s'
        try:
            bag = self._reader()
            pixels = decode_image(bag.image_at(self._topic, image.recorded, image.stamp))
            metres = decode_depth(bag.image_at(self._depth_topic, depth.recorded, depth.stamp))
        except (BagError, MessageError) as error:
            raise DatasetError(f'{where}: {error}') from None
        if metres.shape != pixels.shape[:2]:
            raise DatasetError(
                f'{where}: depth has {metres.shape[1]} x {metres.shape[0]} pixels and the image '
                f'{pixels.shape[1]} x {pixels.shape[0]}: record depth that is registered to the '
                'image')
        camera = self._cameras[index]
        if metres.shape != (camera.height, camera.width):
            raise DatasetError(f'{where}: CameraInfo is for {camera.width} x {camera.height} '
                               f'pixels, the image has {pixels.shape[1]} x {pixels.shape[0]}')
        check_metres(metres, self.domain, f'{where}, {self._depth_topic}')
        return Sample(pixels, metres, camera, self.domain, str(image.time[0]))

    def _reader(self) -> BagReader:
        """Return the reader of this process, because a fork would share an open file."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), BagReader(self._path, self._topic)
        return self._opened[1]


class RecordedDepth:
    """
    The recorded depth of a bag, for comparison with predictions.

    :ivar topic: of the depth images.
    """

    def __init__(self, bag: BagReader, topic: str, tolerance: float = 0.02) -> None:
        """
        Find the pairs of image and depth.

        :param tolerance: largest difference between the stamps of a pair [s].
        :raises BagError: the bag is damaged.
        """
        self.topic = topic
        self._bag = bag
        self._depths = dict(pair(_in_order(bag, bag.topic), _in_order(bag, topic), tolerance))

    @staticmethod
    def find(bag: BagReader) -> RecordedDepth | None:
        """Return the reference if one topic of a sensor has depth in the frame of the images."""
        try:
            found = bag.sensor_depth_topics('zoe eval --depth-topic')
        except BagError as error:
            log.info('no comparison with recorded depth: %s', error)
            return None
        try:
            fitting = _registered(bag, found) if found else []
            return RecordedDepth(bag, fitting[0]) if len(fitting) == 1 else None
        except (BagError, MessageError):
            return None     # images before the damage are still used

    def at(self, image: BagImage) -> np.ndarray | None:
        """Return the depth (h, w) float32 [m] of an image, NaN = none; None without a pair."""
        stamp = nanoseconds(image.message.header.stamp)
        depth = self._depths.get(_Image(stamp, image.recorded))
        if depth is None:
            return None
        try:
            return decode_depth(self._bag.image_at(self.topic, depth.recorded, depth.stamp))
        except (BagError, MessageError):
            return None


def _in_order(bag: BagReader, topic: str) -> list[_Image]:
    """Return the positions of the images of a topic, in the order of their times."""
    return sorted((_Image(nanoseconds(header.stamp), recorded)
                   for recorded, header in bag.headers(topic)), key=lambda image: image.time)


def pair(images: Sequence[_Image], depths: Sequence[_Image],
         tolerance: float) -> list[tuple[_Image, _Image]]:
    """
    Pair each image with the depth nearest in time; each depth belongs to one image at most.

    :param images, depths: in the order of their times.
    :param tolerance: largest difference between the stamps of a pair [s].
    """
    times = [depth.time for depth in depths]
    best: dict[int, tuple[tuple[int, int], _Image]] = {}
    for image in images:
        right = bisect_left(times, image.time)
        gaps = {k: (abs(times[k][0] - image.time[0]), abs(times[k][1] - image.time[1]))
                for k in (right - 1, right) if 0 <= k < len(times)}
        if not gaps:
            continue
        k = min(gaps, key=gaps.__getitem__)
        if gaps[k][0] <= tolerance * 1e9 and (k not in best or gaps[k] < best[k][0]):
            best[k] = gaps[k], image
    return [(image, depths[k]) for k, (_, image) in sorted(best.items())]


def choose_depth(path: Path, bag: BagReader, topic: str | None) -> str:
    """
    Return the depth topic: the requested one, or the only one that fits the images.

    :raises BagError, DatasetError: there is none, or one must be chosen.
    """
    found = bag.depth_topics([topic]) if topic else bag.sensor_depth_topics('--depth-topic')
    if topic is not None:
        if topic not in found:
            raise BagError(f'{path} has no depth images of 32FC1, 16UC1 or mono16 on {topic}; it '
                           f'has {", ".join(found) or "none at all"}')
        return topic
    if not found:
        raise DatasetError(f'{path} has no depth: a topic of 32FC1 [m] or 16UC1 [mm] images is '
                           'needed beside the images; if one of mono16 images has it, name it by '
                           '--depth-topic')
    fitting = _registered(bag, found)
    if len(fitting) != 1 and len(found) != 1:
        raise BagError(f'{path} has several depth topics, {", ".join(found)}, of which '
                       f'{len(fitting)} are registered to the frame of {bag.topic}: choose one '
                       'by --depth-topic')
    if len(fitting) == 1:
        return fitting[0]
    only, = found
    frame, camera = frame_name(found[only].header), frame_name(_first_header(bag))
    if frame and camera:
        log.warning('%s: %s', path, not_registered(only, frame, camera))
    return only


def _registered(bag: BagReader, found: dict[str, Any]) -> list[str]:
    """
    Return the depth topics in the frame of the images.

    :param found: depth topic -> its first message.
    """
    frame = frame_name(_first_header(bag))
    return [name for name, depth in found.items() if frame_name(depth.header) == frame]


def _first_header(bag: BagReader) -> Any:
    return next(iter(bag)).message.header
