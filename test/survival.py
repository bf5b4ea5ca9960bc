"""
What must not end the node, nor make it wrong: damage, haste, crashes of others, signals.

Most malformed messages go straight through :class:`Pipeline`, some hundred over DDS to a real
node. They come from a generator with a seed: a failure names the seed and the case.
"""
from collections import Counter
from contextlib import contextmanager
import io
from itertools import count
import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import zlib

import bags
from bags import encoded, picture
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
from PIL import Image as Pillow
import pytest
from rclpy.serialization import serialize_message
from ros_support import (
    Client,
    KEEP_ALL,
    NodeProcess,
    one_thread,
    OUTPUTS,
    PATIENCE,
    python_path,
    READY,
    running_node,
    seconds_of,
    stamp,
    tiny,
)
from soak import soak_cycles, soak_frames

from zoe_ros.camera import DISTORTION_MODELS
from zoe_ros.messages import CameraInfoBuffer, decode_image, MessageError
from zoe_ros.pipeline import Pipeline
from zoe_ros.settings import FrameSettings

ROS = bags.rclpy_family()
IMAGES = tuple(name for name in OUTPUTS if name != 'head')
CAUSES = {'size', 'data', 'encoding', 'corrupt', 'converter'}


@pytest.fixture(scope='module', autouse=True)
def _one_thread():
    with one_thread():
        yield


# --- a generator of damage ------------------------------------------------------------------

ENCODINGS = (
    'rgb8', 'bgr8', '8UC3', 'rgba8', 'bgra8', '8UC4', 'mono8', '8UC1', 'mono16', '32FC1', '16UC1',
    '64FC1', 'bayer_rggb8', 'bayer_grbg16', 'yuv422', 'yuv422_yuy2', 'nv21', 'nv24', 'uyvy',
    'rgb16', 'bgra16', '', 'RGB8', 'rgb8 ', 'rgb8; jpeg', 'jpeg', '8UC0', '8UC99', 'ünïcode', '\t',
    'x' * 500)
PIXEL_BYTES = {'rgb8': 3, 'bgr8': 3, '8UC3': 3, 'rgba8': 4, 'bgra8': 4, '8UC4': 4, 'mono8': 1,
               '8UC1': 1, 'mono16': 2}
SIDES = (0, 1, 2, 3, 7, 31, 32, 33, 64, 65535, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1)
NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-3, 1e-30, 1e-300, 5e-324, 1e30, 1e300, np.nan, np.inf, -np.inf)
FORMATS = ('jpeg', 'png', '', 'rgb8; jpeg compressed bgr8', '16UC1; compressedDepth png', 'tiff',
           'h264', 'ünïcode', 'x' * 500)
SETTINGS = (
    FrameSettings(), FrameSettings(point_cloud_downsample=1, router_time_constant=0.0),
    FrameSettings(output_size='network', interpolation='nearest', point_cloud_downsample=64),
    FrameSettings(output_decimation=64, min_depth=1.0, max_depth=2.0, far_value=3.0),
    FrameSettings(focal_correction=True, edge_threshold=0.1, max_relative_uncertainty=0.1),
    FrameSettings(camera_view='training', point_cloud_color=False, interpolation='linear'),
    FrameSettings(router='outdoor', max_depth=0.01, depth_scale=1000.0,
                  point_cloud_max_range=0.01))


class Damage:
    """Makes images and CameraInfos, from good to hopeless."""

    def __init__(self, seed):
        """Begin a sequence that depends on the seed alone."""
        self.rng = np.random.default_rng(seed)
        self.stamps = count()

    def pick(self, choices):
        """Return one of the choices."""
        return choices[self.rng.integers(len(choices))]

    def chance(self, share):
        """Return True so often."""
        return self.rng.random() < share

    def header(self):
        """Return stamp and frame for a header; stamps go back and forth."""
        now = next(self.stamps) * 100_000_000
        stamps = (now, now, now, 0, 10 ** 15, self.rng.integers(2 ** 31) * bags.SECOND, -1,
                  -2 ** 31 * bags.SECOND, (2 ** 31 - 1) * bags.SECOND + 999_999_999)
        return {'stamp': int(self.pick(stamps)), 'frame': self.pick(('cam', 'cam', '', 'é', '/'))}

    def raw(self):
        """Return a sensor_msgs/Image."""
        height, width = (int(side) for side in self.rng.integers(1, 40, 2))
        encoding = self.pick(ENCODINGS[:9]) if self.chance(0.7) else self.pick(ENCODINGS)
        step = width * PIXEL_BYTES.get(encoding, 3) + int(self.pick((0, 0, 0, 1, 5)))
        size = height * step
        if self.chance(0.5):
            for _ in range(self.rng.integers(1, 3)):
                what = self.rng.integers(5)
                if what == 0:
                    height = self.pick(SIDES)
                elif what == 1:
                    width = self.pick(SIDES)
                elif what == 2:
                    step = self.pick((*SIDES, step - 1, step + 1))
                elif what == 3:
                    size = self.pick((0, 1, size - 1, size + 1, size // 2, 2 * size))
                else:
                    encoding = self.pick(ENCODINGS)
        data = self.rng.bytes(max(0, size))
        return ROS.image(data, height, width, max(0, step), encoding,
                         big_endian=int(self.pick((0, 0, 1, 255))), **self.header())

    def compressed(self):
        """Return a sensor_msgs/CompressedImage."""
        height, width = (int(side) for side in self.rng.integers(1, 40, 2))
        pixels = self.rng.integers(0, 256, (height, width, 3), np.uint8)
        kind = self.pick(('JPEG', 'JPEG', 'PNG', 'PNG', 'mode', 'other', 'noise', 'lie', 'chunk'))
        if kind in ('JPEG', 'PNG'):
            data = encoded(pixels, kind)
        elif kind == 'mode':
            form, mode = self.pick((
                ('PNG', '1'), ('PNG', 'L'), ('PNG', 'LA'), ('PNG', 'P'), ('PNG', 'RGBA'),
                ('PNG', 'I;16'), ('PNG', 'I'), ('JPEG', 'L'), ('JPEG', 'CMYK'), ('JPEG', 'YCbCr')))
            data = in_mode(pixels, form, mode)
        elif kind == 'other':
            data = encoded(pixels, self.pick(('GIF', 'BMP', 'TIFF', 'WEBP', 'PPM', 'TGA', 'ICO')))
        elif kind == 'noise':
            start = self.pick((b'', b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n', b'GIF89a', b'RIFF'))
            data = start + self.rng.bytes(self.rng.integers(0, 200))
        else:
            chunks = png_chunks(encoded(pixels, 'PNG'))
            at = 0 if kind == 'lie' else self.rng.integers(len(chunks))
            if kind == 'lie':
                sides = [int(self.pick((0, 1, 50, 2000, 2 ** 31 - 1, 2 ** 32 - 1))) for _ in '12']
                rest = bytes(self.rng.integers(0, 9, 5).tolist()) if self.chance(0.5) else (
                    chunks[0][1][8:])
                chunks[0] = (b'IHDR', struct.pack('>2I', *sides) + rest)
            else:
                name = self.pick((chunks[at][0], b'IDAT', b'PLTE', b'tRNS', b'iCCP', b'zTXt',
                                  b'iTXt', b'gAMA', b'eXIf', b'acTL', b'fcTL', b'fdAT', b'abcd',
                                  b'ABCD', b'cHRM', b'sRGB', b'pHYs', b'tEXt', b'IEND'))
                chunks.insert(at, (name, self.rng.bytes(self.rng.integers(0, 40))))
            data = png_of(chunks)
        data = bytearray(data)
        if self.chance(0.5):
            what = self.rng.integers(4)
            if what == 0:
                del data[self.rng.integers(len(data) + 1):]
            elif what == 1 and data:
                for at in self.rng.integers(0, len(data), self.rng.integers(1, 9)):
                    data[at] = self.rng.integers(256)
            elif what == 2:
                at = self.rng.integers(len(data) + 1)
                data[at:at] = self.rng.bytes(self.rng.integers(1, 30))
            else:
                data += self.rng.bytes(50)
        return ROS.compressed(data, self.pick(FORMATS[:2] if self.chance(0.8) else FORMATS),
                              **self.header())

    def image(self):
        """Return an image of either kind."""
        return self.raw() if self.chance(0.6) else self.compressed()

    def info(self, image):
        """Return a CameraInfo for an image, or None."""
        if self.chance(0.1):
            return None
        height, width = getattr(image, 'height', 20), getattr(image, 'width', 30)
        if hasattr(image, 'format'):
            try:
                with warnings.catch_warnings(action='ignore'), Pillow.open(
                        io.BytesIO(bytes(image.data))) as opened:
                    width, height = opened.size
            except Exception:
                width, height = 30, 20
        if self.chance(0.2):
            height, width = int(self.pick(SIDES)), int(self.pick(SIDES))
        k = [width * 0.9 + 1, 0, width / 2, 0, height * 0.9 + 1, height / 2, 0, 0, 1]
        p = [*k[:3], 0, *k[3:6], 0, *k[6:9], 0]
        d = [self.pick((0.0, 0.1, -0.1, 0.01)) for _ in range(self.rng.integers(0, 15))]
        model = self.pick((*DISTORTION_MODELS, *DISTORTION_MODELS, '', 'fisheye', 'é'))
        for values in (k, p, d):
            if values and self.chance(0.25):
                for _ in range(self.rng.integers(1, 4)):
                    values[self.rng.integers(len(values))] = float(self.pick(NUMBERS))
        if self.chance(0.05):
            k, p = [0.0] * 9, [0.0] * 12
        info = ROS.info(height, width, k, d, p, model, **self.header())
        if self.chance(0.7):
            info.header = image.header
        info.binning_x, info.binning_y = (int(self.pick((0, 1, 2, 2 ** 32 - 1))) for _ in '12')
        if self.chance(0.1):
            info.roi.width, info.roi.height, info.roi.x_offset, info.roi.y_offset = (
                int(self.pick(SIDES)) for _ in '1234')
        if self.chance(0.1):
            info.r = np.full(9, self.pick(NUMBERS))
        return info


def in_mode(pixels, form, mode):
    """Return a picture file of one of Pillow's modes."""
    image = Pillow.fromarray(pixels)
    file = io.BytesIO()
    if mode in ('I', 'I;16'):
        image = Pillow.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    image.save(file, form)
    return file.getvalue()


def png_chunks(data):
    """Return the chunks of a PNG file, as (name, content)."""
    chunks, at = [], 8
    while at < len(data):
        size, name = struct.unpack('>I4s', data[at:at + 8])
        chunks.append((name, data[at + 8:at + 8 + size]))
        at += 12 + size
    return chunks


def png_of(chunks):
    """Return the PNG file of some chunks, with checksums that hold."""
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(content)) + name + content
        + struct.pack('>I', zlib.crc32(name + content)) for name, content in chunks)


# --- in process -----------------------------------------------------------------------------


def unusable(info, image, rectified):
    """Tell, by the standard and not by our code, that no cloud can come of a CameraInfo."""
    if info is None or (info.height, info.width) != image.shape[:2]:
        return True
    fx, cx, fy, cy = (info.p[0], info.p[2], info.p[5], info.p[6]) if rectified else (
        info.k[0], info.k[2], info.k[4], info.k[5])
    if not np.isfinite([fx, fy, cx, cy]).all() or fx <= 0 or fy <= 0:
        return True
    return not rectified and not np.isfinite(info.d).all()


def faults_of(frame, message, info, rectified, wanted):
    """Yield what is wrong with a frame for those who use or send it."""
    height, width = frame.image.shape[:2]
    if frame.depth.shape != (height, width):
        yield 'depth of another size'
    with np.errstate(invalid='ignore'):
        if ((frame.depth <= 0) & ~np.isneginf(frame.depth)).any():
            yield 'depth of 0 or less'
    images = {name for name in wanted if name.startswith('depth/')} - {'depth/camera_info'}
    if not images <= set(frame.messages) <= set(wanted):
        yield f'{set(frame.messages)} instead of {set(wanted)}'
    sizes = set()
    for name, made in frame.messages.items():
        serialize_message(made)
        if made.header != message.header:
            yield f'another header of {name}'
        if name in images:
            sizes.add((made.height, made.width))
            if len(made.data) != made.height * made.step or not len(made.data):
                yield f'data of {name}'
        elif name == 'depth/camera_info':
            if (info.height, info.width) == (height, width):
                sizes.add((made.height, made.width))
            elif (made.height, made.width) != (info.height, info.width):
                yield 'a CameraInfo of another image was changed'
    if len(sizes) > 1:
        yield f'sizes {sizes}'
    if bool(frame.no_cloud) == ('points' in frame.messages):
        yield f'a cloud and "{frame.no_cloud}"'
    if 'points' not in frame.messages:
        return
    if unusable(info, frame.image, rectified):
        yield 'a cloud of a camera that is not usable'
    cloud = frame.messages['points']
    points = np.frombuffer(bytes(cloud.data), '<f4').reshape(-1, cloud.point_step // 4)[:, :3]
    lost = np.isnan(points)
    if (lost.all(axis=1) != lost.any(axis=1)).any():
        yield 'half a point'
    if np.isinf(points).any():
        yield 'a point at infinity'
    if (points[:, 2] <= 0).any():
        yield 'a point in or behind the camera'


PER_SEED = 270


@pytest.mark.parametrize('seed', range(20))
def test_malformed_messages_give_a_frame_or_a_cause(seed, tiny_estimator):
    damage = Damage(seed)
    pipelines = [(Pipeline(tiny_estimator, ROS.types, FrameSettings(), rectified), rectified)
                 for rectified in (False, True)]
    infos = CameraInfoBuffer()
    outcomes, faults = Counter(), []
    for case in range(PER_SEED):
        pipeline, rectified = damage.pick(pipelines)
        pipeline.settings = damage.pick(SETTINGS)
        image = damage.image()
        info = damage.info(image)
        if damage.chance(0.5):
            infos = CameraInfoBuffer()
        if info is not None:
            infos.add(info)
        before = str(info)
        # Always the cloud: without it nothing is said of why there is none.
        wanted = ['points', *(name for name in IMAGES if name != 'points' and damage.chance(0.6))]
        try:
            with warnings.catch_warnings(action='ignore'):
                frame = pipeline.process(image, infos, wanted)
        except MessageError as error:
            outcomes[error.cause] += 1
            found = [] if error.cause in CAUSES and str(error) and '\n' not in str(error) else [
                f'the error {error.cause}: {error}']
        except Exception as error:
            found = [f'{type(error).__name__}: {error}']
        else:
            outcomes['frame'] += 1
            found = list(faults_of(
                frame, image, infos.find(image.header), rectified, wanted))
        if str(info) != before:
            found.append('CameraInfo was changed')
        faults += [f'case {case}: {fault}' for fault in found]
    assert not faults, '\n'.join(faults)
    # The generator does not make rubbish only, and all kinds of it.
    assert outcomes['frame'] > PER_SEED / 5
    assert {'data', 'encoding', 'corrupt'} <= set(outcomes)


# --- over DDS -------------------------------------------------------------------------------


def good_image(at=1.0, size=(48, 64), frame='cam', encoding='rgb8', seed=0):
    """Return a good sensor_msgs/Image."""
    return stamp(ROS.photo(picture(*size, seed=seed), encoding, frame=frame), at)


def good_info(at=1.0, size=(48, 64), frame='cam', **more):
    """Return its CameraInfo."""
    return stamp(ROS.info(*size, frame=frame, **more), at)


@pytest.fixture(scope='module')
def node(tiny_weights):
    """Return a node that takes raw images, for all tests that do not end it."""
    with running_node(**tiny(tiny_weights, diagnostics_period=0.3)) as process:
        process.wait_for(READY)
        yield process
        assert process.end() == 0, process.output
        assert 'Traceback' not in process.output


@pytest.fixture
def client(node):
    """Return a client that is matched with it."""
    with Client(node, compressed=False) as client:
        client.wait_for_match()
        yield client


@pytest.mark.parametrize('kind', ['raw', 'compressed'])
def test_malformed_messages_over_dds_are_counted_by_their_cause(kind, tiny_weights):
    damage, number = Damage(kind == 'raw'), 200
    images = [getattr(damage, kind)() for _ in range(number)]
    expected = Counter(map(outcome, images))
    frames = expected.pop('frame')
    assert frames > 30
    assert len(expected) >= 2
    parameters = tiny(tiny_weights, policy='every', image_transport=kind, diagnostics_period=0.3)
    with running_node(**parameters) as node, \
            Client(node, kind == 'compressed', qos=KEEP_ALL, listen_qos=KEEP_ALL) as client:
        node.wait_for(READY)
        client.wait_for_match()
        for image in images:
            if (info := damage.info(image)) is not None:
                client.infos.publish(info)
            client.images.publish(image)
        client.wait_until(lambda: len(client.depth) >= frames, what='the depth of the good ones')
        if kind == 'raw':
            good = good_image(at=5)
        else:
            good = stamp(ROS.compressed(encoded(picture()), 'png', frame='cam'), 5)
        depth = client.ask(good, good_info(at=5))
        assert depth.header == good.header
        assert len(client.depth) == frames + 1
        values = client.next_report()
        assert {name.split(': ')[1]: int(value) for name, value in values.items()
                if name.startswith('dropped')} == expected
        assert node.end() == 0, node.output
        assert 'Traceback' not in node.output
        assert 'dropped an image: ' in node.output


def outcome(image):
    """Return 'frame', or why there is none."""
    try:
        with warnings.catch_warnings(action='ignore'):
            decode_image(image)
        return 'frame'
    except MessageError as error:
        return error.cause


def test_size_encoding_and_frame_may_change_in_mid_stream(client):
    at = 10.0
    for size in ((48, 64), (480, 640), (1, 1), (31, 7), (48, 64)):
        for encoding in ('rgb8', 'bgr8', 'mono8'):
            for frame in ('cam', 'another'):
                at += 0.1
                image = good_image(at, size, frame, encoding)
                client.clear()
                # An image that comes before its CameraInfo meets that of another size, and has no
                # cloud.
                client.ask_until(image, lambda: client.points, good_info(at, size, frame), 0.5,
                                 f'a cloud of {size}')
                depth, info, cloud = client.depth[-1], client.camera_info[-1], client.points[-1]
                assert depth.header == info.header == cloud.header == image.header
                assert (depth.height, depth.width, depth.encoding) == (*size, '32FC1')
                assert (info.height, info.width) == size
                assert (cloud.height, cloud.width) == (-(-size[0] // 4), -(-size[1] // 4))


def test_a_bag_that_loops_goes_on(client):
    for _ in range(3):
        for i in range(5):
            image = good_image(100 + i / 10)
            client.ask(image, good_info(100 + i / 10))
            assert client.points[-1].header == image.header
    stamps = [round(seconds_of(depth), 1) for depth in client.depth]
    assert stamps == [100.0, 100.1, 100.2, 100.3, 100.4] * 3


def test_an_uncalibrated_camera_gives_depth_without_a_cloud(client, node):
    """A driver without a calibration publishes a CameraInfo of zeros, or of its size alone."""
    before = client.next_report().get('dropped: error', '0')
    for size in ((0, 0), (48, 64)):
        client.infos.publish(good_info(200, size, 'bare', k=[0.0] * 9, p=[0.0] * 12))
        client.spin(0.3)
        client.ask(good_image(200, frame='bare'))
    client.spin(0.3)
    assert client.points == []
    assert client.next_report().get('dropped: error', '0') == before
    assert node.output.count('the camera is not calibrated') == 1


OTHER = textwrap.dedent("""
    import sys, time
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image, PointCloud2
    kind, namespace, reliable, at = sys.argv[1:]
    rclpy.init()
    node = rclpy.create_node('other', namespace=namespace)
    qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE if reliable == 'reliable'
                     else ReliabilityPolicy.BEST_EFFORT)
    if kind == 'publish':
        publisher = node.create_publisher(Image, 'image_raw', qos)
        image = Image(height=48, width=64, encoding='rgb8', step=192, data=bytes(48 * 192))
        image.header.frame_id = 'other'
        image.header.stamp.sec = int(at)
        while True:
            publisher.publish(image)
            time.sleep(0.05)
    def got(message):
        print(message.header.stamp.sec, flush=True)
    subscriptions = [node.create_subscription(t, n, got, qos)
                     for t, n in ((Image, 'depth/image'), (PointCloud2, 'points'))]
    rclpy.spin(node)
    """)


@contextmanager
def other_process(*arguments):
    """Run OTHER in a process of its own; kill it at the end."""
    process = subprocess.Popen([sys.executable, '-c', OTHER, *arguments], text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_subscriber_may_be_killed_while_it_receives(client, node):
    for kind in ('reliable', 'best effort'):
        with other_process('listen', node.namespace, kind, '0') as other:
            # Its pipe is read here, so that a line says that it receives.
            lines = []
            reader = threading.Thread(target=lambda o=other, li=lines: li.append(
                o.stdout.readline()))
            reader.start()
            client.ask_until(good_image(400), lambda r=reader: not r.is_alive(), good_info(400),
                             interval=0.02, what='the subscriber')
            assert lines == ['400\n']
            for i in range(10):
                client.images.publish(good_image(401 + i))
            other.send_signal(signal.SIGKILL)
            for i in range(10):
                client.images.publish(good_image(411 + i))
        # Its ghost is known for some time and must not hold anything up.
        for i in range(30):
            client.ask(good_image(430 + i), good_info(430 + i))
        client.clear()


def test_a_killed_publisher_may_come_back(node):
    """Once as reliable as it was, once as best effort, while its ghost is still known."""
    with Client(node, compressed=False) as client:
        client.node.destroy_publisher(client.images)
        for at, kind in ((301, 'reliable'), (302, 'reliable'), (303, 'best effort'),
                         (304, 'reliable')):
            with other_process('publish', node.namespace, kind, str(at)):
                client.wait_until(
                    lambda at=at: any(seconds_of(depth) == at for depth in client.depth),
                    what=f'depth of the publisher {at}')
        assert node.process.poll() is None


def test_parameters_may_change_while_frames_flow(tiny_weights):
    """A frame uses one set of them throughout."""
    number = 150
    choices = [{'output_decimation': 1, 'point_cloud_downsample': 4, 'depth_scale': 1.0},
               {'output_decimation': 2, 'point_cloud_downsample': 1, 'depth_scale': 3.0},
               {'output_decimation': 3, 'point_cloud_downsample': 2, 'point_cloud_color': False}]
    sizes = {(48, 64): (12, 16), (24, 32): (48, 64), (16, 22): (24, 32)}
    with running_node(**tiny(tiny_weights, policy='every')) as node, \
            Client(node, compressed=False, qos=KEEP_ALL, listen_qos=KEEP_ALL) as client:
        node.wait_for(READY)
        client.wait_for_match()
        client.ask_until(good_image(1), lambda: client.points, good_info(1), interval=2.0)
        client.spin(0.5)
        client.clear()
        for i in range(number):
            client.infos.publish(good_info(10 + i))
            client.images.publish(good_image(10 + i))
            if i % 5 == 0:
                assert client.change_at_once(**choices[i // 5 % 3]) == ''
                assert client.change_at_once(depth_scale=2.0, router='kitchen')
        client.wait_until(lambda: all(len(client.received[name]) >= number for name in (
            'depth/image', 'depth/camera_info', 'points')), what='all of them')
        seen = set()
        for depth, info, cloud in zip(client.depth, client.camera_info, client.points):
            assert depth.header == info.header == cloud.header
            size = depth.height, depth.width
            assert (info.height, info.width) == size
            assert (cloud.height, cloud.width) == sizes[size]
            seen.add(size)
        assert seen == set(sizes)
        assert node.end() == 0, node.output
        assert 'Traceback' not in node.output


# --- ends -----------------------------------------------------------------------------------


def flood(client, images=30, size=(480, 640)):
    """Publish images faster than they can be processed, the last just now."""
    image, info = good_image(1, size), good_info(1, size)
    for _ in range(images):
        client.infos.publish(info)
        client.images.publish(image)


def transition_at_hand(client):
    """Ask for a transition and do not wait for it."""
    service = client.node.create_client(ChangeState, 'depth_node/change_state')
    client.wait_until(service.service_is_ready, what='the service')
    service.call_async(ChangeState.Request(
        transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
    time.sleep(0.05)


INT, TERM = signal.SIGINT, signal.SIGTERM
MOMENTS = {
    'during frames': ({}, flood, (INT,)),
    'during a large frame': ({}, lambda client: flood(client, 2, (1500, 2000)), (TERM,)),
    'while every image waits': ({'policy': 'every'}, lambda client: flood(client, 100), (TERM,)),
    'twice': ({}, flood, (INT, INT, TERM)),      # an impatient user
    'while inactive': ({'autostart': False}, lambda client: None, (INT,)),
    'while it configures': ({'autostart': False}, transition_at_hand, (TERM,))}


def test_a_signal_at_any_moment_ends_it_cleanly(tiny_weights):
    nodes = {}
    try:
        for moment, (parameters, _, _) in MOMENTS.items():
            # Together: their imports take seconds.
            nodes[moment] = NodeProcess(**tiny(tiny_weights, **parameters))
        for moment, (parameters, act, signals) in MOMENTS.items():
            node = nodes[moment]
            with Client(node, compressed=False) as client:
                if 'autostart' in parameters:
                    state = client.call(GetState, 'get_state', GetState.Request())
                    assert state.current_state.label == 'unconfigured'
                else:
                    node.wait_for(READY)
                    client.wait_for_match()
                    client.ask(good_image())
                act(client)
                for sign in signals:
                    node.process.send_signal(sign)
                assert node.process.wait(PATIENCE) == 0, (moment, node.output)
                assert 'Traceback' not in node.output, (moment, node.output)
                assert 'dropped an image: ' not in node.output, (moment, node.output)
    finally:
        for node in nodes.values():
            node.process.kill()
            node.process.wait()


BETWEEN = textwrap.dedent("""
    import importlib, os, signal, sys, time
    module, name, count, *arguments = sys.argv[1:]
    owner = importlib.import_module(module)
    *path, name = name.split('.')
    for part in path:
        owner = getattr(owner, part)
    original, calls = getattr(owner, name), 0
    def interrupted(*arguments):
        global calls
        calls += 1
        if calls == int(count):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)     # rclpy shuts its context down meanwhile
        return original(*arguments)
    setattr(owner, name, interrupted)
    import zoe_ros.ros.node
    zoe_ros.ros.node._SILENCE = 0.2
    from zoe_ros.ros.main import main
    sys.exit(main(['depth_node', *arguments]))
    """)


def test_a_signal_just_before_any_call_of_the_executor_ends_it_cleanly(tiny_weights):
    """The context of rclpy is then gone when the call needs it."""
    options = ['--ros-args', '-p', 'variant:=tiny', '-p', f"weights:='{tiny_weights}'",
               '-p', 'device:=cpu', '-r', '__ns:=/signals']
    processes = {place: subprocess.Popen(
        [sys.executable, '-c', BETWEEN, *place, '3', *options], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, 'PYTHONPATH': python_path()}) for place in (
            ('rclpy.executors', '_rclpy.WaitSet'),
            ('zoe_ros.ros.subscription', 'MatchedSubscription._match'),
            ('zoe_ros.ros.node', 'DepthNode._diagnose'),
            ('zoe_ros.ros.node', 'DepthNode._explain_silence'))}
    ends = {place: (process.communicate(timeout=PATIENCE)[0], process.returncode)
            for place, process in processes.items()}
    bad = {place: end for place, end in ends.items() if end[1] != 0 or 'Traceback' in end[0]}
    assert not bad, bad


def test_nothing_from_outside_makes_it_write_files(tiny_weights, tmp_path):
    folders = {name: tmp_path / name for name in ('cwd', 'TMPDIR', 'HOME')}
    for folder in folders.values():
        folder.mkdir()
    environment = {'TMPDIR': str(folders['TMPDIR']), 'HOME': str(folders['HOME']),
                   'ROS_LOG_DIR': str(tmp_path / 'log')}
    evil = str(tmp_path / 'evil')
    before = {path for path in tmp_path.rglob('*') if 'log' not in path.parts}
    with running_node(cwd=folders['cwd'], environment=environment, **tiny(tiny_weights)) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        damage = Damage(99)
        for i, name in enumerate((evil, '../evil', '~/evil', 'evil', 'file://' + evil)):
            client.ask(good_image(i, frame=name), good_info(i, frame=name))
            bad = good_image(i)
            bad.encoding = name
            client.images.publish(bad)
            client.infos.publish(good_info(i, model=name, d=[0.1]))
            for parameter in ('weights', 'variant', 'device', 'cameras', 'router', 'evil'):
                assert client.change(**{parameter: name}) != ['']
        for _ in range(50):
            client.images.publish(damage.raw())
            client.spin(0.02)
        client.ask(good_image(50), good_info(50))
        assert {path for path in tmp_path.rglob('*') if 'log' not in path.parts} == before
        assert node.end() == 0, node.output
    assert {path for path in tmp_path.rglob('*') if 'log' not in path.parts} == before


# --- the long run, in short -----------------------------------------------------------------


def test_a_short_soak_is_within_its_limits(tiny_weights):
    rows = soak_frames(tiny_weights, 300, warm_up=50)
    assert all(row.good for row in rows), '\n'.join(map(str, rows))


def test_thirty_lifecycle_cycles(tiny_weights):
    rows = soak_cycles(tiny_weights, 30)
    assert all(row.good for row in rows), '\n'.join(map(str, rows))
