"""CameraInfo that goes back and forth between views is noticed."""
from dataclasses import replace

import pytest

from zoe_ros.camera import Camera
from zoe_ros.remarks import Views

WIDE = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
NARROW = replace(WIDE, fx=120.0, fy=120.0)
ZOOM = [replace(WIDE, fx=60.0 * 1.1 ** k, fy=60.0 * 1.1 ** k) for k in range(20)]


@pytest.mark.parametrize('cameras, told', [
    ([WIDE, NARROW] * 10, True),
    ([WIDE, WIDE, NARROW] * 6, True),
    ([WIDE, None, NARROW, None] * 5, True),
    ([WIDE, replace(WIDE, fx=60.5, fy=60.5)] * 10, False),      # an autofocus
    (ZOOM, False),
    (ZOOM + ZOOM[::-1], False),
    ([WIDE] * 9 + [NARROW] * 9 + [WIDE] * 9, False)],
    ids=['two drivers', 'uneven', 'unknown between', 'autofocus', 'zoom', 'zoom and back',
         'another region for a while'])
def test_a_view_that_goes_back_and_forth_is_told(cameras, told):
    views = Views()
    texts = [text for text in map(views.of, cameras) if text]
    assert bool(texts) is told
    if told:
        assert 'fx 60, cx 31.5, cy 23.5' in texts[0] and 'fx 120' in texts[0]
        assert [views.of(WIDE) for _ in range(10)][-1] == ''
