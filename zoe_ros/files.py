"""Files that are written whole or not at all, whatever becomes of the disk."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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
