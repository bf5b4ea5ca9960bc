"""The depth of a frame: uncertainty, size, scale and range, by hand and beside the estimator."""
import math
import shutil
import warnings

import bags
from frames import ALL, BARREL, buffer_of, K, OUTPUTS, P, photo, SIZE
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from zoe_ros import DepthEstimator
from zoe_ros.anchor.frames import Frames
from zoe_ros.camera import Camera
from zoe_ros.camera_info import camera_from_info
from zoe_ros.inference.preprocess import plan_sizes, to_pixels
from zoe_ros.model.calibration import Calibration, save_calibration
from zoe_ros.model.config import VARIANTS
from zoe_ros.outputs import CAMERA_INFO, COLORED, DEPTH, MILLIMETRES, POINTS, UNCERTAINTY
from zoe_ros.pipeline import Pipeline
from zoe_ros.range_anchor import RangeAnchor
from zoe_ros.settings import AnchorSettings, FrameSettings
from zoe_ros.training_camera import focal_factor

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
        frame = pipeline(depth_scale=scale).process(message, ALL)
        mean, deviation = mean_and_deviation(tiny_estimator, bags.picture(*size), frame.head)
        uncertainty = frame.messages[UNCERTAINTY]
        assert (uncertainty.encoding, uncertainty.height, uncertainty.width) == ('32FC1', *size)
        assert np.allclose(frame.depth, scale * mean, rtol=1e-4)
        assert np.allclose(bags.depth_of(uncertainty), scale * deviation, rtol=1e-3, atol=1e-5)
        assert (deviation > 0.01 * mean).mean() > 0.5


def test_uncertainty_comes_to_the_size_of_the_image(pipeline, tiny_estimator):
    frame = pipeline().process(photo(), ALL)
    _, deviation = mean_and_deviation(tiny_estimator, bags.picture(*SIZE), frame.head)
    expected = F.interpolate(torch.from_numpy(deviation)[None, None], SIZE, mode='bilinear',
                             align_corners=True)[0, 0]
    assert np.allclose(bags.depth_of(frame.messages[UNCERTAINTY]), expected, rtol=1e-3, atol=1e-5)


def test_uncertainty_is_where_depth_is(pipeline):
    frame = pipeline(min_depth=1, max_depth=3, edge_threshold=0.5).process(
        photo(), ALL)
    missing = np.isnan(bags.depth_of(frame.messages[UNCERTAINTY]))
    assert np.array_equal(missing, ~np.isfinite(frame.depth)) and 0 < missing.mean() < 1


def test_uncertain_depth_is_left_out(pipeline, tiny_estimator):
    size = tiny_estimator.model.config.image_size
    mean, deviation = mean_and_deviation(tiny_estimator, bags.picture(*size), 'indoor')
    share = float(np.median(deviation / mean))
    # Whether or not the uncertainty itself is wanted.
    for wanted in (ALL, OUTPUTS):
        frame = pipeline(max_relative_uncertainty=share, depth_scale=2).process(
            photo(size=size), wanted)
        clear = np.abs(deviation / mean / share - 1) > 1e-3
        assert np.array_equal(np.isnan(frame.depth)[clear], (deviation > share * mean)[clear])
        assert 0.4 < np.isnan(frame.depth).mean() < 0.6


# --- size -----------------------------------------------------------------------------------


def test_keep_comes_back_linear_from_the_size_of_the_network(pipeline, tiny_estimator):
    # Where the published inference is bicubic.
    estimator = DepthEstimator(tiny_estimator.model, aspect='keep', pad=True)
    image = bags.picture(100, 110)
    frame = pipeline(estimator=estimator).process(
        bags.ROSBAGS.photo(image), OUTPUTS)
    net, = estimator.infer([image])
    assert net.plan.net != tiny_estimator.model.config.image_size and any(net.plan.pad)
    expected = F.interpolate(net.depth[None, None], net.plan.padded, mode='bilinear',
                             align_corners=True)[0, 0].numpy()
    rows, columns = net.plan.pad
    assert np.array_equal(frame.depth, expected[rows:-rows, columns:-columns])


@pytest.mark.parametrize('choices', [{'pad': True}, {'flip': True}, {'pad': True, 'flip': True}])
def test_padded_and_mirrored_as_by_the_estimator(pipeline, tiny_estimator, choices):
    estimator = DepthEstimator(tiny_estimator.model, **choices)
    frame = pipeline(estimator=estimator).process(photo(), OUTPUTS)
    expected = estimator.predict(bags.picture(*SIZE))
    assert frame.depth.tobytes() == expected.depth.tobytes() and frame.head == expected.head


def test_edges_stay_edges_at_the_size_of_the_image(pipeline, tiny_estimator):
    size = (320, 480)
    image = bags.picture(*size)
    message = bags.ROSBAGS.photo(image)
    frame, linear, nearest = (
        pipeline(interpolation=how).process(message, OUTPUTS).depth
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
    frame = pipeline(family.types, output_decimation=every, point_cloud_downsample=every,
                     infos=buffer_of(info)).process(photo(family), ALL)
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
    frame = pipeline(family.types, output_size='network', output_decimation=3,
                     infos=buffer_of(info)).process(photo(family, size=size), ALL)
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
        frame = pipeline(family.types, **settings, infos=buffer_of(info)).process(
            photo(family), ALL)
        camera = frame.messages[CAMERA_INFO]
        assert family.to_bytes(info) == before
        assert tuple(camera.d) == BARREL and camera.distortion_model == 'plumb_bob'
        # It is one that can be used, for such an image.
        assert camera_from_info(camera, (camera.height, camera.width), rectified=False)


# --- scale ----------------------------------------------------------------------------------


@pytest.mark.parametrize('scale', [0.001, 0.37, 2, 1000])
def test_depth_scale(pipeline, scale):
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K))
    plain = pipeline(infos=infos).process(photo(), ALL)
    frame = pipeline(depth_scale=scale, point_cloud_max_range=10000, infos=infos).process(
        photo(), ALL)
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


@pytest.mark.parametrize('head, factor', [('indoor', 0.82572), ('outdoor', 0.70711)])
def test_focal_correction_takes_the_training_camera_of_the_head(pipeline, head, factor):
    # By hand for a network image of 64 x 96: 90 * 96 / 200 and 80 * 64 / 60 pixels here, in
    # training 0.8 * 96 and 1.1 * 64 indoors, 0.6 * 96 and 2.0 * 64 outdoors.
    size = (60, 200)
    infos = buffer_of(bags.ROSBAGS.info(*size, k=(90, 0, 99.5, 0, 80, 30, 0, 0, 1)))
    plain, corrected = (
        pipeline(router=head, focal_correction=on, infos=infos).process(
            photo(size=size), (DEPTH,)).depth for on in (False, True))
    assert np.allclose(corrected, factor * plain, rtol=1e-4)


@pytest.mark.parametrize('choices', [{}, {'pad': True}, {'aspect': 'keep'}])
@pytest.mark.parametrize('head', ['indoor', 'outdoor'])
def test_focal_correction_at_the_size_of_the_network(pipeline, tiny_estimator, choices, head):
    estimator = DepthEstimator(tiny_estimator.model, **choices)
    config = tiny_estimator.model.config
    size = (60, 200)
    infos = buffer_of(bags.ROSBAGS.info(*size, k=(90, 0, 99.5, 0, 80, 30, 0, 0, 1)))
    plain, corrected = (
        pipeline(estimator=estimator, router=head, focal_correction=on, infos=infos).process(
            photo(size=size), ALL) for on in (False, True))
    net = estimator.infer([bags.picture(*size)])[0]
    # How many network pixels a thing covers: here, and in training at the training size.
    here = (90 * net.plan.net[1] / net.plan.padded[1], 80 * net.plan.net[0] / net.plan.padded[0])
    fx, fy, _, _ = config.head(head).training_camera
    there = (fx * config.image_size[1], fy * config.image_size[0])
    factor = math.sqrt(here[0] * here[1] / (there[0] * there[1]))
    assert abs(factor - 1) > 0.05
    assert np.allclose(corrected.depth, factor * plain.depth, rtol=1e-5)
    uncertainties = [bags.depth_of(f.messages[UNCERTAINTY]) for f in (plain, corrected)]
    assert np.allclose(uncertainties[1], factor * uncertainties[0], rtol=1e-5)


def test_focal_correction_takes_p_of_a_rectified_image_and_needs_a_camera(pipeline):
    p = (100, 0, 31, 0, 0, 110, 24, 0, 0, 0, 1, 0)
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K, p=p))
    by_k, by_p = (
        pipeline(rectified=rectified, focal_correction=True, depth_scale=0.5, infos=infos).process(
            photo(), ALL).depth for rectified in (False, True))
    assert np.allclose(by_p, math.sqrt(100 * 110 / (50 * 55)) * by_k, rtol=1e-5)
    without = pipeline(focal_correction=True, depth_scale=0.5).process(
        photo(), ALL).depth
    assert np.allclose(without, 0.5 * pipeline().process(
        photo(), ALL).depth, rtol=1e-5)


# --- range ----------------------------------------------------------------------------------


def test_depth_out_of_range_is_rep_117_in_images_and_nan_in_the_cloud(pipeline):
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K))
    plain = pipeline(infos=infos).process(photo(), ALL).depth
    frame = pipeline(min_depth=1, max_depth=3, infos=infos).process(photo(), ALL)
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
    far = pipeline(infos=infos).process(photo(), ALL).depth > 3
    frame = pipeline(max_depth=3, far_value=12.5, infos=infos).process(photo(), ALL)
    depth = bags.depth_of(frame.messages[DEPTH])
    assert (depth[far] == 12.5).all() and (depth[~far] <= 3).all()
    points = bags.cloud_points(frame.messages[POINTS])
    rows, columns = np.mgrid[:48, :64]
    rays = np.stack([(columns - 30.5) / 50, (rows - 25.25) / 55, np.ones(SIZE)], axis=-1)
    assert np.allclose(points[far], 12.5 * rays[far], rtol=1e-5)
    millimetres = np.frombuffer(bytes(frame.messages[MILLIMETRES].data), '<u2').reshape(SIZE)
    assert (millimetres[far] == 12500).all()
    # Where the range of the cloud ends before it, it ends.
    frame = pipeline(max_depth=3, far_value=12.5, point_cloud_max_range=12, infos=infos).process(
        photo(), ALL)
    points = bags.cloud_points(frame.messages[POINTS])
    assert np.isnan(points[far]).all() and np.isfinite(points[~far]).all()


@pytest.mark.parametrize('most', [0.01, 1.0, 2.5, 10000.0])
def test_the_cloud_ends_at_its_range(pipeline, most):
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K))
    plain = pipeline(infos=infos).process(photo(), ALL)
    frame = pipeline(point_cloud_max_range=most, infos=infos).process(photo(), ALL)
    assert bytes(frame.messages[DEPTH].data) == bytes(plain.messages[DEPTH].data)
    points, others = (bags.cloud_points(f.messages[POINTS]) for f in (frame, plain))
    beyond = plain.depth > most
    assert np.isnan(points[beyond]).all()
    assert np.array_equal(points[~beyond], others[~beyond])


def test_removed_edges_are_nan_everywhere(pipeline):
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K))
    frame = pipeline(edge_threshold=0.3, infos=infos).process(photo(), ALL)
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
            frame = pipeline(**settings, infos=infos).process(photo(), ALL)
        points = bags.cloud_points(frame.messages[POINTS])
        assert np.array_equal(np.isnan(points).all(axis=-1), ~np.isfinite(frame.depth))


def test_a_cloud_without_colours(pipeline, family):
    infos = buffer_of(family.info(*SIZE, k=K, d=BARREL))
    plain, frame = (
        pipeline(family.types, point_cloud_color=on, point_cloud_downsample=3,
                 infos=infos).process(photo(family), OUTPUTS).messages[POINTS]
        for on in (True, False))
    assert (frame.point_step, frame.row_step) == (12, 12 * frame.width)
    values = np.frombuffer(bytes(frame.data), '<f4').reshape(frame.height, frame.width, 3)
    assert np.array_equal(values, bags.cloud_points(plain))


@pytest.mark.parametrize('left', [None, (0.8, 0.6)])
@pytest.mark.parametrize('report_only', [False, True])
def test_the_uncertainty_of_an_anchored_frame(tiny_weights, tmp_path, left, report_only):
    # What the network doubts of the scale is replaced by the doubt of the anchor.
    weights = shutil.copy(tiny_weights, tmp_path / 'tiny.safetensors')
    save_calibration(weights, dict.fromkeys(
        ('indoor', 'outdoor'), Calibration(0.5, 1.0, 0.01, left)), [])
    estimator = DepthEstimator.load('tiny', weights, device='cpu', precision='fp32')
    size = estimator.model.config.image_size
    infos = buffer_of(bags.ROSBAGS.info(*size))
    anchor = RangeAnchor(AnchorSettings(anchor='depth', anchor_report_only=report_only), Frames())
    plain, anchored = (Pipeline(estimator, bags.ROSBAGS.types, FrameSettings(), infos, False, one)
                       for one in (None, anchor))
    message = photo(size=size)
    before = plain.process(message, ALL)
    sparse = np.full(size, np.nan, np.float32)
    sparse[::4, ::4] = 1.4 * before.depth[::4, ::4]
    truth = bags.ROSBAGS.image(sparse.tobytes(), *size, 4 * size[1], '32FC1', frame='cam')
    truth.header = message.header
    anchor.hear('depth', truth)
    after = anchored.process(message, ALL)
    was, now = (bags.depth_of(frame.messages[UNCERTAINTY]) for frame in (before, after))
    scale = after.scale
    assert scale.value == pytest.approx(1.4, rel=0.01) and scale.coverage == 1
    if report_only:
        assert np.array_equal(now, was)
    elif left is None:
        assert np.allclose(now, scale.value * was, rtol=1e-5)
    else:
        expected = np.hypot(0.6 * scale.value * was, scale.deviation / scale.value * after.depth)
        assert np.allclose(now, expected, rtol=1e-5)
