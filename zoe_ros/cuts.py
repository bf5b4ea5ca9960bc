"""Where long bags are cut into parts, so that several workers of a fleet share them."""
from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import logging
from math import ceil
from pathlib import Path

from zoe_ros.bag import is_bag
from zoe_ros.bag_messages import IMAGE_TYPES
from zoe_ros.settings import LEROBOT, RunSettings
from zoe_ros.storage import EVER, StorageError
from zoe_ros.storage.recording import is_folder, Recording, storage_files
from zoe_ros.storage.remote import is_remote, to_path

# Before its first frame a part shows the router the frames of so many time constants; their
# weight is then e^-5 of the average. The heads would be right without this, but more frames
# would have to be run again.
OVERLAP = 5.0
_MOST_OVERLAP = 0.1     # of the duration of a part
# A long bag becomes so many parts for each worker: workers are not equally fast.
_PARTS_OF_A_SHARE = 2
_READERS = 8            # bags that are looked at together: most of the time waits for a store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """
    A part of a bag, by times of recording [ns].

    :param number: from 1; :param total: number of parts of the bag.
    :param warm: from here on the router sees the images.
    :param start, stop: of the images whose depth belongs to the part; ``stop`` itself does not.
    """

    number: int
    total: int
    warm: int
    start: int
    stop: int


@dataclass(frozen=True)
class Extent:
    """
    What a bag holds.

    :param images: their number, of the topic that has most of them if none is named.
    :param spans: times of the first and the last image of each file, in the order of reading [ns].
    """

    images: int
    spans: Sequence[tuple[int, int]]


def plan(waiting: Sequence[RunSettings], workers: int, least: int) -> list[list[Part]]:
    """
    Return the parts of each bag; none where it stays whole.

    A bag is cut if it holds more images than the equal share of a worker.

    :param waiting: settings of each run, which differ in ``data`` only.
    :param least: number of images that a part has at least; 0: no bag is cut.
    """
    whole: list[list[Part]] = [[] for _ in waiting]
    if workers < 2 or least == 0 or not waiting:
        return whole
    with ThreadPoolExecutor(_READERS) as pool:
        extents = list(pool.map(extent_of, waiting))
    numbers = numbers_of_parts([extent.images for extent in extents], workers, least)
    if max(numbers) == 1:
        return whole
    settings = waiting[0]
    obstacle = obstacle_of(settings)
    if obstacle:
        log.info('long bags are not cut: %s', obstacle)
        return whole
    memory = settings.router_time_constant if settings.router == 'auto' else 0.0
    return [cut(extent, number, memory) for extent, number in zip(extents, numbers)]


def obstacle_of(settings: RunSettings) -> str:
    """Return why the depth of a bag with these settings can only be computed in one piece."""
    if settings.file_format == LEROBOT:
        return 'a LeRobot data set has one video of all frames'
    if settings.anchors():
        return f"anchor '{settings.anchor}' filters the scale from frame to frame"
    if settings.scale_time_constant:
        return 'scale_time_constant makes depth depend on all frames before'
    if settings.camera_view == 'training' and settings.router == 'auto':
        return "camera_view 'training' takes the view of the head of the frame before"
    return ''


def extent_of(settings: RunSettings) -> Extent:
    """Return the extent of a bag; one without images if it cannot be cut."""
    nothing = Extent(0, [])
    path = to_path(settings.data)
    try:
        if not is_bag(path) or not _is_read_in_place(path):
            return nothing
        with Recording(path) as recording:
            topics = {channel.topic for channel in recording.channels
                      if channel.kind in IMAGE_TYPES and settings.topic in ('', channel.topic)}
            images = max((recording.count(topic, IMAGE_TYPES) for topic in topics), default=0)
            spans = recording.spans(settings.topic, IMAGE_TYPES)
            return nothing if recording.defects() else Extent(images, spans)
    except (StorageError, OSError):
        return nothing      # whoever runs over the bag tells the reason


def _is_read_in_place(path: Path) -> bool:
    """Tell whether a bag can be opened many times: a packed or a fetched file is copied first."""
    files = storage_files(path) if is_folder(path) else [path]
    copied = ('.zstd', '.db3') if is_remote(str(path)) else ('.zstd',)
    return not any(file.name.endswith(copied) for file in files)


def numbers_of_parts(images: Sequence[int], workers: int, least: int) -> list[int]:
    """
    Return the number of parts of each bag, from the numbers of images.

    :param least: see :func:`plan`.
    """
    share = sum(images) / workers
    return [max(1, min(ceil(_PARTS_OF_A_SHARE * count / share), count // least))
            if count > share else 1 for count in images]


def cut(extent: Extent, number: int, memory: float) -> list[Part]:
    """
    Cut a bag into parts of equal duration; return none where it stays whole.

    Files of one bag may overlap in time, and are read one after the other. There is no cut within
    an overlap, where a part would not be a piece of this order.

    :param number: of parts.
    :param memory: time constant of the router's average [s].
    """
    if number == 1 or not extent.spans:
        return []
    first = min(start for start, _ in extent.spans)
    last = max(end for _, end in extent.spans)
    times = sorted({first + (last - first) * i // number for i in range(1, number)})
    times = [time for time in times if first < time <= last and not _is_mixed(time, extent.spans)]
    if not times:
        return []
    overlap = min(round(OVERLAP * memory * 1e9), round(_MOST_OVERLAP * (last - first) / number))
    starts, stops = [0, *times], [*times, EVER]
    return [Part(i, len(starts), max(start - overlap, 0), start, stop)
            for i, (start, stop) in enumerate(zip(starts, stops), start=1)]


def _is_mixed(time: int, spans: Sequence[tuple[int, int]]) -> bool:
    """Tell whether a file has images from before a time, and a file that is read before, later."""
    return any(last >= time and start < time
               for i, (_, last) in enumerate(spans) for start, _ in spans[i + 1:])
