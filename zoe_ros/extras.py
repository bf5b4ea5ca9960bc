"""Packages that only some commands need: the extras of setup.py."""
from __future__ import annotations

from importlib import import_module
from typing import Any


class PackageError(ValueError):
    """A package is not installed, or cannot be imported."""


def require(purpose: str, extra: str, *packages: str, note: str = '') -> Any:
    """
    Import packages of an extra; return the last one.

    :param purpose: what needs them, the start of the error.
    :param note: what else there is to know about their installation.
    :raises PackageError: one is not installed, or lacks what it needs itself.
    """
    found: Any = None
    for package in packages:
        try:
            found = import_module(package)
        except ModuleNotFoundError as error:
            missing = error.name or package
            raise PackageError(
                f"{purpose} needs {missing}: pip install 'zoe_ros[{extra}]'{note}") from None
        except ImportError as error:    # of a shared library, for example
            reason = str(error).strip().partition('\n')[0]
            raise PackageError(f'{purpose} needs {package}, which is installed but cannot be '
                               f'imported: {reason}') from None
    return found
