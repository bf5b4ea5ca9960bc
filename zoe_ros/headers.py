"""Frames and stamps of the headers of messages."""
from __future__ import annotations

from typing import Any


def frame_name(header: Any) -> str:
    """Return the frame of a header without a leading slash, which tf2 does not know."""
    return header.frame_id.removeprefix('/')


def nanoseconds(stamp: Any) -> int:
    """Return a builtin_interfaces/Time as one number [ns]."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec
