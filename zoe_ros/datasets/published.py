"""Published datasets with the protocol of the paper (specification, section 6): one table."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from zoe_ros.camera import Camera
from zoe_ros.datasets import check_metres, DatasetError, EvalProtocol, layouts, Sample
from zoe_ros.datasets.ddad import ddad
from zoe_ros.datasets.files import cropped, photo
from zoe_ros.datasets.layouts import Item
from zoe_ros.errors import first_line
from zoe_ros.extras import PackageError

_KB = (352, 1216)       # height and width of the KITTI benchmark's crop [px]


@dataclass(frozen=True)
class Source:
    """
    A published dataset.

    :param title: for messages.
    :param markers: glob patterns; a root with a match of any of them holds this dataset.
    :param layout: (root, split) -> samples.
    :param protocol: of the evaluation; training ignores depth beyond max_depth, too.
    :param kb_crop: use only the lower middle 352 x 1216 pixels, in training, too.
    """

    title: str
    markers: tuple[str, ...]
    domain: str
    protocol: EvalProtocol
    layout: Callable[[Path, str], list[Item]]
    kb_crop: bool = False


# Ranges [m] of the paper (table 7). The paper's code differs in two points: DIML starts at 2 m,
# and DIODE has no validity mask, although the devkit of DIODE has one.
SOURCES = {
    'nyu': Source('NYU Depth v2', ('official_splits', 'sync'), 'indoor',
                  EvalProtocol(1e-3, 10, 'eigen'), layouts.nyu),
    'kitti': Source('KITTI', ('data_depth_annotated',), 'outdoor', EvalProtocol(1e-3, 80, 'garg'),
                    layouts.kitti, kb_crop=True),
    'sunrgbd': Source('SUN RGB-D', ('SUNRGBD',), 'indoor', EvalProtocol(1e-3, 8, 'eigen'),
                      layouts.sunrgbd),
    'ibims': Source('iBims-1', ('mask_transp',), 'indoor', EvalProtocol(1e-3, 10, 'eigen'),
                    layouts.ibims),
    'diode-indoor': Source('DIODE indoor', ('*/indoors',), 'indoor',
                           EvalProtocol(1e-3, 10, 'eigen'), partial(layouts.diode, 'indoors')),
    'diode-outdoor': Source('DIODE outdoor', ('*/outdoor',), 'outdoor',
                            EvalProtocol(1e-3, 80, 'garg'), partial(layouts.diode, 'outdoor')),
    'hypersim': Source('Hypersim', ('ai_*',), 'indoor', EvalProtocol(1e-3, 80, 'eigen'),
                       layouts.hypersim),
    'vkitti2': Source('Virtual KITTI 2', ('Scene*',), 'outdoor', EvalProtocol(1e-3, 80, 'garg'),
                      layouts.vkitti2, kb_crop=True),
    'ddad': Source('DDAD', ('ddad.json',), 'outdoor', EvalProtocol(1e-3, 80, 'garg'), ddad),
    'diml': Source('DIML outdoor', ('outleft',), 'outdoor', EvalProtocol(1e-3, 80, 'garg'),
                   layouts.diml),
}


def recognise(root: Path) -> list[str]:
    """Return the names of the datasets in a folder."""
    return [name for name, source in SOURCES.items()
            if any(next(root.glob(marker), None) is not None for marker in source.markers)]


class PublishedDataset:
    """One split of a published dataset."""

    def __init__(self, name: str, root: str | Path, split: str) -> None:
        """
        Find the files; they are read on access.

        :param name: a key of ``SOURCES``.
        :param split: 'train' or 'test'.
        :raises DatasetError: files are missing, or the dataset has no such split.
        """
        self.name = name
        self._source = SOURCES[name]
        self.domain, self.protocol = self._source.domain, self._source.protocol
        try:
            self._items = self._source.layout(Path(root), split)
        except (DatasetError, PackageError) as error:
            raise DatasetError(f'{self._source.title}: {error}') from None
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise DatasetError(f'{self._source.title}: a list or an index under {root} is damaged '
                               f'({type(error).__name__}: {first_line(error)})') from None
        if not self._items:
            raise DatasetError(f'{self._source.title}: {root} holds no sample of its {split} '
                               'split')

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._items)

    def __getitem__(self, index: int) -> Sample:
        """
        Return a sample, cropped as ``kb_crop`` says, without depth beyond max_depth.

        :raises DatasetError: files are missing, damaged or implausible.
        """
        item = self._items[index]
        try:
            image = photo(item.image)
            depth = np.array(item.depth(), np.float32)
            if depth.shape != image.shape[:2]:
                raise DatasetError(
                    f'{item.image}: the image has {image.shape[1]} x {image.shape[0]} pixels, its '
                    f'depth {depth.shape[1]} x {depth.shape[0]}')
            depth[~(depth > 0)] = np.nan
            check_metres(depth, self.domain, f'depth of {item.image}')
            camera = item.camera(image.shape[:2])
        except (DatasetError, PackageError) as error:
            raise DatasetError(f'{self._source.title}: {error}') from None
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            raise DatasetError(f'{self._source.title}: the depth or the camera of {item.image} '
                               f'cannot be read ({first_line(error)})') from None
        depth[depth > self.protocol.max_depth] = np.nan
        if self._source.kb_crop:
            image, depth, camera = kb_crop(image, depth, camera)
        return Sample(image, depth, camera, self.domain, item.name)


def kb_crop(image: np.ndarray, depth: np.ndarray,
            camera: Camera) -> tuple[np.ndarray, np.ndarray, Camera]:
    """
    Crop to the lower middle like the KITTI benchmark; shift the principal point accordingly.

    :raises DatasetError: the image is smaller than the crop.
    """
    height, width = depth.shape
    if height < _KB[0] or width < _KB[1]:
        raise DatasetError(f'an image of {width} x {height} pixels is smaller than the crop of '
                           f'KITTI, {_KB[1]} x {_KB[0]}')
    top, left = height - _KB[0], (width - _KB[1]) // 2
    window = np.s_[top:top + _KB[0], left:left + _KB[1]]
    return (np.ascontiguousarray(image[window]), np.ascontiguousarray(depth[window]),
            cropped(camera, (top, left), _KB))
