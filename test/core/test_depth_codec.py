"""Depth as image_transport compresses it: ours by another reader, and that of others by ours."""
import struct

import bags
import compressed_depth
import numpy as np
import pytest

from zoe_ros.images import decode_depth, is_depth, MessageError
from zoe_ros.messages import compressed_depth_message

# Width, height and 3 x 4 samples as RvlCodec of compressed_depth_image_transport writes them.
RVL = bytes.fromhex('04000000030000002dd28f23bdad12c1f3ffbff301e4ac1200000000')
SAMPLES = np.array([[0, 0, 700, 701], [650, 0, 65535, 1], [0, 1234, 1234, 0]], np.uint16)


def header(scale=0.0, offset=0.0):
    """Return the plugin's header with the parameters of its quantisation."""
    return struct.pack('<iff', 0, scale, offset)


def test_depth_is_read_back_to_half_a_millimetre(family):
    # Smooth depth, a step, and noise: the filters of PNG differ from row to row.
    v, u = np.mgrid[:40, :70]
    depth = (1.5 + 0.01 * u + 0.3 * np.sin(v / 9)).astype(np.float32)
    depth[10:20, 30:] *= 7
    depth[25:30] = np.random.default_rng(0).uniform(0.1, 60, (5, 70))
    depth[35, ::2] = np.nan
    header = family.header(stamp=1_500_000_000)
    message = compressed_depth_message(family.types, header, depth)
    assert message.header == header and is_depth(message)
    found = compressed_depth.read(message)
    assert np.array_equal(np.isnan(found), np.isnan(depth))
    assert np.nanmax(np.abs(found - depth)) <= 0.0005 + 1e-6
    assert len(family.to_bytes(message)) < 0.6 * depth.nbytes


def test_what_is_no_depth_is_invalid(family):
    # By REP 118, 0 is invalid depth; there is no value for "too far".
    values = [np.nan, np.inf, -np.inf, 0, -1, 0.0004, 65.536, 70, 1e30, 0.0006, 65.535, 65.5349]
    depth = np.array([values], np.float32)
    message = compressed_depth_message(family.types, family.header(), depth)
    found = compressed_depth.read(message)[0]
    assert np.isnan(found[:9]).all()
    assert found[9:].tolist() == [0.001, 65.535, 65.535]


def test_ours_is_read_back_by_us(family):
    depth = np.array([[np.nan, 0.0015, 1.5], [70, 65.534, 2]], np.float32)
    message = compressed_depth_message(family.types, family.header(), depth)
    expected = np.where(depth > 65.5349, np.nan, depth)
    assert decode_depth(message) == pytest.approx(expected, abs=6e-4, nan_ok=True)


@pytest.mark.parametrize('form', ['compressedDepth png', 'compressedDepth', 'compressedDepth rvl'])
def test_millimetres_of_the_plugin(family, form):
    data = RVL if form.endswith('rvl') else bags.encoded(SAMPLES)
    depth = decode_depth(family.compressed(header() + data, f'16UC1; {form}'))
    expected = np.where((SAMPLES == 0) | (SAMPLES == 65535), np.nan, SAMPLES / 1000)
    assert depth.dtype == np.float32 and depth == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize('form', ['compressedDepth png', 'compressedDepth rvl'])
def test_metres_of_the_plugin_are_a_quantised_inverse(family, form):
    # The plugin's defaults: best resolution at 100 m, farthest depth 10 m.
    scale, offset = 100 * 101.0, 1 - 100 * 101.0 / 10
    data = RVL if form.endswith('rvl') else bags.encoded(SAMPLES)
    depth = decode_depth(family.compressed(header(scale, offset) + data, f'32FC1; {form}'))
    expected = np.where(SAMPLES == 0, np.nan, scale / (SAMPLES.astype(float) - offset))
    assert depth == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert np.nanmax(depth) == pytest.approx(10)        # of the value 1


def test_parameters_of_no_quantisation_give_no_depth(family):
    for scale, offset in ((np.nan, 0), (1, np.nan), (0, 0), (1, 70000), (np.inf, 1)):
        message = family.compressed(header(scale, offset) + bags.encoded(SAMPLES),
                                    '32FC1; compressedDepth png')
        assert np.isnan(decode_depth(message)).all()


def test_a_picture_without_any_depth(family):
    # A covered lens: one word of RVL, last byte first. 640 x 480 is 0o1130000, so the numbers are
    # 8 8 8 8 B 9 1 for these zeros, and 0 for no other samples.
    data = struct.pack('<II', 640, 480) + bytes.fromhex('8888B910')[::-1]
    depth = decode_depth(family.compressed(header() + data, '16UC1; compressedDepth rvl'))
    assert depth.shape == (480, 640) and np.isnan(depth).all()


def test_as_many_zeros_as_samples_by_hand(family):
    # The numbers 1 (zeros), 1 (samples), 10 (5 more than before): 001, 001, and 010 001, of which
    # each group of bits but the last of a number has a 1 before it.
    data = struct.pack('<II', 2, 1) + bytes.fromhex('11A10000')[::-1]
    depth = decode_depth(family.compressed(header() + data, '16UC1; compressedDepth rvl'))
    assert np.allclose(depth, [[np.nan, 0.005]], rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.parametrize('form', ['png', 'rvl'])
def test_damaged_depth_is_refused_or_depth(family, form):
    data = header() + (RVL if form == 'rvl' else bags.encoded(SAMPLES))
    random, refused = np.random.default_rng(0), 0
    for _ in range(500):
        damaged = bytearray(data)
        for at in random.integers(len(data), size=3):
            damaged[at] = random.integers(256)
        cut = bytes(damaged[:random.integers(len(data) + 1)])
        try:
            depth = decode_depth(family.compressed(cut, f'16UC1; compressedDepth {form}'))
            assert depth.ndim == 2 and not (depth <= 0).any()
        except MessageError as error:
            assert error.cause == 'corrupt'
            refused += 1
    assert refused > 300


def test_photographs_are_no_depth(family):
    for picture in (bags.picture(), bags.picture()[..., 0]):
        message = family.compressed(header() + bags.encoded(picture), '16UC1; compressedDepth png')
        with pytest.raises(MessageError, match='16 bits of depth'):
            decode_depth(message)
