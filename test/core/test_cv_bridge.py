"""Decoding as cv_bridge does it: by results that were recorded from it, and beside it."""
from base64 import b64decode
import importlib

import bags
import numpy as np
import pytest

from zoe_ros.images import decode_image
from zoe_ros.messages import depth_message

# (encoding, is_bigendian): the bytes of CvBridge().imgmsg_to_cv2(message, 'rgb8') for an image of
# 4 x 4 pixels with the data of :func:`pattern`. Recorded from cv_bridge 1.16.2 with OpenCV 4.6
# (Debian 12, package python3-cv-bridge), which does not know the other encodings of this package.
RECORDED = {
    ('rgb8', 0): 'AUv57U/qerCBwVd49xeRUs3pFiob6L1Uggq3Vb0et5hOzeX4e9ZoR7SoA7utgGV6',
    ('bgr8', 0): '+UsB6k/tgbB6eFfBkRf36c1SGyoWVL3otwqCHr1VTpi3+OXNaNZ7qLRHrbsDemWA',
    ('rgba8', 0): 'AUv5T+p6gcFX9xeRzekWG+i9ggq3vR63Ts3le9ZotKgDrYBloJ3VICuVvn/0TV0y',
    ('bgra8', 0): '+UsBeupPV8GBkRf3FunNvegbtwqCtx695c1OaNZ7A6i0ZYCt1Z2glSsg9H++Ml1N',
    ('mono8', 0): 'AQEBS0tL+fn57e3tT09P6urqenp6sLCwgYGBwcHBV1dXeHh49/f3FxcXkZGRUlJS',
    ('mono16', 0): 'S0tL7e3t6enpsLCwwcHBeHh4GBgYUlJS6enpKioq5+fnVFRUCgoKVVVVHx8fmJiY',
    ('mono16', 1): 'AQEB+fn5UFBQenp6gYGBV1dX9vb2kZGRzc3NFhYWHBwcvb29goKCt7e3vLy8t7e3',
    ('rgb16', 0): 'S+3psMF4GFLpKudUClUfmM341keouoB6nU0rcH9wXWVGWx0IJ00XGq1/L6d01sU7',
    ('rgb16', 1): 'AflQeoFX9pHNFhy9gre8t07le2i0BK1loNQglb7zTTJkQ2A7Dzh4nQvu/UrP2nuv',
    ('bgr16', 0): '6e1LeMGw6VIYVOcqH1UK+M2YqEfWeoC6K02dcH9wRmVdCB1bF00nf60adKcvO8XW',
    ('bgr16', 1): 'UPkBV4F6zZH2vRwWvLeC5U63tGh7Za0EINSg876VZDJNO2BDeDgP7gudz0r9r3va',
    ('rgba16', 0): 'S+3pwXgY6SrnClUfzfjWqLqAnU0rf3BdRlsdJ00XrX8vdNbF2aBR8B92Hj5TSK8B',
    ('rgba16', 1): 'AflQgVf2zRYcgre8TuV7tAStoNQgvvNNZENgDzh4C+79z9p7PpnU2zTPbqLzigdu',
    ('bgra16', 0): '6e1LGHjB5yrpH1UK1vjNgLqoK02dXXB/HVtGF00nL3+txdZ0UaDZdh/wUz4eAa9I',
    ('bgra16', 1): 'UPkB9leBHBbNvLeCe+VOrQS0INSgTfO+YENkeDgP/e4Le9rP1Jk+zzTb86JubgeK',
    ('yuv422', 0): '/xQA/9EB9P+bsdJXje/QOJp7IwD4aBD/U///AFa6//EwsUUAWAAEqCNUaACL9lr/',
    ('bayer_rggb8', 0): 'dXXqdXXqqHrNqHrNdXXqdXXqqHrNqHrNbMGBbMGBV5GBV5GBbMGBbMGBV5GBV5GB',
    ('bayer_bggr8', 0): '6nV16nV1zXqozXqo6nV16nV1zXqozXqogcFsgcFsgZFXgZFXgcFsgcFsgZFXgZFX',
    ('bayer_gbrg8', 0): 'ZeqGZeqGerucerucZeqGZeqGeruceruclHbBlHbBhledhledlHbBlHbBhledhled',
    ('bayer_grbg8', 0): 'huplhuplnLt6nLt6huplhuplnLt6nLt6wXaUwXaUnVeGnVeGwXaUwXaUnVeGnVeG',
    ('bayer_rggb16', 0): 'wXx4wXx46Bhl6BhlwXx4wXx46Bhl6Bhl6Cpn6Cpn5y1u5y1u6Cpn6Cpn5y1u5y1u',
    ('bayer_bggr16', 0): 'eHzBeHzBZRjoZRjoeHzBeHzBZRjoZRjoZyroZyrobi3nbi3nZyroZyrobi3nbi3n',
    ('bayer_gbrg16', 0): 'bHiLbHiLGKeHGKeHbHiLbHiLGKeHGKeHQKcqQKcqG+c/G+c/QKcqQKcqG+c/G+c/',
    ('bayer_grbg16', 0): 'i3hsi3hsh6cYh6cYi3hsi3hsh6cYh6cYKqdAKqdAP+cbP+cbKqdAKqdAP+cbP+cb',
    ('bayer_rggb16', 1): 'TqJXTqJXNvZ0NvZ0TqJXTqJXNvZ0NvZ0dBaHdBaHHKGVHKGVdBaHdBaHHKGVHKGV',
    ('bayer_bggr16', 1): 'V6JOV6JOdPY2dPY2V6JOV6JOdPY2dPY2hxZ0hxZ0laEclaEchxZ0hxZ0laEclaEc',
    ('bayer_gbrg16', 1): 'vFeIvFeI9lWR9lWRvFeIvFeI9lWR9lWRrX4WrX4W2Rxp2RxprX4WrX4W2Rxp2Rxp',
    ('bayer_grbg16', 1): 'iFe8iFe8kVX2kVX2iFe8iFe8kVX2kVX2Fn6tFn6taRzZaRzZFn6tFn6taRzZaRzZ',
}
PIXEL_BYTES = {
    'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1, 'mono16': 2, 'rgb16': 6,
    'bgr16': 6, 'rgba16': 8, 'bgra16': 8, 'yuv422': 2,
    **{f'bayer_{colors}{8 * size}': size
       for colors in ('rggb', 'bggr', 'gbrg', 'grbg') for size in (1, 2)}}


def pattern(count):
    """Return bytes that look random, from a generator that no library can change."""
    numbers = [1]
    while len(numbers) < count:
        numbers.append(numbers[-1] * 75 % 65537)
    return bytes(number % 256 for number in numbers)


@pytest.mark.parametrize('encoding, big_endian', RECORDED)
def test_images_are_those_that_cv_bridge_made(family, encoding, big_endian):
    step = 4 * PIXEL_BYTES[encoding]
    message = family.image(pattern(4 * step), 4, 4, step, encoding, big_endian)
    assert decode_image(message).tobytes() == b64decode(RECORDED[encoding, big_endian])


def has_cv_bridge():
    """Tell whether cv_bridge can be imported: most machines without ROS lack it."""
    try:
        from cv_bridge import CvBridge
    except (ImportError, AttributeError):
        return False
    return CvBridge is not None


needs_cv_bridge = pytest.mark.skipif(not has_cv_bridge(), reason='there is no cv_bridge here')


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'mono16'])
@needs_cv_bridge
def test_images_are_those_of_the_cv_bridge_that_is_installed(encoding):
    bridge = importlib.import_module('cv_bridge').CvBridge()
    family = bags.rclpy_family()
    size = PIXEL_BYTES[encoding]
    data = np.random.default_rng(0).integers(0, 256, (24, 32 * size), np.uint8)
    # cv_bridge's own limit: a step that is no multiple of the pixel size gives wrong rows.
    padded = np.pad(data, ((0, 0), (0, 2 * size)))
    for rows in (data, padded):
        message = family.image(rows.tobytes(), 24, 32, rows.shape[1], encoding)
        theirs = bridge.imgmsg_to_cv2(message, 'rgb8')
        assert np.array_equal(decode_image(message), theirs)


@needs_cv_bridge
def test_cv_bridge_reads_our_depth_images():
    bridge = importlib.import_module('cv_bridge').CvBridge()
    family = bags.rclpy_family()
    depth = np.array([[0.5, 1.0, np.nan], [80.0, 1e-3, 2.5]], np.float32)
    message = depth_message(family.types, family.header(), depth)
    for encoding in ('passthrough', '32FC1'):
        theirs = bridge.imgmsg_to_cv2(message, encoding)
        assert theirs.dtype == np.float32
        assert np.array_equal(theirs, depth, equal_nan=True)
