"""OpenCV, which only anchors by images need; importing it takes a part of a second."""
from __future__ import annotations

from importlib import import_module
from typing import Any


def load_opencv(anchor: str) -> Any:
    """
    Import OpenCV; return the module.

    :param anchor: that needs it, for the error.
    :raises ValueError: it is not installed.
    """
    try:
        return import_module('cv2')
    except ImportError:
        raise ValueError(f"anchor '{anchor}' needs OpenCV: install python3-opencv, or "
                         'opencv-python-headless by pip') from None
