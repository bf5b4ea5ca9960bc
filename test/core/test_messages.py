"""Images as messages to arrays: byte layouts by hand, and malformed input."""
import itertools
import struct
import tracemalloc
import zlib

import bags
from hypothesis import example, given, HealthCheck, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from zoe_ros.images import decode_image, MessageError, photo_to_rgb

CAUSES = {'size', 'data', 'encoding', 'corrupt'}
# Two pixels, (10, 20, 30) and (40, 50, 60), as they lie in memory.
COLOUR_BYTES = {
    'rgb8': [10, 20, 30, 40, 50, 60], 'bgr8': [30, 20, 10, 60, 50, 40],
    '8UC3': [30, 20, 10, 60, 50, 40], 'rgba8': [10, 20, 30, 255, 40, 50, 60, 0],
    'bgra8': [30, 20, 10, 255, 60, 50, 40, 0], '8UC4': [30, 20, 10, 255, 60, 50, 40, 0]}
COLOURS = [(10, 20, 30), (40, 50, 60)]
GREY_BYTES = {'mono8': [7, 200], '8UC1': [7, 200]}
SAMPLE_BYTES = {**dict.fromkeys(('rgb8', 'bgr8', '8UC3'), 3),
                **dict.fromkeys(('rgba8', 'bgra8', '8UC4'), 4),
                'mono8': 1, '8UC1': 1, 'mono16': 2}
BIG = 2 ** 32 - 1
slow = settings(deadline=None, max_examples=150,
                suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def refusal(message):
    """Return the error with which a message is refused."""
    with pytest.raises(MessageError) as caught:
        decode_image(message)
    assert caught.value.cause in CAUSES
    assert '\n' not in str(caught.value)
    return caught.value


# --- raw images -----------------------------------------------------------------------------


@pytest.mark.parametrize('encoding', COLOUR_BYTES)
def test_colours_by_hand(family, encoding):
    row = COLOUR_BYTES[encoding]
    image = decode_image(family.image(row, 1, 2, len(row), encoding))
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert image.tolist() == [[list(COLOURS[0]), list(COLOURS[1])]]


@pytest.mark.parametrize('encoding', GREY_BYTES)
def test_grey_by_hand(family, encoding):
    image = decode_image(family.image(GREY_BYTES[encoding], 1, 2, 2, encoding))
    assert image.tolist() == [[[7, 7, 7], [200, 200, 200]]]


def test_mono16_is_scaled_not_cut(family):
    values = [0, 128, 129, 0x1234, 32768, 65535]
    expected = [0, 0, 1, 18, 128, 255]      # value / 257, rounded
    little = struct.pack('<6H', *values)
    big = struct.pack('>6H', *values)
    for data, big_endian in ((little, 0), (big, 1)):
        image = decode_image(family.image(data, 1, 6, 12, 'mono16', big_endian))
        assert image[0].tolist() == [[e] * 3 for e in expected]


@pytest.mark.parametrize('encoding', SAMPLE_BYTES)
@pytest.mark.parametrize('padding', [1, 3, 8])
def test_padded_rows_and_trailing_bytes(family, encoding, padding):
    size = SAMPLE_BYTES[encoding]
    height, width = 3, 2
    rows = np.arange(1, 1 + height * width * size, dtype=np.uint8).reshape(height, -1) * 9
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    plain = decode_image(family.image(rows.tobytes(), height, width, width * size, encoding))
    for extra in (b'', b'\x63' * 50):
        message = family.image(padded.tobytes() + extra, height, width, padded.shape[1], encoding)
        assert np.array_equal(decode_image(message), plain)


def test_the_last_row_needs_its_padding_too(family):
    assert refusal(family.image(bytes(15), 2, 2, 8, 'rgb8')).cause == 'data'


def test_decoding_leaves_the_message_as_it_is(family):
    message = family.photo(bags.picture(), 'bgr8')
    before = bytes(message.data)
    decode_image(message)[:] = 0
    assert bytes(message.data) == before


@pytest.mark.parametrize('height, width', [(0, 4), (4, 0), (0, 0)])
def test_zero_size(family, height, width):
    error = refusal(family.image(b'', height, width, 12, 'rgb8'))
    assert error.cause == 'size' and f'{width} x {height}' in str(error)


def test_step_too_small(family):
    error = refusal(family.image(bytes(100), 2, 4, 11, 'rgb8'))
    assert error.cause == 'data' and 'step 11' in str(error) and '12 bytes' in str(error)


@pytest.mark.parametrize('size', [0, 1, 23])
def test_short_data(family, size):
    error = refusal(family.image(bytes(size), 2, 4, 12, 'rgb8'))
    assert error.cause == 'data' and f'{size} bytes' in str(error) and '2 x 12' in str(error)


@pytest.mark.parametrize('encoding', ['', 'rgb', 'RGB8', 'jpeg', '32FC3', '8UC2', 'rgb8 '])
def test_unknown_encoding(family, encoding):
    error = refusal(family.image(bytes(64), 2, 2, 32, encoding))
    assert error.cause == 'encoding' and f"'{encoding}'" in str(error) and 'rgb8' in str(error)


@pytest.mark.parametrize('encoding', ['32FC1', '16UC1', '64FC1'])
def test_a_depth_image_is_no_photograph(family, encoding):
    error = refusal(family.image(bytes(64), 2, 2, 16, encoding))
    assert error.cause == 'encoding' and 'depth image' in str(error)


def slowly(data, height, width, step, encoding, big_endian):
    """Decode pixel by pixel; return a picture as lists, or the set of causes that fit."""
    size = SAMPLE_BYTES.get(encoding)
    if 0 in (height, width):
        return {'size'}
    short = len(data) < height * step
    if size is None:
        # What becomes of mosaics and YUV is tested in test_field_images.py.
        return {'data'} if short else {'encoding', 'data', 'size'}
    if short or step < width * size:
        return {'data'}
    image = []
    for y, x in itertools.product(range(height), range(width)):
        at = y * step + x * size
        sample = list(data[at:at + size])
        if encoding == 'mono16':
            value = int.from_bytes(bytes(sample), 'big' if big_endian else 'little')
            image.append([int(value / 257 + 0.5)] * 3)
        elif size == 1:
            image.append(sample * 3)
        else:
            image.append(sample[:3] if encoding.startswith('rgb') else sample[2::-1])
    return image


ENCODINGS = st.sampled_from([*SAMPLE_BYTES, '32FC1', 'rgb16', 'bayer_rggb8', 'nv21', 'banana'])
NUMBERS = st.integers(0, 5) | st.sampled_from([255, 65536, 2 ** 31, BIG])
STEPS = st.integers(0, 24) | st.sampled_from([2 ** 31, BIG])


@slow
@given(st.binary(max_size=130), NUMBERS, NUMBERS, STEPS, ENCODINGS, st.sampled_from([0, 1]))
@example(b'', BIG, BIG, BIG, 'rgb8', 0)
@example(b'', BIG, BIG, 0, 'mono8', 0)
@example(bytes(96), 4, 6, 24, 'rgb8', 0)
@example(bytes(range(96)), 4, 6, 24, 'bgra8', 1)
def test_any_raw_image_is_decoded_or_refused(data, height, width, step, encoding, big_endian):
    message = bags.ROSBAGS.image(data, height, width, step, encoding, big_endian)
    expected = slowly(data, height, width, step, encoding, big_endian)
    tracemalloc.start()
    try:
        image = decode_image(message)
    except MessageError as error:
        assert isinstance(expected, set) and error.cause in expected, error
    else:
        if not isinstance(expected, set):
            assert image.reshape(-1, 3).tolist() == expected
        assert image.shape == (height, width, 3) and image.dtype == np.uint8
    finally:
        # Nothing here is larger than the few pixels.
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert encoding not in SAMPLE_BYTES or peak < 100_000


@slow
@given(st.binary(max_size=130), st.integers(0, 5), st.integers(0, 5), st.integers(0, 24),
       st.sampled_from(list(SAMPLE_BYTES)), st.sampled_from([0, 1]))
def test_both_clients_give_the_same_picture(data, height, width, step, encoding, big_endian):
    outcomes = []
    for family in (bags.ROSBAGS, bags.rclpy_family()):
        message = family.image(data, height, width, step, encoding, big_endian)
        try:
            outcomes.append(decode_image(message).tolist())
        except MessageError as error:
            outcomes.append((error.cause, str(error)))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize('encoding, other', [('8UC3', 'bgr8'), ('8UC4', 'bgra8'),
                                             ('8UC1', 'mono8')])
def test_nameless_encodings_are_opencvs(family, encoding, other):
    size = SAMPLE_BYTES[encoding]
    data = np.random.default_rng(0).integers(0, 256, 4 * 5 * size, np.uint8).tobytes()
    ours = decode_image(family.image(data, 4, 5, 5 * size, encoding))
    assert np.array_equal(ours, decode_image(family.image(data, 4, 5, 5 * size, other)))


# --- compressed images ----------------------------------------------------------------------


def test_jpeg_in_colour(family):
    rgb = bags.picture()
    data = bags.encoded(rgb, 'JPEG', quality=95)
    image = decode_image(family.compressed(data, 'rgb8; jpeg compressed bgr8'))
    assert image.shape == rgb.shape and image.dtype == np.uint8
    difference = np.abs(image.astype(int) - rgb)
    assert difference.mean() < 3
    # The other order of channels would be far off.
    assert np.abs(image[..., ::-1].astype(int) - rgb).mean() > 20


def test_grey_jpeg(family):
    grey = bags.picture()[..., 0]
    image = decode_image(family.compressed(bags.encoded(grey, 'JPEG', quality=95)))
    assert image.shape == (*grey.shape, 3)
    assert (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all()
    assert np.abs(image[..., 0].astype(int) - grey).mean() < 3


def test_png_is_exact(family):
    rgb = bags.picture()
    alpha = np.dstack([rgb, rgb[..., 0]])
    assert np.array_equal(decode_image(family.compressed(bags.encoded(rgb), 'png')), rgb)
    assert np.array_equal(decode_image(family.compressed(bags.encoded(alpha), 'png')), rgb)
    grey = decode_image(family.compressed(bags.encoded(rgb[..., 1]), 'png'))
    assert np.array_equal(grey, np.repeat(rgb[..., 1:2], 3, axis=2))


def test_16_bit_png_is_scaled_not_cut(family):
    values = np.array([[0, 128, 129, 0x1234, 32768, 65535]], np.uint16)
    image = decode_image(family.compressed(bags.encoded(values), 'png'))
    assert image[0].tolist() == [[e] * 3 for e in (0, 0, 1, 18, 128, 255)]


@pytest.mark.parametrize('form', ['', 'png', 'bgr8; jpeg compressed ', 'theora?'])
def test_the_data_decide_not_the_format_string(family, form):
    rgb = bags.picture()
    image = decode_image(family.compressed(bags.encoded(rgb, 'JPEG'), form))
    assert image.shape == rgb.shape


def test_compressed_depth_is_no_photograph(family):
    data = bytes(12) + bags.encoded(np.ones((4, 4), np.uint16))
    error = refusal(family.compressed(data, '16UC1; compressedDepth png'))
    assert error.cause == 'encoding' and 'depth' in str(error)


def test_empty_compressed_image(family):
    assert refusal(family.compressed(b'')).cause == 'data'


@pytest.mark.parametrize('form', ['JPEG', 'PNG'])
@pytest.mark.parametrize('share', [0.02, 0.3, 0.6, 0.9])
def test_truncated_picture(family, form, share):
    data = bags.encoded(bags.picture(), form)
    error = refusal(family.compressed(data[:int(len(data) * share)], form.lower()))
    assert error.cause in ('corrupt', 'encoding')
    assert form.lower() in str(error)


def test_garbage(family):
    error = refusal(family.compressed(bytes(range(256)) * 4))
    assert error.cause == 'encoding' and 'neither JPEG nor PNG' in str(error)


@pytest.mark.parametrize('form', ['GIF', 'BMP', 'TIFF', 'WEBP', 'PPM'])
def test_only_jpeg_and_png_are_opened(family, form):
    assert refusal(family.compressed(bags.encoded(bags.picture(), form))).cause == 'encoding'


def test_a_picture_that_would_fill_the_memory():
    # A PNG of 40,000 x 40,000 white pixels, a few hundred bytes of it.
    header = struct.pack('>IIBBBBB', 40_000, 40_000, 8, 2, 0, 0, 0)
    data = bags.encoded(bags.picture())
    start = data.index(b'IHDR')
    crc = struct.pack('>I', zlib.crc32(b'IHDR' + header))
    bomb = data[:start] + b'IHDR' + header + crc + data[start + 4 + len(header) + 4:]
    assert refusal(bags.ROSBAGS.compressed(bomb, 'png')).cause == 'corrupt'


@settings(deadline=None, max_examples=250)
@given(st.sampled_from(['JPEG', 'PNG', 'PNG16', 'grey']), st.data())
def test_any_damage_is_decoded_or_refused(kind, data):
    picture = {'JPEG': lambda: bags.encoded(bags.picture(24, 32), 'JPEG'),
               'PNG': lambda: bags.encoded(bags.picture(24, 32)),
               'PNG16': lambda: bags.encoded(bags.picture(24, 32)[..., 0].astype(np.uint16) * 99),
               'grey': lambda: bags.encoded(bags.picture(24, 32)[..., 0], 'JPEG')}[kind]()
    damaged = bytearray(picture)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    damaged = damaged[:data.draw(st.integers(0, len(damaged)))]
    try:
        image = decode_image(bags.ROSBAGS.compressed(damaged, 'jpeg'))
    except MessageError as error:
        assert error.cause in ('data', 'corrupt', 'encoding')
    else:
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'YCbCr', 'I;16'])
def test_a_picture_of_any_mode_becomes_rgb(mode):
    if mode == 'I;16':
        source = Image.fromarray(np.full((2, 3), 65535, np.uint16))
    else:
        source = Image.new('RGB', (3, 2), (255, 255, 255)).convert(mode)
    rgb = photo_to_rgb(source)
    assert rgb.shape == (2, 3, 3) and rgb.dtype == np.uint8 and (rgb == 255).all()


def test_pictures_are_read_from_memory_only(tmp_path):
    # A path in place of a picture is data like any other.
    path = tmp_path / 'picture.png'
    path.write_bytes(bags.encoded(bags.picture()))
    assert refusal(bags.ROSBAGS.compressed(bytes(path), 'png')).cause == 'encoding'
