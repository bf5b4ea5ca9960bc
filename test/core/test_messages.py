"""Messages to arrays and back: byte layouts by hand, malformed input, and other readers' view."""
import importlib
import itertools
import struct
import time
import tracemalloc
import warnings
import zlib

import bags
from hypothesis import example, given, HealthCheck, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from zoe_ros.messages import (
    camera_from_info,
    camera_info_message,
    CameraInfoBuffer,
    cloud_message,
    color_message,
    decode_image,
    depth_message,
    MessageError,
    millimetre_message,
    photo_to_rgb,
)

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


@pytest.fixture(params=['rosbags', 'rclpy'])
def family(request):
    """Return the message classes of either client."""
    return bags.ROSBAGS if request.param == 'rosbags' else bags.rclpy_family()


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


# --- cv_bridge ------------------------------------------------------------------------------


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
def test_fast_encodings_agree_with_cv_bridge(encoding):
    bridge = importlib.import_module('cv_bridge').CvBridge()
    family = bags.rclpy_family()
    size = SAMPLE_BYTES[encoding]
    data = np.random.default_rng(0).integers(0, 256, (24, 32 * size), np.uint8)
    # cv_bridge's own limit: a step that is no multiple of the pixel size gives wrong rows.
    padded = np.pad(data, ((0, 0), (0, 2 * size)))
    for rows in (data, padded):
        message = family.image(rows.tobytes(), 24, 32, rows.shape[1], encoding)
        theirs = bridge.imgmsg_to_cv2(message, 'rgb8')
        assert np.array_equal(decode_image(message), theirs)


@pytest.mark.parametrize('encoding, other', [('8UC3', 'bgr8'), ('8UC4', 'bgra8'),
                                             ('8UC1', 'mono8')])
def test_nameless_encodings_are_opencvs(family, encoding, other):
    size = SAMPLE_BYTES[encoding]
    data = np.random.default_rng(0).integers(0, 256, 4 * 5 * size, np.uint8).tobytes()
    ours = decode_image(family.image(data, 4, 5, 5 * size, encoding))
    assert np.array_equal(ours, decode_image(family.image(data, 4, 5, 5 * size, other)))


# --- depth images and clouds ----------------------------------------------------------------

DEPTH = np.array([[0.5, 1.0, np.nan], [80.0, 1e-3, 2.5]], np.float32)
POINTS = np.stack([DEPTH * 2, DEPTH * 3, DEPTH], axis=-1)
COLORS = np.array([[(1, 2, 3), (0, 0, 0), (255, 255, 255)],
                   [(255, 0, 0), (0, 255, 0), (0, 0, 255)]], np.uint8)


def test_depth_image_by_hand(family):
    header = family.header(stamp=5 * bags.SECOND + 6, frame='eye')
    message = depth_message(family.types, header, DEPTH)
    assert (message.height, message.width, message.encoding) == (2, 3, '32FC1')
    assert (message.step, message.is_bigendian) == (12, 0)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (5, 6)
    assert message.header.frame_id == 'eye'
    assert bytes(message.data) == struct.pack('<6f', *DEPTH.ravel())


def test_depth_image_of_another_memory_order(family):
    # As a flipped or big-endian array would come.
    for depth in (np.asfortranarray(DEPTH), DEPTH.astype('>f4'), DEPTH[::-1][::-1],
                  DEPTH.astype(np.float64)):
        message = depth_message(family.types, family.header(), depth)
        assert bytes(message.data) == struct.pack('<6f', *DEPTH.ravel())


def test_millimetres_by_hand(family):
    header = family.header(stamp=5 * bags.SECOND + 6, frame='eye')
    depth = np.array([[1.0, 0.25, np.nan, np.inf], [-np.inf, 65.535, 65.536, 1000.0]], np.float32)
    message = millimetre_message(family.types, header, depth)
    assert (message.height, message.width, message.encoding) == (2, 4, '16UC1')
    assert (message.step, message.is_bigendian) == (8, 0)
    assert (message.header.stamp.nanosec, message.header.frame_id) == (6, 'eye')
    assert bytes(message.data) == struct.pack('<8H', 1000, 250, 0, 65535, 0, 65535, 65535, 65535)


@pytest.mark.parametrize('metres, millimetres', [
    (0.0, 0), (0.0004, 0), (0.0006, 1), (0.0014, 1), (0.0016, 2), (1.2344, 1234), (1.2346, 1235),
    (65.5344, 65534), (65.5346, 65535), (65.5354, 65535), (65.5356, 65535), (1e30, 65535),
    (-1.0, 0), (-1e30, 0), (0.256, 256), (0.255, 255)])
def test_millimetres_are_rounded_and_never_wrap(family, metres, millimetres):
    for kind in (np.float32, np.float64, '>f4'):
        message = millimetre_message(family.types, family.header(), np.array([[metres]], kind))
        # Little endian: the low byte first.
        assert bytes(message.data) == bytes([millimetres % 256, millimetres // 256])


@slow
@given(st.lists(st.one_of(st.floats(-1e6, 1e6).map(np.float32).map(float),
                          st.sampled_from([np.inf, -np.inf, np.nan])), min_size=1, max_size=50))
def test_millimetres_of_any_depth(values):
    depth = np.array([values], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        before = depth.tobytes()
        message = millimetre_message(bags.ROSBAGS.types, bags.ROSBAGS.header(), depth)
    assert depth.tobytes() == before
    for metres, stored in zip(values, np.frombuffer(bytes(message.data), '<u2').tolist()):
        if np.isnan(metres) or metres <= 0:
            assert stored == 0
        elif metres > 65.535:
            assert stored == 65535
        else:
            assert abs(stored - 1000 * metres) <= 0.5 + 0.01


def test_depth_images_of_a_slice_and_of_another_memory_order(family):
    depth = np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::3]
    whole = np.ascontiguousarray(depth)
    for make in (depth_message, millimetre_message):
        expected = bytes(make(family.types, family.header(), whole).data)
        for same in (depth, np.asfortranarray(whole), whole.astype('>f4')):
            assert bytes(make(family.types, family.header(), same).data) == expected


def test_colour_image_by_hand(family):
    header = family.header(stamp=5 * bags.SECOND + 6, frame='eye')
    message = color_message(family.types, header, COLORS)
    assert (message.height, message.width, message.encoding) == (2, 3, 'rgb8')
    assert (message.step, message.is_bigendian) == (9, 0)
    assert (message.header.stamp.nanosec, message.header.frame_id) == (6, 'eye')
    assert bytes(message.data) == bytes(
        [1, 2, 3, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    # And it is read back as what it is.
    assert np.array_equal(decode_image(message), COLORS)
    sliced = color_message(family.types, header, np.repeat(COLORS, 2, axis=1)[:, ::2])
    assert bytes(sliced.data) == bytes(message.data)


def test_cloud_by_hand(family):
    message = cloud_message(family.types, family.header(frame='eye'), POINTS, COLORS)
    assert message.header.frame_id == 'eye'
    assert (message.height, message.width) == (2, 3)
    assert (message.point_step, message.row_step) == (16, 48)
    assert message.is_bigendian is False and message.is_dense is False
    fields = [(f.name, f.offset, f.datatype, f.count) for f in message.fields]
    assert fields == [('x', 0, 7, 1), ('y', 4, 7, 1), ('z', 8, 7, 1), ('rgb', 12, 7, 1)]
    data = bytes(message.data)
    assert len(data) == 2 * 48
    for row, column in itertools.product(range(2), range(3)):
        point = data[row * 48 + column * 16:][:16]
        assert np.array_equal(np.frombuffer(point[:12], '<f4'), POINTS[row, column],
                              equal_nan=True)
        # 0x00RRGGBB, little endian.
        red, green, blue = COLORS[row, column].tolist()
        assert point[12:] == bytes([blue, green, red, 0])


def test_cloud_without_colours_by_hand(family):
    message = cloud_message(family.types, family.header(frame='eye'), POINTS, None)
    assert (message.height, message.width) == (2, 3)
    assert (message.point_step, message.row_step) == (12, 36)
    assert message.is_bigendian is False and message.is_dense is False
    fields = [(f.name, f.offset, f.datatype, f.count) for f in message.fields]
    assert fields == [('x', 0, 7, 1), ('y', 4, 7, 1), ('z', 8, 7, 1)]
    assert np.array_equal(np.frombuffer(bytes(message.data), '<f4').reshape(2, 3, 3), POINTS,
                          equal_nan=True)


def test_cloud_of_a_slice(family):
    points, colors = np.repeat(POINTS, 2, axis=1), np.repeat(COLORS, 2, axis=1)
    sliced = cloud_message(family.types, family.header(), points[:, ::2], colors[:, ::2])
    whole = cloud_message(family.types, family.header(), POINTS, COLORS)
    assert bytes(sliced.data) == bytes(whole.data)


def outputs(family):
    """Return one message of each kind that we publish."""
    header = family.header(stamp=bags.START + 123, frame='eye')
    info = family.info(**bags.HALLWAY)
    return [depth_message(family.types, header, DEPTH),
            millimetre_message(family.types, header, DEPTH),
            color_message(family.types, header, COLORS),
            cloud_message(family.types, header, POINTS, COLORS),
            cloud_message(family.types, header, POINTS, None),
            camera_info_message(family.types, header, info),
            camera_info_message(family.types, header, info, (100, 210))]


def test_both_clients_publish_the_same_bytes():
    rclpy = bags.rclpy_family()
    for ours, theirs in zip(outputs(bags.ROSBAGS), outputs(rclpy)):
        by_rosbags, by_rclpy = bags.ROSBAGS.to_bytes(ours), rclpy.to_bytes(theirs)
        assert len(by_rosbags) == len(by_rclpy)
        # rclpy leaves what happens to be in memory in the gaps before aligned numbers.
        read = bags.TYPESTORE.deserialize_cdr(by_rclpy, ours.__msgtype__)
        assert bags.ROSBAGS.to_bytes(read) == by_rosbags


def test_packing_is_much_faster_than_assigning_an_array():
    family = bags.rclpy_family()
    image = np.zeros((480, 640), np.float32)     # 1.2 MB

    def seconds(assign):
        message = family.types.image()
        start = time.perf_counter()
        assign(message)
        return time.perf_counter() - start

    def packed(message):
        message.data = family.types.pack(image)

    def direct(message):
        message.data = image.reshape(-1).view(np.uint8)

    assert min(seconds(direct) for _ in range(3)) > 20 * min(seconds(packed) for _ in range(3))


def test_sensor_msgs_py_reads_our_clouds():
    point_cloud2 = pytest.importorskip('sensor_msgs_py.point_cloud2')
    family = bags.rclpy_family()
    message = cloud_message(family.types, family.header(), POINTS, COLORS)
    # Its own reshape_organized_cloud takes (width, height): common_interfaces issue 236.
    points = point_cloud2.read_points(message).reshape(2, 3)
    for i, name in enumerate('xyz'):
        assert np.array_equal(points[name], POINTS[..., i], equal_nan=True)
    packed = points['rgb'].view(np.uint32)
    for i, shift in enumerate((16, 8, 0)):
        assert np.array_equal(packed >> shift & 255, COLORS[..., i])
    plain = cloud_message(family.types, family.header(), POINTS, None)
    for cloud in (message, plain):
        whole = point_cloud2.read_points_numpy(cloud, ['x', 'y', 'z'], skip_nans=True)
        assert len(whole) == 5
    assert point_cloud2.read_points(plain).dtype.names == ('x', 'y', 'z')


@needs_cv_bridge
def test_cv_bridge_reads_our_depth_images():
    bridge = importlib.import_module('cv_bridge').CvBridge()
    family = bags.rclpy_family()
    message = depth_message(family.types, family.header(), DEPTH)
    for encoding in ('passthrough', '32FC1'):
        theirs = bridge.imgmsg_to_cv2(message, encoding)
        assert theirs.dtype == np.float32
        assert np.array_equal(theirs, DEPTH, equal_nan=True)


# --- CameraInfo -----------------------------------------------------------------------------


def test_camera_info_is_a_copy_under_another_header(family):
    info = family.info(**bags.HALLWAY, stamp=bags.START, frame='old')
    before = family.to_bytes(info)
    copy = camera_info_message(
        family.types, family.header(stamp=bags.START + 5, frame='new'), info)
    assert copy.header.frame_id == 'new' and copy.header.stamp.nanosec == 5
    assert family.to_bytes(info) == before
    copy.header.frame_id = 'newer'
    copy.width = 3
    assert family.to_bytes(info) == before
    back = camera_info_message(family.types, info.header, copy)
    back.width = info.width
    assert family.to_bytes(back) == before


def info_with_region(family, **region):
    """Return a CameraInfo of 640 x 480 in which every number is another one."""
    info = family.info(480, 640, k=(501, 7, 311, 0, 502, 242, 0, 0, 1), d=bags.HALLWAY['d'],
                       p=(401, 8, 312, -41, 0, 402, 243, 17, 0, 0, 1, 0))
    for name, value in region.items():
        setattr(info.roi, name, value)
    return info


@pytest.mark.parametrize('size', [(240, 320), (96, 320), (480, 64), (960, 1280), (384, 512)])
def test_camera_info_of_another_size_by_hand(family, size):
    info = info_with_region(family, x_offset=64, y_offset=40, width=320, height=200,
                            do_rectify=True)
    before = family.to_bytes(info)
    header = family.header(stamp=bags.START + 5, frame='new')
    small = camera_info_message(family.types, header, info, size)
    sy, sx = size[0] / 480, size[1] / 640
    assert (small.height, small.width) == size
    assert bags.key(small) == (bags.START + 5, 'new')
    assert np.asarray(small.k) == pytest.approx(
        np.array([501 * sx, 7 * sx, 311 * sx, 0, 502 * sy, 242 * sy, 0, 0, 1]))
    assert np.asarray(small.p) == pytest.approx(np.array(
        [401 * sx, 8 * sx, 312 * sx, -41 * sx, 0, 402 * sy, 243 * sy, 17 * sy, 0, 0, 1, 0]))
    # The lens and the turn of a stereo pair know no pixels.
    assert tuple(small.d) == bags.HALLWAY['d'] and np.array_equal(small.r, info.r)
    assert small.distortion_model == 'plumb_bob' and (small.binning_x, small.binning_y) == (0, 0)
    roi = small.roi
    assert (roi.x_offset, roi.width) == (round(64 * sx), round(320 * sx))
    assert (roi.y_offset, roi.height) == (round(40 * sy), round(200 * sy))
    assert all(type(n) is int for n in (roi.x_offset, roi.y_offset, roi.width, roi.height))
    assert roi.do_rectify is True
    # The original is left as it is, whatever becomes of the copy.
    assert family.to_bytes(info) == before
    small.k[0] = small.p[0] = 5.0
    small.roi.width = 3
    assert family.to_bytes(info) == before
    # A message that can be sent, and a camera like any other.
    assert family.to_bytes(small)
    assert camera_from_info(info, (480, 640), rectified=False)


def test_camera_info_of_another_size_sees_the_same(family):
    info = family.info(**bags.HALLWAY, p=(100, 0, 10, 0, 0, 110, 20, 0, 0, 0, 1, 0))
    small = camera_info_message(family.types, info.header, info, (120, 320))
    for rectified in (False, True):
        one = camera_from_info(info, (480, 640), rectified).rays
        other = camera_from_info(small, (120, 320), rectified).rays
        # Pixel (j, i) of the small image is (2 j, 4 i) of the large one.
        assert np.allclose(other, one[::4, ::2], atol=1e-5, equal_nan=True)


def test_camera_info_of_the_same_size_is_the_same_to_the_bit(family):
    info = info_with_region(family, x_offset=3, width=5)
    for size in (None, (480, 640)):
        copy = camera_info_message(family.types, info.header, info, size)
        assert copy is not info and family.to_bytes(copy) == family.to_bytes(info)


def test_camera_of_takes_k_and_the_distortion(family):
    info = family.info(**bags.HALLWAY, p=(100, 0, 10, 0, 0, 110, 20, 0, 0, 0, 1, 0))
    camera = camera_from_info(info, (480, 640), rectified=False)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (210.24, 211.48, 318.5, 252.5)
    assert camera.distortion == bags.HALLWAY['d'] and camera.model == 'plumb_bob'
    assert (camera.width, camera.height) == (640, 480)


def test_camera_of_a_rectified_image_takes_p(family):
    info = family.info(**bags.HALLWAY, p=(100, 0, 10, 0, 0, 110, 20, 0, 0, 0, 1, 0))
    camera = camera_from_info(info, (480, 640), rectified=True)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (100, 110, 10, 20)
    assert camera.distortion == ()


def test_camera_of_errors(family):
    good = family.info(**bags.HALLWAY)
    with pytest.raises(ValueError, match='640 x 480 pixels, the image has 320 x 240'):
        camera_from_info(good, (240, 320), rectified=False)
    zeros = family.info(480, 640, k=(0,) * 9)
    for rectified in (False, True):
        with pytest.raises(ValueError, match='not calibrated'):
            camera_from_info(zeros, (480, 640), rectified)
    broken = family.info(480, 640, k=(np.nan, 0, 1, 0, 1, 1, 0, 0, 1))
    with pytest.raises(ValueError, match='not calibrated'):
        camera_from_info(broken, (480, 640), rectified=False)
    unknown = family.info(480, 640, d=(0.1, 0.2), model='lens_of_1850')
    with pytest.raises(ValueError, match='lens_of_1850'):
        camera_from_info(unknown, (480, 640), rectified=False)
    # Rectified images do not care.
    assert camera_from_info(unknown, (480, 640), rectified=True).distortion == ()
    # And neither does a pinhole camera whose driver left the name out.
    assert camera_from_info(family.info(480, 640, model=''), (480, 640), rectified=False).fx == 576


def at(seconds, frame='eye', width=1):
    """Return a CameraInfo that can be told by its width."""
    return bags.ROSBAGS.info(1, width, stamp=seconds * bags.SECOND, frame=frame)


def found(buffer, seconds, frame='eye'):
    """Return the width of the CameraInfo that the buffer finds."""
    info = buffer.find(bags.ROSBAGS.header(stamp=seconds * bags.SECOND, frame=frame))
    return None if info is None else info.width


def test_camera_info_by_stamp_and_frame():
    buffer = CameraInfoBuffer()
    assert found(buffer, 5) is None
    for seconds in (30, 10, 20):        # in any order
        buffer.add(at(seconds, width=seconds))
    buffer.add(at(20, frame='other', width=99))
    assert found(buffer, 20) == 20      # the same stamp
    assert found(buffer, 20, 'other') == 99
    assert found(buffer, 25) == 20      # the latest that is not younger
    assert found(buffer, 31) == 30
    assert found(buffer, 9) == 10       # before the first one
    assert found(buffer, 20, 'third') is None
    buffer.add(at(20, width=7))         # corrected
    assert found(buffer, 20) == 7


def test_camera_info_buffer_forgets_the_oldest():
    buffer = CameraInfoBuffer(capacity=3)
    for seconds in range(10, 15):
        buffer.add(at(seconds, width=seconds))
    assert [found(buffer, s) for s in (10, 11, 12, 13, 14)] == [12, 12, 12, 13, 14]
    endless = CameraInfoBuffer(capacity=None)
    for seconds in range(200):
        endless.add(at(seconds, width=seconds + 1))
    assert found(endless, 0) == 1


def test_camera_info_is_kept_as_it_is():
    info = at(1, width=5)
    before = bags.ROSBAGS.to_bytes(info)
    buffer = CameraInfoBuffer()
    buffer.add(info)
    assert buffer.find(info.header) is info
    assert bags.ROSBAGS.to_bytes(info) == before


def test_pictures_are_read_from_memory_only(tmp_path):
    # A path in place of a picture is data like any other.
    path = tmp_path / 'picture.png'
    path.write_bytes(bags.encoded(bags.picture()))
    assert refusal(bags.ROSBAGS.compressed(bytes(path), 'png')).cause == 'encoding'
