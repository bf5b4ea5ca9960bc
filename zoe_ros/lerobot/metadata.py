"""The files under ``meta`` of a LeRobot data set: features, statistics, tasks, episodes."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from zoe_ros.lerobot.codes import FARTHEST, NEAREST
from zoe_ros.lerobot.video import Codec, COLOR, COLOR_QUALITY, KEY_FRAMES, LOSSLESS, pixel_format

VERSION = 'v3.0'
IMAGE, DEPTH = 'observation.images.camera', 'observation.images.depth'
CODECS = {IMAGE: COLOR, DEPTH: LOSSLESS}
STAMP = 'stamp_ns'
# The columns of the data files, with their types.
COLUMNS = {'timestamp': 'float32', 'frame_index': 'int64', 'episode_index': 'int64',
           'index': 'int64', 'task_index': 'int64', STAMP: 'int64'}
FILE = 'chunk-{chunk_index:03d}/file-{file_index:03d}'
DATA_PATH, VIDEO_PATH = f'data/{FILE}.parquet', f'videos/{{video_key}}/{FILE}.mp4'
FILES_IN_CHUNK = 1000
# What the robot was doing is not known.
TASK = ''


class ChannelStatistics:
    """Statistics of each channel over the frames of a video."""

    def __init__(self, channels: int) -> None:
        """Start without values."""
        self._least, self._most = np.full(channels, np.inf), np.full(channels, -np.inf)
        self._sum, self._squares = np.zeros(channels), np.zeros(channels)
        self._count = 0

    def add(self, values: np.ndarray) -> None:
        """Count values, (n, channels)."""
        if not len(values):
            return
        exact = values.astype(np.float64)
        self._least = np.minimum(self._least, exact.min(0))
        self._most = np.maximum(self._most, exact.max(0))
        self._sum += exact.sum(0)
        self._squares += (exact ** 2).sum(0)
        self._count += len(values)

    def as_json(self) -> dict[str, Any]:
        """Return them in LeRobot's shape, (channels, 1, 1); nothing without values."""
        if not self._count:
            return {}
        mean = self._sum / self._count
        deviation = np.sqrt(np.maximum(self._squares / self._count - mean ** 2, 0))
        values = {'min': self._least, 'max': self._most, 'mean': mean, 'std': deviation}
        return {**{name: value[:, None, None].tolist() for name, value in values.items()},
                'count': [self._count]}


def write_info(root: Path, rate: int, sizes: dict[str, tuple[int, int]], episodes: int,
               frames: int) -> None:
    """
    Write ``meta/info.json``.

    :param rate: frames in a second; :param sizes: feature -> height and width [px].
    """
    videos = {key: _video_feature(CODECS[key], rate, size) for key, size in sizes.items()}
    videos[DEPTH]['info'].update({
        'is_depth_map': True, 'depth_unit': 'm', 'video.depth_min': NEAREST,
        'video.depth_max': FARTHEST, 'video.shift': 0.0, 'video.use_log': True})
    columns = {name: {'dtype': kind, 'shape': [1], 'names': None}
               for name, kind in COLUMNS.items()}
    _write_json(root / 'meta' / 'info.json', {
        'codebase_version': VERSION, 'robot_type': None, 'total_episodes': episodes,
        'total_frames': frames, 'total_tasks': 1, 'chunks_size': FILES_IN_CHUNK,
        'data_files_size_in_mb': 100, 'video_files_size_in_mb': 200, 'fps': rate,
        'splits': {'train': f'0:{episodes}'}, 'data_path': DATA_PATH, 'video_path': VIDEO_PATH,
        'features': videos | columns})


def write_statistics(root: Path, statistics: dict[str, ChannelStatistics]) -> None:
    """Write ``meta/stats.json``: of colours from 0 to 1, and of known depth [m]."""
    found = {key: each.as_json() for key, each in statistics.items()}
    _write_json(root / 'meta' / 'stats.json', {key: each for key, each in found.items() if each})


def write_tasks(root: Path) -> None:
    """Write ``meta/tasks.parquet``, which pandas must read with the task as its index."""
    import pyarrow

    def column(name: str, kind: str, dtype: str) -> dict[str, Any]:
        return {'name': name, 'field_name': name, 'pandas_type': kind, 'numpy_type': dtype,
                'metadata': None}

    pandas = {'index_columns': ['task'], 'column_indexes': [], 'columns': [
        column('task_index', 'int64', 'int64'), column('task', 'unicode', 'object')]}
    table = pyarrow.table({'task_index': [0], 'task': [TASK]})
    write_table(root / 'meta' / 'tasks.parquet',
                table.replace_schema_metadata({'pandas': json.dumps(pandas)}))


def write_episodes(root: Path, lengths: list[int], rate: int) -> None:
    """Write ``meta/episodes``: where the frames of each episode are."""
    import pyarrow

    rows, first = [], 0
    for number, length in enumerate(lengths):
        chunk, file = file_of(number)
        row = {'episode_index': number, 'tasks': [TASK], 'length': length,
               'data/chunk_index': chunk, 'data/file_index': file,
               'dataset_from_index': first, 'dataset_to_index': first + length,
               'meta/episodes/chunk_index': 0, 'meta/episodes/file_index': 0}
        for key in CODECS:
            row |= {f'videos/{key}/chunk_index': chunk, f'videos/{key}/file_index': file,
                    f'videos/{key}/from_timestamp': 0.0,
                    f'videos/{key}/to_timestamp': length / rate}
        rows.append(row)
        first += length
    path = root / 'meta' / 'episodes' / f'{FILE.format(chunk_index=0, file_index=0)}.parquet'
    write_table(path, pyarrow.Table.from_pylist(rows))


def file_of(episode: int) -> tuple[int, int]:
    """Return the chunk and file of an episode: each has files of its own."""
    return divmod(episode, FILES_IN_CHUNK)


def write_table(path: Path, table: Any) -> None:
    """Write a pyarrow table as Parquet."""
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)


def _video_feature(codec: Codec, rate: int, size: tuple[int, int]) -> dict[str, Any]:
    height, width = size
    info = {'video.height': height, 'video.width': width, 'video.codec': codec.name,
            'video.pix_fmt': pixel_format(codec, size), 'video.fps': rate,
            'video.channels': codec.channels, 'video.g': KEY_FRAMES, 'has_audio': False,
            'is_depth_map': False}
    if codec is COLOR:
        info['video.crf'] = COLOR_QUALITY
    return {'dtype': 'video', 'shape': [height, width, codec.channels],
            'names': ['height', 'width', 'channels'], 'info': info}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4) + '\n', encoding='utf-8')
