"""``zoe run --anchor stereo``: depth of a bag at the scale of its second camera."""
from importlib.util import find_spec

import bags
import numpy as np
import pytest
from runs import DEPTH
import stereo

pytestmark = [
    pytest.mark.skipif(find_spec('cv2') is None, reason='features are matched by OpenCV')]
COUNT, FACTOR = 4, 1.3
# A right image is often recorded after its left one.
LATE = 5 * 10 ** 6      # [ns]
STEREO = ('--anchor', 'stereo')


def left_images(name='/left/image_rect'):
    """Return the messages of the left camera."""
    messages = []
    for index, stamp in enumerate(bags.stamps(COUNT)):
        messages += [(f'{name.rpartition("/")[0]}/camera_info', stereo.info(stamp), stamp),
                     (name, bags.ROSBAGS.photo(stereo.texture(index), stamp=stamp), stamp + 1)]
    return messages


@pytest.fixture
def predicted(zoe, tmp_path):
    """Return the depth of each image without an anchor [m]."""
    path = bags.write_bag(tmp_path / 'plain', left_images())
    return [bags.depth_of(message) for _, message in zoe(path, to=tmp_path / 'before').bag[DEPTH]]


def right_images(predicted, name='/right/image_rect', info=None):
    """Return the messages of a right camera that sees FACTOR times the predicted depth."""
    messages = []
    for index, (depth, stamp) in enumerate(zip(predicted, bags.stamps(COUNT), strict=True)):
        pixels = stereo.right_view(stereo.texture(index), FACTOR * depth)
        own = stereo.info(stamp, stereo.BASELINE) if info is None else info(stamp)
        messages += [(f'{name.rpartition("/")[0]}/camera_info', own, stamp + LATE),
                     (name, bags.ROSBAGS.photo(pixels, stamp=stamp), stamp + LATE)]
    return messages


def recorded(path, *messages):
    """Write a bag with messages in their order of recording."""
    return bags.write_bag(path, sorted((m for part in messages for m in part),
                                       key=lambda item: item[2]))


@pytest.mark.parametrize('left, right', [
    ('/left/image_rect', '/right/image_rect'),
    ('/stereo/left/image_raw', '/stereo/right/image_raw')])
def test_depth_comes_to_the_scale_of_the_pair(zoe, tmp_path, predicted, left, right):
    path = recorded(tmp_path / 'bag', left_images(left), right_images(predicted, right))
    ran = zoe(path, *STEREO, '--topic', left)
    assert (ran.code, ran.err) == (0, '')
    for plain, (_, message) in zip(predicted, ran.bag[DEPTH], strict=True):
        assert np.allclose(bags.depth_of(message), FACTOR * plain, rtol=0.01)
    found = ran.summary['anchor']
    assert found['topics'] == [right] and found['frames_measured'] == COUNT
    assert found['scale_p50'] == pytest.approx(FACTOR, rel=0.005)
    assert ' by stereo (' in ran.out


def test_images_that_are_also_compressed_are_those_of_one_camera(zoe, tmp_path, predicted):
    both = []
    for topic, message, at in right_images(predicted):
        both.append((topic, message, at))
        if topic == '/right/image_rect':
            packed = bags.ROSBAGS.compressed(
                bags.encoded(message.data.reshape(*stereo.SIZE, 3)), 'png',
                stamp=at - LATE)
            both.append((f'{topic}/compressed', packed, at))
    ran = zoe(recorded(tmp_path / 'bag', left_images(), both), *STEREO, '--topic',
              '/left/image_rect')
    assert ran.summary['anchor']['topics'] == ['/right/image_rect']
    assert ran.summary['anchor']['frames_measured'] == COUNT


def test_a_raw_image_beside_a_rectified_one_is_refused(zoe, tmp_path, predicted):
    # CameraInfo of both has the distortion that the right image still shows.
    def distorted(stamp):
        info = stereo.info(stamp, stereo.BASELINE)
        info.d = np.array([-0.2, 0.05, 0, 0, 0])
        return info

    path = recorded(tmp_path / 'bag', left_images(),
                    right_images(predicted, '/right/image_raw', distorted))
    ran = zoe(path, *STEREO, '--topic', '/left/image_rect')
    reason = 'not rectified: the distortion D of CameraInfo of the right camera'
    assert ran.out.count(f'the scale of depth is unknown: {reason}') == 1
    found = ran.summary['anchor']
    assert found['frames_measured'] == 0
    assert found['left_out'] == {'stereo: not rectified': COUNT, 'frames: not rectified': COUNT}
    for plain, (_, message) in zip(predicted, ran.bag[DEPTH], strict=True):
        assert np.array_equal(bags.depth_of(message), plain)
    # The same images on a rectified topic are a pair.
    path = recorded(tmp_path / 'other', left_images(), right_images(predicted, info=distorted))
    again = zoe(path, *STEREO, '--topic', '/left/image_rect', to=tmp_path / 'again')
    assert again.summary['anchor']['frames_measured'] == COUNT


def test_a_left_camera_that_is_not_rectified(zoe, tmp_path, predicted):
    messages = left_images('/left/image_raw')
    for _, message, _ in messages[::2]:
        message.r = np.array([0.8, 0, 0.6, 0, 1, 0, -0.6, 0, 0.8])
    path = recorded(tmp_path / 'bag', messages, right_images(predicted))
    ran = zoe(path, *STEREO, '--topic', '/left/image_raw')
    assert ('is unknown: not rectified: the rotation R of CameraInfo of the left camera'
            in ran.out)


def test_a_lens_that_is_covered_for_a_while(zoe, tmp_path, predicted):
    messages = right_images(predicted)
    for _, message, _ in messages[3:6:2]:   # the second and third image
        message.data = 0 * message.data
    ran = zoe(recorded(tmp_path / 'bag', left_images(), messages), *STEREO, '--topic',
              '/left/image_rect')
    found = ran.summary['anchor']
    assert found['frames_measured'] == 2 and found['left_out']['stereo: no match'] == 2
    for plain, (_, message) in zip(predicted, ran.bag[DEPTH], strict=True):
        assert np.allclose(bags.depth_of(message), FACTOR * plain, rtol=0.01)
    assert ran.out.count('the scale of depth stays at 1.300: no match: 0 of ') == 1


def test_damaged_messages_are_counted(zoe, tmp_path, predicted):
    messages = sorted((*left_images(), *right_images(predicted)), key=lambda item: item[2])
    cut = [index for index, (name, *_) in enumerate(messages) if name == '/right/image_rect'][1]
    path = bags.write_bag(tmp_path / 'bag', messages, cut=[cut])
    found = zoe(path, *STEREO, '--topic', '/left/image_rect').summary['anchor']
    assert found['frames_measured'] == COUNT - 1
    assert found['left_out']['stereo: corrupt'] == found['left_out']['stereo: no pair'] == 1


@pytest.mark.parametrize('others, options, text', [
    ((), (), "anchor 'stereo' needs a topic of sensor_msgs/msg/Image with CameraInfo; the bag has "
             'none'),
    (('/right/image_rect', '/rear/image_rect'), (),
     'the bag has /rear/image_rect, /right/image_rect: choose one by --anchor-topic'),
    (('/right/image_rect',), ('--anchor-topic', '/left/image_rect'),
     "anchor 'stereo' needs a topic of sensor_msgs/msg/Image with CameraInfo, which "
     '/left/image_rect is not; the bag has /right/image_rect'),
    (('/right/image_rect',), ('--anchor-transform', '0 0 0 0 0 0 1', '--anchor', 'stereo+radar'),
     "parameter 'anchor' is 'stereo+radar', not none or one of scan, points, depth, stereo, "
     "odometry, or several joined by '+'")])
def test_what_cannot_be_a_pair_is_refused(refused, tmp_path, others, options, text):
    path = recorded(tmp_path / 'bag', left_images(), *(left_images(name) for name in others))
    assert text in refused(path, *STEREO, '--topic', '/left/image_rect', *options)


def test_one_of_several_right_cameras(zoe, tmp_path, predicted):
    path = recorded(tmp_path / 'bag', left_images(), left_images('/rear/image_rect'),
                    right_images(predicted))
    found = zoe(path, *STEREO, '--topic', '/left/image_rect', '--anchor-topic',
                '/right/image_rect').summary['anchor']
    assert found['topics'] == ['/right/image_rect'] and found['frames_measured'] == COUNT
