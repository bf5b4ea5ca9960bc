"""Files and folders that are written whole or not at all, and the SHA-256 of a file."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
import hashlib
from pathlib import Path
import shutil


@contextmanager
def whole_file(path: Path, also: tuple[type[Exception], ...] = ()) -> Iterator[Path]:
    """
    Give the path to write to; the file there becomes ``path`` in one step, or not at all.

    :param also: errors other than OSError by which a library reports a full disk.
    :raises OSError: the file cannot be written; the text names ``path``.
    """
    part = path.with_name(path.name + '.part')
    told: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield part
        part.replace(path)
    except told as error:
        reason = getattr(error, 'strerror', None) or str(error).partition('\n')[0]
        raise OSError(f'{path} cannot be written: {reason}') from None
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """
    Give the folder to fill; it becomes ``path`` in one step, or nothing of it stays.

    :param path: does not exist, or is an empty folder.
    :raises OSError: a file cannot be written; the text names ``path``.
    """
    part = path.with_name(path.name + '.part')
    try:
        shutil.rmtree(part, ignore_errors=True)     # of a process that was killed
        part.mkdir(parents=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise OSError(f'{path} cannot be written: {error.strerror or error}') from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; an unchanged file is read once."""
    about = path.stat()
    return _sha256(path, (about.st_ino, about.st_size, about.st_mtime_ns))


@lru_cache(maxsize=8)
def _sha256(path: Path, version: tuple[int, ...]) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
