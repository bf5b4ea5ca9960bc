"""Image files: those of a folder, their pixels turned upright, and the camera in their EXIF."""
from __future__ import annotations

from collections import Counter
import math
from pathlib import Path
import re
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from zoe_ros.camera import Camera
from zoe_ros.errors import first_line
from zoe_ros.images import photo_to_rgb

# Image formats, by Pillow's names. Which of them are read depends on how Pillow was made.
_FORMATS = ('AVIF', 'BMP', 'DIB', 'GIF', 'HEIF', 'JPEG', 'JPEG2000', 'MPO', 'PNG', 'PPM', 'TGA',
            'TIFF', 'WEBP')
# The tags of EXIF's own directory, and of the focal length [mm] on film of 36 mm x 24 mm.
_EXIF, _FOCAL_LENGTH = 0x8769, 0xA405
_FILM_DIAGONAL = math.hypot(36, 24)
_FOCALS = (5, 2000)
# The EXIF tag of an image's orientation, and how each value is turned upright.
_ORIENTATION = 0x0112
# What users name instead of an image.
_VIDEOS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm')
_ARCHIVES = ('.7z', '.bz2', '.gz', '.lz4', '.tar', '.tgz', '.xz', '.zip', '.zst', '.zstd')
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90}


def find_photos(folder: Path) -> tuple[list[Path], str]:
    """
    Return the images in a folder, and a sentence on what else is there, or nothing.

    Hidden files and folders in it do not count.
    """
    Image.init()
    suffixes = {suffix for suffix, form in Image.registered_extensions().items()
                if form in _FORMATS and form in Image.OPEN}
    files = sorted(path for path in folder.iterdir()
                   if path.is_file() and not path.name.startswith('.'))
    photos = [path for path in files if path.suffix.lower() in suffixes]
    others = Counter(path.suffix.lower() or 'without a suffix' for path in files
                     if path.suffix.lower() not in suffixes)
    listed = ', '.join(f'{count} {suffix}' for suffix, count in sorted(others.items()))
    return photos, f'left out: {listed} (not read here: convert images to JPEG)' if (
        listed) else ''


def read_photo(path: Path) -> np.ndarray:
    """
    Read an image, turned upright as its camera noted.

    :return: (height, width, 3) uint8 RGB.
    :raises ValueError: it is no picture, too large, or damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')     # of large pictures, and of odd notes in them
            with Image.open(path) as picture:
                # Loaded first: Pillow turns a TIFF itself then, and forgets the note.
                picture.load()
                turn = _UPRIGHT.get(_orientation(picture) or 0)
                return photo_to_rgb(picture if turn is None else picture.transpose(turn))
    except UnidentifiedImageError:
        raise ValueError(f'{path} is no picture that can be read: {_remedy(path)}') from None
    except Image.DecompressionBombError as error:
        pixels = re.search(r'\d+', str(error))
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ValueError(f'{path} is too large: {pixels[0] if pixels else "too many"} pixels, at '
                         f'most {most} are read; make a smaller copy, the network sees less than '
                         'a million') from None
    except Exception as error:  # decoders let errors of every kind through
        raise ValueError(f'{path} is damaged ({first_line(error)})') from None


def holds_several(path: Path) -> bool:
    """
    Tell whether an image file holds more pictures than the first, as animations do.

    Smaller ones do not count: they are previews and gain maps, which many phones add.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as picture:
            warnings.simplefilter('ignore')
            size = picture.size
            if getattr(picture, 'n_frames', 1) < 2:     # not every format has a number
                return False
            picture.seek(1)
            return picture.size == size
    except Exception:   # what is damaged behind the first picture does not spoil it
        return False


def photo_camera(path: Path, size: tuple[int, int]) -> Camera | None:
    """
    Return the camera of an image file by its EXIF focal length, or None where there is none.

    :param size: (height, width) of the image [px].
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as picture:
            warnings.simplefilter('ignore')
            focal = float(picture.getexif().get_ifd(_EXIF)[_FOCAL_LENGTH])
        height, width = size
        pixels = focal / _FILM_DIAGONAL * math.hypot(height, width)
        # EXIF writes 0 for unknown; what no lens has, another program has written.
        return Camera(width, height, pixels, pixels, (width - 1) / 2, (height - 1) / 2) if (
            _FOCALS[0] <= focal <= _FOCALS[1]) else None
    except Exception:   # damaged notes of every kind
        return None


def _remedy(path: Path) -> str:
    """Return what a user can do with a file that is no image."""
    if path.suffix.lower() in _VIDEOS:
        return ('a video is no input; extract its images, for example with "ffmpeg -i '
                f'{path.name} images/%06d.jpg"')
    if path.suffix.lower() in _ARCHIVES:
        return 'unpack it first'
    return 'convert images to JPEG or PNG'


def _orientation(picture: Image.Image) -> int | None:
    """Return the note on how the camera was held; None where it cannot be read."""
    try:
        value = picture.getexif().get(_ORIENTATION)
    except Exception:   # a damaged note does not spoil the picture
        return None
    return value if isinstance(value, int) else None
