"""Videos of images and of depth codes, by FFmpeg (PyAV)."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Codec:
    """
    How frames are encoded.

    :param encoder: as FFmpeg calls it; :param name: as LeRobot calls it.
    :param array: format of the frames that are given; :param pixels: of the video.
    """

    encoder: str
    name: str
    array: str
    pixels: str
    channels: int
    options: Mapping[str, str]


# Every second frame is a key frame, as in LeRobot's own videos: training reads frames at random.
KEY_FRAMES = 2
COLOR_QUALITY = 20
COLOR = Codec('libx264', 'h264', 'rgb24', 'yuv420p', 3,
              {'crf': f'{COLOR_QUALITY}', 'preset': 'veryfast'})
# Without B-frames, because x265 gives frames of videos of one or two frames arbitrary times with
# them. They do not make depth smaller, and neither do slower presets.
LOSSLESS = Codec('libx265', 'hevc', 'gray12le', 'gray12le', 1,
                 {'x265-params': 'lossless=1:log-level=error:bframes=0', 'preset': 'superfast'})


class Video:
    """An MP4 file that is being written."""

    def __init__(self, path: Path, codec: Codec, rate: int, size: tuple[int, int]) -> None:
        """
        Create the file.

        :param rate: frames in a second; :param size: height and width [px].
        :raises OSError: it cannot be written.
        """
        av: Any = import_module('av')       # an extra
        self._frame: Any = av.VideoFrame
        self._format, self._count = codec.array, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        with _os_errors():
            self._file = av.open(str(path), 'w')
        self._stream: Any = self._file.add_stream(codec.encoder, rate=rate, options={
            'g': f'{KEY_FRAMES}', **codec.options})
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = pixel_format(codec, size)

    def write(self, pixels: np.ndarray) -> None:
        """Append a frame: (h, w, 3) uint8 RGB, or (h, w) uint16 codes."""
        frame = self._frame.from_ndarray(np.ascontiguousarray(pixels), format=self._format)
        frame.pts = self._count
        self._count += 1
        with _os_errors():
            self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds."""
        with _os_errors():
            try:
                self._file.mux(self._stream.encode())
            finally:
                self._file.close()


def pixel_format(codec: Codec, size: tuple[int, int]) -> str:
    """Return the format of a video's pixels: halved colours need even sizes."""
    odd = size[0] % 2 or size[1] % 2
    return codec.pixels.replace('420', '444') if odd else codec.pixels


@contextmanager
def _os_errors() -> Iterator[None]:
    """Turn the errors of encoders, which are of PyAV's own class, into OSError."""
    av: Any = import_module('av')
    try:
        yield
    except av.error.FFmpegError as error:
        raise OSError(error.errno, error.strerror) from None
