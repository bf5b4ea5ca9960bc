"""Writes the frames of a bag as a LeRobot data set."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import logging
from pathlib import Path
import shutil
from types import TracebackType

import numpy as np

from zoe_ros.bag_writer import uninterrupted
from zoe_ros.counts import counted
from zoe_ros.extras import require
from zoe_ros.headers import nanoseconds
from zoe_ros.lerobot import metadata
from zoe_ros.lerobot.codes import to_codes
from zoe_ros.lerobot.metadata import ChannelStatistics, CODECS, DEPTH, IMAGE
from zoe_ros.lerobot.timeline import Timeline
from zoe_ros.lerobot.video import Video
from zoe_ros.outputs import DEPTH as DEPTH_OUTPUT
from zoe_ros.pipeline import Frame

# Statistics are over every so many rows and columns.
_STRIDE = 4

log = logging.getLogger(__name__)


def require_packages() -> None:
    """
    Check what the base installation lacks.

    :raises ValueError: a package is not installed.
    """
    require('format lerobot', 'lerobot', 'av', 'pyarrow')


class DatasetWriter:
    """
    Writes a LeRobot data set; a context manager.

    The folder takes its name when the data set is finished, until then ``.part`` is behind the
    name. However the context is left, the frames so far are a complete data set; unless the disk
    is full or there are no frames, then nothing stays.

    :ivar outputs: of a frame that belong into the data set.
    """

    outputs = (DEPTH_OUTPUT,)

    def __init__(self, path: Path, timeline: Timeline) -> None:
        """
        Create the folder ``path``, which must not exist.

        :raises OSError: it cannot be created.
        """
        self._path, self._part = path, path.with_name(path.name + '.part')
        self._timeline = timeline
        self._sizes: dict[str, tuple[int, int]] = {}
        self._videos: dict[str, Video] = {}
        self._statistics = {key: ChannelStatistics(codec.channels)
                            for key, codec in CODECS.items()}
        self._lengths: list[int] = []       # of the episodes that are finished
        self._stamps: list[int] = []        # of the frames of the episode at hand
        self._before: dict[str, np.ndarray] = {}
        self._repeated = self._left_out = 0
        self._failed = False
        with self._named_errors():
            shutil.rmtree(self._part, ignore_errors=True)   # of a process that was killed
            self._part.mkdir(parents=True)

    def __enter__(self) -> DatasetWriter:
        """Return self."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Finish the data set, also after an error."""
        with uninterrupted():
            try:
                if not self._failed and self._sizes:
                    with self._named_errors():
                        self._finish()
                        self._part.replace(self._path)
            finally:
                shutil.rmtree(self._part, ignore_errors=True)

    def write_frame(self, frame: Frame, recorded: int) -> None:
        """
        Append a frame; its stamp decides where, not when it was recorded.

        :raises ValueError: it has another size than the frames before.
        :raises OSError: it cannot be written.
        """
        message = frame.messages[DEPTH_OUTPUT]
        depth = np.frombuffer(message.data, '<f4').reshape(message.height, message.width)
        pixels = {IMAGE: frame.image, DEPTH: to_codes(depth)}
        stamp = nanoseconds(message.header.stamp)
        self._require_sizes({key: (value.shape[0], value.shape[1])
                             for key, value in pixels.items()})
        place = self._timeline.place(stamp)
        if place is None:
            self._left_out += 1
            return
        with uninterrupted(), self._named_errors():
            if place.starts:
                self._finish_episode()
                self._start_episode()
            for _ in range(place.repeats):
                self._append(self._before, self._stamps[-1])
            self._append(pixels, stamp)
        self._before, self._repeated = pixels, self._repeated + place.repeats
        sample = depth[::_STRIDE, ::_STRIDE]
        self._statistics[DEPTH].add(sample[np.isfinite(sample)][:, None])
        self._statistics[IMAGE].add(frame.image[::_STRIDE, ::_STRIDE].reshape(-1, 3) / 255)

    def _require_sizes(self, sizes: dict[str, tuple[int, int]]) -> None:
        self._sizes = self._sizes or sizes
        for key, (height, width) in sizes.items():
            if self._sizes[key] != (height, width):
                before = self._sizes[key]
                raise ValueError(f'{key} has {width} x {height} pixels after frames of '
                                 f'{before[1]} x {before[0]}: a LeRobot data set has one size')

    def _start_episode(self) -> None:
        chunk, file = metadata.file_of(len(self._lengths))
        for key, size in self._sizes.items():
            path = self._part / metadata.VIDEO_PATH.format(
                video_key=key, chunk_index=chunk, file_index=file)
            self._videos[key] = Video(path, CODECS[key], self._timeline.rate, size)

    def _append(self, pixels: dict[str, np.ndarray], stamp: int) -> None:
        for key, video in self._videos.items():
            video.write(pixels[key])
        self._stamps.append(stamp)

    def _finish_episode(self) -> None:
        """Write the table of the episode at hand, if there is one, and close its videos."""
        if not self._stamps:
            return
        import pyarrow

        for video in self._videos.values():
            video.close()
        episode, count = len(self._lengths), len(self._stamps)
        frames, none = np.arange(count), np.zeros(count)
        values = {'timestamp': frames / self._timeline.rate, 'frame_index': frames,
                  'episode_index': none + episode, 'index': frames + sum(self._lengths),
                  'task_index': none, metadata.STAMP: np.array(self._stamps)}
        chunk, file = metadata.file_of(episode)
        path = self._part / metadata.DATA_PATH.format(chunk_index=chunk, file_index=file)
        metadata.write_table(path, pyarrow.table({
            name: values[name].astype(kind) for name, kind in metadata.COLUMNS.items()}))
        self._lengths.append(count)
        self._stamps, self._videos = [], {}

    def _finish(self) -> None:
        self._finish_episode()
        rate, frames = self._timeline.rate, sum(self._lengths)
        metadata.write_episodes(self._part, self._lengths, rate)
        metadata.write_tasks(self._part)
        metadata.write_statistics(self._part, self._statistics)
        metadata.write_info(self._part, rate, self._sizes, len(self._lengths), frames)
        log.info('%s at %d Hz in %s; repeated, because none was recorded then: %s; left out, '
                 'because another has the frame: %s', counted(frames, 'frame'), rate,
                 counted(len(self._lengths), 'episode'), counted(self._repeated, 'image'),
                 counted(self._left_out, 'image'))

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed = True
            raise OSError(f'{self._path} cannot be written: {error.strerror or error}') from None
