"""A bag of very many CameraInfo: time and memory of reading and of looking one up."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import resource
from time import perf_counter
from typing import NamedTuple

import bags
from bench.attack import child
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from zoe_ros.bag import BagReader

LOOK_UPS = 10_000
_TOPICS = '/camera/image_raw', '/camera/camera_info'
_ALIKE = 1000       # CameraInfo in a row that differ in their stamps only, as of a zoom at rest


class Measured(NamedTuple):
    """
    One bag, read in a process of its own.

    :param order: of the stamps: 'rising', 'falling' or 'equal'.
    :param opening: until the first image can be read [s].
    :param look_up: median of one [s].
    :param wrong: look-ups that gave another CameraInfo than that of the stamp.
    :param memory: of the process for each CameraInfo [bytes].
    """

    count: int
    order: str
    opening: float
    look_up: float
    wrong: int
    memory: float


def measure(folder: Path, counts: tuple[int, ...]) -> Iterator[Measured]:
    """Measure bags of these numbers of CameraInfo, in each order of the stamps."""
    for count in counts:
        for order in ('rising', 'falling', 'equal'):
            path = folder / f'{order}_{count}'
            _write(path, count, order)
            end = child.call(_measure, path, count, order, limit=1200.0, memory=2 ** 33)
            if end.kind != 'returned':
                raise RuntimeError(f'{count} CameraInfo of {order} stamps: {end}')
            yield end.value


def _stamp(number: int, count: int, order: str) -> int:
    step = {'rising': number, 'falling': count - number, 'equal': 0}[order]
    return bags.START + step * bags.SECOND // 30


def _write(path: Path, count: int, order: str) -> None:
    """Write an image, and CameraInfo whose height grows from time to time."""
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        image, info = (writer.add_connection(topic, f'sensor_msgs/msg/{kind}',
                                             typestore=bags.TYPESTORE)
                       for topic, kind in zip(_TOPICS, ('Image', 'CameraInfo'), strict=True))
        writer.write(image, bags.START, bags.ROSBAGS.to_bytes(
            bags.ROSBAGS.photo(bags.picture(), stamp=bags.START)))
        message = bags.ROSBAGS.info(0, 64, d=[0.0] * 5)
        for number in range(count):
            message.header = bags.ROSBAGS.header(_stamp(number, count, order))
            message.height = number // _ALIKE
            writer.write(info, bags.START + number * bags.SECOND // 30,
                         bags.TYPESTORE.serialize_cdr(message, message.__msgtype__))


def _measure(path: Path, count: int, order: str) -> Measured:
    before = _resident()
    start = perf_counter()
    bag = BagReader(path)
    opening, memory = perf_counter() - start, (_resident() - before) / count
    numbers = np.random.default_rng(1).integers(count, size=LOOK_UPS)
    times, wrong = [], 0
    for number in numbers.tolist():
        header = bags.ROSBAGS.header(_stamp(number, count, order))
        start = perf_counter()
        info = bag.info_of(header, bags.START + number * bags.SECOND // 30)
        times.append(perf_counter() - start)
        wrong += (info is None or info.height != number // _ALIKE
                  or info.header != header)
    return Measured(count, order, opening, float(np.median(times)), wrong, memory)


def _resident() -> int:
    return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()
