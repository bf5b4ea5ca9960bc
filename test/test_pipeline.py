"""From image message to output messages: geometry, headers, and what is said when some lack."""
import bags
import numpy as np
import pytest
import torch

from zoe_ros.camera import Camera
from zoe_ros.messages import CameraInfoBuffer, decode_image, MessageError
from zoe_ros.pipeline import is_rectified, Pipeline

SIZE = (48, 64)
# fx, fy, cx, cy of the CameraInfo here.
K = (50, 0, 30.5, 0, 55, 25.25, 0, 0, 1)
P = (45, 0, 28, 0, 0, 46, 22, 0, 0, 0, 1, 0)
BARREL = (-0.2, 0.05, 0.001, -0.002, 0)


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
    """Return a function that makes a pipeline on the tiny model."""
    def made(types=bags.ROSBAGS.types, downsample=1, rectified=False):
        return Pipeline(tiny_estimator, types, downsample=downsample, rectified=rectified)

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
    frame = pipeline(family.types, rectified=rectified).process(photo(family), buffer_of(info))
    depth = bags.depth_of(frame.depth)
    points = bags.cloud_points(frame.points)
    fx, fy, cx, cy = numbers
    for row, column in ((0, 0), (0, 63), (47, 0), (47, 63), (20, 33), (5, 60)):
        z = float(depth[row, column])
        assert z > 0
        expected = ((column - cx) / fx * z, (row - cy) / fy * z, z)
        assert np.allclose(points[row, column], expected, rtol=1e-5, atol=1e-7)
    assert frame.no_cloud == ''


def test_points_of_a_distorted_camera(pipeline, family):
    info = family.info(*SIZE, k=K, p=P, d=BARREL)
    frame = pipeline(family.types).process(photo(family), buffer_of(info))
    points = bags.cloud_points(frame.points).astype(np.float64)
    assert np.array_equal(points[..., 2], bags.depth_of(frame.depth))
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


@pytest.mark.parametrize('every', [1, 2, 3, 5, 64, 100])
def test_downsample(pipeline, every):
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K, d=BARREL))
    whole = pipeline().process(photo(), infos).points
    cloud = pipeline(downsample=every).process(photo(), infos).points
    assert (cloud.height, cloud.width) == (-(-48 // every), -(-64 // every))
    assert cloud.row_step == 16 * cloud.width
    values = np.frombuffer(bytes(whole.data), '<u4').reshape(48, 64, 4)[::every, ::every]
    assert values.tobytes() == bytes(cloud.data)


def test_colours_of_the_cloud_are_the_pixels(pipeline):
    for encoding in ('rgb8', 'bgr8', 'mono8'):
        message = bags.ROSBAGS.photo(bags.picture(*SIZE), encoding)
        frame = pipeline().process(message, buffer_of(bags.ROSBAGS.info(*SIZE)))
        packed = np.frombuffer(bytes(frame.points.data), '<u4').reshape(48, 64, 4)[..., 3]
        colors = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1)
        assert np.array_equal(colors, decode_image(message))
        assert np.array_equal(frame.image, decode_image(message))


def test_depth_is_that_of_the_estimator(pipeline, tiny_estimator, family):
    frame = pipeline(family.types).process(photo(family), CameraInfoBuffer())
    expected = tiny_estimator.predict(bags.picture(*SIZE))
    assert bytes(frame.depth.data) == expected.depth.tobytes()
    assert frame.prediction.head == expected.head
    assert np.array_equal(frame.prediction.depth, expected.depth)


def test_both_clients_give_the_same_bytes(pipeline):
    outputs = []
    for family in (bags.ROSBAGS, bags.rclpy_family()):
        frame = pipeline(family.types, downsample=3).process(
            photo(family), buffer_of(family.info(*SIZE, k=K, d=BARREL)))
        outputs.append([bytes(frame.depth.data), bytes(frame.points.data)])
    assert outputs[0] == outputs[1]


# --- headers --------------------------------------------------------------------------------


def test_stamp_and_frame_are_those_of_the_image(pipeline, family):
    stamp, frame_id = 12 * bags.SECOND + 345, 'left_eye'
    early = family.info(*SIZE, stamp=stamp - 5000, frame=frame_id)
    before = family.to_bytes(early)
    message = photo(family, stamp=stamp, frame=frame_id)
    frame = pipeline(family.types).process(message, buffer_of(early))
    for output in (frame.depth, frame.camera_info, frame.points):
        assert bags.key(output) == (stamp, frame_id)
    # The one that is remembered keeps its own stamp.
    assert family.to_bytes(early) == before
    assert frame.camera_info is not early


def test_camera_info_is_handed_on_as_it_is(pipeline, family):
    info = family.info(*SIZE, k=K, p=P, d=BARREL)
    frame = pipeline(family.types, downsample=4).process(photo(family), buffer_of(info))
    # The header is the same here, so all of it is. The cloud is smaller, the depth image is not.
    assert family.to_bytes(frame.camera_info) == family.to_bytes(info)


# --- without a usable camera ----------------------------------------------------------------


def test_without_camera_info(pipeline):
    for infos in (CameraInfoBuffer(), buffer_of(bags.ROSBAGS.info(*SIZE, frame='other'))):
        frame = pipeline().process(photo(), infos)
        assert np.isfinite(bags.depth_of(frame.depth)).all()
        assert frame.camera_info is None and frame.points is None
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
    frame = pipeline(family.types).process(photo(family), buffer_of(info))
    assert frame.points is None and reason in frame.no_cloud
    assert np.isfinite(bags.depth_of(frame.depth)).all()
    assert bags.key(frame.camera_info) == bags.key(frame.depth)


def test_a_rectified_image_needs_p_only(pipeline):
    info = bags.ROSBAGS.info(*SIZE, k=K, d=(0.1,), model='magic', p=(0,) * 12)
    frame = pipeline(rectified=True).process(photo(), buffer_of(info))
    assert 'not calibrated' in frame.no_cloud
    info = bags.ROSBAGS.info(*SIZE, k=(0,) * 9, d=(0.1,), model='magic', p=P)
    assert pipeline(rectified=True).process(photo(), buffer_of(info)).points is not None


def test_rays_that_do_not_exist_are_nan_in_the_cloud(pipeline):
    # An equidistant lens that sees more than half of the world: corners beyond 90 degrees.
    info = bags.ROSBAGS.info(*SIZE, k=(20, 0, 31.5, 0, 20, 23.5, 0, 0, 1), d=(1e-9, 0, 0, 0),
                             model='equidistant')
    frame = pipeline().process(photo(), buffer_of(info))
    points = bags.cloud_points(frame.points)
    rows, columns = np.mgrid[:48, :64]
    angle = np.hypot(columns - 31.5, rows - 23.5) / 20
    missing = np.isnan(points)
    assert (missing.any(axis=-1) == missing.all(axis=-1)).all()
    assert missing[angle > np.pi / 2 + 0.01].all() and not missing[angle < np.pi / 2 - 0.01].any()
    assert np.isfinite(bags.depth_of(frame.depth)).all()     # which needs no ray
    assert frame.points.is_dense is False


def test_a_bad_image_is_refused(pipeline):
    bad = bags.ROSBAGS.image(bytes(10), 4, 4, 12, 'rgb8')
    with pytest.raises(MessageError):
        pipeline().process(bad, CameraInfoBuffer())


def test_a_camera_that_changes(pipeline):
    second = 10 * bags.SECOND
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K, stamp=0),
                      bags.ROSBAGS.info(*SIZE, k=(0,) * 9, stamp=second),
                      bags.ROSBAGS.info(*SIZE, k=(90, *K[1:]), stamp=2 * second),
                      bags.ROSBAGS.info(24, 32, k=K, stamp=3 * second),
                      bags.ROSBAGS.info(*SIZE, k=K, stamp=4 * second))
    pipe = pipeline()
    frames = [pipe.process(photo(size=size, stamp=i * second), infos)
              for i, size in enumerate((SIZE, SIZE, SIZE, (24, 32), SIZE))]
    assert [frame.points is None for frame in frames] == [False, True, False, False, False]
    for frame, fx in ((frames[0], 50), (frames[2], 90), (frames[3], 50), (frames[4], 50)):
        points = bags.cloud_points(frame.points)
        ray = points[0, 0, 0] / points[0, 0, 2]
        assert ray == pytest.approx(-30.5 / fx, rel=1e-5)
    assert bytes(frames[4].points.data) == bytes(frames[0].points.data)


def test_a_scene_of_known_depth(pipeline, tiny_estimator):
    # What the cloud holds is the depth image seen through the camera, point by point.
    info = bags.ROSBAGS.info(**bags.HALLWAY)
    frame = pipeline(downsample=8).process(photo(size=(480, 640)), buffer_of(info))
    camera = Camera(640, 480, 210.24, 211.48, 318.5, 252.5, 'plumb_bob', bags.HALLWAY['d'])
    expected = camera.unproject(tiny_estimator.predict(bags.picture(480, 640)).depth)[::8, ::8]
    assert np.array_equal(bags.cloud_points(frame.points), expected)


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
