"""``scale_time_constant``: the depth of a video, multiplied by one number in each frame."""
import bags
import numpy as np
import pytest
from robot_messages import transform_of
from runs import DEPTH, POINTS

from zoe_ros.anchor.frames import Frames
from zoe_ros.anchor.steady import samples, SteadyScale
from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.camera_depth import for_anchor, for_steadying
from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.outputs import DEPTH as DEPTH_OUTPUT
from zoe_ros.pipeline import infer_together, Pipeline
from zoe_ros.settings import FrameSettings

COUNT, SIZE = 8, (48, 64)


def video():
    """Return the messages of a camera that stands still before a scene whose light changes."""
    messages, rng = bags.camera_messages(COUNT, size=SIZE), np.random.default_rng(0)
    found = []
    for topic, message, at in messages:
        if topic == '/camera/image_raw':
            noise = rng.normal(rng.normal(0, 8), 3, (*SIZE, 3))
            pixels = np.clip(bags.picture(*SIZE) + noise, 0, 255).astype(np.uint8)
            header = message.header
            message = bags.ROSBAGS.photo(pixels, 'rgb8')
            message.header = header
        found.append((topic, message, at))
    return found


def scales(found):
    """Return the log of the median of each depth image."""
    return np.log([np.median(bags.depth_of(message)) for _, message in found[DEPTH]])


@pytest.fixture
def path(tmp_path):
    """Return the video as a bag."""
    return bags.write_bag(tmp_path / 'bag', video())


def test_depth_and_clouds_are_steadied_by_one_factor(zoe, tmp_path, path):
    plain = zoe(path, to=tmp_path / 'plain')
    ran = zoe(path, '--scale-time-constant', '2')
    assert (ran.code, ran.err) == (0, '')
    assert ran.summary['steady'] == {'started_again': {}}
    assert 'anchor' not in ran.summary and 'steady' not in plain.summary
    assert scales(ran.bag)[2:].std() < 0.6 * scales(plain.bag)[2:].std()
    factors = []
    for topic, read in ((DEPTH, bags.depth_of), (POINTS, bags.cloud_points)):
        for (_, before), (_, after) in zip(plain.bag[topic], ran.bag[topic], strict=True):
            ratio = read(after) / read(before)
            ratio = ratio[np.isfinite(ratio)]
            assert np.ptp(ratio) < 1e-5
            factors.append(ratio[0])
    assert factors[:COUNT] == pytest.approx(factors[COUNT:], rel=1e-5)
    assert factors[0] == 1 and np.ptp(factors) > 0.01


def test_the_motion_of_the_robot_is_read_from_the_bag(zoe, tmp_path):
    messages = video()
    for index, stamp in enumerate(bags.stamps(COUNT)):
        pose = transform_of('odom', bags.FRAME, [0.01 * index, 0, 0, 0, 0, 0, 1])
        pose.transforms[0].header.stamp = bags.ROSBAGS.header(stamp=stamp).stamp
        messages.append(('/tf', pose, bags.recorded(COUNT)[index] - 1000))
    messages.sort(key=lambda item: item[2])
    ran = zoe(bags.write_bag(tmp_path / 'bag', messages),
              '--scale-time-constant', '2', to=tmp_path / 'a')
    still = zoe(bags.write_bag(tmp_path / 'still', video()), '--scale-time-constant', '2',
                to=tmp_path / 'b')
    assert ran.code == 0
    # The way makes the filter forget.
    assert not np.allclose(scales(ran.bag), scales(still.bag), rtol=1e-4)


@pytest.mark.parametrize('info, reason', [
    ('/camera/camera_info', 'neither TF nor odometry tells where it was'),
    (None, 'there is no CameraInfo')])
def test_a_camera_whose_motion_is_not_known_is_told_once(zoe, tmp_path, info, reason):
    messages = bags.camera_messages(14, size=SIZE, info=info)
    images = [message for topic, message, _ in messages if topic == '/camera/image_raw']
    for index, message in enumerate(images):
        pixels = np.roll(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8), index, 1)
        message.data = pixels.ravel()
    ran = zoe(bags.write_bag(tmp_path / 'bag', messages), '--scale-time-constant', '2')
    assert ran.summary['steady']['started_again'] == {'motion unknown': 13}
    told = f'scale_time_constant has no effect while the camera moves: {reason}'
    assert ran.out.count(told) == 1


def test_a_pipeline_steadies_as_a_run_does(tiny_estimator, zoe, path):
    ran = zoe(path, '--scale-time-constant', '2')
    infos = CameraInfoBuffer()
    infos.add(next(message for topic, message, _ in video() if topic.endswith('info')))
    pipeline = Pipeline(tiny_estimator, BAG_TYPES, FrameSettings(), infos, False,
                        steady=SteadyScale(2.0, Frames()))
    images = [message for topic, message, _ in video() if topic == '/camera/image_raw']
    for image, (_, expected) in zip(images, ran.bag[DEPTH], strict=True):
        frame = pipeline.process(image, (DEPTH_OUTPUT,))
        assert np.array_equal(bags.depth_of(frame.messages[DEPTH_OUTPUT]),
                              bags.depth_of(expected))
    assert frame.steadying != 1


@pytest.mark.parametrize('view', ['as_is', 'training'])
def test_the_pixels_that_are_compared_are_those_of_the_image(tiny_estimator, view):
    # The view has a size of its own.
    for pad in (False, True):
        estimator = DepthEstimator(tiny_estimator.model, pad=pad)
        infos = CameraInfoBuffer()
        infos.add(bags.ROSBAGS.info(240, 321, (300, 0, 160, 0, 300, 120, 0, 0, 1)))
        pipeline = Pipeline(estimator, BAG_TYPES, FrameSettings(camera_view=view), infos, False)
        prepared = pipeline.prepare(bags.ROSBAGS.photo(bags.picture(240, 321), 'rgb8'), ())
        net = infer_together(estimator, [prepared])[0]
        at = samples(240, 321)
        assert np.array_equal(for_steadying(net, 1.5, prepared.view),
                              for_anchor(net, 1.5, prepared.view)[at.rows[:, None], at.columns],
                              equal_nan=True)


def test_images_have_no_video(zoe, tmp_path):
    photo = tmp_path / 'photo.png'
    photo.write_bytes(bags.encoded(bags.picture()))
    ran = zoe(photo, '--scale-time-constant', '1')
    assert ran.code == 0
    assert 'no effect of scale_time_constant: image files are no video' in ran.out
