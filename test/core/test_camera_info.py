"""CameraInfo: under another header, at another size, as a camera, and found by its stamp."""
import bags
import numpy as np
import pytest

from zoe_ros.camera_info import camera_from_info, CameraInfoBuffer
from zoe_ros.messages import camera_info_message


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


def test_camera_info_that_is_sent_again_is_not_the_oldest():
    buffer = CameraInfoBuffer(capacity=2)
    for seconds in (10, 20, 10, 30):
        buffer.add(at(seconds, width=seconds))
    assert [found(buffer, s) for s in (10, 20, 30)] == [10, 10, 30]


def test_camera_info_is_kept_as_it_is():
    info = at(1, width=5)
    before = bags.ROSBAGS.to_bytes(info)
    buffer = CameraInfoBuffer()
    buffer.add(info)
    assert buffer.find(info.header) is info
    assert bags.ROSBAGS.to_bytes(info) == before
