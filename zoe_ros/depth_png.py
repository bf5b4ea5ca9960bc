"""Depth as image_transport's compressed_depth plugin sends it: a small header and a PNG file."""
from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

FORMAT = '16UC1; compressedDepth png'
# The plugin's ConfigHeader: 0 for INV_DEPTH, the only kind there is, and two parameters of a
# quantisation that only images of 32FC1 have.
_HEADER = struct.pack('<iff', 0, 0.0, 0.0)
_MOST = 65535           # [mm]
_LEVEL = 1              # of zlib: higher ones save a tenth of the bytes and take twice the time


def encode_depth(depth: np.ndarray) -> bytes:
    """
    Return the data of a CompressedImage of :data:`FORMAT`.

    It has millimetres, and 0 for no value, too near, too far, and beyond 65.535 m: by REP 118 the
    value 0 is invalid depth, and there is no value for "too far".

    :param depth: (height, width) float32 [m], REP 117's infinities included.
    """
    with np.errstate(invalid='ignore'):
        millimetres = np.rint(depth * 1000)
        known = (millimetres > 0) & (millimetres <= _MOST)
    file = io.BytesIO(_HEADER)
    file.seek(len(_HEADER))
    Image.fromarray(np.where(known, millimetres, 0).astype(np.uint16)).save(
        file, 'PNG', compress_level=_LEVEL)
    return file.getvalue()
