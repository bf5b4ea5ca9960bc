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


def not_registered(what: str, frame: str, camera: str) -> str:
    """Return the doubt about depth whose frame is not that of the camera's images."""
    return (f"{what} has the frame '{frame}' and the images have '{camera}': if it is not "
            'registered to the images, pixels are compared with those of other places; give '
            'registered depth, as depth_image_proc makes it')
