"""Files that are written whole or not at all, whatever becomes of the disk."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """
    Give the path to write to; what is there at the end becomes ``path`` in one step.

    :raises OSError: it cannot be written; the text names ``path``.
    """
    part = path.with_name(f'.part-{path.name}')
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise OSError(f'{path} cannot be written: {error.strerror or error}') from None
    finally:
        part.unlink(missing_ok=True)
