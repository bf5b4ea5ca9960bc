"""Depth as image_transport's compressed_depth plugin sends it: a small header and a picture."""
from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

FORMAT = '16UC1; compressedDepth png'
# The plugin's ConfigHeader: 0 for INV_DEPTH, the only kind there is, and two parameters of a
# quantisation that only images of 32FC1 have.
_HEADER = struct.Struct('<iff')
DEPTH_HEADER = _HEADER.size
_MOST = 65535           # [mm]
_LEVEL = 1              # of zlib: higher ones save a tenth of the bytes and take twice the time
_RVL_SIZE = struct.Struct('<II')
_RVL_MOST = 1 << 26     # [px]; a damaged size would claim all memory


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
    file = io.BytesIO(_HEADER.pack(0, 0.0, 0.0))
    file.seek(_HEADER.size)
    Image.fromarray(np.where(known, millimetres, 0).astype(np.uint16)).save(
        file, 'PNG', compress_level=_LEVEL)
    return file.getvalue()


def decode_compressed_depth(data: bytes, encoding: str, kind: str) -> np.ndarray:
    """
    Return the raw depth image in the data of a compressedDepth message.

    :param encoding: of the raw image, '32FC1', or another one for millimetres.
    :param kind: of the picture, 'png' or 'rvl'.
    :return: (height, width) uint16 [mm], or float32 [m] with NaN for no value.
    :raises ValueError: the data is damaged, or no picture of this kind.
    """
    if len(data) < _HEADER.size:
        raise ValueError(f'{len(data)} bytes are too few')
    _, scale, offset = _HEADER.unpack_from(data)
    picture = data[_HEADER.size:]
    values = decode_rvl(picture) if kind == 'rvl' else decode_png(picture)
    if encoding != '32FC1':
        return values
    # The plugin quantises the inverse of depth: value = scale / depth + offset, 0 for none.
    with np.errstate(divide='ignore', invalid='ignore'):
        depth = np.float32(scale) / (values.astype(np.float32) - np.float32(offset))
    depth[values == 0] = np.nan
    return depth


def decode_png(data: bytes) -> np.ndarray:
    """
    Return the samples (height, width) uint16 of a PNG file of one channel of 16 bits.

    :raises ValueError, OSError, SyntaxError: it is damaged, or another file.
    """
    with Image.open(io.BytesIO(data), formats=('PNG',)) as picture:
        if not picture.mode.startswith('I'):
            raise ValueError(f'a picture of mode {picture.mode} has no 16 bits of depth')
        return np.asarray(picture).astype(np.uint16)


def decode_rvl(data: bytes) -> np.ndarray:
    """
    Return the samples (height, width) uint16 of a picture in RVL.

    RVL (A. Wilson, Fast Lossless Depth Image Compression, ISS 2017) is a row of whole numbers of
    three bits or more: how many zeros, how many other samples, and for each of these its
    difference to the last sample that was not zero; and so on. Width and height go before.

    :raises ValueError: it is damaged.
    """
    if len(data) < _RVL_SIZE.size:
        raise ValueError('RVL without a size')
    width, height = _RVL_SIZE.unpack_from(data)
    count = width * height
    if not 0 < count <= _RVL_MOST:
        raise ValueError(f'RVL of {width} x {height} pixels')
    numbers = _rvl_numbers(data[_RVL_SIZE.size:])
    places, differences, at, pixel = [], [], 0, 0
    while pixel < count:
        zeros, others = (int(n) for n in numbers[at:at + 2]) if at + 2 <= len(numbers) else (0, 0)
        start, pixel, at = pixel + zeros, pixel + zeros + others, at + 2 + others
        if at > len(numbers) or pixel > count or not zeros + others:
            raise ValueError('RVL that ends too early or too late')
        places.append(np.arange(start, pixel))
        differences.append(numbers[at - others:at])
    folded = np.concatenate(differences)
    values = np.zeros(count, np.uint16)
    # The sign is the last bit. Differences of 16-bit samples may wrap around.
    values[np.concatenate(places)] = np.cumsum((folded >> 1) ^ -(folded & 1)).astype(np.uint16)
    return values.reshape(height, width)


def _rvl_numbers(data: bytes) -> np.ndarray:
    """Return all numbers of RVL, int64; the padding of the last word gives a few zeros more."""
    words = np.frombuffer(data[:len(data) // 4 * 4], '<u4')
    groups = ((words[:, None] >> np.arange(28, -1, -4, dtype=np.uint32)) & 15).ravel()
    # The first of four bits says that the number goes on; its lower bits come first.
    ends = np.flatnonzero(groups < 8)
    starts = np.concatenate(([0], ends[:-1] + 1))
    if ends.size == 0 or (ends - starts).max() > 10:
        raise ValueError('RVL with a number of more than 32 bits')
    groups = groups[:ends[-1] + 1]
    place = np.arange(len(groups)) - np.repeat(starts, ends - starts + 1)
    return np.add.reduceat((groups & 7).astype(np.int64) << (3 * place), starts)
