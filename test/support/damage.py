"""A generator of image messages and CameraInfos, from good to hopeless."""
import io
from itertools import count
import struct
import warnings
import zlib

import bags
from bags import encoded
import numpy as np
from PIL import Image as Pillow

from zoe_ros.camera import DISTORTION_MODELS
from zoe_ros.settings import FrameSettings

ROS = bags.rclpy_family()

ENCODINGS = (
    'rgb8', 'bgr8', '8UC3', 'rgba8', 'bgra8', '8UC4', 'mono8', '8UC1', 'mono16', '32FC1', '16UC1',
    '64FC1', 'bayer_rggb8', 'bayer_grbg16', 'yuv422', 'yuv422_yuy2', 'nv21', 'nv24', 'uyvy',
    'rgb16', 'bgra16', '', 'RGB8', 'rgb8 ', 'rgb8; jpeg', 'jpeg', '8UC0', '8UC99', 'ünïcode', '\t',
    'x' * 500)
PIXEL_BYTES = {'rgb8': 3, 'bgr8': 3, '8UC3': 3, 'rgba8': 4, 'bgra8': 4, '8UC4': 4, 'mono8': 1,
               '8UC1': 1, 'mono16': 2}
SIDES = (0, 1, 2, 3, 7, 31, 32, 33, 64, 65535, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1)
NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-3, 1e-30, 1e-300, 5e-324, 1e30, 1e300, np.nan, np.inf, -np.inf)
FORMATS = ('jpeg', 'png', '', 'rgb8; jpeg compressed bgr8', '16UC1; compressedDepth png', 'tiff',
           'h264', 'ünïcode', 'x' * 500)
SETTINGS = (
    FrameSettings(), FrameSettings(point_cloud_downsample=1, router_time_constant=0.0),
    FrameSettings(output_size='network', interpolation='nearest', point_cloud_downsample=64),
    FrameSettings(output_decimation=64, min_depth=1.0, max_depth=2.0, far_value=3.0),
    FrameSettings(focal_correction=True, edge_threshold=0.1, max_relative_uncertainty=0.1),
    FrameSettings(camera_view='training', point_cloud_color=False, interpolation='linear'),
    FrameSettings(router='outdoor', max_depth=0.01, depth_scale=1000.0,
                  point_cloud_max_range=0.01))


class Damage:
    """Makes images and CameraInfos, from good to hopeless."""

    def __init__(self, seed):
        """Begin a sequence that depends on the seed alone."""
        self.rng = np.random.default_rng(seed)
        self.stamps = count()

    def pick(self, choices):
        """Return one of the choices."""
        return choices[self.rng.integers(len(choices))]

    def chance(self, share):
        """Return True so often."""
        return self.rng.random() < share

    def header(self):
        """Return stamp and frame for a header; stamps go back and forth."""
        now = next(self.stamps) * 100_000_000
        stamps = (now, now, now, 0, 10 ** 15, self.rng.integers(2 ** 31) * bags.SECOND, -1,
                  -2 ** 31 * bags.SECOND, (2 ** 31 - 1) * bags.SECOND + 999_999_999)
        return {'stamp': int(self.pick(stamps)), 'frame': self.pick(('cam', 'cam', '', 'é', '/'))}

    def raw(self):
        """Return a sensor_msgs/Image."""
        height, width = (int(side) for side in self.rng.integers(1, 40, 2))
        encoding = self.pick(ENCODINGS[:9]) if self.chance(0.7) else self.pick(ENCODINGS)
        step = width * PIXEL_BYTES.get(encoding, 3) + int(self.pick((0, 0, 0, 1, 5)))
        size = height * step
        if self.chance(0.5):
            for _ in range(self.rng.integers(1, 3)):
                what = self.rng.integers(5)
                if what == 0:
                    height = self.pick(SIDES)
                elif what == 1:
                    width = self.pick(SIDES)
                elif what == 2:
                    step = self.pick((*SIDES, step - 1, step + 1))
                elif what == 3:
                    size = self.pick((0, 1, size - 1, size + 1, size // 2, 2 * size))
                else:
                    encoding = self.pick(ENCODINGS)
        data = self.rng.bytes(max(0, size))
        return ROS.image(data, height, width, max(0, step), encoding,
                         big_endian=int(self.pick((0, 0, 1, 255))), **self.header())

    def compressed(self):
        """Return a sensor_msgs/CompressedImage."""
        height, width = (int(side) for side in self.rng.integers(1, 40, 2))
        pixels = self.rng.integers(0, 256, (height, width, 3), np.uint8)
        kind = self.pick(('JPEG', 'JPEG', 'PNG', 'PNG', 'mode', 'other', 'noise', 'lie', 'chunk'))
        if kind in ('JPEG', 'PNG'):
            data = encoded(pixels, kind)
        elif kind == 'mode':
            form, mode = self.pick((
                ('PNG', '1'), ('PNG', 'L'), ('PNG', 'LA'), ('PNG', 'P'), ('PNG', 'RGBA'),
                ('PNG', 'I;16'), ('PNG', 'I'), ('JPEG', 'L'), ('JPEG', 'CMYK'), ('JPEG', 'YCbCr')))
            data = in_mode(pixels, form, mode)
        elif kind == 'other':
            data = encoded(pixels, self.pick(('GIF', 'BMP', 'TIFF', 'WEBP', 'PPM', 'TGA', 'ICO')))
        elif kind == 'noise':
            start = self.pick((b'', b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n', b'GIF89a', b'RIFF'))
            data = start + self.rng.bytes(self.rng.integers(0, 200))
        else:
            chunks = png_chunks(encoded(pixels, 'PNG'))
            at = 0 if kind == 'lie' else self.rng.integers(len(chunks))
            if kind == 'lie':
                sides = [int(self.pick((0, 1, 50, 2000, 2 ** 31 - 1, 2 ** 32 - 1))) for _ in '12']
                rest = bytes(self.rng.integers(0, 9, 5).tolist()) if self.chance(0.5) else (
                    chunks[0][1][8:])
                chunks[0] = (b'IHDR', struct.pack('>2I', *sides) + rest)
            else:
                name = self.pick((chunks[at][0], b'IDAT', b'PLTE', b'tRNS', b'iCCP', b'zTXt',
                                  b'iTXt', b'gAMA', b'eXIf', b'acTL', b'fcTL', b'fdAT', b'abcd',
                                  b'ABCD', b'cHRM', b'sRGB', b'pHYs', b'tEXt', b'IEND'))
                chunks.insert(at, (name, self.rng.bytes(self.rng.integers(0, 40))))
            data = png_of(chunks)
        data = bytearray(data)
        if self.chance(0.5):
            what = self.rng.integers(4)
            if what == 0:
                del data[self.rng.integers(len(data) + 1):]
            elif what == 1 and data:
                for at in self.rng.integers(0, len(data), self.rng.integers(1, 9)):
                    data[at] = self.rng.integers(256)
            elif what == 2:
                at = self.rng.integers(len(data) + 1)
                data[at:at] = self.rng.bytes(self.rng.integers(1, 30))
            else:
                data += self.rng.bytes(50)
        return ROS.compressed(data, self.pick(FORMATS[:2] if self.chance(0.8) else FORMATS),
                              **self.header())

    def image(self):
        """Return an image of either kind."""
        return self.raw() if self.chance(0.6) else self.compressed()

    def info(self, image):
        """Return a CameraInfo for an image, or None."""
        if self.chance(0.1):
            return None
        height, width = getattr(image, 'height', 20), getattr(image, 'width', 30)
        if hasattr(image, 'format'):
            try:
                with warnings.catch_warnings(action='ignore'), Pillow.open(
                        io.BytesIO(bytes(image.data))) as opened:
                    width, height = opened.size
            except Exception:
                width, height = 30, 20
        if self.chance(0.2):
            height, width = int(self.pick(SIDES)), int(self.pick(SIDES))
        k = [width * 0.9 + 1, 0, width / 2, 0, height * 0.9 + 1, height / 2, 0, 0, 1]
        p = [*k[:3], 0, *k[3:6], 0, *k[6:9], 0]
        d = [self.pick((0.0, 0.1, -0.1, 0.01)) for _ in range(self.rng.integers(0, 15))]
        model = self.pick((*DISTORTION_MODELS, *DISTORTION_MODELS, '', 'fisheye', 'é'))
        for values in (k, p, d):
            if values and self.chance(0.25):
                for _ in range(self.rng.integers(1, 4)):
                    values[self.rng.integers(len(values))] = float(self.pick(NUMBERS))
        if self.chance(0.05):
            k, p = [0.0] * 9, [0.0] * 12
        info = ROS.info(height, width, k, d, p, model, **self.header())
        if self.chance(0.7):
            info.header = image.header
        info.binning_x, info.binning_y = (int(self.pick((0, 1, 2, 2 ** 32 - 1))) for _ in '12')
        if self.chance(0.1):
            info.roi.width, info.roi.height, info.roi.x_offset, info.roi.y_offset = (
                int(self.pick(SIDES)) for _ in '1234')
        if self.chance(0.1):
            info.r = np.full(9, self.pick(NUMBERS))
        return info


def in_mode(pixels, form, mode):
    """Return a picture file of one of Pillow's modes."""
    image = Pillow.fromarray(pixels)
    file = io.BytesIO()
    if mode in ('I', 'I;16'):
        image = Pillow.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    image.save(file, form)
    return file.getvalue()


def png_chunks(data):
    """Return the chunks of a PNG file, as (name, content)."""
    chunks, at = [], 8
    while at < len(data):
        size, name = struct.unpack('>I4s', data[at:at + 8])
        chunks.append((name, data[at + 8:at + 8 + size]))
        at += 12 + size
    return chunks


def png_of(chunks):
    """Return the PNG file of some chunks, with checksums that hold."""
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(content)) + name + content
        + struct.pack('>I', zlib.crc32(name + content)) for name, content in chunks)
