"""What a result was made from. Changed data, weights or settings make another result."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from zoe_ros.photos import find_photos
from zoe_ros.settings import Settings
from zoe_ros.storage.recording import is_folder, METADATA, storage_files
from zoe_ros.storage.remote import is_there, open_file, version_of

# Of a file of this machine so many blocks of so many bytes are read, evenly spaced from its first
# to its last byte. A smaller file is read whole.
_BLOCKS, _BLOCK = 64, 1 << 16

log = logging.getLogger(__name__)


def data_digest(path: Path) -> str | None:
    """
    Return a SHA-256 of the files of a bag, an image, or a folder of images; None without any.

    The content counts and not its time, so that a copy is the same data. Another recording has
    other stamps from its first byte to the index at its end; therefore samples are enough, and a
    bag of 100 GB costs 4 MiB. Of a remote file the size counts, and the hash or time of its store.

    :raises OSError: a file cannot be read.
    """
    if not is_there(path):
        return None
    digest = hashlib.sha256()
    for file in _files(path.parent if path.name == METADATA else path):
        about = _sample(file) if isinstance(file, Path) else version_of(file)
        digest.update(f'{file.name}\0{about}\0'.encode())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    """Return the files that a run over a path reads."""
    if not is_folder(path):
        return [path]
    stored = storage_files(path)
    if (path / METADATA).is_file():
        stored.append(path / METADATA)
    return stored or (find_photos(path)[0] if isinstance(path, Path) else [])


def _sample(path: Path) -> str:
    """Return the size of a file, and a SHA-256 of blocks of it."""
    size = path.stat().st_size
    step = max(_BLOCK, (size - _BLOCK) / (_BLOCKS - 1))
    digest = hashlib.sha256()
    with open_file(path) as file:
        for number in range(_BLOCKS):
            file.seek(round(number * step))
            digest.update(file.read(_BLOCK))
    return f'{size} {digest.hexdigest()}'


def changed_inputs(then: Mapping[str, str | None], now: Mapping[str, str | None]) -> list[str]:
    """
    Return the names of inputs whose content differs from that of an earlier result.

    An input whose content is not known, then or now, counts as unchanged: results of earlier
    versions do not tell, and a bag may have been removed when its results were there.

    :param then, now: name -> hash, None if not known.
    """
    return [name for name, value in now.items()
            if value is not None and then.get(name) not in (None, value)]


def other_settings(place: Path, now: Settings, then: Mapping[str, Any],
                   free: Collection[str] = (), beside: Collection[str] = ()) -> list[str]:
    """
    Return the names of settings with which an earlier result was made otherwise.

    A setting that the earlier result does not name is newer than the result, and counts as its
    default. What the result names and no longer exists is logged.

    :param place: of the earlier result, for the log; :param then: its settings.
    :param free: settings that may differ.
    :param beside: names of what ``then`` holds beside settings.
    """
    default = _plain({item.name: item.default for item in fields(now)})
    gone = [f'{name}: {value}' for name, value in then.items()
            if name not in default and name not in beside]
    if gone:
        log.warning('%s was made with settings that this version does not have and ignores: %s',
                    place, ', '.join(gone))
    return [name for name, value in _plain(asdict(now)).items()
            if name not in free and then.get(name, default[name]) != value]


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return values as JSON and YAML give them back, which have no tuples."""
    return dict(json.loads(json.dumps(values)))
