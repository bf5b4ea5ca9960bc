"""Opens the data that a user names: a world, a bag, labels, RGB-D folders, published datasets."""
from __future__ import annotations

from collections.abc import Sequence
import logging
from pathlib import Path

from zoe_ros.bag import is_bag
from zoe_ros.command_settings import DataSettings
from zoe_ros.datasets import Dataset, DatasetError, DOMAINS
from zoe_ros.datasets.bags import RgbdBag
from zoe_ros.datasets.folders import find_folders, ImageFolder, open_folder, RgbdFolder
from zoe_ros.datasets.labels import find_labels, open_labels
from zoe_ros.datasets.published import PublishedDataset, recognise, SOURCES
from zoe_ros.datasets.world import is_world, WorldDataset

log = logging.getLogger(__name__)


def open_datasets(data: Sequence[str], split: str,
                  settings: DataSettings | None = None) -> list[Dataset]:
    """
    Open the data that a user names.

    :param data: the folder of ``zoe world`` (both domains), a bag with depth, an RGB-D folder or
        a folder of such folders, labels of ``zoe distill``, or the root of a published dataset.
    :param split: 'train' or 'test'; bags and RGB-D folders have no splits. Folders without depth
        are for training only.
    :param settings: domain and topics, where the data alone does not determine them.
    :raises DatasetError: the path holds no data of a known kind.
    :raises BagError: a bag cannot be read, or a topic must be chosen.
    """
    settings = settings or DataSettings()
    domain = settings.domain
    datasets: list[Dataset] = []
    for text in data:
        path = Path(text).expanduser()
        if not path.exists():
            raise DatasetError(f'nothing at {path}: give the folder of zoe world, a bag, or the '
                               'root of a dataset')
        if is_bag(path):
            require_domain(path, domain)
            datasets.append(RgbdBag(path, domain, settings.topic or None,
                                    settings.depth_topic or None))
            continue
        if is_world(path):
            datasets += [WorldDataset(path, split, name) for name in DOMAINS
                         if not domain or name == domain]
            continue
        labelled = find_labels(path)
        if labelled:
            datasets += open_labels(labelled, split, domain)
            continue
        folders = find_folders(path)
        if folders:
            datasets += _open_folders(folders, domain, split)
            continue
        found = [name for name in recognise(path)
                 if not domain or SOURCES[name].domain == domain]
        if not found:
            kinds = ', '.join(f'{source.title} ({source.markers[0]})'
                              for source in SOURCES.values())
            raise DatasetError(f'{path} holds no data of a known kind{domain and " " + domain}: '
                               'give the folder of zoe world, a bag, an RGB-D folder '
                               '(source.json), or the root of a dataset, recognised by these '
                               f'files: {kinds}')
        datasets += [PublishedDataset(name, path, split) for name in found]
    names = [dataset.name for dataset in datasets if isinstance(dataset, ImageFolder)]
    for name in names:
        if names.count(name) > 1:
            raise DatasetError(f"several RGB-D folders have the source name '{name}': name each "
                               'folder once, and give each source its own name in source.json')
    return datasets


def require_bag_for_topics(data: Sequence[str], settings: DataSettings) -> None:
    """Raise a DatasetError if a user names a topic, but no bag."""
    named = ['--topic'] * bool(settings.topic) + ['--depth-topic'] * bool(settings.depth_topic)
    if named and not any(is_bag(Path(text).expanduser()) for text in data):
        raise DatasetError(f'{" and ".join(named)} is for bags, and no bag is given: leave it out')


def require_domain(bag: Path, domain: str) -> None:
    """Raise a DatasetError if a user gives a bag without its domain."""
    if not domain:
        raise DatasetError(f'{bag} is a bag, whose domain is unknown: add --domain indoor or '
                           '--domain outdoor')


def _open_folders(folders: Sequence[Path], domain: str, split: str) -> list[ImageFolder]:
    """Open the image folders of a domain, of any if it is ''."""
    opened = [open_folder(folder) for folder in folders]
    chosen = [source for source in opened if not domain or source.domain == domain]
    if not chosen:
        raise DatasetError(f'{folders[0].parent} holds RGB-D folders, but none is {domain}')
    with_depth = [source for source in chosen if isinstance(source, RgbdFolder)]
    if split == 'train':
        for source in with_depth:
            source.check_cameras()
        return chosen
    without = ', '.join(source.name for source in chosen if source not in with_depth)
    if not with_depth:
        raise DatasetError(f"the source '{without}' has no depth: zoe eval needs depth")
    if without:
        log.info('left out, because they have no depth: %s', without)
    return [*with_depth]
