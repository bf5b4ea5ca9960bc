"""Paths on other machines: ``s3://bucket/kitchen.mcap``, and all else that fsspec can read."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
from typing import Any, BinaryIO, cast

from zoe_ros.errors import first_line
from zoe_ros.extras import require

# Behind the protocol in an address.
_MARK = '://'
# Read ahead [bytes]: an index is read in steps of this, and a chunk with so much behind it.
_AHEAD = 1 << 15
# What stores call the hash of a file or, where they have none, its time; the best first.
_VERSIONS = ('md5Hash', 'Content-MD5', 'ETag', 'etag', 'Digest', 'crc32c', 'LastModified',
             'Last-Modified', 'last_modified', 'updated', 'modified', 'mtime', 'created')


def is_remote(text: str) -> bool:
    """Tell an address from a path of this machine."""
    return _MARK in text


def refuse_address(text: str) -> None:
    """Raise a ValueError if a text names another machine where a path of this one is needed."""
    if is_remote(text):
        raise ValueError(f"'{text}' is on another machine: zoe run, fleet and distill read bags "
                         'there, all else needs a path of this machine')


def to_path(text: str) -> Path:
    """
    Return a path, of this machine or remote.

    A remote path is one of universal_pathlib, which has the methods of pathlib that the package
    uses on its inputs.

    :param text: a path, also with ``~``, or an address such as ``s3://bucket/kitchen.mcap``.
    :raises ValueError: what its protocol needs is not installed, or unknown.
    """
    if not is_remote(text):
        return Path(text).expanduser()
    upath = require(text, 'fleet', 'upath')
    try:
        path = upath.UPath(text)
        protocols = path.fs.protocol        # this loads what the protocol needs
    except (ImportError, ValueError) as error:
        raise ValueError(f'{text} cannot be read: {first_line(error)}') from None
    if 'file' in protocols:
        return Path(path.path)
    return cast(Path, path)


def match(pattern: str) -> list[Path]:
    """
    Return what matches a remote pattern.

    :raises ValueError, OSError: it cannot be read.
    """
    before, _, rest = pattern.partition(_MARK)
    host, _, inside = rest.partition('/')
    with _named_errors(pattern):
        return list(to_path(f'{before}{_MARK}{host}/').glob(inside))


def is_there(path: Path) -> bool:
    """
    Tell whether something is at a path.

    :raises OSError: the other machine does not tell.
    """
    if isinstance(path, Path):
        return path.exists()
    with _named_errors(str(path)):
        try:
            cast(Any, path).stat()      # over HTTP its exists() asks for the whole file
        except FileNotFoundError:
            return False
        return True


def version_of(path: Path) -> str:
    """
    Return what tells versions of a remote file apart: size, and hash or time, as its store has it.

    :raises OSError: the other machine does not tell.
    """
    with _named_errors(str(path)):
        about = cast(Any, path).stat().as_info()
    return f'{about.get("size")} {next((about[n] for n in _VERSIONS if about.get(n)), "")}'


def open_file(path: Path) -> BinaryIO:
    """
    Open a file to read parts of it, in few requests if it is remote.

    :raises OSError: it cannot be read.
    """
    return path.open('rb') if isinstance(path, Path) else cast(BinaryIO, _RemoteFile(path))


class _RemoteFile:
    """The part of a binary file that the storages use; all errors are OSErrors."""

    def __init__(self, path: Any) -> None:
        self._name = str(path)
        with _named_errors(self._name):
            self._file = path.open('rb', cache_type='readahead', block_size=_AHEAD)

    def __enter__(self) -> _RemoteFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _named_errors(self._name):
            return int(self._file.seek(offset, whence))

    def read(self, size: int = -1) -> bytes:
        with _named_errors(self._name):
            return bytes(self._file.read(size))

    def close(self) -> None:
        self._file.close()


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    """Turn errors of libraries, of which each has its own, into OSErrors with a name."""
    try:
        yield
    except FileNotFoundError:       # its text is the address alone
        raise OSError(f'{name} cannot be read: there is nothing') from None
    except Exception as error:
        raise OSError(f'{name} cannot be read: {first_line(error)}') from None
