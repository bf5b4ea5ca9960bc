"""Labels that a teacher gave the images of a bag: one folder a bag, written by zoe distill."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from zoe_ros.camera import Camera
from zoe_ros.datasets import DatasetError, DOMAINS, EvalProtocol, Sample
from zoe_ros.datasets.files import photo
from zoe_ros.errors import first_line

DESCRIPTION = 'labels.json'
# Increased whenever the same bag gives other labels.
VERSION = 1
IMAGE, LABEL = '.jpg', '.label.npy'
HELD_OUT = 0.2      # share of the frames of a bag, the last ones
# Depth that counts [m]; a teacher states no range.
_NEAREST, _FARTHEST = 1e-3, 1000.0


class LabelledBag:
    """
    The frames of one bag, split and domain; the domain of a frame is its head at the teacher.

    Frames of 'test' are the last fifth of a bag, those of 'train' are the others.

    :ivar name: of the bag's folder and the domain; :ivar domain: of all frames.
    """

    def __init__(self, folder: str | Path, split: str, domain: str) -> None:
        """
        Read the description; frames are read on access.

        :raises DatasetError: the description is missing or damaged.
        """
        self._folder = Path(folder)
        about = read_description(self._folder)
        self.name, self.domain = f'{self._folder.name}-{domain}', domain
        self.protocol = EvalProtocol(_NEAREST, _FARTHEST, clamps=False)
        frames = about['frames']
        held_out = round(HELD_OUT * len(frames)) or int(len(frames) > 1)
        first = len(frames) - held_out
        self._frames = [frame for frame in (frames[first:] if split == 'test' else frames[:first])
                        if _head(frame) == domain]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        """
        Return a frame, named after its stamp; masked pixels have no depth.

        :raises DatasetError: a file is damaged.
        """
        frame = self._frames[index]
        path = self._folder / f'{frame["name"]}{LABEL}'
        try:
            depth = np.exp(np.load(path)[0].astype(np.float32))
        except (OSError, ValueError, EOFError) as error:
            raise DatasetError(f'{path} cannot be read ({first_line(error)}): remove the folder '
                               'and label the bag again') from None
        camera = frame['camera'] and Camera(depth.shape[1], depth.shape[0], *frame['camera'])
        return Sample(photo(self._folder / f'{frame["name"]}{IMAGE}'), depth, camera,
                      self.domain, frame['name'], frame['probabilities'])


def _head(frame: dict[str, Any]) -> str:
    probabilities: dict[str, float] = frame['probabilities']
    return max(probabilities, key=probabilities.__getitem__)


def read_description(folder: Path) -> dict[str, Any]:
    """
    Return what the folder of a bag says: 'version', 'made_with', 'left_out' and 'frames'.

    Also 'inputs', the hashes of what the labels were made from; earlier versions have none.
    Each frame has 'name', 'probabilities' of the heads, and 'camera': fx, fy, cx, cy [px] at the
    size of its files, or None.

    :raises DatasetError: the description is missing, damaged, or of another version.
    """
    path = folder / DESCRIPTION
    try:
        about = dict(json.loads(path.read_text(encoding='utf-8')))
        about |= {name: dict(about.get(name, {})) for name in ('made_with', 'inputs')}
        if about['version'] == VERSION:
            for frame in about['frames']:
                _check_frame(frame)
            return about
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f'{path} cannot be read ({first_line(error)}): remove the folder and '
                           'label the bag again') from None
    raise DatasetError(f'{path} is of another version of zoe distill: remove the folder and '
                       'label the bag again')


def _check_frame(frame: dict[str, Any]) -> None:
    """Raise an error of some kind if a frame of a description is not whole."""
    _head(frame)
    camera = frame['camera']
    if not isinstance(frame['name'], str) or (camera is not None and len(camera) != 4):
        raise ValueError('a frame is damaged')


def find_labels(root: Path) -> list[Path]:
    """Return the folders of labels that a path names: itself, or those in it, in order."""
    if (root / DESCRIPTION).is_file():
        return [root]
    return sorted(path.parent for path in root.glob(f'*/{DESCRIPTION}'))


def open_labels(folders: list[Path], split: str, domain: str = '') -> list[LabelledBag]:
    """
    Open the labels of bags.

    :param domain: of the frames; '' for both.
    :return: those with frames.
    :raises DatasetError: a description is damaged, or there is no frame.
    """
    opened = [LabelledBag(folder, split, name) for folder in folders
              for name in DOMAINS if domain in ('', name)]
    found = [dataset for dataset in opened if len(dataset)]
    if not found:
        raise DatasetError(f'{folders[0]} has no {domain and domain + " "}frame '
                           f'{"that is held out" if split == "test" else "to learn from"}: '
                           'label more or longer bags')
    return found
