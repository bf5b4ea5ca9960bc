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
    ('rgb8', 0): 'BTWvc4HZe2edHef7WQHzL7WFnwOxqet3TW3Xi4nRYz9l1Y+T4Xlbh/29xxu5odNP',
    ('bgr8', 0): 'rzUF2YFznWd7++cd8wFZhbUvsQOfd+up121N0YmLZT9jk4/VW3nhvf2HuRvHT9Oh',
    ('rgba8', 0): 'BTWvgdl7nR3nWQHztYWfsanrTW3XidFjZdWP4Xlb/b3HuaHTFSV/EUnLrQ236XFD',
    ('bgra8', 0): 'rzUFe9mB5x2d8wFZn4W166mx121NY9GJj9VlW3nhx73906G5fyUVy0kRtw2tQ3Hp',
    ('mono8', 0): 'BQUFNTU1r6+vc3NzgYGB2dnZe3t7Z2dnnZ2dHR0d5+fn+/v7WVlZAQEB8/PzLy8v',
    ('mono16', 0): 'NTU1c3Nz2dnZZ2dnHR0d+/v7AQEBMDAwhYWFBAQEqampd3d3bW1ti4uL0dHRPz8/',
    ('mono16', 1): 'BQUFr6+vgYGBe3t7nZ2d5+fnWVlZ8vLytbW1np6esbGx6+vrTU1N19fXiYmJY2Nj',
    ('rgb16', 0): 'NXPZZx37ATCFBKl3bYvRP9WTeYe9HKFQJSNJlw6rcV91sxmnXTtBb8VD6besyxF/',
    ('rgb16', 1): 'Ba+Be53nWfK1nrHrTdeJY2WP4Vv9xrnSFX8Ry6y36UPFb0E7XacZs3VfcasOl0kj',
    ('bgr16', 0): '2XM1+x1nhTABd6kE0Yttk9U/vYd5UKEcSSMlqw6XdV9xpxmzQTtdQ8VvrLfpfxHL',
    ('bgr16', 1): 'ga8F5517tfJZ67GeiddNj2Vj/Vvh0rnGEX8Vt6zLxUPpO0FvGaddX3WzDqtxI0mX',
    ('rgba16', 0): 'NXPZHfsBhQSpbYvR1ZN5vRyhJSNJDqtxdbMZXTtBxUPprMsRFdK5/VvhZWOJTeux',
    ('rgba16', 1): 'Ba+BnedZtZ6xTdeJZY/h/ca5FX8RrLfpxW9BXacZdV9xDpdJJVChvYd51T/RbXep',
    ('bgra16', 0): '2XM1AfsdqQSF0YtteZPVoRy9SSMlcasOGbN1QTtd6UPFEcusudIV4Vv9iWNlsetN',
    ('bgra16', 1): 'ga8FWeedsZ61iddN4Y9lucb9EX8V6besQW/FGaddcV91SZcOoVAleYe90T/VqXdt',
    ('yuv422', 0): 'djUAvn0A4u7sXWlntABK/7L/uAAA3AAAulrzMQBr/0j//w7b9zkF/1wosvXzCEtJ',
    ('bayer_rggb8', 0): 'jlTZjlTZy3ugy3ugjlTZjlTZy3ugy3ugwh1twh1t56Jc56Jcwh1twh1t56Jc56Jc',
    ('bayer_bggr8', 0): '2VSO2VSOoHvLoHvL2VSO2VSOoHvLoHvLbR3CbR3CXKLnXKLnbR3CbR3CXKLnXKLn',
    ('bayer_gbrg8', 0): 'ftkpftkpe7Zwe7Zwftkpftkpe7Zwe7Zwkpgdkpgdt+eMt+eMkpgdkpgdt+eMt+eM',
    ('bayer_grbg8', 0): 'Kdl+Kdl+cLZ7cLZ7Kdl+Kdl+cLZ7cLZ7HZiSHZiSjOe3jOe3HZiSHZiSjOe3jOe3',
    ('bayer_rggb16', 0): 'jyX7jyX7wQGVwQGVjyX7jyX7wQGVwQGVlwTDlwTDqVN9qVN9lwTDlwTDqVN9qVN9',
    ('bayer_bggr16', 0): '+yWP+yWPlQHBlQHB+yWP+yWPlQHBlQHBwwSXwwSXfVOpfVOpwwSXwwSXfVOpfVOp',
    ('bayer_gbrg16', 0): 'D/s7D/s7AatVAatVD/s7D/s7AatVAatVV60EV60Eaak+aak+V60EV60Eaak+aak+',
    ('bayer_grbg16', 0): 'O/sPO/sPVasBVasBO/sPO/sPVasBVasBBK1XBK1XPqlpPqlpBK1XBK1XPqlpPqlp',
    ('bayer_rggb16', 1): 'e5Hne5HnmVntmVnte5Hne5HnmVntmVnts57fs57fsZvFsZvFs57fs57fsZvFsZvF',
    ('bayer_bggr16', 1): '55F755F77VmZ7VmZ55F755F77VmZ7VmZ356z356zxZuxxZux356z356zxZuxxZux',
    ('bayer_gbrg16', 1): 'e+ene+enWcOtWcOte+ene+enWcOtWcOtc8mec8mecbHEcbHEc8mec8mecbHEcbHE',
    ('bayer_grbg16', 1): 'p+d7p+d7rcNZrcNZp+d7p+d7rcNZrcNZnslznslzxLFxxLFxnslznslzxLFxxLFx',
}
PIXEL_BYTES = {
    'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1, 'mono16': 2, 'rgb16': 6,
    'bgr16': 6, 'rgba16': 8, 'bgra16': 8, 'yuv422': 2,
    **{f'bayer_{colors}{8 * size}': size
       for colors in ('rggb', 'bggr', 'gbrg', 'grbg') for size in (1, 2)}}


def pattern(count):
    """Return bytes that look random."""
    i = np.arange(count, dtype=np.int64)
    return ((37 * i * i + 11 * i + 5) % 256).astype(np.uint8)


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
