"""OpenCV, which only anchors by images need; importing it takes a part of a second."""
from __future__ import annotations

from typing import Any

from zoe_ros.extras import require


def load_opencv(anchor: str) -> Any:
    """
    Import OpenCV; return the module.

    :param anchor: that needs it, for the error.
    :raises ValueError: it is not installed.
    """
    return require(f"anchor '{anchor}'", 'opencv', 'cv2', note=', or apt install python3-opencv')
