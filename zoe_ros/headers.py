"""Frames and stamps of the headers of messages."""
from __future__ import annotations

from typing import Any

# Of a stamp that a driver has not filled in.
UNSTAMPED = 'the stamps of its messages are 0: its driver must fill in header.stamp'


def frame_name(header: Any) -> str:
    """Return the frame of a header without a leading slash, which tf2 does not know."""
    return header.frame_id.removeprefix('/')


def nanoseconds(stamp: Any) -> int:
    """Return a builtin_interfaces/Time as one number [ns]."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec
