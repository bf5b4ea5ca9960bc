"""From image message to output messages: geometry, headers, and what is said when some lack."""
from dataclasses import replace

import bags
from frames import ALL, BARREL, buffer_of, K, OUTPUTS, P, photo, SIZE
import numpy as np
import pytest
import torch

from zoe_ros import DepthEstimator
from zoe_ros.camera import Camera
from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.cloud import Unprojection
from zoe_ros.colormap import colorize, NO_VALUE
from zoe_ros.images import decode_image, MessageError
from zoe_ros.outputs import CAMERA_INFO, COLORED, DEPTH, MILLIMETRES, POINTS, UNCERTAINTY
from zoe_ros.pipeline import infer_each, infer_together
from zoe_ros.topic_names import is_rectified

# --- geometry -------------------------------------------------------------------------------


@pytest.mark.parametrize('rectified, numbers', [(False, (50, 55, 30.5, 25.25)),
                                                (True, (45, 46, 28, 22))])
def test_points_by_hand(pipeline, family, rectified, numbers):
    # A rectified image has no distortion left, whatever D says.
    info = family.info(*SIZE, k=K, p=P, d=BARREL if rectified else ())
    frame = pipeline(family.types, rectified=rectified, infos=buffer_of(info)).process(
        photo(family), OUTPUTS)
    depth = bags.depth_of(frame.messages[DEPTH])
    points = bags.cloud_points(frame.messages[POINTS])
    fx, fy, cx, cy = numbers
    for row, column in ((0, 0), (0, 63), (47, 0), (47, 63), (20, 33), (5, 60)):
        z = float(depth[row, column])
        assert z > 0
        expected = ((column - cx) / fx * z, (row - cy) / fy * z, z)
        assert np.allclose(points[row, column], expected, rtol=1e-5, atol=1e-7)
    assert frame.no_cloud == ''


def test_points_of_a_distorted_camera(pipeline, family):
    info = family.info(*SIZE, k=K, p=P, d=BARREL)
    frame = pipeline(family.types, infos=buffer_of(info)).process(photo(family), OUTPUTS)
    points = bags.cloud_points(frame.messages[POINTS]).astype(np.float64)
    assert np.array_equal(points[..., 2], bags.depth_of(frame.messages[DEPTH]))
    # Bend the points as the lens does, by the formulas of the manual: back on their pixels.
    x, y = points[..., 0] / points[..., 2], points[..., 1] / points[..., 2]
    k1, k2, p1, p2, _ = BARREL
    r2 = x ** 2 + y ** 2
    radial = 1 + k1 * r2 + k2 * r2 ** 2
    u = 50 * (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x ** 2)) + 30.5
    v = 55 * (y * radial + p1 * (r2 + 2 * y ** 2) + 2 * p2 * x * y) + 25.25
    rows, columns = np.mgrid[:48, :64]
    assert np.abs(u - columns).max() < 1e-3 and np.abs(v - rows).max() < 1e-3
    # While a pinhole camera would be pixels off.
    assert np.abs(x * 50 + 30.5 - columns).max() > 1


@pytest.mark.parametrize('every', [1, 2, 3, 5, 33, 64])
def test_downsample(pipeline, every):
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K, d=BARREL))
    whole, cloud = (
        pipeline(point_cloud_downsample=n, infos=infos).process(photo(), OUTPUTS).messages[POINTS]
        for n in (1, every))
    assert (cloud.height, cloud.width) == (-(-48 // every), -(-64 // every))
    assert cloud.row_step == 16 * cloud.width
    values = np.frombuffer(bytes(whole.data), '<u4').reshape(48, 64, 4)[::every, ::every]
    assert values.tobytes() == bytes(cloud.data)


def test_colours_of_the_cloud_are_the_pixels(pipeline):
    for encoding in ('rgb8', 'bgr8', 'mono8'):
        message = bags.ROSBAGS.photo(bags.picture(*SIZE), encoding)
        frame = pipeline(infos=buffer_of(bags.ROSBAGS.info(*SIZE))).process(message, OUTPUTS)
        cloud = frame.messages[POINTS]
        packed = np.frombuffer(bytes(cloud.data), '<u4').reshape(48, 64, 4)[..., 3]
        colors = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1)
        assert np.array_equal(colors, decode_image(message))
        assert np.array_equal(frame.image, decode_image(message))


def test_depth_is_that_of_the_estimator(pipeline, tiny_estimator, family):
    frame = pipeline(family.types).process(photo(family), OUTPUTS)
    expected = tiny_estimator.predict(bags.picture(*SIZE))
    assert bytes(frame.messages[DEPTH].data) == expected.depth.tobytes()
    assert frame.head == expected.head
    assert frame.head_probabilities == pytest.approx(expected.head_probabilities, abs=1e-6)
    assert frame.depth.dtype == np.float32
    assert frame.depth.tobytes() == expected.depth.tobytes()


def test_both_clients_give_the_same_bytes(pipeline):
    outputs = []
    for family in (bags.ROSBAGS, bags.rclpy_family()):
        infos = buffer_of(family.info(*SIZE, k=K, d=BARREL))
        frame = pipeline(family.types, point_cloud_downsample=3, infos=infos).process(
            photo(family), ALL)
        outputs.append({name: bytes(frame.messages[name].data)
                        for name in ALL if name != CAMERA_INFO})
    assert outputs[0] == outputs[1]


# --- headers --------------------------------------------------------------------------------


def test_stamp_and_frame_are_those_of_the_image(pipeline, family):
    stamp, frame_id = 12 * bags.SECOND + 345, 'left_eye'
    early = family.info(*SIZE, stamp=stamp - 5000, frame=frame_id)
    before = family.to_bytes(early)
    message = photo(family, stamp=stamp, frame=frame_id)
    frame = pipeline(family.types, infos=buffer_of(early)).process(message, ALL)
    assert set(frame.messages) == set(ALL)
    for output in frame.messages.values():
        assert bags.key(output) == (stamp, frame_id)
    # The one that is remembered keeps its own stamp.
    assert family.to_bytes(early) == before
    assert frame.messages[CAMERA_INFO] is not early


def test_camera_info_is_handed_on_as_it_is(pipeline, family):
    info = family.info(*SIZE, k=K, p=P, d=BARREL)
    frame = pipeline(family.types, point_cloud_downsample=4, infos=buffer_of(info)).process(
        photo(family), OUTPUTS)
    # The header is the same here, so all of it is. The cloud is smaller, the depth image is not.
    assert family.to_bytes(frame.messages[CAMERA_INFO]) == family.to_bytes(info)


# --- without a usable camera ----------------------------------------------------------------


def test_without_camera_info(pipeline):
    several = buffer_of(*(bags.ROSBAGS.info(*SIZE, frame=frame) for frame in ('one', 'other')))
    for infos in (CameraInfoBuffer(), several):
        frame = pipeline(infos=infos).process(photo(), OUTPUTS)
        assert np.isfinite(bags.depth_of(frame.messages[DEPTH])).all()
        assert set(frame.messages) == {DEPTH}
        assert 'no CameraInfo' in frame.no_cloud


@pytest.mark.parametrize('fault, reason', [
    ({'k': (0,) * 9}, 'not calibrated'),
    ({'k': (np.nan,) * 9}, 'not calibrated'),
    ({'k': K, 'd': (0.1,), 'model': 'magic'}, "distortion model 'magic'"),
    ({'k': K, 'd': (0.1,) * 12, 'model': 'rational_polynomial'}, 'at most 8'),
    ({'size': (24, 32), 'k': K}, 'CameraInfo is for 32 x 24 pixels, the image has 64 x 48'),
    ({'size': (64, 48), 'k': K}, 'CameraInfo is for 48 x 64 pixels')])
def test_without_a_usable_camera_there_is_depth_and_a_reason(pipeline, family, fault, reason):
    height, width = fault.get('size', SIZE)
    camera = {name: value for name, value in fault.items() if name != 'size'}
    info = family.info(height, width, **camera)
    frame = pipeline(family.types, infos=buffer_of(info)).process(photo(family), OUTPUTS)
    assert set(frame.messages) == {DEPTH, CAMERA_INFO} and reason in frame.no_cloud
    assert np.isfinite(bags.depth_of(frame.messages[DEPTH])).all()
    assert np.array_equal(bags.depth_of(frame.messages[DEPTH]), frame.depth)
    # Handed on as it is: one of another size is not made to look as if it fitted.
    assert family.to_bytes(frame.messages[CAMERA_INFO]) == family.to_bytes(info)


def test_a_rectified_image_needs_p_only(pipeline):
    info = bags.ROSBAGS.info(*SIZE, k=K, d=(0.1,), model='magic', p=(0,) * 12)
    frame = pipeline(rectified=True, infos=buffer_of(info)).process(photo(), OUTPUTS)
    assert 'not calibrated' in frame.no_cloud
    info = bags.ROSBAGS.info(*SIZE, k=(0,) * 9, d=(0.1,), model='magic', p=P)
    frame = pipeline(rectified=True, infos=buffer_of(info)).process(photo(), OUTPUTS)
    assert set(frame.messages) == set(OUTPUTS)


def test_rays_that_do_not_exist_are_nan_in_the_cloud(pipeline):
    # An equidistant lens that sees more than half of the world: corners beyond 90 degrees.
    info = bags.ROSBAGS.info(*SIZE, k=(20, 0, 31.5, 0, 20, 23.5, 0, 0, 1), d=(1e-9, 0, 0, 0),
                             model='equidistant')
    frame = pipeline(infos=buffer_of(info)).process(photo(), OUTPUTS)
    points = bags.cloud_points(frame.messages[POINTS])
    rows, columns = np.mgrid[:48, :64]
    angle = np.hypot(columns - 31.5, rows - 23.5) / 20
    missing = np.isnan(points)
    assert (missing.any(axis=-1) == missing.all(axis=-1)).all()
    assert missing[angle > np.pi / 2 + 0.01].all() and not missing[angle < np.pi / 2 - 0.01].any()
    assert np.isfinite(bags.depth_of(frame.messages[DEPTH])).all()     # which needs no ray
    assert frame.messages[POINTS].is_dense is False


def test_a_bad_image_is_refused(pipeline):
    bad = bags.ROSBAGS.image(bytes(10), 4, 4, 12, 'rgb8')
    with pytest.raises(MessageError):
        pipeline().process(bad, OUTPUTS)


def test_a_camera_that_changes(pipeline):
    second = 10 * bags.SECOND
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K, stamp=0),
                      bags.ROSBAGS.info(*SIZE, k=(0,) * 9, stamp=second),
                      bags.ROSBAGS.info(*SIZE, k=(90, *K[1:]), stamp=2 * second),
                      bags.ROSBAGS.info(24, 32, k=K, stamp=3 * second),
                      bags.ROSBAGS.info(*SIZE, k=K, stamp=4 * second))
    pipe = pipeline(infos=infos)
    frames = [pipe.process(photo(size=size, stamp=i * second), OUTPUTS)
              for i, size in enumerate((SIZE, SIZE, SIZE, (24, 32), SIZE))]
    assert [POINTS in frame.messages for frame in frames] == [True, False, True, True, True]
    for frame, fx in ((frames[0], 50), (frames[2], 90), (frames[3], 50), (frames[4], 50)):
        points = bags.cloud_points(frame.messages[POINTS])
        ray = points[0, 0, 0] / points[0, 0, 2]
        assert ray == pytest.approx(-30.5 / fx, rel=1e-5)
    assert bytes(frames[4].messages[POINTS].data) == bytes(frames[0].messages[POINTS].data)


def test_a_scene_of_known_depth(pipeline, tiny_estimator):
    # What the cloud holds is the depth image seen through the camera, point by point.
    info = bags.ROSBAGS.info(**bags.HALLWAY)
    frame = pipeline(point_cloud_downsample=8, infos=buffer_of(info)).process(
        photo(size=(480, 640)), OUTPUTS)
    camera = Camera(640, 480, 210.24, 211.48, 318.5, 252.5, 'plumb_bob', bags.HALLWAY['d'])
    depth = torch.from_numpy(tiny_estimator.predict(bags.picture(480, 640)).depth)
    expected = Unprojection.from_camera(camera)(depth)[::8, ::8].numpy()
    assert np.array_equal(bags.cloud_points(frame.messages[POINTS]), expected)


# --- which outputs --------------------------------------------------------------------------


@pytest.mark.parametrize('wanted', [(), *((name,) for name in ALL), (DEPTH, POINTS),
                                    (MILLIMETRES, COLORED, CAMERA_INFO), ALL])
def test_only_what_is_wanted_is_made(pipeline, wanted):
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K))
    for kind in (tuple, set, list):
        frame = pipeline(infos=infos).process(photo(), kind(wanted))
        assert set(frame.messages) == set(wanted)
        assert frame.depth.shape == SIZE and frame.no_cloud == ''
    assert {type(name) for name in ALL} == {str} and len(set(ALL)) == 6


def test_names_of_the_outputs():
    assert ALL == ('depth/image', 'depth/camera_info', 'depth/points', 'depth/image_raw',
                   'depth/image_colored', 'depth/uncertainty')


def test_one_output_does_not_change_another(pipeline, family):
    infos = buffer_of(family.info(*SIZE, k=K, d=BARREL))
    whole = pipeline(family.types, infos=infos).process(photo(family), ALL)
    for name in ALL:
        alone = pipeline(family.types, infos=infos).process(photo(family), (name,))
        if name == CAMERA_INFO:
            assert family.to_bytes(alone.messages[name]) == family.to_bytes(whole.messages[name])
        else:
            assert bytes(alone.messages[name].data) == bytes(whole.messages[name].data)
        assert alone.depth.tobytes() == whole.depth.tobytes()


def test_depth_images_need_no_camera(pipeline):
    frame = pipeline().process(photo(), ALL)
    assert set(frame.messages) == {DEPTH, MILLIMETRES, COLORED, UNCERTAINTY}


def test_what_a_frame_tells_besides(pipeline):
    infos = buffer_of(bags.ROSBAGS.info(*SIZE))
    assert 'cloud' not in pipeline(infos=infos).process(photo(), (DEPTH,)).seconds
    frame = pipeline(infos=infos).process(photo(), OUTPUTS)
    assert set(frame.seconds) == {'decode', 'network', 'images', 'cloud'}
    assert all(0 < seconds < 60 for seconds in frame.seconds.values())
    assert frame.depth.shape == SIZE and frame.depth.dtype == np.float32
    assert sum(frame.head_probabilities.values()) == pytest.approx(1)
    assert frame.head == max(frame.head_probabilities, key=frame.head_probabilities.get)


@pytest.mark.parametrize('k', [(5e-324, 0, 30, 0, 1e-30, 25, 0, 0, 1),
                               (50, 0, 30, 0, 1e-300, 25, 0, 0, 1),
                               (1e300, 0, 1e300, 0, 1e300, 25, 0, 0, 1)])
def test_an_absurd_focal_length_makes_no_point_at_the_camera_or_at_infinity(pipeline, k):
    chosen = pipeline(focal_correction=True, infos=buffer_of(bags.ROSBAGS.info(*SIZE, k=k)))
    with np.errstate(all='ignore'):
        frame = chosen.process(photo(), ALL)
    assert not (frame.depth <= 0).any()
    points = bags.cloud_points(frame.messages[POINTS])
    assert not np.isinf(points).any()
    missing = np.isnan(points)
    np.testing.assert_array_equal(missing.any(axis=-1), missing.all(axis=-1))


# --- several images together ----------------------------------------------------------------


@pytest.fixture
def afraid_of_the_dark(tiny_weights):
    """Return an estimator whose encoder fails on batches with a black image, and a log."""
    estimator = DepthEstimator.load('tiny', tiny_weights, device='cpu')
    batches = []

    def fail_on_black(module, arguments):
        batches.append(len(arguments[0]))
        if any(image.max() <= image.min() for image in arguments[0]):
            raise RuntimeError('dark')

    estimator.model.backbone.register_forward_pre_hook(fail_on_black)
    return estimator, batches


@pytest.mark.parametrize('count, dark', [(2, (1,)), (4, (1,)), (4, (0, 2)), (4, (0, 1, 2, 3))])
def test_one_bad_image_of_a_batch_costs_no_other(count, dark, pipeline, afraid_of_the_dark):
    estimator, batches = afraid_of_the_dark
    images = [bags.picture(*SIZE, seed=i) * (i not in dark) for i in range(count)]
    pipelines = [pipeline(estimator=estimator) for _ in images]
    prepared = [one.prepare(bags.ROSBAGS.photo(image), (DEPTH,))
                for one, image in zip(pipelines, images)]
    results = infer_each(estimator, prepared)
    assert batches == [count] + [1] * count
    for i, (image, result) in enumerate(zip(images, results)):
        if i in dark:
            assert isinstance(result, RuntimeError) and str(result) == 'dark'
            assert result.__traceback__ is None, 'it would hold on to the memory of the network'
        else:
            alone, = estimator.infer([image])
            assert torch.equal(result.depth, alone.depth)


def test_good_images_go_through_together(pipeline, afraid_of_the_dark):
    estimator, batches = afraid_of_the_dark
    prepared = [pipeline(estimator=estimator).prepare(photo(), (DEPTH,))
                for _ in range(3)]
    assert all(not isinstance(result, Exception) for result in infer_each(estimator, prepared))
    assert batches == [3]
    assert infer_each(estimator, []) == []


def test_one_camera_of_a_batch_may_want_the_uncertainty(pipeline, tiny_estimator):
    pipelines = [pipeline() for _ in range(2)]
    prepared = [one.prepare(photo(), wanted)
                for one, wanted in zip(pipelines, [(DEPTH,), (DEPTH, UNCERTAINTY)])]
    nets = infer_together(tiny_estimator, prepared)
    frames = [one.finish(item, net, 0.0) for one, item, net in zip(pipelines, prepared, nets)]
    assert [sorted(frame.messages) for frame in frames] == [[DEPTH], [DEPTH, UNCERTAINTY]]


def test_millimetres_are_those_of_the_depth_image(pipeline):
    frame = pipeline(min_depth=1, max_depth=3, max_relative_uncertainty=0.4).process(
        photo(), ALL)
    depth = bags.depth_of(frame.messages[DEPTH]).astype(np.float64)
    message = frame.messages[MILLIMETRES]
    assert (message.encoding, message.height, message.width) == ('16UC1', *SIZE)
    millimetres = np.frombuffer(bytes(message.data), '<u2').reshape(SIZE)
    within = np.isfinite(depth)
    assert np.abs(millimetres[within] - 1000 * depth[within]).max() < 0.501
    assert (millimetres[np.isnan(depth) | np.isneginf(depth)] == 0).all()
    assert (millimetres[np.isposinf(depth)] == 65535).all()
    assert np.isnan(depth).any() and np.isneginf(depth).any() and np.isposinf(depth).any()


def test_colours_have_a_range_that_does_not_follow_the_scene(pipeline):
    table = {}
    pipe = pipeline(color_min_depth=1, color_max_depth=2, min_depth=0.8,
                    max_relative_uncertainty=0.4)
    for seed, scale in ((0, 1.0), (1, 1.3), (2, 1.7)):
        pipe.settings = replace(pipe.settings, depth_scale=scale)
        message = bags.ROSBAGS.photo(bags.picture(*SIZE, seed=seed))
        frame = pipe.process(message, ALL)
        colored = frame.messages[COLORED]
        assert (colored.encoding, colored.height, colored.width) == ('rgb8', *SIZE)
        pixels = np.frombuffer(bytes(colored.data), np.uint8).reshape(*SIZE, 3)
        assert np.array_equal(pixels, colorize(frame.depth, 1, 2))
        assert (pixels[np.isnan(frame.depth)] == NO_VALUE).all()
        # Nearer and farther than the range have the colours of its ends.
        with np.errstate(invalid='ignore'):
            assert len(np.unique(pixels[frame.depth <= 1], axis=0)) <= 1
            assert len(np.unique(pixels[frame.depth >= 2], axis=0)) == 1
        for depth, color in zip(frame.depth.ravel(), pixels.reshape(-1, 3)):
            if np.isfinite(depth):
                table.setdefault(round(float(np.log(depth)), 6), set()).add(tuple(color))
    # The same depth, the same colour, in whatever picture; but for the limit between two.
    assert sum(len(colors) > 1 for colors in table.values()) < 0.01 * len(table)


# --- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize('topic', [
    '/camera/image_rect', '/camera/image_rect_color', '/camera/image_rect/compressed',
    'image_rect', '/stereo/left/rect/image', '/camera/infra1/image_rect_raw',
    '/camera/image_rectified',
    '/rectified/image', '/camera/rect_image', '/camera/image_undistorted', '/undistort/image'])
def test_names_of_rectified_topics(topic):
    assert is_rectified(topic)


@pytest.mark.parametrize('topic', [
    '/camera/image_raw', '/camera/image_raw/compressed', '/image', '/direct/image',
    '/rectangle/image', '/camera/image_rectangle', '/correct/image', '/camera/imagerect',
    '/direction_rectory/image', '/camera/image_distorted', '/undistortion/image'])
def test_names_of_other_topics(topic):
    assert not is_rectified(topic)
