"""What the arguments of a command name: paths, patterns, and lists of them in files."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
import glob
from pathlib import Path

from zoe_ros.storage.remote import is_remote, match, refuse_address, to_path

# Before the path of a list, as compilers have it.
LIST = '@'


def is_many(given: Sequence[str]) -> bool:
    """Tell whether arguments may name several bags: several, a pattern, or a list of paths."""
    return len(given) > 1 or _is_list(given[0]) or _is_pattern(given[0])


def named(given: Sequence[str]) -> Iterator[Path]:
    """
    Give the paths that arguments name, in their order; those of a pattern are sorted.

    :param given: paths, patterns, and ``@file`` for a file with one path or pattern a line; also
        addresses, see :func:`zoe_ros.storage.remote.to_path`.
    :raises ValueError: a pattern or a list names nothing, or no list can be read there.
    :raises OSError: another machine cannot be read.
    """
    for text in _without_lists(given):
        matches = _matches(text) if _is_pattern(text) else [to_path(text)]
        if not matches:
            raise ValueError(f"nothing matches the pattern '{text}'")
        yield from matches


def local_data(given: Sequence[str]) -> tuple[str, ...]:
    """
    Return the paths of this machine that arguments name, see :func:`named`.

    :raises ValueError: as there; also for an address in a list.
    """
    texts = list(_without_lists(given))
    for text in texts:
        refuse_address(text)
    return tuple(str(path) for path in named(texts))


def _without_lists(given: Sequence[str], lists: tuple[str, ...] = ()) -> Iterator[str]:
    """
    Give the paths and patterns that arguments name.

    :param lists: that these arguments are from.
    """
    for text in given:
        if _is_list(text):
            yield from _without_lists(_lines(text, lists), (*lists, text))
        else:
            yield text


def _lines(text: str, lists: tuple[str, ...]) -> list[str]:
    """Return what the lines of ``@file`` name."""
    path = Path(text[1:]).expanduser()
    if text in lists:
        raise ValueError(f'the list {path} names itself')
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', 'this is no text')
        raise ValueError(f"'{text}' names no list ({reason}): give a text file with one path a "
                         'line behind the @') from None
    given = [line.strip() for line in lines if line.strip()]
    if not given:
        raise ValueError(f'no path in {path}')
    return given


def _is_list(text: str) -> bool:
    return text.startswith(LIST) and not Path(text).exists()


def _is_pattern(text: str) -> bool:
    if is_remote(text):
        return '*' in text      # an address may have a question mark
    return glob.has_magic(text) and not to_path(text).exists()


def _matches(pattern: str) -> list[Path]:
    if is_remote(pattern):
        return match(pattern)
    return [Path(path) for path in sorted(glob.glob(str(to_path(pattern)), recursive=True))]
