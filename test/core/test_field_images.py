"""Images as cameras really publish them: mosaics, YUV, 16 bits, and depth as a picture."""
import io

import bags
import numpy as np
from PIL import Image
import pytest

from zoe_ros.color_spaces import BAYER, demosaic, PACKED_YUV, SEMIPLANAR_YUV
from zoe_ros.images import decode_depth, decode_image, is_depth, MessageError

# What OpenCV 4.14 makes of these bytes, as cv_bridge calls it:
# cvtColor(np.arange(16, dtype=np.uint8).reshape(4, 4) * 10, COLOR_BayerBG2RGB).
RAMP = np.arange(16, dtype=np.uint8).reshape(4, 4) * 10
RAMP_RGGB = [[[50, 50, 50], [50, 50, 50], [60, 60, 60], [60, 60, 60]]] * 2 + [
    [[90, 90, 90], [90, 90, 90], [100, 100, 100], [100, 100, 100]]] * 2
# cvtColor(..., COLOR_YUV2RGB_YUY2) of Y U Y V.
YUY2 = [16, 128, 235, 128, 81, 90, 145, 240, 41, 240, 210, 16]
YUY2_RGB = [(0, 0, 0), (255, 255, 255), (254, 0, 0), (255, 74, 73), (0, 76, 255), (47, 255, 255)]
OPENCV_BAYER = {'bayer_rggb': 'BayerBG', 'bayer_bggr': 'BayerRG', 'bayer_gbrg': 'BayerGR',
                'bayer_grbg': 'BayerGB'}
COLOR = (200, 120, 40)


@pytest.fixture(params=['rosbags', 'rclpy'])
def family(request):
    """Return the message classes of either client."""
    return bags.ROSBAGS if request.param == 'rosbags' else bags.rclpy_family()


@pytest.fixture
def cv2():
    """Return OpenCV; skips the test where it is missing."""
    return pytest.importorskip('cv2')


def noise(*shape, kind=np.uint8):
    """Return random numbers over the whole range of a type."""
    return np.random.default_rng(3).integers(0, np.iinfo(kind).max + 1, shape).astype(kind)


def mosaic_of(rgb, pattern):
    """Return what a sensor with this pattern sees of (height, width, 3) colours."""
    row, column = BAYER[pattern]
    mosaic = rgb[..., 1].copy()
    mosaic[row::2, column::2] = rgb[row::2, column::2, 0]
    mosaic[1 - row::2, 1 - column::2] = rgb[1 - row::2, 1 - column::2, 2]
    return mosaic


def refusal(message):
    """Return the cause for which a message is refused."""
    with pytest.raises(MessageError) as caught:
        decode_image(message)
    assert '\n' not in str(caught.value)
    return caught.value.cause


def raw(family, rows, height, width, encoding, padding=0, big_endian=0):
    """Return an Image of (rows, bytes) with padding behind each row."""
    rows = np.ascontiguousarray(rows)
    rows = rows.reshape(len(rows), -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return family.image(rows.tobytes(), height, width, rows.shape[1], encoding, big_endian)


# --- mosaics --------------------------------------------------------------------------------


def test_a_mosaic_by_hand():
    assert demosaic(RAMP, 'bayer_rggb').tolist() == RAMP_RGGB


@pytest.mark.parametrize('pattern', BAYER)
@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
@pytest.mark.parametrize('size', [(3, 3), (4, 6), (7, 9), (48, 65)])
def test_mosaics_agree_with_opencv(cv2, pattern, kind, size):
    mosaic = noise(*size, kind=kind)
    code = getattr(cv2, f'COLOR_{OPENCV_BAYER[pattern]}2RGB')
    assert np.array_equal(demosaic(mosaic, pattern), cv2.cvtColor(mosaic, code))


@pytest.mark.parametrize('pattern', BAYER)
@pytest.mark.parametrize('size', [(1, 1), (1, 2), (2, 1), (2, 2), (2, 9), (16, 16)])
def test_a_mosaic_of_one_colour(family, pattern, size):
    mosaic = mosaic_of(np.full((*size, 3), COLOR, np.uint8), pattern)
    image = decode_image(raw(family, mosaic, *size, f'{pattern}8', padding=3))
    assert image.shape == (*size, 3) and image.dtype == np.uint8
    if min(size) > 1:
        assert (image == COLOR).all()


@pytest.mark.parametrize('big_endian', [0, 1])
def test_a_mosaic_of_16_bits(family, big_endian):
    rgb = np.full((6, 8, 3), COLOR, np.uint16) * 257
    mosaic = mosaic_of(rgb, 'bayer_gbrg').astype('>u2' if big_endian else '<u2')
    image = decode_image(raw(family, mosaic, 6, 8, 'bayer_gbrg16', 4, big_endian))
    assert (image == COLOR).all()


@pytest.mark.parametrize('pattern', BAYER)
@pytest.mark.parametrize('form, bits', [('jpeg', 8), ('png', 8), ('png', 16)])
def test_a_mosaic_that_was_compressed(family, pattern, form, bits):
    rgb = np.full((16, 24, 3), (130, 120, 110), np.uint8)   # little for JPEG to blur
    mosaic = mosaic_of(rgb, pattern)
    data = bags.encoded(mosaic.astype(np.uint16) * 257 if bits == 16 else mosaic, form,
                        **({'quality': 100} if form == 'jpeg' else {}))
    for text in (f'{pattern}{bits}; {form} compressed ', f'{pattern}{bits};{form} compressed',
                 f'{pattern}{bits}; {form} compressed {pattern}{bits}'):
        image = decode_image(family.compressed(data, text))
        assert np.abs(image.astype(int) - rgb).max() <= (2 if form == 'jpeg' else 0)


def test_a_compressed_picture_that_is_no_mosaic_any_more(family):
    rgb = bags.picture()
    colour = family.compressed(bags.encoded(rgb), 'bayer_rggb8; png compressed bgr8')
    assert np.array_equal(decode_image(colour), rgb)
    # The transport made it grey itself; or no raw image is named.
    grey = bags.encoded(rgb[..., 1])
    for text in ('bayer_rggb8; png compressed mono8', 'png', 'mono8; png compressed '):
        image = decode_image(family.compressed(grey, text))
        assert (image == rgb[..., 1:2]).all()


# --- YUV ------------------------------------------------------------------------------------


@pytest.mark.parametrize('encoding', PACKED_YUV)
@pytest.mark.parametrize('padding', [0, 4, 7])
def test_packed_yuv_by_hand(family, encoding, padding):
    row = np.array(YUY2, np.uint8)
    if encoding in ('uyvy', 'yuv422'):
        row = row.reshape(-1, 2)[:, ::-1].ravel()
    image = decode_image(raw(family, [row] * 3, 3, 6, encoding, padding))
    assert image.tolist() == [[list(rgb) for rgb in YUY2_RGB]] * 3


@pytest.mark.parametrize('encoding, code', [
    ('yuyv', 'YUY2'), ('yuv422_yuy2', 'YUY2'), ('uyvy', 'UYVY'), ('yuv422', 'UYVY')])
def test_packed_yuv_agrees_with_opencv(family, cv2, encoding, code):
    pixels = noise(33, 64, 2)
    theirs = cv2.cvtColor(pixels, getattr(cv2, f'COLOR_YUV2RGB_{code}'))
    assert np.array_equal(decode_image(raw(family, pixels, 33, 64, encoding)), theirs)


@pytest.mark.parametrize('encoding', ['nv12', 'nv21'])
def test_semiplanar_yuv_agrees_with_opencv(family, cv2, encoding):
    planes = noise(48 * 3 // 2, 64)
    theirs = cv2.cvtColor(planes, getattr(cv2, f'COLOR_YUV2RGB_{encoding.upper()}'))
    for padding in (0, 6):
        message = raw(family, planes, 48, 64, encoding, padding)
        assert np.array_equal(decode_image(message), theirs)


@pytest.mark.parametrize('encoding', SEMIPLANAR_YUV)
def test_all_semiplanar_yuv_show_the_same(family, encoding):
    # Left half red, right half blue: (Y, U, V) of YUY2 above.
    rows, columns, u = SEMIPLANAR_YUV[encoding]
    red, blue = (81, 90, 240), (41, 240, 110)
    luma = np.repeat([[red[0]] * 4 + [blue[0]] * 4], 4, axis=0)
    pairs = [red[1 + u], red[2 - u]] * (4 // columns) + [blue[1 + u], blue[2 - u]] * (4 // columns)
    data = np.concatenate([luma.ravel(), np.ravel([pairs] * (4 // rows))]).astype(np.uint8)
    image = decode_image(family.image(data.tobytes(), 4, 8, 8, encoding))
    assert (image[:, :4] == image[0, 0]).all() and (image[:, 4:] == image[0, 7]).all()
    assert image[0, 0].tolist() == [254, 0, 0] and image[0, 7].argmax() == 2


@pytest.mark.parametrize('encoding', [*PACKED_YUV, *SEMIPLANAR_YUV])
def test_yuv_that_is_too_short_or_odd(family, encoding):
    assert refusal(family.image(bytes(11), 2, 4, 8, encoding)) == 'data'
    assert refusal(family.image(bytes(64), 2, 4, 3, encoding)) == 'data'
    if encoding not in ('nv24', 'nv42'):
        assert refusal(family.image(bytes(99), 2, 5, 10, encoding)) == 'size'
    if encoding in SEMIPLANAR_YUV:
        # All of Y, and one byte too few of the rest.
        rows, columns, _ = SEMIPLANAR_YUV[encoding]
        size = 4 * 8 + 4 // rows * 16 // columns
        assert decode_image(family.image(bytes(size), 4, 8, 8, encoding)).shape == (4, 8, 3)
        assert refusal(family.image(bytes(size - 1), 4, 8, 8, encoding)) == 'data'


# --- 16 bits a colour -----------------------------------------------------------------------


@pytest.mark.parametrize('encoding, order', [
    ('rgb16', (0, 1, 2)), ('bgr16', (2, 1, 0)), ('16UC3', (2, 1, 0)),
    ('rgba16', (0, 1, 2, 1)), ('bgra16', (2, 1, 0, 1)), ('16UC4', (2, 1, 0, 1))])
@pytest.mark.parametrize('big_endian', [0, 1])
@pytest.mark.parametrize('padding', [0, 1, 8])
def test_16_bit_colours_are_scaled(family, encoding, order, big_endian, padding):
    rgb = np.array([[(0, 128, 65535), (0x1234, 32768, 129)]])
    pixels = rgb[..., order].astype('>u2' if big_endian else '<u2')
    image = decode_image(raw(family, pixels, 1, 2, encoding, padding, big_endian))
    assert image.tolist() == [[[0, 0, 255], [18, 128, 1]]]      # value / 257, rounded


# --- depth ----------------------------------------------------------------------------------


@pytest.mark.parametrize('text', [
    '16UC1; png compressed ', '16UC1; png compressed', '16UC1;png compressed 16UC1',
    '32FC1; jpeg compressed ', '32FC1; tiff compressed', '16UC1', '16UC1; compressedDepth png',
    '32FC1; compressedDepth rvl'])
def test_a_picture_of_depth_is_no_photograph(family, text):
    message = family.compressed(bags.encoded(np.full((8, 8), 1500, np.uint16)), text)
    assert is_depth(message) and refusal(message) == 'encoding'


@pytest.mark.parametrize('text', [
    '16UC1; png compressed ', '16UC1; png compressed', '16UC1;png compressed 16UC1', '16UC1',
    'mono16; png compressed ', 'mono16'])
def test_depth_in_a_png_of_the_plugin_for_photographs(family, text):
    values = np.array([[0, 1, 1500, 65534, 65535]], np.uint16)
    depth = decode_depth(family.compressed(bags.encoded(values), text))
    assert depth == pytest.approx(np.array([[np.nan, 0.001, 1.5, 65.534, np.nan]]), nan_ok=True)


@pytest.mark.parametrize('text', [
    '16UC1; jpeg compressed ', '32FC1; jpeg compressed ', '32FC1; tiff compressed',
    '32FC1; png compressed ', 'mono16; jpeg compressed ', 'png', ''])
def test_a_picture_that_has_lost_its_depth_is_refused(family, text):
    message = family.compressed(bags.encoded(np.full((8, 8), 1500, np.uint16)), text)
    with pytest.raises(MessageError, match='no depth that is read') as caught:
        decode_depth(message)
    assert caught.value.cause == 'encoding'


@pytest.mark.parametrize('text', ['mono16; png compressed ', 'png', '', 'rgb8; png compressed'])
def test_a_picture_of_16_bits_may_be_a_photograph(family, text):
    message = family.compressed(bags.encoded(np.full((8, 8), 257 * 90, np.uint16)), text)
    assert not is_depth(message) and (decode_image(message) == 90).all()


def test_png_of_a_palette_is_no_mosaic():
    # One channel of numbers, but these are colours.
    file = io.BytesIO()
    Image.new('RGB', (8, 8), COLOR).convert('P').save(file, 'PNG')
    message = bags.ROSBAGS.compressed(file.getvalue(), 'rgb8; png compressed ')
    assert decode_image(message).shape == (8, 8, 3)
