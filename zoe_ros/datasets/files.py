"""Files of datasets; the error for a missing or damaged file is one sentence naming it."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
import re

import numpy as np
from PIL import Image, UnidentifiedImageError

from zoe_ros.camera import Camera
from zoe_ros.datasets import DatasetError
from zoe_ros.errors import first_line
from zoe_ros.images import photo_to_rgb


def file_at(path: Path, what: str) -> Path:
    """Return a file that must exist; ``what`` names its content in the error."""
    if not path.is_file():
        raise DatasetError(f'{path} is missing: {what}')
    return path


def folder_at(path: Path, what: str) -> Path:
    """Return a folder that must exist; ``what`` names its content in the error."""
    if not path.is_dir():
        raise DatasetError(f'{path} is missing: {what}')
    return path


def files_in(folder: Path, pattern: str, what: str) -> list[Path]:
    """Return the files that match a pattern, sorted; at least one must exist."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise DatasetError(f'{folder} holds nothing like {what}')
    return found


def only_file(folder: Path, pattern: str) -> Path:
    """Return the only file that matches a pattern."""
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise DatasetError(f'{folder} holds {len(found)} files {pattern}, one is expected')
    return found[0]


def partner(image: Path, depth: Path) -> Path:
    """Return the depth file of an image, which must exist."""
    if not depth.is_file():
        raise DatasetError(f'{image} has no depth: {depth} is missing')
    return depth


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not empty."""
    return [line for line in path.read_text().splitlines() if line.strip()]


def relative_name(folder: Path, path: Path) -> str:
    """Return the name of a sample: the path in the folder, without the suffix."""
    return path.relative_to(folder).with_suffix('').as_posix()


@contextmanager
def opened(path: Path, what: str) -> Iterator[Image.Image]:
    """
    Open an image file; ``what`` names its content in the error.

    :raises DatasetError: the file is missing, or it cannot be read, also within the context.
    """
    try:
        with Image.open(file_at(path, what)) as picture:
            yield picture
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DatasetError(f'{path} cannot be read as an image ({first_line(error)})') from None


def photo(path: Path) -> np.ndarray:
    """Return an image, (h, w, 3) uint8 RGB."""
    with opened(path, 'an image') as picture:
        return photo_to_rgb(picture)


def read_values(path: Path) -> np.ndarray:
    """Return the values of a grey image (h, w) of 8 or 16 bits."""
    with opened(path, 'a depth map or a mask') as picture:
        values = np.array(picture)
    if values.ndim != 2:
        raise DatasetError(f'{path} is a colour image, not a depth map or a mask')
    return values


def png_depth(path: Path, per_metre: float) -> np.ndarray:
    """Return depth (h, w) [m] of an image with ``per_metre`` units per metre."""
    return read_values(path).astype(np.float32) / np.float32(per_metre)


def scaled(camera: Camera, size: tuple[int, int]) -> Camera:
    """Return the camera of an image that was resized to ``size`` (height, width)."""
    sy, sx = size[0] / camera.height, size[1] / camera.width
    return Camera(size[1], size[0], camera.fx * sx, camera.fy * sy,
                  (camera.cx + 0.5) * sx - 0.5, (camera.cy + 0.5) * sy - 0.5)


def cropped(camera: Camera, start: tuple[int, int], size: tuple[int, int]) -> Camera:
    """
    Return the camera of an image that was cut out of another.

    :param start: (row, column) of its first pixel; :param size: (height, width).
    """
    return replace(camera, width=size[1], height=size[0], cx=camera.cx - start[1],
                   cy=camera.cy - start[0])


def camera_file(path: Path, size: tuple[int, int]) -> Camera:
    """Return the camera of a file with fx, fy, cx, cy, or with the rows of matrix K."""
    text = file_at(path, 'the intrinsics').read_text()
    numbers = [float(n) for n in re.findall(r'[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?', text)]
    if len(numbers) >= 9:
        numbers = [numbers[0], numbers[4], numbers[2], numbers[5]]
    if len(numbers) != 4:
        raise DatasetError(f'{path} holds neither fx, fy, cx, cy nor a matrix of 3 x 3')
    fx, fy, cx, cy = numbers
    return Camera(size[1], size[0], fx, fy, cx, cy)
