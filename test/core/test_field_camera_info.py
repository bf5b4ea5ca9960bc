"""CameraInfo as drivers fill it in: binning, regions, ideal fisheyes, frames, topics, amounts."""
import time

import bags
from frames import buffer_of, photo
import numpy as np
import pytest

from zoe_ros.bag import BagReader
from zoe_ros.camera import Camera
from zoe_ros.camera_info import camera_from_info, CameraInfoBuffer, image_size, info_of_image
from zoe_ros.outputs import CAMERA_INFO, DEPTH, POINTS

FULL = (144, 192)
K = (153.6, 0, 95.5, 0, 153.6, 71.5, 0, 0, 1)
P = (150.0, 0, 94.0, -3.0, 0, 151.0, 70.0, 1.0, 0, 0, 1, 0)


def full_info(binning=(0, 0), region=(0, 0, 0, 0), family=bags.ROSBAGS, **options):
    """
    Return CameraInfo at the full resolution of a camera.

    :param binning: columns and rows that make one.
    :param region: x, y, width, height of the roi.
    """
    info = family.info(*FULL, k=K, p=P, **options)
    info.binning_x, info.binning_y = binning
    roi = info.roi
    roi.x_offset, roi.y_offset, roi.width, roi.height = region
    return info


# --- binning and region ---------------------------------------------------------------------


# Size of the image (rows, columns), and fx, fy, cx, cy by K.
CROPS = {
    'binning 2': (((2, 2), (0, 0, 0, 0)), (72, 96), (76.8, 76.8, 47.75, 35.75)),
    'binning of columns': (((4, 0), (0, 0, 0, 0)), (144, 48), (38.4, 153.6, 23.875, 71.5)),
    'binning of rows': (((1, 3), (0, 0, 0, 0)), (48, 192), (153.6, 51.2, 95.5, 71.5 / 3)),
    'region': (((0, 0), (40, 20, 96, 72)), (72, 96), (153.6, 153.6, 55.5, 51.5)),
    'both': (((2, 2), (40, 20, 96, 72)), (36, 48), (76.8, 76.8, 27.75, 25.75)),
    'an odd region': (((2, 2), (3, 1, 97, 73)), (36, 48), (76.8, 76.8, 46.25, 35.25)),
    'an odd region, rounded up': (((2, 2), (3, 1, 97, 73)), (37, 49), (76.8, 76.8, 46.25, 35.25)),
    'the whole as a region': (((0, 0), (0, 0, 192, 144)), FULL, (153.6, 153.6, 95.5, 71.5))}


@pytest.mark.parametrize('name', CROPS)
@pytest.mark.parametrize('client', ['rosbags', 'rclpy'])
def test_the_camera_of_a_crop(name, client):
    family = bags.ROSBAGS if client == 'rosbags' else bags.rclpy_family()
    (binning, region), size, expected = CROPS[name]
    info = full_info(binning, region, family)
    before = family.to_bytes(info)
    camera = camera_from_info(info, size, rectified=False)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == pytest.approx(expected)
    assert (camera.height, camera.width) == size
    # P by the same rule, its column of the baseline included.
    own = info_of_image(info, size)
    x, y = region[:2]
    columns, rows = max(binning[0], 1), max(binning[1], 1)
    assert np.asarray(own.p) == pytest.approx([
        150 / columns, 0, (94 - x) / columns, -3 / columns,
        0, 151 / rows, (70 - y) / rows, 1 / rows, 0, 0, 1, 0])
    rectified = camera_from_info(info, size, rectified=True)
    assert (rectified.fx, rectified.cy) == pytest.approx((150 / columns, (70 - y) / rows))
    assert family.to_bytes(info) == before


def test_image_size():
    assert image_size(full_info()) == FULL
    assert image_size(full_info((2, 4))) == (36, 96)
    assert image_size(full_info((2, 2), (40, 20, 97, 73))) == (36, 48)


def test_a_driver_that_states_the_size_of_its_images_beside_the_binning():
    # Against the definition, and common: K is of the images, then.
    info = bags.ROSBAGS.info(72, 96, k=(76.8, 0, 47.5, 0, 76.8, 35.5, 0, 0, 1))
    info.binning_x = info.binning_y = 2
    assert info_of_image(info, (72, 96)) is info
    assert camera_from_info(info, (72, 96), rectified=False).cx == 47.5


@pytest.mark.parametrize('binning, region, said', [
    ((0, 0), (0, 0, 0, 0), '192 x 144 pixels, the image has 96 x 71'),
    ((2, 2), (0, 0, 0, 0), '192 x 144 pixels with binning 2 x 2, the image has 96 x 71'),
    ((0, 0), (1, 2, 99, 70), '192 x 144 pixels with a region of 99 x 70, the image has 96 x 71'),
    ((0, 0), (99, 2, 96, 71), '192 x 144 pixels with a region of 96 x 71'),  # sticks out
    ((2, 2 ** 32 - 1), (0, 0, 192, 71), 'binning 2 x 4294967295')])
def test_a_size_that_fits_neither_way(binning, region, said):
    with pytest.raises(ValueError, match=said):
        camera_from_info(full_info(binning, region), (71, 96), rectified=False)


@pytest.mark.parametrize('binning, region', [
    ((2, 2), (0, 0, 0, 0)), ((0, 0), (40, 20, 96, 72)), ((1, 2), (48, 0, 96, 144))])
@pytest.mark.parametrize('settings', [
    {}, {'output_decimation': 2}, {'output_size': 'network'}, {'output_decimation': 5}])
def test_the_outputs_have_a_camera_info_of_their_own(pipeline, binning, region, settings):
    info = full_info(binning, region)
    frame = pipeline(infos=buffer_of(info), point_cloud_downsample=1, **settings).process(
        photo(size=(72, 96)), (DEPTH, CAMERA_INFO, POINTS))
    assert frame.no_cloud == ''
    out, depth = frame.messages[CAMERA_INFO], bags.depth_of(frame.messages[DEPTH])
    assert (out.height, out.width) == depth.shape
    assert (out.binning_x, out.binning_y, out.roi.width, out.roi.x_offset) == (0, 0, 0, 0)
    assert bags.ROSBAGS.to_bytes(out)
    # Depth and its CameraInfo make the points of the cloud, which comes from the whole image.
    camera = camera_from_info(out, depth.shape, rectified=False)
    points = bags.cloud_points(frame.messages[POINTS])
    if 'output_size' not in settings:
        step = settings.get('output_decimation', 1)
        expected = points[::step, ::step]
        np.testing.assert_allclose(camera.rays * depth[..., None], expected[..., :2], rtol=1e-4,
                                   atol=1e-5)
    else:
        assert camera.fx / camera.width == pytest.approx(camera_from_info(
            info, (72, 96), rectified=False).fx / 96)


# --- lenses ---------------------------------------------------------------------------------


@pytest.mark.parametrize('d', [(), (0.0,) * 4, (0.0,) * 5])
def test_an_equidistant_camera_without_coefficients_is_an_ideal_fisheye(d):
    info = bags.ROSBAGS.info(72, 96, k=(40, 0, 47.5, 0, 40, 35.5, 0, 0, 1), d=d,
                             model='equidistant')
    camera = camera_from_info(info, (72, 96), rectified=False)
    # The angle of a ray is its distance from the centre over f.
    x, y = (np.arange(96) - 47.5) / 40, (35 - 35.5) / 40
    radius = np.hypot(x, y)
    assert camera.rays[35, :, 0] == pytest.approx(np.tan(radius) * x / radius, rel=1e-5)
    assert camera.rays[35, 0, 0] == pytest.approx(-2.48, abs=0.01)
    # No jump at zero.
    nearly = Camera(96, 72, 40, 40, 47.5, 35.5, 'equidistant', (1e-12, 0, 0, 0))
    np.testing.assert_allclose(camera.rays, nearly.rays, rtol=1e-4, equal_nan=True)
    u, v = camera.project(*np.moveaxis(camera.rays.astype(np.float64), -1, 0))
    rows, columns = np.mgrid[:72, :96]
    seen = np.isfinite(u)
    assert seen.mean() > 0.9
    np.testing.assert_allclose(u[seen], columns[seen], atol=1e-3)
    np.testing.assert_allclose(v[seen], rows[seen], atol=1e-3)


@pytest.mark.parametrize('model', [
    'fisheye', 'FISHEYE', 'kannala_brandt', 'kannala_brandt4', 'KB8', 'Equidistant', 'omni',
    'double_sphere', 'ds', 'eucm', 'ucm', 'fov', 'mei', 'ftheta', 'scaramuzza', 'ocam',
    'equisolid', 'equirectangular', 'spherical', 'cylindrical'])
def test_other_wide_angle_models_are_no_pinholes_without_coefficients(model):
    for d in ((), (0.0,) * 4):
        info = bags.ROSBAGS.info(48, 64, d=d, model=model)
        with pytest.raises(ValueError, match=f"distortion model '{model}'"):
            camera_from_info(info, (48, 64), rectified=False)
        # Rectified images come from a pinhole, whatever the lens was.
        assert camera_from_info(info, (48, 64), rectified=True).rays.shape == (48, 64, 2)


@pytest.mark.parametrize('model', ['', 'none', 'pinhole', 'perspective', 'plumb_bob', 'radtan',
                                   'rational_polynomial', 'brown_conrady', 'thin_prism_model',
                                   'Inverse Brown Conrady', 'Custom'])
def test_pinholes_of_any_name(model):
    camera = camera_from_info(bags.ROSBAGS.info(48, 64, d=(0.0,) * 5, model=model), (48, 64),
                              rectified=False)
    assert camera.rays[0, 0] == pytest.approx(((0 - 31.5) / 57.6, (0 - 24.5) / 51.2))


@pytest.mark.parametrize('options, rectified, named', [
    ({'d': (np.nan,) * 5}, False, 'distortion D is nan, nan'),
    ({'d': (0.1, np.inf)}, False, 'distortion D is 0.1, inf'),
    ({'p': (0,) * 12}, True, r'P of CameraInfo \(the images are rectified\) has fx 0, fy 0'),
    ({'k': (0,) * 9}, False, 'K of CameraInfo has fx 0, fy 0'),
    ({'k': (-5.0, 0, 1, 0, 5, 1, 0, 0, 1)}, False, 'K of CameraInfo has fx -5, fy 5'),
    ({'k': (5.0, 0, np.nan, 0, 5, 1, 0, 0, 1)}, False, 'cx nan')])
def test_what_is_not_calibrated_is_named(options, rectified, named):
    with pytest.raises(ValueError, match='not calibrated') as caught:
        camera_from_info(bags.ROSBAGS.info(48, 64, **options), (48, 64), rectified)
    assert caught.match(named) and len(str(caught.value)) < 200


# --- frames and topics ----------------------------------------------------------------------


@pytest.mark.parametrize('info_frame, image_frame', [
    ('eye', '/eye'), ('/eye', 'eye'), ('', 'eye'), ('eye', ''), ('', ''), ('body', 'eye')])
@pytest.mark.parametrize('stamp', [bags.START, bags.START + bags.SECOND])
def test_a_camera_info_of_one_frame_holds(info_frame, image_frame, stamp):
    buffer = buffer_of(bags.ROSBAGS.info(4, 4, frame=info_frame))
    assert buffer.find(bags.ROSBAGS.header(stamp=stamp, frame=image_frame)) is not None


def test_of_several_frames_the_own_one_holds():
    buffer = buffer_of(*(bags.ROSBAGS.info(4, width, frame=frame)
                         for width, frame in enumerate(('/one', 'two', ''), 1)))
    found = {frame: buffer.find(bags.ROSBAGS.header(frame=frame))
             for frame in ('one', '/two', 'three')}
    assert found['one'].width == 1 and found['/two'].width == 2 and found['three'] is None
    assert buffer.frames() == ['', 'one', 'two']


def test_frames_are_forgotten_with_their_last_camera_info():
    buffer = CameraInfoBuffer(capacity=2)
    for second, frame in enumerate(('old', 'new', 'new')):
        buffer.add(bags.ROSBAGS.info(4, 4, frame=frame, stamp=bags.START + second * bags.SECOND))
    assert buffer.frames() == ['new']
    assert buffer.find(bags.ROSBAGS.header(frame='old')) is not None    # the only one there is


@pytest.mark.parametrize('topic', ['/camera/image_raw', '/camera/image_raw/compressed',
                                   '/elsewhere/image'])
@pytest.mark.parametrize('frame, fits', [('', True), (f'/{bags.FRAME}', True), ('body', False)])
def test_frames_in_a_bag(tmp_path, topic, frame, fits):
    encoding = 'png' if topic.endswith('compressed') else 'rgb8'
    messages = bags.camera_messages(1, topic, None, encoding=encoding)
    messages.append(('/camera/camera_info', bags.ROSBAGS.info(48, 64, frame=frame), bags.START))
    with BagReader(bags.write_bag(tmp_path / 'bag', messages)) as bag:
        found = bag.infos.find(next(iter(bag)).message.header)
        # Of another frame only beside the images: elsewhere it may be of another camera.
        assert (found is not None) == (fits or topic.startswith('/camera/'))


@pytest.mark.parametrize('image, infos, expected', [
    ('/cam/image_rect', {'/cam/image_rect/camera_info': {}, '/b/camera_info': {'frame': 'b'}},
     '/cam/image_rect/camera_info'),
    ('/cam/image_rect/compressed', {'/cam/image_rect/camera_info': {}, '/b/info': {}},
     '/cam/image_rect/camera_info'),
    ('/a/image', {'/info/front': {}, '/info/rear': {'frame': 'rear'}}, '/info/front'),
    ('/a/image', {'/info/front': {'frame': f'/{bags.FRAME}'}, '/info/rear': {'frame': 'rear'}},
     '/info/front'),
    ('/a/image', {'/x/full': {'size': (96, 128)}, '/x/half': {}}, '/x/half'),
    ('/a/b/image', {'/a/info': {}, '/c/info': {}}, '/a/info'),
    ('/a/image', {'/x/one': {}, '/x/two': {}}, None),
    ('/a/image', {'/x/one': {'frame': 'one'}, '/x/two': {'frame': 'two'}}, None)])
def test_camera_info_under_an_unusual_name(tmp_path, image, infos, expected):
    encoding = 'png' if image.endswith('compressed') else 'rgb8'
    messages = bags.camera_messages(1, image, None, encoding=encoding)
    for name, options in infos.items():
        size = options.pop('size', (48, 64))
        messages.append((name, bags.ROSBAGS.info(*size, **options), bags.START))
    with BagReader(bags.write_bag(tmp_path / 'bag', messages)) as bag:
        assert bag.info_topic == expected and bag.info_topics == sorted(infos)
        found = bag.infos.find(next(iter(bag)).message.header)
        assert (found is not None) == (expected is not None)


def test_the_only_camera_info_may_be_of_another_camera(tmp_path):
    messages = bags.camera_messages(1, '/left/image', None)
    messages.append(('/right/camera_info', bags.ROSBAGS.info(48, 64, frame='right'), bags.START))
    with BagReader(bags.write_bag(tmp_path / 'bag', messages)) as bag:
        assert bag.infos.find(next(iter(bag)).message.header) is None


# --- size -----------------------------------------------------------------------------------


@pytest.mark.parametrize('client', ['rosbags', 'rclpy'])
def test_a_driver_that_states_no_size(client, pipeline):
    family = bags.ROSBAGS if client == 'rosbags' else bags.rclpy_family()
    info = family.info(0, 0, k=(57.6, 0, 31.5, 0, 57.6, 23.5, 0, 0, 1))
    camera = camera_from_info(info, (48, 64), rectified=False)
    assert camera == Camera(64, 48, 57.6, 57.6, 31.5, 23.5)
    frame = pipeline(family.types, infos=buffer_of(info)).process(
        photo(family), (POINTS, CAMERA_INFO))
    sent = frame.messages[CAMERA_INFO]
    assert POINTS in frame.messages and (sent.height, sent.width) == (48, 64)
    assert (info.height, info.width) == (0, 0)


def test_an_uncalibrated_driver_that_states_no_size():
    info = bags.ROSBAGS.info(0, 0, k=np.zeros(9))
    with pytest.raises(ValueError, match='not calibrated: K of CameraInfo has fx 0'):
        camera_from_info(info, (48, 64), rectified=False)
    assert (info.height, info.width) == (0, 0)


@pytest.mark.parametrize('size', [(0, 64), (48, 0)])
def test_half_a_size_is_another_size(size):
    with pytest.raises(ValueError, match=f'CameraInfo is for {size[1]} x {size[0]} pixels'):
        camera_from_info(bags.ROSBAGS.info(*size), (48, 64), rectified=False)


# --- remarks --------------------------------------------------------------------------------


def remarks_of(pipe, count=2):
    """Return the remarks on the first frames of a pipeline."""
    return [text for _ in range(count) for text in pipe.process(photo(), (DEPTH,)).remarks]


@pytest.mark.parametrize('settings, said', [
    ({'focal_correction': True}, ['no focal correction: there is no CameraInfo']),
    ({'camera_view': 'training'},
     ["camera_view 'training' has no effect: there is no CameraInfo"]), ({}, [])])
def test_an_option_that_cannot_act_says_so_once(pipeline, settings, said):
    assert remarks_of(pipeline(**settings)) == said


def test_another_frame_is_said_once(pipeline):
    info = bags.ROSBAGS.info(48, 64, frame='body')
    text, = remarks_of(pipeline(infos=buffer_of(info), focal_correction=True))
    assert f"CameraInfo has frame 'body', the images have '{bags.FRAME}'" in text
    for same in (bags.FRAME, f'/{bags.FRAME}'):
        info = bags.ROSBAGS.info(48, 64, frame=same)
        assert remarks_of(pipeline(infos=buffer_of(info), focal_correction=True)) == []


@pytest.mark.parametrize('ratio, warned', [(0.5, True), (0.88, True), (0.92, False), (1.0, False),
                                           (1.08, False), (1.13, True), (3.0, True)])
@pytest.mark.parametrize('head', ['indoor', 'outdoor'])
def test_another_field_of_view_than_in_training(pipeline, tiny_estimator, head, ratio, warned):
    trained = tiny_estimator.model.config.head(head).training_camera
    fx, fy = trained[0] * 64 * ratio, trained[1] * 48 * ratio
    info = bags.ROSBAGS.info(48, 64, k=(fx, 0, 31.5, 0, fy, 23.5, 0, 0, 1))
    said = remarks_of(pipeline(infos=buffer_of(info), router=head))
    assert len(said) == warned
    if warned:
        assert f'{ratio:.2f} times' in said[0] and 'focal_correction' in said[0]
    for settings in ({'focal_correction': True}, {'camera_view': 'training'}):
        assert remarks_of(pipeline(infos=buffer_of(info), **settings)) == []


# --- amounts --------------------------------------------------------------------------------


def test_a_look_up_does_not_grow_with_the_number_of_camera_info():
    def seconds(count):
        buffer = CameraInfoBuffer(capacity=None)
        info = bags.ROSBAGS.info(4, 4)
        for i in np.random.default_rng(0).permutation(count).tolist():
            buffer.add(type(info)(**{**vars_of(info), 'header': bags.ROSBAGS.header(
                stamp=bags.START + 2 * i)}))
        header = bags.ROSBAGS.header(stamp=bags.START + count + 1)
        expected = bags.START + (count + 1) // 2 * 2
        assert bags.key(buffer.find(header))[0] == expected      # sorts
        start = time.perf_counter()
        for _ in range(100):
            buffer.find(header)
        return time.perf_counter() - start

    def vars_of(message):
        return {name: getattr(message, name) for name in message.__dataclass_fields__
                if name != '__msgtype__'}

    # A look at each of them would take a hundred times as long.
    assert min(seconds(20_000) for _ in range(2)) < 10 * min(seconds(200) for _ in range(3))


@pytest.mark.parametrize('order', ['as recorded', 'backwards', 'any'])
def test_stamps_that_jump(order):
    numbers = np.arange(1, 400)
    if order == 'backwards':
        numbers = numbers[::-1]
    elif order == 'any':
        numbers = np.random.default_rng(1).permutation(numbers)
    buffer = CameraInfoBuffer(capacity=None)
    for i, number in enumerate(numbers.tolist()):
        buffer.add(bags.ROSBAGS.info(1, number, stamp=bags.START + 10 * number))
        if i % 50 == 0:     # look-ups in between
            added = np.sort(numbers[:i + 1])
            for at in (-5, 5, 1234, 4000):
                before = added[added * 10 <= at]
                expected = before[-1] if len(before) else added[0]
                header = bags.ROSBAGS.header(stamp=bags.START + at)
                assert buffer.find(header).width == expected
