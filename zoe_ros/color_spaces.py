"""Bayer mosaics and YUV to RGB in numpy, bit for bit as OpenCV (and so cv_bridge) does it."""
from __future__ import annotations

import numpy as np

# Where the red pixel of a mosaic's first 2 x 2 pixels is: (row, column).
BAYER = {'bayer_rggb': (0, 0), 'bayer_grbg': (0, 1), 'bayer_gbrg': (1, 0), 'bayer_bggr': (1, 1)}
# Two pixels in four bytes: the offsets of Y, U and V (the second Y is two bytes after the first).
PACKED_YUV = {
    'yuv422': (1, 0, 2), 'uyvy': (1, 0, 2),
    'yuv422_yuy2': (0, 1, 3), 'yuyv': (0, 1, 3), 'yuy2': (0, 1, 3)}
# A plane of Y, then one of U and V in turns: rows and columns of Y for each U, and where U is.
SEMIPLANAR_YUV = {
    'nv12': (2, 2, 0), 'nv21': (2, 2, 1), 'nv16': (1, 2, 0), 'nv61': (1, 2, 1),
    'nv24': (1, 1, 0), 'nv42': (1, 1, 1)}
# ITU-R BT.601, Y from 16 to 235, as integers with 20 binary places.
_SHIFT = 20
_Y, _V_RED, _U_GREEN, _V_GREEN, _U_BLUE = 1220542, 1673527, -409993, -852492, 2116026


def demosaic(mosaic: np.ndarray, pattern: str) -> np.ndarray:
    """
    Interpolate the colours of a Bayer mosaic bilinearly.

    The outermost pixels repeat their inner neighbours, as in OpenCV.

    :param mosaic: (height, width) uint8 or uint16.
    :param pattern: one of ``BAYER``.
    :return: (height, width, 3) RGB of the same type.
    """
    height, width = mosaic.shape
    red_row, red_column = BAYER[pattern]
    # Mirrored without repeating the edge, which keeps the order of the colours.
    wide = np.uint16 if mosaic.dtype == np.uint8 else np.uint32    # holds four pixels
    m = np.pad(mosaic, 1, mode='reflect').astype(wide)
    centre = m[1:-1, 1:-1]
    beside = m[1:-1, :-2] + m[1:-1, 2:]
    above = m[:-2, 1:-1] + m[2:, 1:-1]
    cross = (beside + above + 2) >> 2
    in_row, in_column = (beside + 1) >> 1, (above + 1) >> 1
    corners = (m[:-2, :-2] + m[:-2, 2:] + m[2:, :-2] + m[2:, 2:] + 2) >> 2

    rgb = np.empty((height, width, 3), mosaic.dtype)
    for row in (0, 1):
        for column in (0, 1):
            at = (slice(row, None, 2), slice(column, None, 2))
            on_red_row, on_red_column = row == red_row, column == red_column
            if on_red_row == on_red_column:     # a red or a blue pixel
                own, other = (0, 2) if on_red_row else (2, 0)
                values = {own: centre, 1: cross, other: corners}
            else:
                row_color, column_color = (0, 2) if on_red_row else (2, 0)
                values = {row_color: in_row, 1: centre, column_color: in_column}
            for channel, source in values.items():
                rgb[..., channel][at] = source[at]
    if height > 2 and width > 2:
        rgb[:, 0], rgb[:, -1] = rgb[:, 1], rgb[:, -2]
        rgb[0], rgb[-1] = rgb[1], rgb[-2]
    return rgb


def packed_yuv_to_rgb(rows: np.ndarray, encoding: str) -> np.ndarray:
    """
    Convert an image in which two pixels share U and V.

    :param rows: (height, 2 * width) uint8; the width is even.
    :param encoding: one of ``PACKED_YUV``.
    :return: (height, width, 3) uint8 RGB.
    """
    y, u, v = PACKED_YUV[encoding]
    return _yuv_to_rgb(rows[:, y::2], rows[:, u::4], rows[:, v::4])


def semiplanar_yuv_to_rgb(luma: np.ndarray, chroma: np.ndarray, encoding: str) -> np.ndarray:
    """
    Convert an image whose U and V follow its Y.

    :param luma: (height, width) uint8.
    :param chroma: (height / rows, 2 * width / columns) uint8, see ``SEMIPLANAR_YUV``.
    :return: (height, width, 3) uint8 RGB.
    """
    u = SEMIPLANAR_YUV[encoding][2]
    return _yuv_to_rgb(luma, chroma[:, u::2], chroma[:, 1 - u::2])


def _yuv_to_rgb(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """
    Convert planes to RGB.

    :param y: (height, width) uint8.
    :param u, v: uint8, of that size or a whole fraction of it.
    """
    height, width = y.shape
    luma = np.maximum(y, 16).astype(np.int32)
    luma -= 16
    luma *= _Y
    luma += 1 << (_SHIFT - 1)
    cb, cr = (plane.astype(np.int32) - 128 for plane in (u, v))
    rgb = np.empty((height, width, 3), np.uint8)
    for channel, term in enumerate(
            (_V_RED * cr, _U_GREEN * cb + _V_GREEN * cr, _U_BLUE * cb)):
        wide = term.repeat(height // len(term), axis=0).repeat(width // term.shape[1], axis=1)
        wide += luma
        wide >>= _SHIFT
        rgb[..., channel] = wide.clip(0, 255, out=wide)
    return rgb
