"""A rosbag2 as one recording: its files in order, with or without the metadata that name them."""
from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
import re
import shutil
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from zoe_ros.errors import first_line
from zoe_ros.storage import Channel, EVER, mcap, sqlite, Storage, StorageError, zstd
from zoe_ros.storage.remote import open_file

SUFFIXES = ('.mcap', '.db3')
METADATA = 'metadata.yaml'
_ROSBAG1_MAGIC = b'#ROSBAG V'
_BLOCK = 1 << 20        # [bytes] that are copied at once
# Of Zstandard: that of rosbag2, and that of the command zstd.
_PACKED = ('.zstd', '.zst')


class Recording:
    """
    The messages of a rosbag2; a context manager.

    What can be read is given; what is missing is told by :meth:`defects`.

    :ivar notes: what a user should know although nothing is missing.
    """

    def __init__(self, path: Path) -> None:
        """
        Open the files.

        :param path: a folder, its metadata.yaml, or a storage file.
        :raises StorageError: no file can be read.
        """
        self.notes: list[str] = []
        self._path = path
        self._storages: list[Storage] = []
        self._missing: list[str] = []
        self._announced: dict[str, int] = {}
        self._unpacked: TemporaryDirectory[str] | None = None
        self._verified = False
        try:
            for file in self._files():
                try:
                    self._storages.append(self._open(file))
                except (StorageError, OSError) as error:
                    self._missing.append(first_line(error))
            if not self._storages:
                raise StorageError('; '.join(self._missing) or 'it has no storage file')
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Recording:
        """Return self; the files are open already."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Close the files."""
        for storage in self._storages:
            storage.close()
        if self._unpacked is not None:
            self._unpacked.cleanup()

    @property
    def channels(self) -> list[Channel]:
        """Return the channels of all files."""
        return [channel for storage in self._storages for channel in storage.channels.values()]

    def count(self, topic: str, kinds: Collection[str]) -> int:
        """Return how many messages of a topic the bag says it holds."""
        held = sum(channel.count for channel in self.channels
                   if channel.topic == topic and channel.kind in kinds)
        return max(held, self._announced.get(topic, 0))

    def defects(self) -> list[str]:
        """Return what is known by now to be missing."""
        return self._missing + [text for storage in self._storages for text in storage.defects]

    def verify(self) -> None:
        """Look once for damage that reading does not show; this may read all files."""
        if not self._verified:
            self._verified = True
            for storage in self._storages:
                storage.verify()

    def messages(self, topic: str, kinds: Collection[str], start: int = 0,
                 stop: int = EVER) -> Iterator[tuple[str, int, bytes]]:
        """
        Give the messages of a topic of some types, file by file, in the order of recording.

        :param start, stop: times of recording [ns].
        :return: the type of each, when it was recorded [ns], and its CDR.
        """
        for storage in self._storages:
            found = {number: channel.kind for number, channel in storage.channels.items()
                     if channel.topic == topic and channel.kind in kinds
                     and channel.encoding == 'cdr'}
            # One type: a topic of both kinds of images has no sense.
            for kind in sorted(set(found.values())):
                numbers = [number for number, own in found.items() if own == kind]
                for recorded, data in storage.messages(numbers, start, stop):
                    yield kind, recorded, data

    def spans(self, topic: str, kinds: Collection[str]) -> list[tuple[int, int]]:
        """
        Return times around all messages of some types in each file that has such, in order [ns].

        :param topic: of the messages; empty for all topics.
        """
        found = []
        for storage in self._storages:
            numbers = [number for number, channel in storage.channels.items()
                       if channel.kind in kinds and topic in ('', channel.topic)]
            span = storage.span(numbers) if numbers else None
            found += [] if span is None else [span]
        return found

    # --- files ---

    def _files(self) -> list[Path]:
        """Return the files of the recording in their order."""
        if self._path.name == METADATA:
            self._path = self._path.parent
        if not is_folder(self._path):
            return [self._path]
        present = storage_files(self._path)
        if not (self._path / METADATA).is_file():
            self.notes.append(f'there is no {METADATA}: the files are read in the order of their '
                              'names')
            return present
        try:
            names = self._read_metadata()
        except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
            if not present:
                raise StorageError(f'{METADATA}: {first_line(error)}') from None
            self.notes.append(f'{METADATA} is damaged: the files are read in the order of their '
                              'names')
            return present
        files = [self._find(name) for name in names]
        if not any(files) and present:
            self.notes.append(f'{METADATA} names other files than there are')
            return present
        self._missing += [f'{name} is missing' for name, file in zip(names, files) if not file]
        return [file for file in files if file]

    def _read_metadata(self) -> list[str]:
        """Return the names of the files, and keep how many messages each topic has."""
        content: Any = yaml.safe_load((self._path / METADATA).read_bytes())
        information = content['rosbag2_bagfile_information']
        announced: dict[str, int] = {}
        for entry in information['topics_with_message_count']:
            topic = str(entry['topic_metadata']['name'])
            announced[topic] = announced.get(topic, 0) + int(entry['message_count'])
        # Recorders of Dashing wrote whole paths; a bag may have been moved since.
        names = [re.split(r'[\\/]', str(name))[-1] for name in information['relative_file_paths']]
        self._announced = announced
        return names

    def _find(self, name: str) -> Path | None:
        """Return a file that may have been unpacked, or packed, since."""
        for candidate in (name, _unpacked_name(name), *(name + suffix for suffix in _PACKED)):
            if (self._path / candidate).is_file():
                return self._path / candidate
        return None

    def _open(self, path: Path) -> Storage:
        """Open a file by its first bytes: neither suffix nor metadata need be right."""
        with open_file(path) as file:
            start = file.read(16)
        if start.startswith(zstd.MAGIC):
            return self._open(self._unpack(path))
        if start.startswith(_ROSBAG1_MAGIC):
            raise StorageError(f'{path.name} is a bag of ROS 1')
        if start.startswith(sqlite.MAGIC):
            return sqlite.SqliteFile(path if isinstance(path, Path) else self._fetch(path))
        if start.startswith(mcap.MAGIC):
            return mcap.McapFile(path)
        raise StorageError(f'{path.name} is empty' if not start
                           else f'{path.name} is neither MCAP nor SQLite')

    def _fetch(self, path: Path) -> Path:
        """Copy a remote file: SQLite reads files of this machine only."""
        target = self._temporary(path.name)
        with open_file(path) as remote, target.open('wb') as file:
            shutil.copyfileobj(remote, file, _BLOCK)
        return target

    def _temporary(self, name: str) -> Path:
        """Return the path of a file that goes away with the recording."""
        if self._unpacked is None:
            self._unpacked = TemporaryDirectory(prefix='zoe_ros_')
        return Path(self._unpacked.name, name)

    def _unpack(self, path: Path) -> Path:
        target = self._temporary(_unpacked_name(path.name))
        try:
            with (open_file(path) as source, zstd.open_zstd(source) as packed,
                  target.open('wb') as file):
                shutil.copyfileobj(packed, file)
        except (EOFError, zstd.ZstdError) as error:
            # What was unpacked until here is a file that is cut off.
            self._missing.append(f'{path.name}: {first_line(error)}')
        return target


def is_folder(path: Path) -> bool:
    """
    Tell a folder from a file.

    A remote path with the name of a storage file is one, without a look: over HTTP that would read
    the whole file.
    """
    return (isinstance(path, Path) or not is_storage_name(path.name)) and path.is_dir()


def storage_files(folder: Path) -> list[Path]:
    """Return the storage files of a folder in the order of their names, numbers as such."""
    def order(path: Path) -> list[Any]:
        return [(0, int(part), '') if part.isdigit() else (1, 0, part)
                for part in re.split(r'(\d+)', path.name)]

    return sorted((path for path in folder.iterdir() if is_storage_name(path.name)
                   and path.is_file()), key=order)


def is_storage_name(name: str) -> bool:
    """Tell from its name whether a file is the storage of a rosbag2."""
    return _unpacked_name(name.lower()).endswith(SUFFIXES)


def starts_as_storage(path: Path) -> bool:
    """Tell from its first bytes whether a file of this machine is a bag, whatever its name is."""
    try:
        # Of other than plain files, such as a pipe, what is read once is gone.
        if not (isinstance(path, Path) and path.is_file()):
            return False
        with path.open('rb') as file:
            return file.read(16).startswith((sqlite.MAGIC, mcap.MAGIC, _ROSBAG1_MAGIC))
    except OSError:
        return False


def _unpacked_name(name: str) -> str:
    """Return the name of a file without the suffix of Zstandard."""
    for suffix in _PACKED:
        name = name.removesuffix(suffix)
    return name
