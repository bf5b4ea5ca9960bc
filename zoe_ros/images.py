"""
Image messages and picture files to arrays: the one place that knows encodings and strides.

Messages are duck-typed: the same code serves rclpy's classes and those of rosbags.
"""
from __future__ import annotations

import io
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image, UnidentifiedImageError

from zoe_ros.color_spaces import (
    BAYER,
    demosaic,
    PACKED_YUV,
    packed_yuv_to_rgb,
    SEMIPLANAR_YUV,
    semiplanar_yuv_to_rgb,
)
from zoe_ros.depth_codec import decode_compressed_depth, decode_png, DEPTH_HEADER
from zoe_ros.errors import first_line

# encoding: bytes of a sample, channels, and the channels that are red, green and blue.
# OpenCV's nameless 8UC3 and 16UC3 are BGR by its convention.
_COLORS = {
    'rgb8': (1, 3, (0, 1, 2)), 'bgr8': (1, 3, (2, 1, 0)), '8UC3': (1, 3, (2, 1, 0)),
    'rgba8': (1, 4, (0, 1, 2)), 'bgra8': (1, 4, (2, 1, 0)), '8UC4': (1, 4, (2, 1, 0)),
    'mono8': (1, 1, (0, 0, 0)), '8UC1': (1, 1, (0, 0, 0)), 'mono16': (2, 1, (0, 0, 0)),
    'rgb16': (2, 3, (0, 1, 2)), 'bgr16': (2, 3, (2, 1, 0)), '16UC3': (2, 3, (2, 1, 0)),
    'rgba16': (2, 4, (0, 1, 2)), 'bgra16': (2, 4, (2, 1, 0)), '16UC4': (2, 4, (2, 1, 0)),
}
# encoding: bytes of a sample, and the pattern.
_MOSAICS = {f'{pattern}{8 * size}': (size, pattern) for pattern in BAYER for size in (1, 2)}
IMAGE_ENCODINGS = (*_COLORS, *_MOSAICS, *PACKED_YUV, *SEMIPLANAR_YUV)
# encoding of a depth image: kind of a sample, and metres of its unit (REP-118)
_DEPTHS = {'32FC1': ('f4', 1.0), '16UC1': ('u2', 1e-3), '64FC1': ('f8', 1.0)}
# By its name mono16 is brightness. Some drivers publish millimetres so, on topics of depth.
_READABLE_DEPTHS = {**_DEPTHS, 'mono16': ('u2', 1e-3)}
_PNG_MAGIC = b'\x89PNG\r\n\x1a\n'


class MessageError(ValueError):
    """
    A message that cannot be used.

    :param cause: a short word for counting: 'size', 'data', 'encoding' or 'corrupt'.
    """

    def __init__(self, cause: str, text: str) -> None:
        """Keep the cause beside the text for people."""
        super().__init__(text)
        self.cause = cause


def decode_image(message: Any) -> np.ndarray:
    """
    Return the color image in a sensor_msgs/Image or CompressedImage.

    :return: (height, width, 3) uint8 RGB.
    :raises MessageError: it is damaged, empty, or of an encoding that is not known.
    """
    return _decode_compressed(message) if hasattr(message, 'format') else _decode_raw(message)


def is_depth(message: Any) -> bool:
    """Tell from its encoding whether an Image or CompressedImage shows depth."""
    if hasattr(message, 'format'):
        encoding, _ = _split_format(message.format)
        return 'compressedDepth' in message.format or encoding in _DEPTHS
    return message.encoding in _DEPTHS


def is_readable_depth(message: Any) -> bool:
    """
    Tell whether :func:`decode_depth` knows the encoding of an Image or CompressedImage.

    Of mono16 only the topic tells whether it is depth or brightness.
    """
    if hasattr(message, 'format'):
        return _depth_picture(message.format) is not None
    return message.encoding in _READABLE_DEPTHS


def decode_depth(message: Any) -> np.ndarray:
    """
    Return the depth in a sensor_msgs/Image of 32FC1 [m] or 16UC1 [mm] (REP-118), or mono16 [mm].

    Or in a CompressedImage: image_transport's compressedDepth (PNG or RVL), or a PNG of 16 bits.

    :return: (height, width) float32 [m]; NaN for 0, for REP 117's infinities, and for 65535 mm,
        which stands for all that is farther.
    :raises MessageError: it is damaged, or no such image.
    """
    values, unit = (_unpacked_depth(message) if hasattr(message, 'format')
                    else _raw_depth(message))
    depth = values.astype(np.float32) * np.float32(unit)
    far = 65.535 if values.dtype.kind == 'u' else np.inf
    with np.errstate(invalid='ignore'):
        depth[~((depth > 0) & (depth < np.float32(far)))] = np.nan
    return depth


def _raw_depth(message: Any) -> tuple[np.ndarray, float]:
    """Return the samples of a depth image (h, w), and their unit [m]."""
    data = _message_bytes(message)
    if message.encoding not in _READABLE_DEPTHS:
        raise MessageError('encoding', f"encoding '{message.encoding}' of a depth image is not "
                                       f'one of {", ".join(_READABLE_DEPTHS)}')
    kind, unit = _READABLE_DEPTHS[message.encoding]
    sample = np.dtype(('>' if message.is_bigendian else '<') + kind)
    return np.ascontiguousarray(_pixel_rows(message, data, sample.itemsize)).view(sample), unit


def _unpacked_depth(message: Any) -> tuple[np.ndarray, float]:
    """Return the samples of a compressed depth image (h, w), and their unit [m]."""
    kind = _depth_picture(message.format)
    if kind is None:
        raise MessageError('encoding', f"format '{message.format}' is no depth that is read: "
                                       '16UC1 or 32FC1 as compressedDepth, or 16UC1 as PNG')
    encoding = _split_format(message.format)[0]
    data = bytes(message.data)
    # The plugin of color images has no header before its PNG.
    plain = encoding != '32FC1' and data.startswith(_PNG_MAGIC)
    try:
        _check_png(data if plain else data[DEPTH_HEADER:])
        values = decode_png(data) if plain else decode_compressed_depth(data, encoding, kind)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MessageError('corrupt', f'a damaged {message.format} image: '
                                      f'{first_line(error)}') from None
    return values, _READABLE_DEPTHS[encoding][1]


def _depth_picture(text: str) -> str | None:
    """Return 'png' or 'rvl', if the format of a CompressedImage is depth that can be read."""
    encoding, _, rest = (part.strip() for part in text.partition(';'))
    if encoding not in ('16UC1', '32FC1', 'mono16'):
        return None
    # Versions without RVL name no picture. As JPEG, a depth image has lost its depth.
    if rest in ('', 'compressedDepth', 'compressedDepth png') or (
            encoding != '32FC1' and rest.startswith('png compressed')):
        return 'png'
    return 'rvl' if rest == 'compressedDepth rvl' else None


# --- raw ------------------------------------------------------------------------------------


def _decode_raw(message: Any) -> np.ndarray:
    encoding, data = message.encoding, _message_bytes(message)
    if encoding in _COLORS:
        size, channels, rgb = _COLORS[encoding]
        samples = _samples(message, data, size, channels)
        pixels = _to_8_bits(samples).reshape(message.height, message.width, channels)
        return np.ascontiguousarray(
            pixels if rgb == (0, 1, 2) and channels == 3 else pixels[..., rgb])
    if encoding in _MOSAICS:
        size, pattern = _MOSAICS[encoding]
        return _to_8_bits(demosaic(_samples(message, data, size, 1), pattern))
    if encoding in PACKED_YUV:
        _check_divisible(message, 1, 2)
        return packed_yuv_to_rgb(_pixel_rows(message, data, 2), encoding)
    if encoding in SEMIPLANAR_YUV:
        return _decode_semiplanar(message, data)
    kind = ' (a depth image)' if encoding in _DEPTHS else ''
    raise MessageError('encoding', f"encoding '{encoding}'{kind} is not one of "
                                   f'{", ".join(IMAGE_ENCODINGS)}')


def _decode_semiplanar(message: Any, data: np.ndarray) -> np.ndarray:
    height, width, step = message.height, message.width, message.step
    rows, columns, _ = SEMIPLANAR_YUV[message.encoding]
    _check_divisible(message, rows, columns)
    luma = _pixel_rows(message, data, 1)
    # U and V of one row of them take 2 / columns of the bytes of a row of Y.
    chroma_height, chroma_step = height // rows, step * 2 // columns
    chroma = data[height * step:height * step + chroma_height * chroma_step]
    if len(chroma) < chroma_height * chroma_step:
        raise MessageError('data', f'{len(data)} bytes of data are fewer than an image of '
                                   f'{width} x {height} pixels {message.encoding} has')
    chroma = chroma.reshape(chroma_height, chroma_step)[:, :width * 2 // columns]
    return semiplanar_yuv_to_rgb(luma, chroma, message.encoding)


def _check_divisible(message: Any, rows: int, columns: int) -> None:
    if message.height % rows or message.width % columns:
        raise MessageError('size', f'{message.width} x {message.height} pixels are not possible '
                                   f"in encoding '{message.encoding}': neighbours share a colour")


def _message_bytes(message: Any) -> np.ndarray:
    """Return the bytes of an image that has as many as it says."""
    height, width, step = message.height, message.width, message.step
    if height < 1 or width < 1:
        raise MessageError('size', f'an image of {width} x {height} pixels')
    data = np.frombuffer(message.data, np.uint8) if len(message.data) else np.empty(0, np.uint8)
    if len(data) < height * step:
        raise MessageError('data', f'{len(data)} bytes of data are fewer than height x step = '
                                   f'{height} x {step}')
    return data


def _pixel_rows(message: Any, data: np.ndarray, pixel: int) -> np.ndarray:
    """Return the bytes of an image of ``pixel`` bytes each, without padding: (height, row)."""
    height, step, row = message.height, message.step, message.width * pixel
    if step < row:
        raise MessageError('data', f'step {step} is less than the {row} bytes of a row of '
                                   f'{message.width} pixels {message.encoding}')
    return data[:height * step].reshape(height, step)[:, :row]


def _samples(message: Any, data: np.ndarray, size: int, channels: int) -> np.ndarray:
    """Return the samples of an image of 8 or 16 bits: (height, width * channels)."""
    rows = _pixel_rows(message, data, channels * size)
    if size == 1:
        return rows
    kind = np.dtype('>u2' if message.is_bigendian else '<u2')
    return np.ascontiguousarray(rows).view(kind).astype(np.uint16, copy=False)


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Scale 0 ... 65535 to 0 ... 255, rounded, as cv_bridge does; leave uint8 as it is."""
    if values.dtype == np.uint8:
        return values
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


# --- compressed -----------------------------------------------------------------------------


def _decode_compressed(message: Any) -> np.ndarray:
    if is_depth(message):
        raise MessageError('encoding', f"format '{message.format}' is a depth image")
    data = bytes(message.data)
    if not data:
        raise MessageError('data', 'a compressed image without data')
    try:
        _check_png(data)
        # Of the formats of Pillow only these two: what comes from outside meets little code.
        with Image.open(io.BytesIO(data), formats=('JPEG', 'PNG')) as picture:
            pattern = _mosaic_in(message.format)
            if pattern and len(picture.getbands()) == 1:
                return _to_8_bits(demosaic(_grey(picture), pattern))
            return photo_to_rgb(picture)
    except UnidentifiedImageError:
        raise MessageError('encoding', f"format '{message.format}': the data is neither JPEG nor "
                                       'PNG') from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MessageError('corrupt', f'a damaged {message.format} image: '
                                      f'{first_line(error)}') from None


def _check_png(data: bytes) -> None:
    """
    Compare the checksums of the pixels of a PNG file, which Pillow skips.

    :raises ValueError: one is wrong. All other defects are left to Pillow.
    """
    at = len(_PNG_MAGIC)
    while data.startswith(_PNG_MAGIC) and at + 12 <= len(data):
        kind, end = data[at + 4:at + 8], at + 8 + int.from_bytes(data[at:at + 4], 'big')
        if kind == b'IEND' or end + 4 > len(data):
            return
        if kind == b'IDAT' and crc32(data[at + 4:end]) != int.from_bytes(data[end:end + 4], 'big'):
            raise ValueError('the checksum of its pixels is wrong')
        at = end + 4


def _split_format(text: str) -> tuple[str, str]:
    """
    Split the format of a CompressedImage: 'bayer_rggb8; jpeg compressed bgr8'.

    :return: the encoding of the raw image, and that of the picture where it is another one.
    """
    raw, _, rest = text.partition(';')
    return raw.strip(), rest.partition('compressed')[2].strip()


def _mosaic_in(text: str) -> str | None:
    """Return the Bayer pattern of pictures of this format that were compressed as a mosaic."""
    raw, picture = _split_format(text)
    return _MOSAICS[raw][1] if raw in _MOSAICS and picture in ('', raw) else None


def photo_to_rgb(picture: Image.Image) -> np.ndarray:
    """
    Return (height, width, 3) uint8 RGB of an opened picture of any mode.

    :raises ValueError: its numbers have no known scale.
    """
    if picture.mode == 'F' or picture.mode.startswith('I'):
        return np.repeat(_to_8_bits(_grey(picture))[..., None], 3, axis=2)
    return np.array(picture.convert('RGB'))


def _grey(picture: Image.Image) -> np.ndarray:
    """
    Return (height, width) uint8 or uint16 of a picture of one channel.

    Pillow's own conversion of more than 8 bits would clip, not scale.
    """
    if picture.mode == 'F':
        values = np.asarray(picture)
        if not (values.min() >= 0 and values.max() <= 1):   # NaN, too
            raise ValueError(f'floating-point numbers from {values.min():g} to {values.max():g} '
                             'are no brightness from 0 to 1: scale them, or convert to 8 bits')
        return np.rint(values * 65535).astype(np.uint16)
    if picture.mode == 'I' and picture.format == 'TIFF':
        raise ValueError('32-bit whole numbers have no known scale: convert to 8 or 16 bits')
    if picture.mode.startswith('I'):
        return np.asarray(picture).clip(0, 65535).astype(np.uint16)
    return np.asarray(picture.convert('L'))
