"""What users name as data: a made world, a bag with depth, a dataset; all become datasets."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoe_ros.datasets import Dataset, DatasetError, DOMAINS
from zoe_ros.world.make import is_world, WorldDataset


def open_datasets(data: Sequence[str], split: str, domain: str = '') -> list[Dataset]:
    """
    Open what a user names.

    :param data: the folder of ``zoe world`` (both domains), or of its part.
    :param split: 'train' or 'test'.
    :param domain: of data that do not tell it themselves.
    :raises DatasetError: there is nothing of a known kind.
    """
    datasets: list[Dataset] = []
    for text in data:
        path = Path(text).expanduser()
        if not path.exists():
            raise DatasetError(f'nothing at {path}: give the folder of zoe world')
        if not is_world(path):
            raise DatasetError(f'{path} holds no data of a known kind: give the folder of zoe '
                               'world')
        datasets += [WorldDataset(path, split, name) for name in DOMAINS
                     if not domain or name == domain]
    return datasets
