"""
Malformed input: no exception leaves a callback, no wrong cloud comes out, each cause is counted.

Most cases go straight through :class:`Pipeline`, some hundred over DDS to a real node. They come
from a generator with a seed: a failure names the seed and the case.
"""
from collections import Counter
import warnings

from bags import encoded, picture
from compressed_depth import png_size
from damage import Damage, ROS, SETTINGS
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from ros_support import (
    Client,
    good_image,
    good_info,
    KEEP_ALL,
    OUTPUTS,
    READY,
    running_node,
    stamp,
    tiny,
)

from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.images import decode_image, MessageError
from zoe_ros.outputs import COMPRESSED
from zoe_ros.pipeline import Pipeline
from zoe_ros.settings import FrameSettings

IMAGES = tuple(name for name in OUTPUTS if name != 'depth/head')
CAUSES = {'size', 'data', 'encoding', 'corrupt'}
# Together at least 5,000.
SEEDS, CASES = 20, 260


# --- in process -----------------------------------------------------------------------------


def belongs(info, size):
    """
    Tell whether CameraInfo is for images of a size, by the definition of binning and roi.

    One that leaves its size at 0 x 0 is for images of any size.
    """
    if (info.height, info.width) in (size, (0, 0)):
        return True
    roi = info.roi
    for full, start, length, binning, pixels in (
            (info.height, roi.y_offset, roi.height, info.binning_y, size[0]),
            (info.width, roi.x_offset, roi.width, info.binning_x, size[1])):
        if not (roi.width and roi.height):
            start, length = 0, full
        ratio = length / max(binning, 1)
        if start + length > full or ratio < 1 or abs(ratio - pixels) >= 1:
            return False
    return True


def unusable(info, image, rectified):
    """Tell, by the standard and not by our code, that no cloud can come of a CameraInfo."""
    if info is None or not belongs(info, image.shape[:2]):
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
    images = {name for name in wanted if name.startswith('depth/')} - {
        'depth/camera_info', 'depth/points'}
    if not images <= set(frame.messages) <= set(wanted):
        yield f'{set(frame.messages)} instead of {set(wanted)}'
    sizes = set()
    for name, made in frame.messages.items():
        made = made() if name == COMPRESSED else made
        serialize_message(made)
        if made.header != message.header:
            yield f'another header of {name}'
        if name == COMPRESSED:
            sizes.add(png_size(bytes(made.data)[12:]))
        elif name in images:
            sizes.add((made.height, made.width))
            if len(made.data) != made.height * made.step or not len(made.data):
                yield f'data of {name}'
        elif name == 'depth/camera_info':
            if belongs(info, (height, width)):
                sizes.add((made.height, made.width))
            elif (made.height, made.width) != (info.height, info.width):
                yield 'a CameraInfo of another image was changed'
    if len(sizes) > 1:
        yield f'sizes {sizes}'
    if bool(frame.no_cloud) == ('depth/points' in frame.messages):
        yield f'a cloud and "{frame.no_cloud}"'
    if 'depth/points' not in frame.messages:
        return
    if unusable(info, frame.image, rectified):
        yield 'a cloud of a camera that is not usable'
    cloud = frame.messages['depth/points']
    points = np.frombuffer(bytes(cloud.data), '<f4').reshape(-1, cloud.point_step // 4)[:, :3]
    lost = np.isnan(points)
    if (lost.all(axis=1) != lost.any(axis=1)).any():
        yield 'half a point'
    if np.isinf(points).any():
        yield 'a point at infinity'
    if (points[:, 2] <= 0).any():
        yield 'a point in or behind the camera'


@pytest.mark.parametrize('seed', range(SEEDS))
def test_malformed_messages_give_a_frame_or_a_cause(seed, tiny_estimator):
    damage = Damage(seed)

    def made(infos):
        return {rectified: Pipeline(tiny_estimator, ROS.types, FrameSettings(), infos, rectified)
                for rectified in (False, True)}

    infos = CameraInfoBuffer()
    pipelines = made(infos)
    outcomes, faults = Counter(), []
    for case in range(CASES):
        rectified, settings = damage.pick((False, True)), damage.pick(SETTINGS)
        image = damage.image()
        info = damage.info(image)
        if damage.chance(0.5):
            infos = CameraInfoBuffer()
            pipelines = made(infos)
        pipeline = pipelines[rectified]
        pipeline.settings = settings
        if info is not None:
            infos.add(info)
        before = str(info)
        # Always the cloud: without it nothing is said of why there is none.
        wanted = ['depth/points', *(name for name in IMAGES
                                    if name != 'depth/points' and damage.chance(0.6))]
        try:
            with warnings.catch_warnings(action='ignore'):
                frame = pipeline.process(image, wanted)
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
    assert outcomes['frame'] > CASES / 5
    assert {'data', 'encoding', 'corrupt'} <= set(outcomes)


# --- over DDS -------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['raw', 'compressed'])
def test_malformed_messages_over_dds_are_counted_by_their_cause(kind, tiny_weights):
    damage, number = Damage(kind == 'raw'), 200
    images = [getattr(damage, kind)() for _ in range(number)]
    if kind == 'raw':
        good = good_image()
    else:
        good = ROS.compressed(encoded(picture()), 'png', frame='cam')
    expected = Counter(map(outcome, images))
    frames = expected.pop('frame')
    assert frames > 30
    assert len(expected) >= 2
    parameters = tiny(tiny_weights, policy='every', image_transport=kind, diagnostics_period=0.3)
    with running_node(**parameters) as node, \
            Client(node, kind == 'compressed', qos=KEEP_ALL, listen_qos=KEEP_ALL) as client:
        node.wait_for(READY)
        client.wait_for_match()
        good_ones = 0
        for i, image in enumerate(images):
            if (info := damage.info(image)) is not None:
                client.infos.publish(info)
            client.images.publish(image)
            good_ones += outcome(image) == 'frame'
            if i % 20 == 19:    # bursts are for test_node_every
                client.wait_until(lambda count=good_ones: len(client.depth) >= count,
                                  what=f'the depth of {good_ones} images, after {i + 1}')
        assert good_ones == frames
        depth = client.ask(stamp(good, 5), good_info(at=5))
        assert depth.header == good.header
        assert len(client.depth) == frames + 1
        values = client.next_report(count=2)
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
