"""Finds files of parameters that are meant for another node than this one."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
import re
from typing import Any

import yaml

_OPTION, _PARAMETERS = '--params-file', 'ros__parameters'
# Of a name in such a file: any number of parts, and one part.
_WILDCARDS = {'**': r'(?:/[^/]+)*', '*': '/[^/]+'}


def explain_unused_files(arguments: Sequence[str], node: str) -> list[str]:
    """
    Return a sentence for each file of parameters that has none for a node.

    ROS uses nothing of such a file, without a word.

    :param arguments: of the command line.
    :param node: its full name, such as '/robot/depth_node'.
    """
    texts = []
    for option, path in pairwise(arguments):
        if option != _OPTION:
            continue
        names = sorted(set(_names(yaml.safe_load(Path(path).read_text(encoding='utf-8')))))
        if not any(re.fullmatch(_pattern(name), node) for name in names):
            texts.append(f'{path} has no parameters for {node}, so that nothing in it is used: it '
                         f'has some for {", ".join(names) or "no node"}')
    return texts


def _names(content: Any, name: str = '') -> Iterator[str]:
    """Give the full names of the nodes in a file, which may nest namespaces."""
    if not isinstance(content, dict):
        return
    for key, inside in content.items():
        if key == _PARAMETERS:
            yield name
        else:
            yield from _names(inside, f'{name}/{str(key).strip("/")}')


def _pattern(name: str) -> str:
    """Return the regular expression of a name with wildcards."""
    return ''.join(_WILDCARDS.get(part, f'/{re.escape(part)}') for part in name.split('/') if part)
