"""Folders of images of one source, with depth in millimetres or without, and a JSON file."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

import numpy as np

from zoe_ros.camera import Camera
from zoe_ros.datasets import DatasetError, DOMAINS, EvalProtocol, Sample
from zoe_ros.datasets.files import opened, photo, read_values
from zoe_ros.errors import first_line

DESCRIPTION = 'source.json'
IMAGE, DEPTH = '.jpg', '.depth.png'
# Depth that counts [m], also in training; 16 bits of millimetres end at 65.5 m.
RANGES = {'indoor': (0.1, 10.0), 'outdoor': (0.5, 65.0)}
_INTRINSICS = ('fx', 'fy', 'cx', 'cy')
_PROBED = 8         # frames whose depth is read on opening, to check its unit
_MODES = {'1': '1-bit', 'L': '8-bit', 'P': '8-bit', 'F': 'float', 'RGB': 'colour',
          'RGBA': 'colour'}


@dataclass(frozen=True)
class _Frame:
    """
    A frame as the description states it.

    :param size: (width, height) [px].
    :param camera: None if the description has no intrinsics.
    """

    name: str
    size: tuple[int, int]
    camera: Camera | None


class ImageFolder:
    """
    One source without depth: NAME.jpg of each frame, and source.json with ``"depth": false``.

    Its images teach the router, because their domain is known.

    :ivar name, group: of the source; :ivar domain: of all its images.
    """

    _suffixes: tuple[str, ...] = (IMAGE,)

    def __init__(self, folder: str | Path) -> None:
        """
        Read the description and check it against the files; frames are read on access.

        :raises DatasetError: the description is damaged, or it and the files disagree.
        """
        self._folder = Path(folder)
        about = _read_description(self._folder / DESCRIPTION)
        self.name, self.group, self.domain = about['source'], about['group'], about['domain']
        self.protocol = EvalProtocol(*RANGES[self.domain], clamps=False, min_pixels=100,
                                     max_pixels=30_000)
        self._unit: float = about['depth_unit_m']
        self._frames: list[_Frame] = about['frames']
        self._check_files()

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        """
        Return a frame, without depth outside of the range.

        :raises DatasetError: a file is damaged.
        """
        frame = self._frames[index]
        return Sample(photo(self._folder / f'{frame.name}{IMAGE}'), self.depth(index),
                      frame.camera, self.domain, frame.name)

    def depth(self, index: int) -> np.ndarray:
        """Return the depth of a frame alone, (h, w) float32 [m], see :meth:`__getitem__`."""
        width, height = self._frames[index].size
        return np.full((height, width), np.nan, np.float32)

    def _check_files(self) -> None:
        """Check that the frames of the description, and no others, are in the folder."""
        stated = [f'{frame.name}{suffix}' for frame in self._frames for suffix in self._suffixes]
        present = {path.name for path in self._folder.iterdir()
                   if path.name.endswith((IMAGE, DEPTH))}
        for names, fault in (
                ([name for name in stated if name not in present], 'names, is missing'),
                (sorted(present.difference(stated)), 'does not name, is in the folder')):
            if names:
                more = f' (and {len(names) - 1} more such files)' if len(names) > 1 else ''
                raise DatasetError(
                    f'{self._folder}: {names[0]}, which {DESCRIPTION} {fault}{more}')
        for frame in self._frames:
            for suffix in self._suffixes:
                _check_header(self._folder / f'{frame.name}{suffix}', frame.size)


class RgbdFolder(ImageFolder):
    """
    One source: NAME.jpg and NAME.depth.png of each frame, and source.json.

    Predictions are not clamped to the range of the truth, because a depth far outside of it
    misleads a robot more than one at its end.
    """

    _suffixes = (IMAGE, DEPTH)

    def __init__(self, folder: str | Path) -> None:
        """
        Read the description and check it against the files; frames are read on access.

        :raises DatasetError: the description is damaged, or it and the files disagree.
        """
        super().__init__(folder)
        self._check_unit()

    def depth(self, index: int) -> np.ndarray:
        """Return the depth of a frame alone, (h, w) float32 [m], see :meth:`__getitem__`."""
        values = read_values(self._folder / f'{self._frames[index].name}{DEPTH}')
        depth = values.astype(np.float32) * np.float32(self._unit)
        low, high = RANGES[self.domain]
        depth[(depth < low) | (depth > high)] = np.nan
        return depth

    def check_cameras(self) -> None:
        """Raise a DatasetError unless each frame has intrinsics."""
        for frame in self._frames:
            if frame.camera is None:
                raise DatasetError(f'{self._folder / DESCRIPTION} has no fx, fy, cx, cy for '
                                   f'{frame.name}: zoe train needs intrinsics, zoe eval does not')

    def _check_unit(self) -> None:
        """Check that the typical depth lies in the range that counts."""
        spread = np.linspace(0, len(self) - 1, _PROBED).astype(int)
        medians = []
        for index in sorted(set(spread.tolist())):
            values = read_values(self._folder / f'{self._frames[index].name}{DEPTH}')
            if (values > 0).any():
                medians.append(np.median(values[values > 0]))
        if not medians:
            return
        value, (low, high) = float(np.median(medians)), RANGES[self.domain]
        if not low <= value * self._unit <= high:
            raise DatasetError(
                f'{self._folder}: the median of the depth values is {value:g}, that is '
                f'{value * self._unit:g} m; {self.domain}s it should be {low:g} to {high:g} m: '
                f'are the values in units of {self._unit:g} m?')


def _check_header(path: Path, size: tuple[int, int]) -> None:
    """Check size and kind of an image without decoding the image."""
    with opened(path, 'an image of the source') as picture:
        form, mode, found = picture.format, picture.mode, picture.size
    if found != size:
        raise DatasetError(f'{path} has {found[0]} x {found[1]} pixels, but {DESCRIPTION} says '
                           f'{size[0]} x {size[1]}')
    if path.name.endswith(DEPTH) and (form != 'PNG' or not mode.startswith('I')):
        raise DatasetError(f'{path} has {_MODES.get(mode, mode)} values ({form}): depth must be '
                           'a 16-bit grey PNG in millimetres')


# --- the description ------------------------------------------------------------------------


def _read_description(path: Path) -> dict[str, Any]:
    """Return source.json with its defaults, and its frames as ``_Frame``."""
    try:
        about = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path} cannot be read as JSON ({first_line(error)})') from None
    try:
        return _checked(about, path.parent.resolve().name)
    except (ValueError, TypeError) as error:
        raise DatasetError(f'{path}: {error}') from None


def _checked(about: Any, folder: str) -> dict[str, Any]:
    if not isinstance(about, dict):
        raise ValueError('an object with "domain" and "frames" is expected')
    domain = about.get('domain')
    if domain not in DOMAINS:
        raise ValueError(f'"domain" is {domain!r}, not one of {", ".join(DOMAINS)}')
    rows = about.get('frames')
    if not isinstance(rows, list) or not rows:
        raise ValueError('"frames" names no frame')
    unit = about.get('depth_unit_m', 0.001)
    if not _is_number(unit) or not unit > 0:
        raise ValueError(f'"depth_unit_m" is {unit!r}, not a positive number')
    depth = about.get('depth', True)
    if not isinstance(depth, bool):
        raise ValueError(f'"depth" is {depth!r}, not true or false')
    frames = [_frame(row, number) for number, row in enumerate(rows, 1)]
    twice = [name for name, count in Counter(f.name for f in frames).items() if count > 1]
    if twice:
        raise ValueError(f'several frames have the name {twice[0]!r}')
    names = {key: about.get(key, default)
             for key, default in (('source', folder), ('group', domain))}
    for key, value in names.items():
        if not isinstance(value, str) or not value:
            raise ValueError(f'"{key}" is {value!r}, not a name')
    return {**names, 'domain': domain, 'depth': depth, 'depth_unit_m': unit, 'frames': frames}


def _frame(row: Any, number: int) -> _Frame:
    """Return a frame, counted from 1 in errors."""
    where = f'frame {number}'
    if not isinstance(row, dict):
        raise ValueError(f'{where} is no object')
    name = row.get('name')
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise ValueError(f'"name" of {where} is {name!r}, not a file name without its suffix')
    width, height = row.get('width'), row.get('height')
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        raise ValueError(f'"width" and "height" of {where} ({name}) are {width!r} and '
                         f'{height!r}, not numbers of pixels')
    values: list[Any] = [row.get(key) for key in _INTRINSICS]
    if values == [None] * 4:
        return _Frame(name, (width, height), None)
    if not all(map(_is_number, values)):
        raise ValueError('fx, fy, cx, cy of {} ({}) are {!r}, {!r}, {!r}, {!r}: four numbers are '
                         'expected, or none of them'.format(where, name, *values))
    try:
        return _Frame(name, (width, height), Camera(width, height, *values))
    except ValueError as error:
        raise ValueError(f'{where} ({name}): {error}') from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# --- collections ----------------------------------------------------------------------------


def open_folder(folder: Path) -> ImageFolder:
    """
    Open a source with or without depth, as its description says.

    :raises DatasetError: see :class:`ImageFolder`.
    """
    with_depth = _read_description(folder / DESCRIPTION)['depth']
    return RgbdFolder(folder) if with_depth else ImageFolder(folder)


def find_folders(root: Path) -> list[Path]:
    """
    Return the RGB-D folders that a path names: itself, or those in it; none if there are none.

    :raises DatasetError: a folder beside RGB-D folders holds depth without a description.
    """
    if (root / DESCRIPTION).is_file():
        return [root]
    found = sorted(path.parent for path in root.glob(f'*/{DESCRIPTION}'))
    if found:
        for path in sorted(root.glob(f'*/*{DEPTH}')):
            if path.parent not in found:
                raise DatasetError(f'{path.parent} holds depth but no {DESCRIPTION}')
    return found
