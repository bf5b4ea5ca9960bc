"""Depth as colour: readable in grey, stated in range, honest about what is missing."""
import numpy as np
import pytest

from zoe_ros.colormap import colorize, NO_VALUE


def lightness(colors):
    """Return CIE L* of sRGB colours, (...), 0 ... 100."""
    share = colors / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def test_lightness_falls_from_near_to_far():
    grey = lightness(colorize(np.geomspace(0.5, 20, 256), 0.5, 20))
    steps = np.diff(grey)
    assert (steps <= 0.05).all()            # the rounding of colours aside
    assert grey[0] > 90 and grey[-1] < 10
    # Evenly: no step is a jump, and each eighth of the range can be told from the next.
    assert -steps.min() < 4 * (grey[0] - grey[-1]) / 255
    assert (np.diff(grey[::32]) < -4).all()


def test_scale_is_logarithmic():
    near, middle, far = colorize(np.array([1.0, 4.0, 16.0]), 1, 16)
    ramp = colorize(np.geomspace(1, 16, 257), 1, 16)
    assert np.array_equal(middle, ramp[128])
    assert np.array_equal(near, ramp[0]) and np.array_equal(far, ramp[-1])


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_no_value_is_grey(dtype):
    depth = np.array([[1, np.nan], [np.nan, 3]], dtype)
    colors = colorize(depth, 0.5, 10)
    assert colors.shape == (2, 2, 3) and colors.dtype == np.uint8
    assert colors[0, 1].tolist() == list(NO_VALUE) == colors[1, 0].tolist()
    assert colors[0, 0].tolist() != list(NO_VALUE)
    # No depth is painted in that colour.
    ramp = colorize(np.geomspace(0.5, 10, 5000), 0.5, 10)
    assert not (ramp == NO_VALUE).all(axis=-1).any()


def test_outside_of_the_range_are_the_colours_of_its_ends():
    near, far = colorize(np.array([0.5, 10.0]), 0.5, 10)
    assert np.array_equal(colorize(np.array([0.1, 1e-6, 0.0]), 0.5, 10), [near] * 3)
    assert np.array_equal(colorize(np.array([11.0, 1e9, np.inf]), 0.5, 10), [far] * 3)


def test_a_depth_has_one_colour_whatever_else_is_in_the_picture():
    alone = colorize(np.array([[2.0]]), 0.5, 10)[0, 0]
    for others in (0.6, 9.0, np.nan, 1000.0):
        crowd = np.full((5, 5), others)
        crowd[2, 3] = 2.0
        assert np.array_equal(colorize(crowd, 0.5, 10)[2, 3], alone)
    assert not np.array_equal(colorize(np.array([[2.0]]), 0.5, 4)[0, 0], alone)


def test_depth_is_left_as_it_is():
    depth = np.array([0.1, np.nan, 5, np.inf])
    before = depth.copy()
    colorize(depth, 0.5, 10)[:] = 0
    assert np.array_equal(depth, before, equal_nan=True)
    assert colorize(np.array([0.5]), 0.5, 10).any()     # nor is the table overwritten
