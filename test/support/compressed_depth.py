"""
A reader of image_transport's compressed depth, written from its format and from that of PNG.

Of the package and of Pillow, which write it, nothing is used.
"""
import struct
from zlib import crc32, decompress

import numpy as np


def read(message):
    """Return the depth in a CompressedImage of '16UC1; compressedDepth png', (h, w) [m], NaN."""
    encoding, _, rest = message.format.partition(';')
    assert (encoding, rest.strip()) == ('16UC1', 'compressedDepth png')
    data = bytes(message.data)
    kind, quantisation, offset = struct.unpack('<iff', data[:12])
    assert (kind, quantisation, offset) == (0, 0, 0)
    millimetres = read_png(data[12:])
    return np.where(millimetres == 0, np.nan, millimetres / 1000)


def read_png(data):
    """Return the samples of a PNG file of one channel of 16 bits, (h, w)."""
    assert data[:8] == b'\x89PNG\r\n\x1a\n'
    chunks, at = {}, 8
    while at < len(data):
        length, kind = struct.unpack('>I4s', data[at:at + 8])
        content, = struct.unpack('>I', data[at + 8 + length:at + 12 + length])
        assert content == crc32(data[at + 4:at + 8 + length])
        chunks[kind] = chunks.get(kind, b'') + data[at + 8:at + 8 + length]
        at += 12 + length
    assert at == len(data) and kind == b'IEND'
    width, height, *form = struct.unpack('>IIBBBBB', chunks[b'IHDR'])
    assert form == [16, 0, 0, 0, 0]     # bits, greyscale, deflate, filters by row, not interlaced
    lines = np.frombuffer(decompress(chunks[b'IDAT']), np.uint8).reshape(height, 1 + 2 * width)
    above, rows = np.zeros(2 * width, np.int64), []
    for kind, *line in lines.astype(np.int64):
        above = _without_filter(int(kind), np.array(line), above)
        rows.append(above)
    pairs = np.array(rows).reshape(height, width, 2)
    return pairs[..., 0] * 256 + pairs[..., 1]


def png_size(data):
    """Return the (height, width) of a PNG file."""
    width, height = struct.unpack('>II', data[16:24])
    return height, width


def _without_filter(kind, line, above):
    """Undo the filter of a line of bytes; a pixel has two."""
    if kind in (0, 2):
        return (line + (above if kind else 0)) % 256
    found = np.zeros_like(line)
    for i, value in enumerate(line):
        left, corner = (found[i - 2], above[i - 2]) if i > 1 else (0, 0)
        found[i] = (value + {1: left, 3: (left + above[i]) // 2,
                             4: _paeth(left, above[i], corner)}[kind]) % 256
    return found


def _paeth(left, above, corner):
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))
