"""Packages that only some commands need: the extras of setup.py."""
from __future__ import annotations

from importlib import import_module
from typing import Any


def require(purpose: str, extra: str, *packages: str, note: str = '') -> Any:
    """
    Import packages of an extra; return the last one.

    :param purpose: what needs them, the start of the error.
    :param note: what else there is to know about their installation.
    :raises ValueError: one is not installed.
    """
    found: Any = None
    for package in packages:
        try:
            found = import_module(package)
        except ImportError as error:
            missing = error.name or package
            raise ValueError(
                f"{purpose} needs {missing}: pip install 'zoe_ros[{extra}]'{note}") from None
    return found
