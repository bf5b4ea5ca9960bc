"""From image message to output messages: geometry, headers, and what is said when some lack."""
from dataclasses import replace
import math
import warnings

import bags
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from zoe_ros import DepthEstimator
from zoe_ros.camera import Camera
from zoe_ros.cloud import Unprojection
from zoe_ros.colormap import colorize, NO_VALUE
from zoe_ros.inference.preprocess import plan_sizes, to_pixels
from zoe_ros.messages import camera_from_info, CameraInfoBuffer, decode_image, MessageError
from zoe_ros.model.config import VARIANTS
from zoe_ros.pipeline import (
    CAMERA_INFO,
    COLORED,
    DEPTH,
    focal_factor,
    head_config,
    infer_each,
    is_rectified,
    MILLIMETRES,
    Pipeline,
    POINTS,
    UNCERTAINTY,
)
from zoe_ros.settings import FrameSettings

SIZE = (48, 64)
# fx, fy, cx, cy of the CameraInfo here.
K = (50, 0, 30.5, 0, 55, 25.25, 0, 0, 1)
P = (45, 0, 28, 0, 0, 46, 22, 0, 0, 0, 1, 0)
BARREL = (-0.2, 0.05, 0.001, -0.002, 0)
OUTPUTS = (DEPTH, CAMERA_INFO, POINTS)
ALL = (*OUTPUTS, MILLIMETRES, COLORED, UNCERTAINTY)
# As the published evaluation does: what DepthEstimator.predict returns, bit for bit.
PUBLISHED = FrameSettings(
    interpolation='linear', router_time_constant=0, point_cloud_downsample=1)


@pytest.fixture(autouse=True, scope='module')
def single_thread():
    """Let torch use one thread: with two this small model mostly waits on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=['rosbags', 'rclpy'])
def family(request):
    """Return the message classes of either client."""
    return bags.ROSBAGS if request.param == 'rosbags' else bags.rclpy_family()


@pytest.fixture
def pipeline(tiny_estimator):
    """Return a function that makes a pipeline on the tiny model; settings on top of PUBLISHED."""
    def made(types=bags.ROSBAGS.types, rectified=False, estimator=tiny_estimator, **settings):
        return Pipeline(estimator, types, replace(PUBLISHED, **settings), rectified)

    return made


def buffer_of(*infos):
    """Return a buffer with these CameraInfo."""
    buffer = CameraInfoBuffer()
    for info in infos:
        buffer.add(info)
    return buffer


def photo(family=bags.ROSBAGS, size=SIZE, **header):
    """Return an image message."""
    return family.photo(bags.picture(*size), **header)


# --- geometry -------------------------------------------------------------------------------


@pytest.mark.parametrize('rectified, numbers', [(False, (50, 55, 30.5, 25.25)),
                                                (True, (45, 46, 28, 22))])
def test_points_by_hand(pipeline, family, rectified, numbers):
    # A rectified image has no distortion left, whatever D says.
    info = family.info(*SIZE, k=K, p=P, d=BARREL if rectified else ())
    frame = pipeline(family.types, rectified=rectified).process(
        photo(family), buffer_of(info), OUTPUTS)
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
    frame = pipeline(family.types).process(photo(family), buffer_of(info), OUTPUTS)
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
        pipeline(point_cloud_downsample=n).process(photo(), infos, OUTPUTS).messages[POINTS]
        for n in (1, every))
    assert (cloud.height, cloud.width) == (-(-48 // every), -(-64 // every))
    assert cloud.row_step == 16 * cloud.width
    values = np.frombuffer(bytes(whole.data), '<u4').reshape(48, 64, 4)[::every, ::every]
    assert values.tobytes() == bytes(cloud.data)


def test_colours_of_the_cloud_are_the_pixels(pipeline):
    for encoding in ('rgb8', 'bgr8', 'mono8'):
        message = bags.ROSBAGS.photo(bags.picture(*SIZE), encoding)
        frame = pipeline().process(message, buffer_of(bags.ROSBAGS.info(*SIZE)), OUTPUTS)
        cloud = frame.messages[POINTS]
        packed = np.frombuffer(bytes(cloud.data), '<u4').reshape(48, 64, 4)[..., 3]
        colors = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1)
        assert np.array_equal(colors, decode_image(message))
        assert np.array_equal(frame.image, decode_image(message))


def test_depth_is_that_of_the_estimator(pipeline, tiny_estimator, family):
    frame = pipeline(family.types).process(photo(family), CameraInfoBuffer(), OUTPUTS)
    expected = tiny_estimator.predict(bags.picture(*SIZE))
    assert bytes(frame.messages[DEPTH].data) == expected.depth.tobytes()
    assert frame.head == expected.head
    assert frame.head_probabilities == pytest.approx(expected.head_probabilities, abs=1e-6)
    assert frame.depth.dtype == np.float32
    assert frame.depth.tobytes() == expected.depth.tobytes()


def test_both_clients_give_the_same_bytes(pipeline):
    outputs = []
    for family in (bags.ROSBAGS, bags.rclpy_family()):
        frame = pipeline(family.types, point_cloud_downsample=3).process(
            photo(family), buffer_of(family.info(*SIZE, k=K, d=BARREL)), ALL)
        outputs.append({name: bytes(frame.messages[name].data)
                        for name in ALL if name != CAMERA_INFO})
    assert outputs[0] == outputs[1]


# --- headers --------------------------------------------------------------------------------


def test_stamp_and_frame_are_those_of_the_image(pipeline, family):
    stamp, frame_id = 12 * bags.SECOND + 345, 'left_eye'
    early = family.info(*SIZE, stamp=stamp - 5000, frame=frame_id)
    before = family.to_bytes(early)
    message = photo(family, stamp=stamp, frame=frame_id)
    frame = pipeline(family.types).process(message, buffer_of(early), ALL)
    assert set(frame.messages) == set(ALL)
    for output in frame.messages.values():
        assert bags.key(output) == (stamp, frame_id)
    # The one that is remembered keeps its own stamp.
    assert family.to_bytes(early) == before
    assert frame.messages[CAMERA_INFO] is not early


def test_camera_info_is_handed_on_as_it_is(pipeline, family):
    info = family.info(*SIZE, k=K, p=P, d=BARREL)
    frame = pipeline(family.types, point_cloud_downsample=4).process(
        photo(family), buffer_of(info), OUTPUTS)
    # The header is the same here, so all of it is. The cloud is smaller, the depth image is not.
    assert family.to_bytes(frame.messages[CAMERA_INFO]) == family.to_bytes(info)


# --- without a usable camera ----------------------------------------------------------------


def test_without_camera_info(pipeline):
    for infos in (CameraInfoBuffer(), buffer_of(bags.ROSBAGS.info(*SIZE, frame='other'))):
        frame = pipeline().process(photo(), infos, OUTPUTS)
        assert np.isfinite(bags.depth_of(frame.messages[DEPTH])).all()
        assert set(frame.messages) == {DEPTH}
        assert 'no CameraInfo' in frame.no_cloud


@pytest.mark.parametrize('fault, reason', [
    ({'k': (0,) * 9}, 'not calibrated'),
    ({'k': (np.nan,) * 9}, 'not calibrated'),
    ({'k': K, 'd': (0.1,), 'model': 'magic'}, "distortion model 'magic'"),
    ({'k': K, 'd': (0.1,) * 12, 'model': 'rational_polynomial'}, 'at most 8'),
    ({'size': (24, 32), 'k': K}, 'CameraInfo is for 32 x 24 pixels, the image has 64 x 48'),
    ({'size': (64, 48), 'k': K}, 'CameraInfo is for 48 x 64 pixels'),
    ({'size': (0, 0), 'k': (0,) * 9}, 'CameraInfo is for 0 x 0 pixels')])
def test_without_a_usable_camera_there_is_depth_and_a_reason(pipeline, family, fault, reason):
    height, width = fault.get('size', SIZE)
    camera = {name: value for name, value in fault.items() if name != 'size'}
    info = family.info(height, width, **camera)
    frame = pipeline(family.types).process(photo(family), buffer_of(info), OUTPUTS)
    assert set(frame.messages) == {DEPTH, CAMERA_INFO} and reason in frame.no_cloud
    assert np.isfinite(bags.depth_of(frame.messages[DEPTH])).all()
    assert np.array_equal(bags.depth_of(frame.messages[DEPTH]), frame.depth)
    # Handed on as it is: one of another size is not made to look as if it fitted.
    assert family.to_bytes(frame.messages[CAMERA_INFO]) == family.to_bytes(info)


def test_a_rectified_image_needs_p_only(pipeline):
    info = bags.ROSBAGS.info(*SIZE, k=K, d=(0.1,), model='magic', p=(0,) * 12)
    frame = pipeline(rectified=True).process(photo(), buffer_of(info), OUTPUTS)
    assert 'not calibrated' in frame.no_cloud
    info = bags.ROSBAGS.info(*SIZE, k=(0,) * 9, d=(0.1,), model='magic', p=P)
    frame = pipeline(rectified=True).process(photo(), buffer_of(info), OUTPUTS)
    assert set(frame.messages) == set(OUTPUTS)


def test_rays_that_do_not_exist_are_nan_in_the_cloud(pipeline):
    # An equidistant lens that sees more than half of the world: corners beyond 90 degrees.
    info = bags.ROSBAGS.info(*SIZE, k=(20, 0, 31.5, 0, 20, 23.5, 0, 0, 1), d=(1e-9, 0, 0, 0),
                             model='equidistant')
    frame = pipeline().process(photo(), buffer_of(info), OUTPUTS)
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
        pipeline().process(bad, CameraInfoBuffer(), OUTPUTS)


def test_a_camera_that_changes(pipeline):
    second = 10 * bags.SECOND
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K, stamp=0),
                      bags.ROSBAGS.info(*SIZE, k=(0,) * 9, stamp=second),
                      bags.ROSBAGS.info(*SIZE, k=(90, *K[1:]), stamp=2 * second),
                      bags.ROSBAGS.info(24, 32, k=K, stamp=3 * second),
                      bags.ROSBAGS.info(*SIZE, k=K, stamp=4 * second))
    pipe = pipeline()
    frames = [pipe.process(photo(size=size, stamp=i * second), infos, OUTPUTS)
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
    frame = pipeline(point_cloud_downsample=8).process(
        photo(size=(480, 640)), buffer_of(info), OUTPUTS)
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
        frame = pipeline().process(photo(), infos, kind(wanted))
        assert set(frame.messages) == set(wanted)
        assert frame.depth.shape == SIZE and frame.no_cloud == ''
    assert {type(name) for name in ALL} == {str} and len(set(ALL)) == 6


def test_names_of_the_outputs():
    assert ALL == ('depth/image', 'depth/camera_info', 'depth/points', 'depth/image_raw',
                   'depth/image_colored', 'depth/uncertainty')


def test_one_output_does_not_change_another(pipeline, family):
    infos = buffer_of(family.info(*SIZE, k=K, d=BARREL))
    whole = pipeline(family.types).process(photo(family), infos, ALL)
    for name in ALL:
        alone = pipeline(family.types).process(photo(family), infos, (name,))
        if name == CAMERA_INFO:
            assert family.to_bytes(alone.messages[name]) == family.to_bytes(whole.messages[name])
        else:
            assert bytes(alone.messages[name].data) == bytes(whole.messages[name].data)
        assert alone.depth.tobytes() == whole.depth.tobytes()


def test_depth_images_need_no_camera(pipeline):
    frame = pipeline().process(photo(), CameraInfoBuffer(), ALL)
    assert set(frame.messages) == {DEPTH, MILLIMETRES, COLORED, UNCERTAINTY}


def test_what_a_frame_tells_besides(pipeline):
    infos = buffer_of(bags.ROSBAGS.info(*SIZE))
    assert 'cloud' not in pipeline().process(photo(), infos, (DEPTH,)).seconds
    frame = pipeline().process(photo(), infos, OUTPUTS)
    assert set(frame.seconds) == {'decode', 'network', 'images', 'cloud'}
    assert all(0 < seconds < 60 for seconds in frame.seconds.values())
    assert frame.depth.shape == SIZE and frame.depth.dtype == np.float32
    assert sum(frame.head_probabilities.values()) == pytest.approx(1)
    assert frame.head == max(frame.head_probabilities, key=frame.head_probabilities.get)


@pytest.mark.parametrize('k', [(5e-324, 0, 30, 0, 1e-30, 25, 0, 0, 1),
                               (50, 0, 30, 0, 1e-300, 25, 0, 0, 1),
                               (1e300, 0, 1e300, 0, 1e300, 25, 0, 0, 1)])
def test_an_absurd_focal_length_makes_no_point_at_the_camera_or_at_infinity(pipeline, k):
    chosen = pipeline(focal_correction=True)
    with np.errstate(all='ignore'):
        frame = chosen.process(photo(), buffer_of(bags.ROSBAGS.info(*SIZE, k=k)), ALL)
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


@pytest.mark.parametrize('dark', [(1,), (0, 2), (0, 1, 2, 3)])
def test_one_bad_image_of_a_batch_costs_no_other(dark, pipeline, afraid_of_the_dark):
    estimator, batches = afraid_of_the_dark
    images = [bags.picture(*SIZE, seed=i) * (i not in dark) for i in range(4)]
    pipelines = [pipeline(estimator=estimator) for _ in images]
    infos = CameraInfoBuffer()
    prepared = [one.prepare(bags.ROSBAGS.photo(image), infos, (DEPTH,))
                for one, image in zip(pipelines, images)]
    results = infer_each(estimator, prepared)
    assert batches == [4, 1, 1, 1, 1]
    for i, (image, result) in enumerate(zip(images, results)):
        if i in dark:
            assert isinstance(result, RuntimeError) and str(result) == 'dark'
            assert result.__traceback__ is None, 'it would hold on to the memory of the network'
        else:
            alone, = estimator.infer([image])
            assert torch.equal(result.depth, alone.depth)


def test_good_images_go_through_together(pipeline, afraid_of_the_dark):
    estimator, batches = afraid_of_the_dark
    prepared = [pipeline(estimator=estimator).prepare(photo(), CameraInfoBuffer(), (DEPTH,))
                for _ in range(3)]
    assert all(not isinstance(result, Exception) for result in infer_each(estimator, prepared))
    assert batches == [3]
    assert infer_each(estimator, []) == []


def test_millimetres_are_those_of_the_depth_image(pipeline):
    frame = pipeline(min_depth=1, max_depth=3, max_relative_uncertainty=0.4).process(
        photo(), CameraInfoBuffer(), ALL)
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
        frame = pipe.process(message, CameraInfoBuffer(), ALL)
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


# --- uncertainty ----------------------------------------------------------------------------


def mean_and_deviation(estimator, image, head):
    """Return mean and standard deviation of the distribution over the bins, in float64."""
    plan = plan_sizes(image.shape[:2], estimator.model.config.image_size, 'stretch', False)
    with torch.inference_mode():
        shared = estimator.model.forward_features(to_pixels(torch.from_numpy(image)[None], plan))
        centers, probabilities = (part[0].double().numpy() for part in estimator.model.metric(
            head, shared.features, shared.embeddings))
    mean = (probabilities * centers).sum(axis=0)
    return mean, np.sqrt((probabilities * (centers - mean) ** 2).sum(axis=0))


def test_uncertainty_by_hand(pipeline, tiny_estimator):
    size = tiny_estimator.model.config.image_size      # nothing is resized
    message = photo(size=size)
    for scale in (1.0, 2.5):
        frame = pipeline(depth_scale=scale).process(message, CameraInfoBuffer(), ALL)
        mean, deviation = mean_and_deviation(tiny_estimator, bags.picture(*size), frame.head)
        uncertainty = frame.messages[UNCERTAINTY]
        assert (uncertainty.encoding, uncertainty.height, uncertainty.width) == ('32FC1', *size)
        assert np.allclose(frame.depth, scale * mean, rtol=1e-4)
        assert np.allclose(bags.depth_of(uncertainty), scale * deviation, rtol=1e-3, atol=1e-5)
        assert (deviation > 0.01 * mean).mean() > 0.5


def test_uncertainty_comes_to_the_size_of_the_image(pipeline, tiny_estimator):
    frame = pipeline().process(photo(), CameraInfoBuffer(), ALL)
    _, deviation = mean_and_deviation(tiny_estimator, bags.picture(*SIZE), frame.head)
    expected = F.interpolate(torch.from_numpy(deviation)[None, None], SIZE, mode='bilinear',
                             align_corners=True)[0, 0]
    assert np.allclose(bags.depth_of(frame.messages[UNCERTAINTY]), expected, rtol=1e-3, atol=1e-5)


def test_uncertainty_is_where_depth_is(pipeline):
    frame = pipeline(min_depth=1, max_depth=3, edge_threshold=0.5).process(
        photo(), CameraInfoBuffer(), ALL)
    missing = np.isnan(bags.depth_of(frame.messages[UNCERTAINTY]))
    assert np.array_equal(missing, ~np.isfinite(frame.depth)) and 0 < missing.mean() < 1


def test_uncertain_depth_is_left_out(pipeline, tiny_estimator):
    size = tiny_estimator.model.config.image_size
    mean, deviation = mean_and_deviation(tiny_estimator, bags.picture(*size), 'indoor')
    share = float(np.median(deviation / mean))
    # Whether or not the uncertainty itself is wanted.
    for wanted in (ALL, OUTPUTS):
        frame = pipeline(max_relative_uncertainty=share, depth_scale=2).process(
            photo(size=size), CameraInfoBuffer(), wanted)
        clear = np.abs(deviation / mean / share - 1) > 1e-3
        assert np.array_equal(np.isnan(frame.depth)[clear], (deviation > share * mean)[clear])
        assert 0.4 < np.isnan(frame.depth).mean() < 0.6


# --- size -----------------------------------------------------------------------------------


def test_keep_comes_back_linear_from_the_size_of_the_network(pipeline, tiny_estimator):
    # Where the published inference is bicubic.
    estimator = DepthEstimator(tiny_estimator.model, aspect='keep', pad=True)
    image = bags.picture(100, 110)
    frame = pipeline(estimator=estimator).process(
        bags.ROSBAGS.photo(image), CameraInfoBuffer(), OUTPUTS)
    net, = estimator.infer([image])
    assert net.plan.net != tiny_estimator.model.config.image_size and any(net.plan.pad)
    expected = F.interpolate(net.depth[None, None], net.plan.padded, mode='bilinear',
                             align_corners=True)[0, 0].numpy()
    rows, columns = net.plan.pad
    assert np.array_equal(frame.depth, expected[rows:-rows, columns:-columns])


@pytest.mark.parametrize('choices', [{'pad': True}, {'flip': True}, {'pad': True, 'flip': True}])
def test_padded_and_mirrored_as_by_the_estimator(pipeline, tiny_estimator, choices):
    estimator = DepthEstimator(tiny_estimator.model, **choices)
    frame = pipeline(estimator=estimator).process(photo(), CameraInfoBuffer(), OUTPUTS)
    expected = estimator.predict(bags.picture(*SIZE))
    assert frame.depth.tobytes() == expected.depth.tobytes() and frame.head == expected.head


def test_edges_stay_edges_at_the_size_of_the_image(pipeline, tiny_estimator):
    size = (320, 480)
    image = bags.picture(*size)
    message = bags.ROSBAGS.photo(image)
    frame, linear, nearest = (
        pipeline(interpolation=how).process(message, CameraInfoBuffer(), OUTPUTS).depth
        for how in ('edges', 'linear', 'nearest'))
    net = tiny_estimator.infer([image])[0].depth.numpy()
    assert np.isin(nearest, net).all() and not np.isin(linear, net).all()
    assert np.array_equal(np.where(frame == linear, linear, nearest), frame)
    assert 0.01 < (frame != linear).mean() < 0.99


def project(camera, point):
    """Return column and row of a point in a pinhole camera's image."""
    k = np.asarray(camera.k).reshape(3, 3)
    x, y, z = point
    return k[0, 0] * x / z + k[0, 2], k[1, 1] * y / z + k[1, 2]


@pytest.mark.parametrize('every', [1, 2, 4, 3, 5, 7, 64])
def test_decimated_images_fit_their_camera_info(pipeline, family, every):
    info = family.info(*SIZE, k=K, p=P)
    frame = pipeline(family.types, output_decimation=every, point_cloud_downsample=every).process(
        photo(family), buffer_of(info), ALL)
    # The n-th rows and columns, the first among them, of all depth images; the rest stays whole.
    small = (-(-48 // every), -(-64 // every))
    assert frame.depth.shape == SIZE
    for name in (DEPTH, MILLIMETRES, COLORED, UNCERTAINTY, CAMERA_INFO):
        assert (frame.messages[name].height, frame.messages[name].width) == small
    depth = bags.depth_of(frame.messages[DEPTH])
    assert np.array_equal(depth, frame.depth[::every, ::every])
    # Each point of the cloud, which was made at full size, falls on the pixel of its depth.
    points = bags.cloud_points(frame.messages[POINTS]).astype(np.float64)
    camera = frame.messages[CAMERA_INFO]
    for row in range(small[0]):
        for column in range(small[1]):
            u, v = project(camera, points[row, column])
            assert (u, v) == (pytest.approx(column, abs=1e-3), pytest.approx(row, abs=1e-3))
            assert depth[row, column] == np.float32(points[row, column, 2])
    # P by the same factors.
    assert np.asarray(camera.p)[0] / P[0] == pytest.approx(np.asarray(camera.k)[0] / K[0])
    assert np.asarray(camera.p)[5] / P[5] == pytest.approx(np.asarray(camera.k)[4] / K[4])


@pytest.mark.parametrize('size', [(48, 64), (64, 96), (480, 640), (100, 40)])
def test_images_of_the_network_fit_their_camera_info(pipeline, tiny_estimator, family, size):
    net = tiny_estimator.model.config.image_size
    k = (0.8 * size[1], 0, 0.45 * size[1], 0, 1.1 * size[0], 0.55 * size[0], 0, 0, 1)
    info = family.info(*size, k=k)
    frame = pipeline(family.types, output_size='network', output_decimation=3).process(
        photo(family, size=size), buffer_of(info), ALL)
    for name in (DEPTH, MILLIMETRES, COLORED, UNCERTAINTY, CAMERA_INFO):
        assert (frame.messages[name].height, frame.messages[name].width) == net
    assert frame.depth.shape == size
    assert (frame.messages[POINTS].height, frame.messages[POINTS].width) == size
    depth = bags.depth_of(frame.messages[DEPTH])
    points = bags.cloud_points(frame.messages[POINTS]).astype(np.float64)
    camera = frame.messages[CAMERA_INFO]
    assert np.asarray(camera.k)[[0, 2, 4, 5]] == pytest.approx(
        np.multiply(np.take(k, [0, 2, 4, 5]), np.take(net, [1, 1, 0, 0]))
        / np.take(size, [1, 1, 0, 0]))
    # The ray of each pixel by its CameraInfo is that of the nearest pixel of the image.
    rows, columns = np.mgrid[:net[0], :net[1]]
    u, v = columns * size[1] / net[1], rows * size[0] / net[0]
    found = np.zeros(net, bool)
    for i in (np.floor(v), np.ceil(v)):
        for j in (np.floor(u), np.ceil(u)):
            i, j = (x.astype(int).clip(max=m - 1) for x, m in ((i, size[0]), (j, size[1])))
            there = (np.abs(i - v) <= 0.5 + 1e-9) & (np.abs(j - u) <= 0.5 + 1e-9)
            # Beyond the last pixel of the image there is none: its neighbour stands for it.
            there |= (v > size[0] - 1) & (i == size[0] - 1)
            there |= (u > size[1] - 1) & (j == size[1] - 1)
            found |= there & (depth == points[i, j, 2].astype(np.float32))
    assert found.all()


def test_a_small_camera_info_is_a_copy(pipeline, family):
    info = family.info(*SIZE, k=K, p=P, d=BARREL)
    before = family.to_bytes(info)
    for settings in ({'output_decimation': 2}, {'output_size': 'network'}):
        frame = pipeline(family.types, **settings).process(photo(family), buffer_of(info), ALL)
        camera = frame.messages[CAMERA_INFO]
        assert family.to_bytes(info) == before
        assert tuple(camera.d) == BARREL and camera.distortion_model == 'plumb_bob'
        # It is one that can be used, for such an image.
        assert camera_from_info(camera, (camera.height, camera.width), rectified=False)


# --- scale ----------------------------------------------------------------------------------


@pytest.mark.parametrize('scale', [0.001, 0.37, 2, 1000])
def test_depth_scale(pipeline, scale):
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K))
    plain = pipeline().process(photo(), infos, ALL)
    frame = pipeline(depth_scale=scale, point_cloud_max_range=10000).process(photo(), infos, ALL)
    within = np.isfinite(frame.depth)
    assert np.allclose(frame.depth[within], (scale * plain.depth)[within], rtol=1e-5)
    assert np.array_equal(within, scale * plain.depth <= 1000)
    points, others = (bags.cloud_points(f.messages[POINTS]) for f in (frame, plain))
    assert np.allclose(points[within], scale * others[within], rtol=1e-5)


def test_the_training_camera_needs_no_correction():
    nyu = Camera(640, 480, 518.8579, 519.4696, 325.58, 253.74)
    kitti = Camera(1216, 352, 721.5377, 721.5377, 609.56, 172.85)
    for variant, head, camera in (('n', 0, nyu), ('nk', 0, nyu), ('k', 0, kitti),
                                  ('nk', 1, kitti)):
        config = VARIANTS[variant]
        plan = plan_sizes((camera.height, camera.width), config.image_size, 'stretch', False)
        factor = focal_factor(camera, plan, config.metric.heads[head], config.image_size)
        assert factor == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize('fx, fy, factor', [
    (518.8579, 519.4696, 1), (2 * 518.8579, 2 * 519.4696, 2), (4 * 518.8579, 519.4696, 2),
    (518.8579, 519.4696 / 4, 0.5), (259.42895, 259.7348, 0.5)])
def test_focal_factor_by_hand(fx, fy, factor):
    config = VARIANTS['nk']
    indoor, outdoor = config.metric.heads
    for scale in (1, 0.5, 3):
        # The same lens before another sensor is the same.
        size = round(480 * scale), round(640 * scale)
        camera = Camera(size[1], size[0], fx * scale, fy * scale, 1, 1)
        plan = plan_sizes(size, config.image_size, 'stretch', False)
        found = focal_factor(camera, plan, indoor, config.image_size)
        assert found == pytest.approx(factor, rel=1e-5)
    # KITTI: 0.593 widths and 2.05 heights.
    assert focal_factor(camera, plan, outdoor, config.image_size) == pytest.approx(
        math.sqrt(fx / 640 * fy / 480 / (721.5377 / 1216 * 721.5377 / 352)), rel=1e-5)


def test_a_border_makes_the_lens_wider():
    # With a border the camera sees more in the same network pixels.
    camera = Camera(640, 480, 518.8579, 519.4696, 1, 1)
    config = VARIANTS['n']
    plan = plan_sizes((480, 640), config.image_size, 'stretch', True)
    height, width = plan.padded
    assert (height, width) == (480 + 2 * 46, 640 + 2 * 53)
    assert focal_factor(camera, plan, config.metric.heads[0], config.image_size) == pytest.approx(
        math.sqrt(640 / width * 480 / height), rel=1e-6)


@pytest.mark.parametrize('choices', [{}, {'pad': True}, {'aspect': 'keep'}])
@pytest.mark.parametrize('head', ['indoor', 'outdoor'])
def test_focal_correction_at_the_size_of_the_network(pipeline, tiny_estimator, choices, head):
    estimator = DepthEstimator(tiny_estimator.model, **choices)
    config = tiny_estimator.model.config
    size = (60, 200)
    infos = buffer_of(bags.ROSBAGS.info(*size, k=(90, 0, 99.5, 0, 80, 30, 0, 0, 1)))
    plain, corrected = (
        pipeline(estimator=estimator, router=head, focal_correction=on).process(
            photo(size=size), infos, ALL) for on in (False, True))
    net = estimator.infer([bags.picture(*size)])[0]
    # How many network pixels a thing covers: here, and in training at the training size.
    here = (90 * net.plan.net[1] / net.plan.padded[1], 80 * net.plan.net[0] / net.plan.padded[0])
    fx, fy, _, _ = head_config(config, head).training_camera
    there = (fx * config.image_size[1], fy * config.image_size[0])
    factor = math.sqrt(here[0] * here[1] / (there[0] * there[1]))
    assert abs(factor - 1) > 0.1
    assert np.allclose(corrected.depth, factor * plain.depth, rtol=1e-5)
    uncertainties = [bags.depth_of(f.messages[UNCERTAINTY]) for f in (plain, corrected)]
    assert np.allclose(uncertainties[1], factor * uncertainties[0], rtol=1e-5)


def test_focal_correction_takes_p_of_a_rectified_image_and_needs_a_camera(pipeline):
    p = (100, 0, 31, 0, 0, 110, 24, 0, 0, 0, 1, 0)
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K, p=p))
    by_k, by_p = (
        pipeline(rectified=rectified, focal_correction=True, depth_scale=0.5).process(
            photo(), infos, ALL).depth for rectified in (False, True))
    assert np.allclose(by_p, math.sqrt(100 * 110 / (50 * 55)) * by_k, rtol=1e-5)
    without = pipeline(focal_correction=True, depth_scale=0.5).process(
        photo(), CameraInfoBuffer(), ALL).depth
    assert np.allclose(without, 0.5 * pipeline().process(
        photo(), CameraInfoBuffer(), ALL).depth, rtol=1e-5)


# --- range ----------------------------------------------------------------------------------


def test_depth_out_of_range_is_rep_117_in_images_and_nan_in_the_cloud(pipeline):
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K))
    plain = pipeline().process(photo(), infos, ALL).depth
    frame = pipeline(min_depth=1, max_depth=3).process(photo(), infos, ALL)
    near, far = plain < 1, plain > 3
    assert near.any() and far.any() and (~near & ~far).any()
    depth = bags.depth_of(frame.messages[DEPTH])
    assert np.array_equal(depth, np.where(near, -np.inf, np.where(far, np.inf, plain)))
    assert np.array_equal(frame.depth, depth)
    points = bags.cloud_points(frame.messages[POINTS])
    assert np.isnan(points[near | far]).all() and np.isfinite(points[~near & ~far]).all()
    assert np.array_equal(points[~near & ~far][:, 2], plain[~near & ~far])


def test_far_value_is_a_point_on_the_ray(pipeline):
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K))
    far = pipeline().process(photo(), infos, ALL).depth > 3
    frame = pipeline(max_depth=3, far_value=12.5).process(photo(), infos, ALL)
    depth = bags.depth_of(frame.messages[DEPTH])
    assert (depth[far] == 12.5).all() and (depth[~far] <= 3).all()
    points = bags.cloud_points(frame.messages[POINTS])
    rows, columns = np.mgrid[:48, :64]
    rays = np.stack([(columns - 30.5) / 50, (rows - 25.25) / 55, np.ones(SIZE)], axis=-1)
    assert np.allclose(points[far], 12.5 * rays[far], rtol=1e-5)
    millimetres = np.frombuffer(bytes(frame.messages[MILLIMETRES].data), '<u2').reshape(SIZE)
    assert (millimetres[far] == 12500).all()
    # Where the range of the cloud ends before it, it ends.
    frame = pipeline(max_depth=3, far_value=12.5, point_cloud_max_range=12).process(
        photo(), infos, ALL)
    points = bags.cloud_points(frame.messages[POINTS])
    assert np.isnan(points[far]).all() and np.isfinite(points[~far]).all()


@pytest.mark.parametrize('most', [0.01, 1.0, 2.5, 10000.0])
def test_the_cloud_ends_at_its_range(pipeline, most):
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K))
    plain = pipeline().process(photo(), infos, ALL)
    frame = pipeline(point_cloud_max_range=most).process(photo(), infos, ALL)
    assert bytes(frame.messages[DEPTH].data) == bytes(plain.messages[DEPTH].data)
    points, others = (bags.cloud_points(f.messages[POINTS]) for f in (frame, plain))
    beyond = plain.depth > most
    assert np.isnan(points[beyond]).all()
    assert np.array_equal(points[~beyond], others[~beyond])


def test_removed_edges_are_nan_everywhere(pipeline):
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K))
    frame = pipeline(edge_threshold=0.3).process(photo(), infos, ALL)
    missing = np.isnan(frame.depth)
    assert 0 < missing.mean() < 1
    assert np.isnan(bags.cloud_points(frame.messages[POINTS])[missing]).all()
    assert np.isnan(bags.depth_of(frame.messages[DEPTH])[missing]).all()


def test_infinite_depth_raises_no_warning(pipeline):
    # A ray straight ahead times an infinite depth: the principal point on a pixel.
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=(50, 0, 32, 0, 50, 24, 0, 0, 1)))
    for settings in ({'min_depth': 900}, {'max_depth': 0.01}, {'min_depth': 1, 'max_depth': 2}):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            frame = pipeline(**settings).process(photo(), infos, ALL)
        points = bags.cloud_points(frame.messages[POINTS])
        assert np.array_equal(np.isnan(points).all(axis=-1), ~np.isfinite(frame.depth))


def test_a_cloud_without_colours(pipeline, family):
    infos = buffer_of(family.info(*SIZE, k=K, d=BARREL))
    plain, frame = (
        pipeline(family.types, point_cloud_color=on, point_cloud_downsample=3).process(
            photo(family), infos, OUTPUTS).messages[POINTS] for on in (True, False))
    assert (frame.point_step, frame.row_step) == (12, 12 * frame.width)
    values = np.frombuffer(bytes(frame.data), '<f4').reshape(frame.height, frame.width, 3)
    assert np.array_equal(values, bags.cloud_points(plain))


# --- from frame to frame --------------------------------------------------------------------


def test_settings_may_be_replaced_between_frames(pipeline):
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K))
    pipe = pipeline()
    first = pipe.process(photo(), infos, ALL)
    for change in ({'depth_scale': 2.0}, {'min_depth': 1.0, 'max_depth': 3.0},
                   {'interpolation': 'nearest'}, {'output_decimation': 2},
                   {'point_cloud_downsample': 4, 'point_cloud_color': False},
                   {'color_max_depth': 3.0}, {'focal_correction': True}, {'router': 'outdoor'}):
        pipe.settings = replace(PUBLISHED, **change)
        changed = pipe.process(photo(), infos, ALL)
        fresh = pipeline(**change).process(photo(), infos, ALL)
        for name in ALL:
            assert bags.ROSBAGS.to_bytes(changed.messages[name]) == bags.ROSBAGS.to_bytes(
                fresh.messages[name])
        assert any(bags.ROSBAGS.to_bytes(changed.messages[name]) != bags.ROSBAGS.to_bytes(
            first.messages[name]) for name in ALL)
    pipe.settings = PUBLISHED
    last = pipe.process(photo(), infos, ALL)
    assert bytes(last.messages[POINTS].data) == bytes(first.messages[POINTS].data)


def test_a_head_may_be_forced_between_frames(pipeline, tiny_estimator):
    pipe = pipeline()
    for router in ('auto', 'outdoor', 'indoor', 'auto', 'outdoor'):
        pipe.settings = replace(PUBLISHED, router=router)
        frame = pipe.process(photo(), CameraInfoBuffer(), OUTPUTS)
        expected = DepthEstimator(tiny_estimator.model, router=router).predict(
            bags.picture(*SIZE))
        assert frame.head == expected.head == ('indoor' if router == 'auto' else router)
        assert frame.depth.tobytes() == expected.depth.tobytes()
        if router != 'auto':
            assert frame.head_probabilities == {
                name: float(name == router) for name in ('indoor', 'outdoor')}


@pytest.fixture
def video(tiny_estimator, photos):
    """Return a function: letters and settings -> heads; 'i' is a photo indoor, 'o' one outdoor."""
    pictures = {'i': bags.picture(*SIZE), 'o': next(
        p for p in photos if tiny_estimator.predict(p).head == 'outdoor')}

    def heads(pipe, letters, start=bags.START, step=bags.SECOND // 10):
        found = ''
        for i, letter in enumerate(letters):
            message = bags.ROSBAGS.photo(pictures[letter], stamp=start + i * step)
            frame = pipe.process(message, CameraInfoBuffer(), (DEPTH,))
            assert sum(frame.head_probabilities.values()) == pytest.approx(1)
            alone = DepthEstimator(tiny_estimator.model, router=frame.head).predict(
                pictures[letter])
            assert frame.depth.tobytes() == alone.depth.tobytes()
            found += frame.head[0]
        return found

    return heads


@pytest.mark.parametrize('usual, odd', ['io', 'oi'])
def test_the_head_of_a_video_does_not_flicker(pipeline, video, usual, odd):
    letters = 5 * usual + odd + 4 * usual
    assert video(pipeline(), letters) == letters
    assert video(pipeline(router_time_constant=1), letters) == 10 * usual


def test_the_head_of_a_video_follows_a_lasting_change(pipeline, video):
    found = video(pipeline(router_time_constant=1), 'i' * 10 + 'o' * 40)
    assert found[:10] == 'i' * 10 and found.endswith('o' * 20) and found.count('io') == 1
    assert 'oi' not in found
    # Twice the time constant, twice the frames.
    took = found.index('o') - 10
    slower = video(pipeline(router_time_constant=2), 'i' * 10 + 'o' * 60).index('o') - 10
    assert slower == pytest.approx(2 * took, abs=2) and took > 0


def test_the_head_of_a_video_starts_anew_when_time_jumps(pipeline, video):
    pipe = pipeline(router_time_constant=1)
    assert video(pipe, 'i' * 10) == 'i' * 10
    assert video(pipe, 'oo') == 'oo'                                    # the bag loops
    assert video(pipe, 'ii', start=bags.START + 60 * bags.SECOND) == 'ii'   # a long gap
    assert video(pipeline(router_time_constant=1), 'o') == 'o'          # another camera


def test_photographs_have_no_history(pipeline, tiny_estimator, photos):
    pipe = pipeline(router_time_constant=3600)
    pictures = [bags.picture(*SIZE), *photos, bags.picture(*SIZE)]
    heads = set()
    for image in pictures:
        depth, head = pipe.predict_image(image)
        expected = tiny_estimator.predict(image)
        assert head == expected.head and depth.tobytes() == expected.depth.tobytes()
        heads.add(head)
    assert heads == {'indoor', 'outdoor'}


# --- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize('topic', [
    '/camera/image_rect', '/camera/image_rect_color', '/camera/image_rect/compressed',
    'image_rect', '/stereo/left/rect/image', '/camera/infra1/image_rect_raw',
    '/camera/image_rectified',
    '/rectified/image', '/camera/rect_image'])
def test_names_of_rectified_topics(topic):
    assert is_rectified(topic)


@pytest.mark.parametrize('topic', [
    '/camera/image_raw', '/camera/image_raw/compressed', '/image', '/direct/image',
    '/rectangle/image', '/camera/image_rectangle', '/correct/image', '/camera/imagerect',
    '/direction_rectory/image'])
def test_names_of_other_topics(topic):
    assert not is_rectified(topic)
