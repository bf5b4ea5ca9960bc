"""Keeps freed memory in the process between frames."""
from __future__ import annotations

import ctypes
import os
from typing import Any

# mallopt(3): numbers of the parameters, and the largest mmap threshold that glibc accepts.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP = 32 << 20
_KEPT = 128 << 20
_OWN_CHOICE = ('MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_')


def keep_freed_memory() -> bool:
    """
    Let the C library keep memory that a frame has freed for the next frame.

    The setting concerns the whole process, so only programs call this, not the library. By
    default glibc returns large blocks to the kernel at once, and the next tensor gets new pages
    filled with zeros: tens of thousands of page faults per second, 10 % of the time of a small
    network. Up to 128 MB are kept. Thresholds set in the environment (mallopt(3)) stay in effect.

    :return: whether the C library accepted the setting.
    """
    if any(name in os.environ for name in _OWN_CHOICE):
        return False
    mallopt = _glibc_function('mallopt')
    # Setting only one threshold would fix the other at its small default.
    return bool(mallopt and mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP)
                and mallopt(_TRIM_THRESHOLD, _KEPT))


def trim_freed_memory() -> None:
    """
    Return freed memory to the system, including holes between used blocks.

    For use after a model has been loaded and its weights converted: each weight leaves a hole of
    its size, several hundred megabytes in total for the largest model.
    """
    trim = _glibc_function('malloc_trim')
    if trim:
        trim(0)


def _glibc_function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):    # another C library, or another system
        return None
