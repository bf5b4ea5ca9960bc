"""Frames of the synthetic world, in the files that :mod:`zoe_ros.world.make` writes."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from zoe_ros.camera import Camera
from zoe_ros.datasets import DatasetError, DOMAINS, EvalProtocol, Sample

# Increased whenever the same seed gives different frames.
VERSION = 1
SPLITS = ('train', 'test')
RANGES = {'indoor': (0.3, 10.0), 'outdoor': (0.3, 80.0)}    # of depth [m]
DESCRIPTION = 'world.json'
KINDS_FILE = 'kinds.txt'      # of the scenes, one a line
SKIES_FILE = 'skies.npy'      # where frames show the sky, eight pixels of a row a byte


class WorldDataset:
    """One split of one domain of a rendered world."""

    def __init__(self, folder: str | Path, split: str, domain: str) -> None:
        """
        Memory-map the arrays; frames are read on access.

        :raises DatasetError: the arrays are missing, incomplete, or of another version.
        """
        part = self._part = Path(folder).expanduser() / split / domain
        description = read_description(part)
        if description['version'] != VERSION:
            raise DatasetError(f'{part} was made by another version of zoe world: make it again')
        self.name = f'world-{domain}'
        self.domain = domain
        self.protocol = EvalProtocol(*RANGES[domain])
        try:
            self._images = np.load(part / 'images.npy', mmap_mode='r')
            self._depths = np.load(part / 'depths.npy', mmap_mode='r')
            self._cameras = np.load(part / 'cameras.npy')
            # Worlds of former releases have no kinds, and need none.
            names = part / KINDS_FILE
            self._kinds = names.read_text().split() if names.is_file() else []
        except (OSError, ValueError) as error:
            raise DatasetError(f'{part} is damaged ({error}): remove it and make it again'
                               ) from None
        self._frames = description['frames']

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        """Return a frame, named after scene, number and the kind of the scene."""
        height, width = self._depths.shape[1:]
        scene, frame = divmod(range(len(self))[index], self._frames)
        kind = f'-{self._kinds[scene]}' if self._kinds else ''
        return Sample(
            np.array(self._images[index]), self._depths[index].astype(np.float32),
            Camera(width, height, *self._cameras[index]), self.domain,
            f'{scene:04}-{frame:02}{kind}')

    def sky(self, index: int) -> np.ndarray:
        """
        Return where a frame shows the sky, (h, w) bool.

        :raises DatasetError: the world is of a former release, which did not store the sky.
        """
        try:
            packed = np.load(self._part / SKIES_FILE, mmap_mode='r')[index]
        except (OSError, ValueError) as error:
            raise DatasetError(f'{self._part} does not tell where the sky is ({error}): make it '
                               'again with zoe world') from None
        return np.unpackbits(packed, axis=-1, count=self._depths.shape[2]).astype(bool)


def is_world(folder: Path) -> bool:
    """Tell whether a folder holds a rendered world, or a part of one."""
    return any((folder / split / domain / DESCRIPTION).is_file()
               for split in SPLITS for domain in DOMAINS)


def read_description(part: Path) -> dict[str, int]:
    """
    Read the settings with which a split of a domain was made.

    :raises DatasetError: the folder has no frames.
    """
    try:
        return dict(json.loads((part / DESCRIPTION).read_text()))
    except (OSError, ValueError):
        raise DatasetError(f'{part} holds no frames: make them with "zoe world '
                           f'{part.parent.parent}"') from None
