"""Files that are written whole or not at all, whatever becomes of the disk."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the path to write to; what is there at the end becomes ``path`` in one step."""
    part = path.with_name(path.name + '.part')
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """
    Do as :func:`replacing` does, and name the file in errors.

    :raises OSError: it cannot be written; the text names ``path``.
    """
    try:
        with replacing(path) as part:
            yield part
    except OSError as error:
        raise OSError(f'{path} cannot be written: {error.strerror or error}') from None
