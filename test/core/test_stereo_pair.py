"""The right camera of a pair, from messages: what is refused, and what belongs together."""
from importlib.util import find_spec
import math
from types import SimpleNamespace

import bags
import numpy as np
import pytest
import stereo

from zoe_ros.anchor.frames import Frames
from zoe_ros.anchor.stereo import PairError, StereoMatcher
from zoe_ros.camera import Camera
from zoe_ros.camera_info import camera_from_info
from zoe_ros.range_anchor import RangeAnchor, ScaleNews
from zoe_ros.settings import AnchorSettings
from zoe_ros.stereo_pair import flaw_of

pytestmark = [
    pytest.mark.skipif(find_spec('cv2') is None, reason='features are matched by OpenCV')]
MILLISECOND = 10 ** 6
LEFT = stereo.texture()
# A floor and a wall, as the network should see them.
DEPTH = np.minimum(3.0, 220 / np.maximum(np.arange(240) - 80, 1))[:, None] * np.ones((1, 320))
DEPTH = DEPTH.astype(np.float32)
RIGHT = stereo.right_view(LEFT, DEPTH)


def header(at=0):
    """Return a header at a time after the start [ns]."""
    return bags.ROSBAGS.header(stamp=bags.START + at)


def right_image(at=0, pixels=RIGHT, **options):
    """Return a right image at a time after the start [ns]."""
    return bags.ROSBAGS.photo(pixels, stamp=bags.START + at, **options)


def paired(info=None, rectified=False):
    """Return an anchor that has heard the CameraInfo of the right camera."""
    anchor = RangeAnchor(AnchorSettings(anchor='stereo'), Frames())
    anchor.pair.hear_info(stereo.info(baseline=stereo.BASELINE) if info is None else info,
                          rectified)
    return anchor


def measure(anchor, at=0, camera=stereo.CAMERA, flaw=''):
    """Return the scale of depth that is too small by 1.25, of a left image."""
    return anchor.measure(DEPTH / np.float32(1.25), 'indoor', header(at), camera, LEFT, flaw)


def test_a_pair_gives_the_scale():
    anchor = paired()
    anchor.pair.hear(right_image())
    scale = measure(anchor)
    assert scale.value == pytest.approx(1.25, rel=0.01)
    assert scale.source == 'stereo' and scale.reason == '' and scale.pairs > 50
    assert 0.005 < scale.deviation < 0.03


def changed(**values):
    """Return the CameraInfo of the right camera with some fields changed."""
    return SimpleNamespace(**{**vars(stereo.info(baseline=stereo.BASELINE)), **values})


def p_of(fx=stereo.FOCAL, fy=stereo.FOCAL, cx=159.5, cy=119.5, tx=-stereo.FOCAL * 0.12):
    """Return a matrix P."""
    return np.array([fx, 0, cx, tx, 0, fy, cy, 0, 0, 0, 1, 0])


def turned(angle):
    """Return a rotation about the axis that points down, (9,)."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([c, 0, s, 0, 1, 0, -s, 0, c])


# A change of CameraInfo, and why it is refused.
WRONG = {
    'distortion': (changed(d=np.array([0.1, 0, 0, 0, 0])),
                   'not rectified: the distortion D of CameraInfo of the right camera'),
    'distortion that is no number': (changed(d=np.full(5, np.nan)), 'not rectified: the dist'),
    'fisheye': (changed(distortion_model='equidistant', d=np.zeros(4)), 'not rectified: the dist'),
    'rotation': (changed(r=turned(0.01)),
                 'not rectified: the rotation R of CameraInfo of the right camera'),
    'no rotation': (changed(r=np.zeros(9)), 'not rectified: the rotation'),
    'K': (changed(k=np.array([281, 0, 159.5, 0, 280, 119.5, 0, 0, 1])),
          'not rectified: the difference of K and P in CameraInfo of the right camera'),
    'another focal length': (changed(k=np.array([300.0, 0, 159.5, 0, 300, 119.5, 0, 0, 1]),
                                     p=p_of(300, 300)),
                             'not rectified: fx fy cx cy of the right camera are 300 300 159.5'),
    'another row': (changed(k=np.array([280.0, 0, 159.5, 0, 280, 121.5, 0, 0, 1]),
                            p=p_of(cy=121.5)), 'not rectified: fx fy cx cy of the right camera'),
    'no baseline': (changed(p=p_of(tx=0.0)), 'baseline: P of the right camera puts it 0 m to the'),
    'the left camera': (changed(p=p_of(tx=33.6)), 'baseline: P of the right camera puts it -0.1'),
    'a baseline in millimetres': (changed(p=p_of(tx=-33600.0)), 'baseline: P of the right camera'),
    'a baseline that is no number': (changed(p=p_of(tx=np.nan)), 'not calibrated: P of the right'),
    'no calibration': (changed(k=np.zeros(9), p=np.zeros(12)), 'not calibrated: P of the right'),
    'another size': (changed(width=640, height=480),
                     'size: CameraInfo of the right camera is for 640 x 480 pixels')}


@pytest.mark.parametrize('name', WRONG)
def test_a_calibration_that_is_refused(name):
    info, reason = WRONG[name]
    anchor = paired(info)
    anchor.pair.hear(right_image())
    scale, news = measure(anchor), ScaleNews()
    assert scale.value == 1 and scale.reason.startswith(reason)
    cause = reason.partition(':')[0]
    assert anchor.counts == {f'stereo: {cause}': 1, f'frames: {cause}': 1}
    assert news.of(scale).startswith(f'the scale of depth is unknown: {reason}')
    assert news.of(measure(anchor)) == ''


def test_matrix_p_counts_where_the_topic_is_rectified():
    # As drivers publish it: CameraInfo describes the raw image, and how to rectify it.
    info = changed(d=np.array([-0.2, 0.05, 0, 0, 0]), r=turned(0.01),
                   k=np.array([300.0, 0, 150, 0, 300, 110, 0, 0, 1]))
    for rectified in (True, False):
        anchor = paired(info, rectified)
        anchor.pair.hear(right_image())
        assert (measure(anchor).reason == '') is rectified


def test_a_left_camera_that_is_not_rectified_is_refused():
    info = stereo.info()
    assert flaw_of(info, False) == '' and flaw_of(None, False) == ''
    info.r = turned(0.02)
    assert flaw_of(info, True) == ''
    anchor = paired()
    anchor.pair.hear(right_image())
    scale = measure(anchor, flaw=flaw_of(info, False))
    assert scale.reason == 'not rectified: the rotation R of CameraInfo of the left camera'


def test_without_camera_info_of_the_right_camera():
    anchor = RangeAnchor(AnchorSettings(anchor='stereo'), Frames())
    anchor.pair.hear(right_image())
    assert measure(anchor).reason == 'no CameraInfo: there is none of the right camera'


def test_binned_images_have_the_same_baseline():
    # CameraInfo states the full resolution, which every second pixel of the image halves.
    info = changed(width=640, height=480, binning_x=2, binning_y=2,
                   k=np.array([560.0, 0, 319, 0, 560, 239, 0, 0, 1]),
                   p=p_of(560, 560, 319, 239, -560 * 0.12))
    anchor = paired(info)
    anchor.pair.hear(right_image())
    assert measure(anchor).value == pytest.approx(1.25, rel=0.01)


@pytest.mark.parametrize('message, cause', [
    (lambda: right_image(pixels=RIGHT[:120]), 'size'),
    (lambda: bags.ROSBAGS.image(b'\0' * 10, *stereo.SIZE, 960, 'rgb8'), 'data'),
    (lambda: bags.ROSBAGS.image(b'\0' * 320 * 240 * 4, *stereo.SIZE, 1280, '32FC1'), 'encoding'),
    (lambda: bags.ROSBAGS.compressed(b'nothing'), 'encoding'),
    (lambda: bags.ROSBAGS.compressed(bags.encoded(RIGHT, 'JPEG')[:3000]), 'corrupt'),
    (lambda: right_image(pixels=0 * RIGHT), 'no match'),
    (lambda: right_image(pixels=stereo.texture(5)), 'no match'),
    (lambda: right_image(pixels=stereo.shifted(RIGHT, rows=1.5)), 'not rectified')])
def test_a_right_image_that_is_refused(message, cause):
    anchor = paired()
    anchor.pair.hear(right_image())
    known = measure(anchor)
    wrong = message()
    wrong.header = header(100 * MILLISECOND)
    anchor.pair.hear(wrong)
    scale = measure(anchor, 100 * MILLISECOND)
    assert scale.value == known.value and scale.deviation > known.deviation
    assert scale.reason.startswith(f'{cause}: ')
    assert anchor.counts[f'stereo: {cause}'] == anchor.counts[f'frames: {cause}'] == 1


@pytest.mark.parametrize('encoding', ['mono8', 'bgr8', 'jpeg', 'png'])
def test_encodings(encoding):
    anchor = paired()
    anchor.pair.hear(right_image(encoding=encoding) if encoding.endswith('8') else
                     bags.ROSBAGS.compressed(bags.encoded(RIGHT, encoding.upper()), encoding))
    assert measure(anchor).value == pytest.approx(1.25, rel=0.01)


def test_only_images_of_one_moment_are_a_pair():
    for late, found in ((0, True), (2, True), (-2, True), (4, False), (33, False)):
        anchor = paired()
        anchor.pair.hear(right_image(late * MILLISECOND))
        scale = measure(anchor)
        assert (scale.reason == '') is found, late
        if not found:
            assert scale.reason == ('no pair: nothing from the right camera within 3 ms of the '
                                    'image')


def test_of_right_images_of_one_stamp_the_last_one_counts():
    anchor = paired()
    for pixels in (0 * RIGHT, RIGHT):
        anchor.pair.hear(right_image(pixels=pixels))
    assert measure(anchor).reason == ''


def test_images_without_stamps_are_no_pair():
    anchor = paired()
    anchor.pair.hear(right_image(-bags.START))
    assert measure(anchor, -bags.START).reason.startswith('stamp: the stamps of its messages are')


def test_the_right_image_of_a_slow_network_is_kept():
    # It comes before or after the image goes into the network, which takes many images.
    for order in ('before', 'after'):
        anchor = paired()
        if order == 'before':
            anchor.pair.hear(right_image())
        anchor.pair.expect(header())
        if order == 'after':
            anchor.pair.hear(right_image())
        for index in range(1, 50):
            anchor.pair.hear(right_image(index * 33 * MILLISECOND, pixels=0 * RIGHT))
        assert measure(anchor).reason == ''
        # Of another moment nothing is kept.
        assert measure(anchor, 5 * 33 * MILLISECOND).reason.startswith('no pair')


def test_right_images_wait_for_their_left_ones():
    pair = paired().pair
    assert not pair.is_behind()             # there is no left image yet
    pair.heard_left(header(100 * MILLISECOND))
    assert pair.is_behind()
    pair.hear(right_image(67 * MILLISECOND))
    assert pair.is_behind()
    pair.hear(right_image(99 * MILLISECOND))    # of the same moment
    assert not pair.is_behind()
    pair.hear(right_image(133 * MILLISECOND))
    assert not pair.is_behind()
    pair.hear(right_image(20 * 10 ** 9))    # far ahead, as after a gap of the left camera
    assert not pair.is_behind()
    pair.heard_left(header(-5 * 10 ** 9))   # a bag starts again
    assert pair.is_behind()


def test_an_image_of_the_end_of_a_bag_holds_nothing_back_when_it_starts_again():
    anchor = paired()
    pair = anchor.pair
    pair.heard_left(header(90 * 10 ** 9))
    pair.hear(right_image(90 * 10 ** 9))
    pair.hear(right_image(0))               # this right image is faster than its left one
    pair.heard_left(header(0))
    assert not pair.is_behind()
    assert measure(anchor).reason == ''
    assert measure(anchor, 90 * 10 ** 9).reason.startswith('no pair'), 'it is of another recording'
    pair.heard_left(header(90 * 10 ** 9))
    pair.hear(right_image(90 * 10 ** 9))
    pair.heard_left(header(0))
    pair.hear(right_image(90 * 10 ** 9 + 33 * MILLISECOND))     # its left one is not in the bag
    assert pair.is_behind()
    pair.hear(right_image(0))
    assert not pair.is_behind()


def test_ten_thousand_malformed_pairs(recwarn):
    # Stamps that go back, numbers that are none, sizes, encodings: no exception, no wrong scale.
    rng = np.random.default_rng(7)
    anchor, good = paired(), stereo.info(baseline=stereo.BASELINE)
    numbers = [math.nan, math.inf, -math.inf, 0.0, -1.0, 1e300, 1e-300]
    measured = 0
    for k in range(10_000):
        at = int(rng.choice([k, k, k, k - 1500, 10 ** 6])) * 10 * MILLISECOND
        image = right_image(at)
        spoil = rng.integers(4)
        if spoil == 1:
            name = str(rng.choice(['width', 'height', 'step']))
            setattr(image, name, int(rng.choice([0, 1, 319, 2 ** 31])))
        elif spoil == 2:
            image.encoding = str(rng.choice(['', '16UC1', 'bayer_rggb8', 'nv12', 'mono16']))
        elif spoil == 3:
            image.data = image.data[:rng.integers(0, len(image.data))]
        info = SimpleNamespace(**vars(good))
        if rng.random() < 0.5:
            name = str(rng.choice(['k', 'p', 'p', 'p', 'r', 'd']))
            value = getattr(info, name).copy() if name != 'd' else np.zeros(5)
            value[rng.choice([3, rng.integers(len(value))])] = rng.choice(numbers)
            setattr(info, name, value)
        info.header = image.header
        anchor.pair.hear_info(info, bool(rng.random() < 0.5))
        anchor.pair.hear(image)
        if k % 10 == 0:
            scale = measure(anchor, k * 10 * MILLISECOND)
            assert scale.value == 1 or abs(scale.value / 1.25 - 1) < 0.02
            measured += scale.reason == ''
    assert measured > 30 and not recwarn.list
    causes = {cause for cause in anchor.counts if cause.startswith('stereo')}
    assert causes >= {'stereo: no pair', 'stereo: data', 'stereo: encoding', 'stereo: size',
                      'stereo: not rectified', 'stereo: not calibrated', 'stereo: baseline'}


def test_the_camera_is_that_of_the_messages():
    assert camera_from_info(stereo.info(), stereo.SIZE, False) == stereo.CAMERA


@pytest.mark.parametrize('size', [(1, 1), (2, 4000), (700, 13), (12, 12), (48, 64)])
def test_images_of_odd_sizes(size):
    camera = Camera(size[1], size[0], 50, 50, size[1] / 2, size[0] / 2)
    left, right = (stereo.texture(seed, size) for seed in (0, 1))
    for baseline in (0.005, 5.0):
        with pytest.raises(PairError, match='features of the left image are in the right one'):
            StereoMatcher().points(left, right, camera, baseline)
