"""
Photographs with depth as repositories hold them, one function for each kind of file.

A reader takes a repository and the path of an image in it, and returns a ``View``. ``renamed`` and
``nearest`` say by which paths it finds the other files of the frame.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import io
import os
import re

import numpy as np
from photograph_sources import Files, UnusableError
from PIL import Image

os.environ['OPENCV_IO_ENABLE_OPENEXR'] = '1'    # OpenCV reads it before its first OpenEXR image
Name = Callable[[Files, str], str]      # from the path of an image to another path
Lens = tuple[float, float, float, float]    # fx, fy, cx, cy [px]
SIDE = 640              # of an image at most [px]


@dataclass(frozen=True)
class View:
    """
    A photograph.

    :param image: (h, w, 3) uint8 RGB.
    :param depth: (h, w) float [m], also smaller than the image; 0 or not finite: no value.
    :param lens: of the image; None: unknown.
    """

    image: np.ndarray
    depth: np.ndarray | None = None
    lens: Lens | None = None


def renamed(pattern: str, replacement: str) -> Name:
    """Return the rule that a path results from that of the image, as in ``re.sub``."""
    def name(files: Files, path: str) -> str:
        other = re.sub(pattern, replacement, path)
        if other == path:
            raise UnusableError(f'{path} does not contain {pattern}')
        return other
    return name


def nearest(folder: str) -> Name:
    """Return the rule that files are named by their stamps [s], and the nearest one belongs."""
    def stamp(path: str) -> float:
        return float(path.rpartition('/')[2].rpartition('.')[0])

    def name(files: Files, path: str) -> str:
        others = files.paths(re.escape(folder) + r'/[^/]*')
        return min(others, key=lambda other: abs(stamp(other) - stamp(path)))
    return name


# --- readers of a frame ---------------------------------------------------------------------


def alone(files: Files, path: str) -> View:
    """Read an image without depth."""
    return View(colour(files.read(path)))


def with_grey(files: Files, path: str, *, depth: Name, unit: float, lens: Lens | Name,
              turned: bool = False) -> View:
    """
    Read an image and depth of 16 bits (PNG).

    :param unit: of depth [m]; :param turned: bits of depth are rotated to the left by three.
    """
    values = grey(files.read(depth(files, path)))
    if turned:
        values = values >> 3 | (values & 7) << 13
    found = lens if isinstance(lens, tuple) else lens_of_matrix(files.read(lens(files, path)))
    return View(colour(files.read(path)), values * unit, found)


def with_exr(files: Files, path: str, *, depth: Name, lens: Lens) -> View:
    """Read an image and depth in metres, in OpenEXR."""
    return View(colour(files.read(path)), exr(files.read(depth(files, path))), lens)


def with_tof(files: Files, path: str, *, depth: Name, size: tuple[int, int], lens: Lens) -> View:
    """
    Read an image and DEPTH16 of Android: millimetres in 13 bits, below 3 bits of confidence.

    :param size: (width, height) of depth; :param lens: of depth, which has the view of the image.
    """
    values = np.frombuffer(files.read(depth(files, path)), '<u2')
    image = colour(files.read(path))
    return View(image, (values & 0x1fff).reshape(size[::-1]) * 0.001,
                scaled(lens, size, image.shape[1::-1]))


def with_cloud(files: Files, path: str, *, lens: Lens) -> View:
    """Read an organised cloud of points with colours."""
    cloud = pcd(files.read(path))
    colours = cloud['rgba' if 'rgba' in cloud else 'rgb'].copy().view(np.uint32)
    image = np.stack([colours >> shift & 255 for shift in (16, 8, 0)], axis=-1)
    return View(image.astype(np.uint8), cloud['z'], lens)


# --- kinds of files -------------------------------------------------------------------------


def colour(data: bytes) -> np.ndarray:
    """Return an image, (h, w, 3) uint8 RGB."""
    return np.asarray(picture(data).convert('RGB'))


def grey(data: bytes) -> np.ndarray:
    """Return the values of a grey image of 16 bits, (h, w)."""
    values = np.asarray(picture(data))
    if values.ndim != 2 or values.dtype == np.uint8:
        raise UnusableError('depth is no grey image of 16 bits')
    return values.astype(np.uint16)


def picture(data: bytes) -> Image.Image:
    """Return an image of a kind that Pillow knows, decoded."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, ValueError) as error:
        raise UnusableError(f'an image is damaged ({error})') from None
    return image


def exr(data: bytes) -> np.ndarray:
    """Return the first channel of an OpenEXR image, (h, w) float32."""
    import cv2

    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise UnusableError('an OpenEXR image is damaged, or this OpenCV does not read OpenEXR')
    return values if values.ndim == 2 else values[..., 2]


def pfm(data: bytes) -> np.ndarray:
    """Return a portable float map, (h, w) float32; its rows are stored from bottom to top."""
    header = re.match(rb'Pf\s+(\d+)\s+(\d+)\s+(-?[\d.]+)\s', data)
    if header is None:
        raise UnusableError('a file is no portable float map (PFM)')
    width, height = int(header[1]), int(header[2])
    order = '<f4' if float(header[3]) < 0 else '>f4'
    return np.frombuffer(data, order, width * height, header.end()).reshape(height, width)[::-1]


def pcd(data: bytes) -> dict[str, np.ndarray]:
    """Return the fields of an organised cloud in binary PCD, each (h, w)."""
    header = re.match(rb'(?:.*\n)*?DATA (binary|binary_compressed)\n', data)
    if header is None:
        raise UnusableError('a file is no binary point cloud (PCD)')
    about = {line.split()[0]: line.split()[1:] for line in header[0].decode().splitlines()}
    types = [(name, {'F': 'f', 'U': 'u', 'I': 'i'}[kind] + size) for name, kind, size in zip(
        about['FIELDS'], about['TYPE'], about['SIZE'], strict=True)]
    shape = int(about['HEIGHT'][0]), int(about['WIDTH'][0])
    body = data[header.end():]
    if header[1] == b'binary':
        points = np.frombuffer(body, types, shape[0] * shape[1])
        return {name: points[name].reshape(shape) for name, _ in types}
    fields, at = {}, 0
    packed, size = np.frombuffer(body, '<u4', 2)
    plain = lzf(body[8:8 + packed], int(size))
    for name, kind in types:        # field by field, not point by point
        fields[name] = np.frombuffer(plain, kind, shape[0] * shape[1], at).reshape(shape)
        at += fields[name].nbytes
    return fields


def lzf(data: bytes, size: int) -> bytes:
    """Return data that was compressed by LZF."""
    out, at = bytearray(), 0
    while at < len(data):
        control, at = data[at], at + 1
        if control < 32:            # so many bytes and one more follow as they are
            out += data[at:at + control + 1]
            at += control + 1
            continue
        length = control >> 5       # else a part of what is out already is repeated
        if length == 7:
            length, at = length + data[at], at + 1
        start = len(out) - ((control & 31) << 8) - data[at] - 1
        at += 1
        part = out[start:start + length + 2]
        while len(part) < length + 2:       # it overlaps itself
            part += part[:length + 2 - len(part)]
        out += part
    if len(out) != size:
        raise UnusableError('a point cloud is damaged')
    return bytes(out)


def lens_of_matrix(data: bytes) -> Lens:
    """Return the lens of a text that starts with the rows of the matrix of intrinsics."""
    text = '\n'.join(line for line in data.decode().splitlines() if not line.startswith('#'))
    k = [float(number) for number in text.split()[:9]]
    return k[0], k[4], k[2], k[5]


# --- sizes ----------------------------------------------------------------------------------


def reduced(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size (width, height) that is stored."""
    share = min(SIDE / max(size), 1)
    return round(size[0] * share), round(size[1] * share)


def scaled(lens: Lens, size: tuple[int, int], other: tuple[int, int]) -> Lens:
    """Return the lens of a resized image; sizes are (width, height)."""
    x, y = other[0] / size[0], other[1] / size[1]
    return lens[0] * x, lens[1] * y, (lens[2] + 0.5) * x - 0.5, (lens[3] + 0.5) * y - 0.5


def stored(view: View) -> tuple[np.ndarray, np.ndarray | None, Lens | None]:
    """Return image, depth [mm] (uint16, 0: no value) and lens at the size that is stored."""
    size = view.image.shape[1::-1]
    small = reduced(size)
    image = np.asarray(Image.fromarray(view.image).resize(small, Image.Resampling.BOX))
    lens = view.lens and scaled(view.lens, size, small)
    if view.depth is None:
        return image, None, lens
    with np.errstate(invalid='ignore'):
        depth = (view.depth * 1000).round()
    depth = np.where(np.isfinite(depth) & (depth > 0) & (depth < 65536), depth, 0)
    return image, nearest_pixels(depth.astype(np.uint16), small), lens


def nearest_pixels(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an image of another size (width, height), whose pixels are those nearest to them."""
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(int)
                     for new, old in zip(size[::-1], values.shape, strict=True))
    return values[np.ix_(rows, columns)]
