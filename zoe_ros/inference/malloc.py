"""Memory that stays with the process between frames."""
from __future__ import annotations

import ctypes
import os
from typing import Any

# mallopt(3): numbers of the parameters, and the largest threshold for mmap that glibc takes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP = 32 << 20
_KEPT = 128 << 20
_OWN_CHOICE = ('MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_')


def keep_freed_memory() -> bool:
    """
    Let the C library keep what a frame has freed for the next one; for the owner of a process.

    By default glibc hands large blocks back to the kernel at once, and gets them anew, page by
    page and full of zeros, for the next tensor: tens of thousands of page faults a second, a
    tenth of the time of a small network. Up to 128 MB stay. Who has chosen thresholds in the
    environment (mallopt(3)) keeps those.

    :return: whether the C library has been told.
    """
    if any(name in os.environ for name in _OWN_CHOICE):
        return False
    mallopt = _glibc_function('mallopt')
    # Either threshold alone would fix the other at its small default.
    return bool(mallopt and mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP)
                and mallopt(_TRIM_THRESHOLD, _KEPT))


def trim_freed_memory() -> None:
    """
    Give back to the system what has been freed, also what lies between that which is in use.

    For after a model has been loaded and laid out anew: each weight leaves a hole of its size
    behind, some hundred megabytes of the largest model in all.
    """
    trim = _glibc_function('malloc_trim')
    if trim:
        trim(0)


def _glibc_function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):    # another C library, or another system
        return None
