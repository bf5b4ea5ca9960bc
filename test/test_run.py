"""``zoe run`` on a tiny model: what it writes, what it says, and what it does with bad input."""
from dataclasses import fields
import io
import json
import logging
import os
from pathlib import Path
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time

import bags
import made_up
import numpy as np
from PIL import Image
import pytest
import torch
import yaml

from zoe_ros.camera import distort
from zoe_ros.cli import main
from zoe_ros.messages import CameraInfoBuffer, decode_image
from zoe_ros.pipeline import Pipeline
from zoe_ros.settings import FrameSettings

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / 'zoe_ros' / 'data' / 'sample'
DEPTH, INFO, POINTS = '/depth/image', '/depth/camera_info', '/depth/points'
RAW = '/camera/image_raw'
# What DepthEstimator.predict returns, bit for bit.
PUBLISHED = ('--interpolation', 'linear', '--router-time-constant', '0')


# With two threads this small model spends its time waiting for other processes of the machine.
SINGLE = {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}


@pytest.fixture(autouse=True, scope='module')
def single_thread():
    """Let torch use one thread, in both the command and what it is compared with."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Ran:
    """
    A finished command.

    :ivar out: what it said on stdout, and in its log.
    """

    def __init__(self, code, out, err, output):
        self.code, self.out, self.err, self._output = code, out, err, output

    @property
    def folder(self):
        """Return the folder of the results."""
        folder, = (path for path in self._output.iterdir() if not path.is_symlink())
        return folder

    @property
    def summary(self):
        """Return what summary.json says."""
        return json.loads((self.folder / 'summary.json').read_text())

    @property
    def bag(self):
        """Return the messages of the bag that was written."""
        return bags.read_bag(self.folder / 'bag')


@pytest.fixture
def news():
    """
    Return a text stream with what a run logs.

    Not pytest's caplog: where launch is installed, its pytest plugin cuts loggers off the root.
    """
    stream, logger = io.StringIO(), logging.getLogger('zoe_ros.run')
    handler, before = logging.StreamHandler(stream), (logger.level, logger.propagate)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield stream
    logger.setLevel(before[0])
    logger.propagate = before[1]
    logger.removeHandler(handler)


@pytest.fixture
def zoe(tmp_path, tiny_weights, capsys, news):
    """Return a function that runs ``zoe run`` on the tiny model, in this process."""
    output = tmp_path / 'results'

    def ran(*arguments, weights=tiny_weights, to=output):
        news.truncate(news.seek(0))
        capsys.readouterr()
        try:
            code = main(['run', '--variant', 'tiny', '--weights', str(weights), '--device', 'cpu',
                         '--precision', 'fp32', '--output', str(to), *map(str, arguments)])
        except SystemExit as error:     # argparse
            code = error.code
        out, err = capsys.readouterr()
        return Ran(code, f'{news.getvalue()}{out}', err, Path(to))

    return ran


@pytest.fixture
def refused(zoe, tmp_path):
    """Return a function: arguments -> the one line on stderr; nothing has been written."""
    def said(*arguments, **options):
        ran = zoe(*arguments, **options)
        assert ran.code == 2
        assert re.fullmatch(r'zoe: [^\n]+\n', ran.err), ran.err
        assert not (tmp_path / 'results').exists()
        return ran.err

    return said


def command(*arguments, cwd=None, **environment):
    """Run ``zoe run`` as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, '-m', 'zoe_ros.cli', 'run', *map(str, arguments)], cwd=cwd,
        env={**os.environ, **SINGLE, 'PYTHONPATH': str(ROOT), **environment}, capture_output=True,
        text=True, timeout=300)


def check_results(ran, frames, data):
    """Check the files that every run leaves, however it got its images."""
    folder = ran.folder
    latest = folder.parent / 'latest'
    assert latest.is_symlink() and latest.resolve() == folder.resolve()
    assert re.fullmatch(r'\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d', folder.name)
    config = yaml.safe_load((folder / 'config.yaml').read_text())
    assert config['data'] == str(data) and config['variant'] == 'tiny'
    assert config['point_cloud_downsample'] >= 1 and config['aspect'] == 'stretch'
    summary = ran.summary
    assert summary['complete'] is True and summary['frames'] == frames
    assert sum(summary['frames_per_head'].values()) == frames
    assert 0 < summary['depth_p5_m'] <= summary['depth_p50_m'] <= summary['depth_p95_m']
    assert 0 < summary['latency_p50_ms'] <= summary['latency_p95_ms']
    assert summary['rate_hz'] > 0
    with Image.open(folder / 'overview.png') as overview:
        assert overview.size[0] in range(40, 1500) and overview.size[1] in range(40, 3000)
        assert len(overview.convert('RGB').getcolors(1 << 24)) > 50
    assert str(folder) in ran.out
    assert re.search(rf'frames +{frames}\b', ran.out)
    assert re.search(r'depth p5 - p95 +\S+ - \S+ m', ran.out)


def check_bag(ran, estimator, images, infos, downsample=4):
    """
    Check each message of a bag of results against its input.

    :param images: [(time of recording, message)].
    :param infos: [CameraInfo of each image], or None.
    """
    out = ran.bag
    assert set(out) == ({DEPTH, INFO, POINTS} if infos else {DEPTH})
    assert len(out[DEPTH]) == len(images)
    for i, (recorded, message) in enumerate(images):
        rgb = decode_image(message)
        when, depth = out[DEPTH][i]
        assert when == recorded
        assert bags.key(depth) == bags.key(message)
        assert (depth.encoding, depth.height, depth.width) == ('32FC1', *rgb.shape[:2])
        expected = estimator.predict(rgb).depth
        assert bags.depth_of(depth).tobytes() == expected.tobytes()
        if not infos:
            continue
        when, info = out[INFO][i]
        assert when == recorded and bags.key(info) == bags.key(message)
        for name in ('height', 'width', 'distortion_model', 'binning_x', 'binning_y'):
            assert getattr(info, name) == getattr(infos[i], name)
        for name in 'dkrp':
            assert np.array_equal(getattr(info, name), getattr(infos[i], name))
        when, cloud = out[POINTS][i]
        assert when == recorded and bags.key(cloud) == bags.key(message)
        points = bags.cloud_points(cloud)
        assert np.array_equal(points[..., 2], expected[::downsample, ::downsample])
        if not any(infos[i].d):
            fx, _, cx, _, fy, cy = np.asarray(infos[i].k)[:6]
            rows, columns = np.mgrid[:rgb.shape[0]:downsample, :rgb.shape[1]:downsample]
            z = points[..., 2]
            assert np.allclose(points[..., 0], (columns - cx) / fx * z, rtol=1e-5, atol=1e-6)
            assert np.allclose(points[..., 1], (rows - cy) / fy * z, rtol=1e-5, atol=1e-6)


def inputs(path, topic, info=None):
    """Return the images and the CameraInfo of each in a bag, both in order."""
    found = bags.read_bag(path)
    return found[topic], [message for _, message in found.get(info, [])]


# --- bags -----------------------------------------------------------------------------------


def test_sample_bag(zoe, tiny_estimator):
    ran = zoe(SAMPLE, *PUBLISHED)
    assert (ran.code, ran.err) == (0, '')
    images, infos = inputs(SAMPLE, '/camera/image_raw/compressed', '/camera/camera_info')
    assert len(images) == 25 == len(infos)
    check_results(ran, 25, SAMPLE)
    check_bag(ran, tiny_estimator, images, infos)
    assert 'bag: 25 images on /camera/image_raw/compressed, CameraInfo on' in ran.out
    assert f'ros2 bag play {ran.folder / "bag"}' in ran.out


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'mono8', 'jpeg', 'png'])
@pytest.mark.parametrize('storage, info', [('mcap', '/camera/camera_info'), ('sqlite3', None)])
def test_bags_made_on_the_spot(zoe, tiny_estimator, tmp_path, encoding, storage, info):
    messages = bags.camera_messages(3, encoding=encoding, info=info)
    path = bags.write_bag(tmp_path / 'bag', messages, storage)
    ran = zoe(path, *PUBLISHED, '--point-cloud-downsample', 1)
    assert (ran.code, ran.err) == (0, '')
    check_results(ran, 3, path)
    images, infos = inputs(path, RAW, info)
    check_bag(ran, tiny_estimator, images, infos, downsample=1)
    assert ('no CameraInfo' in ran.out) == (info is None)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_bare_storage_file(zoe, tiny_estimator, tmp_path, storage):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(2), storage)
    file = bags.storage_file(path).rename(tmp_path / f'copy{bags.storage_file(path).suffix}')
    shutil.rmtree(path)
    ran = zoe(file, *PUBLISHED)
    assert (ran.code, ran.err) == (0, '')
    check_results(ran, 2, file)
    check_bag(ran, tiny_estimator, *inputs(file, RAW, '/camera/camera_info'))


def test_hallway(zoe, tiny_estimator):
    if not bags.HALLWAY_BAG.is_dir():
        pytest.skip(f'no bag at {bags.HALLWAY_BAG}')
    ran = zoe(bags.HALLWAY_BAG, *PUBLISHED)
    assert (ran.code, ran.err) == (0, '')
    images, infos = inputs(bags.HALLWAY_BAG, '/camera/image_raw/compressed', '/camera/camera_info')
    check_results(ran, 40, bags.HALLWAY_BAG)
    check_bag(ran, tiny_estimator, images, infos)
    # The rays of the cloud, bent as this lens bends them, meet the pixels they came from.
    points = bags.cloud_points(ran.bag[POINTS][0][1]).astype(np.float64)
    rays = points[..., :2] / points[..., 2:]
    (fx, _, cx, _, fy, cy), d = np.asarray(infos[0].k)[:6], tuple(infos[0].d)
    x, y = distort(rays[..., 0], rays[..., 1], d)
    rows, columns = np.mgrid[:480:4, :640:4]
    assert np.abs(x * fx + cx - columns).max() < 0.01
    assert np.abs(y * fy + cy - rows).max() < 0.01
    assert np.abs(rays[..., 0] * fx + cx - columns).max() > 20


def test_rectified_images_use_p(zoe, tmp_path):
    p = (40, 0, 30, 0, 0, 50, 20, 0, 0, 0, 1, 0)
    messages = bags.camera_messages(1, '/camera/image_rect', d=(0.3, 0.1, 0, 0, 0), p=p)
    ran = zoe(bags.write_bag(tmp_path / 'bag', messages), '--point-cloud-downsample', 2)
    assert ran.code == 0
    assert yaml.safe_load((ran.folder / 'config.yaml').read_text())['rectified'] is True
    points = bags.cloud_points(ran.bag[POINTS][0][1])
    columns = np.arange(0, 64, 2)
    assert np.allclose(points[0, :, 0] / points[0, :, 2], (columns - 30) / 40, rtol=1e-4)


def test_uncalibrated_camera_gives_depth_and_a_reason(zoe, tmp_path):
    messages = bags.camera_messages(3, k=(0,) * 9)
    ran = zoe(bags.write_bag(tmp_path / 'bag', messages))
    assert ran.code == 0
    assert {topic: len(found) for topic, found in ran.bag.items()} == {DEPTH: 3, INFO: 3}
    assert ran.out.count('no cloud: the camera is not calibrated') == 1


def test_several_topics_print_lines_that_work_when_pasted(zoe, tmp_path, capsys):
    messages = [message for side in ('left', 'right') for message in
                bags.camera_messages(2, f'/{side}/image_raw', f'/{side}/camera_info')]
    path = bags.write_bag(tmp_path / 'two cameras', messages)     # a blank to be quoted
    ran = zoe(path)
    assert ran.code == 2 and not (tmp_path / 'results').exists()
    first, *lines = ran.err.splitlines()
    assert first == f'zoe: {path} has several image topics; choose one:'
    assert [line.split()[-1] for line in lines] == ['/left/image_raw', '/right/image_raw']
    program, *arguments = shlex.split(lines[1])
    assert program == 'zoe'
    assert main(arguments) == 0
    capsys.readouterr()
    found = bags.read_bag(tmp_path / 'results' / 'latest' / 'bag')
    assert [recorded for recorded, _ in found[DEPTH]] == bags.stamps(2)


def test_two_runs_stand_side_by_side(zoe, tmp_path):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(1, info=None))
    assert zoe(path).code == 0 == zoe(path).code
    folders = [p for p in (tmp_path / 'results').iterdir() if not p.is_symlink()]
    assert len(folders) == 2
    newest = max(folders, key=lambda p: (p / 'summary.json').stat().st_mtime_ns)
    assert (tmp_path / 'results' / 'latest').resolve() == newest.resolve()


def test_choices_reach_the_estimator(zoe, tmp_path):
    # Square: one that fits the network would be the same with either aspect.
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(1, info=None, size=(48, 48)))
    depths = {}
    for choice in ((), ('--flip',), ('--pad',), ('--aspect', 'keep'), ('--precision', 'bf16'),
                   ('--router', 'indoor'), ('--router', 'outdoor')):
        ran = zoe(path, *choice, to=tmp_path / f'results-{"-".join(choice)}')
        assert ran.code == 0, ran.err
        depths[choice] = ran.bag[DEPTH][0][1].data.tobytes()
        config = yaml.safe_load((ran.folder / 'config.yaml').read_text())
        if choice:
            name = choice[0].removeprefix('--')
            assert config[name] == (choice[1] if len(choice) > 1 else True)
        if '--router' in choice:
            assert ran.summary['frames_per_head'] == {choice[1]: 1}
    # One of the forced heads is the one that is taken anyway.
    assert len(set(depths.values())) == len(depths) - 1


def test_settings_reach_the_frames(zoe, tiny_estimator, tmp_path):
    # The default, and all of them at once: the same bytes as from a pipeline with them.
    camera = bags.camera_messages(4)
    path = bags.write_bag(tmp_path / 'bag', camera)
    changes = {
        'router_time_constant': 0.5, 'min_depth': 0.6, 'max_depth': 4.5, 'far_value': 30.0,
        'depth_scale': 1.25, 'focal_correction': True, 'edge_threshold': 0.3,
        'max_relative_uncertainty': 0.9, 'interpolation': 'nearest', 'output_decimation': 2,
        'point_cloud_downsample': 3, 'point_cloud_max_range': 4.0, 'point_cloud_color': False}
    options = [text for name, value in changes.items() for text in (
        ['--' + name.replace('_', '-'), value] if type(value) is not bool else
        [('--' if value else '--no-') + name.replace('_', '-')])]
    images, infos = inputs(path, RAW, '/camera/camera_info')
    buffer = CameraInfoBuffer(None)
    for info in infos:
        buffer.add(info)
    written = []
    for arguments, chosen in (([], {}), (options, changes)):
        ran = zoe(path, *arguments, to=tmp_path / f'results of {len(arguments)}')
        assert (ran.code, ran.err) == (0, '')
        config = yaml.safe_load((ran.folder / 'config.yaml').read_text())
        settings = FrameSettings(**chosen)
        for item in fields(FrameSettings):
            value = getattr(settings, item.name)
            assert config[item.name] == value and type(config[item.name]) is type(value)
        pipeline = Pipeline(tiny_estimator, bags.ROSBAGS.types, settings, rectified=False)
        out = ran.bag
        for i, (_, image) in enumerate(images):
            frame = pipeline.process(
                image, buffer, ('depth/image', 'depth/camera_info', 'depth/points'))
            for name, message in frame.messages.items():
                got = out[f'/{name}'][i][1]
                assert bags.ROSBAGS.to_bytes(got) == bags.ROSBAGS.to_bytes(message), name
        written.append(out[POINTS][0][1].data.tobytes())
    assert written[0] != written[1]


def test_depth_out_of_range_is_counted_as_none(zoe, tmp_path):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(2))
    ran = zoe(path, '--min-depth', 1, '--max-depth', 3)
    assert (ran.code, ran.err) == (0, '')
    check_results(ran, 2, path)
    depth = np.stack([bags.depth_of(message) for _, message in ran.bag[DEPTH]])
    assert np.isneginf(depth).any() and np.isposinf(depth).any()
    within = np.isfinite(depth)
    assert depth[within].min() >= 1 and depth[within].max() <= 3
    assert ran.summary['share_without_depth'] == pytest.approx(1 - within.mean(), rel=1e-3)
    assert ran.summary['depth_p5_m'] > 0.99 and ran.summary['depth_p95_m'] < 3.02


# --- photographs ----------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['room.png', 'room.JPG'])
def test_photograph(zoe, tiny_estimator, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(bags.encoded(bags.picture(), path.suffix[1:].replace('JPG', 'jpeg')))
    ran = zoe(path, *PUBLISHED)
    assert (ran.code, ran.err) == (0, '')
    check_results(ran, 1, path)
    depth = np.load(ran.folder / f'{name}.depth.npy')
    with Image.open(path) as picture:
        expected = tiny_estimator.predict(np.array(picture)).depth
    assert depth.dtype == np.float32 and depth.tobytes() == expected.tobytes()
    assert sorted(p.name for p in ran.folder.iterdir()) == sorted(
        ['config.yaml', 'overview.png', f'{name}.depth.npy', 'summary.json'])


def test_photograph_is_turned_upright(zoe, tiny_estimator, tmp_path):
    rgb = bags.picture(40, 72)
    exif = Image.Exif()
    exif[0x0112] = 6        # to be turned clockwise
    path = tmp_path / 'phone.png'
    path.write_bytes(bags.encoded(rgb, exif=exif))
    ran = zoe(path, *PUBLISHED)
    depth = np.load(ran.folder / 'phone.png.depth.npy')
    assert depth.shape == (72, 40)
    assert np.array_equal(depth, tiny_estimator.predict(np.rot90(rgb, -1)).depth)


# Entries of EXIF whose type is not the one that belongs to the tag: tag, type.
ODD_ENTRIES = {'a description that is a ratio': (0x010e, 5), 'a resolution in words': (0x011a, 2),
               'a unit in words': (0x0128, 2)}


@pytest.mark.parametrize('name', ODD_ENTRIES)
def test_photograph_with_odd_exif(zoe, tmp_path, name):
    # The picture is good, and so is its orientation: it is to be turned clockwise.
    entries = (struct.pack('<HHIHxx', 0x0112, 3, 1, 6)
               + struct.pack('<HHII', *ODD_ENTRIES[name], 1, 8))
    exif = b'Exif\0\0II*\0' + struct.pack('<IH', 8, 2) + entries + bytes(4)
    path = tmp_path / 'phone.jpg'
    path.write_bytes(bags.encoded(bags.picture(40, 72), 'JPEG', exif=exif))
    ran = zoe(path)
    assert (ran.code, ran.err) == (0, '')
    assert np.load(ran.folder / 'phone.jpg.depth.npy').shape == (72, 40)


def test_folder_with_a_damaged_photograph(zoe, tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for i, suffix in enumerate(('png', 'jpeg', 'bmp')):
        (folder / f'{i}.{suffix}').write_bytes(bags.encoded(bags.picture(seed=i), suffix))
    good = (folder / '1.jpeg').read_bytes()
    (folder / 'cut.jpg').write_bytes(good[:len(good) // 2])
    (folder / 'empty.png').write_bytes(b'')
    (folder / 'notes.txt').write_text('no photograph')
    ran = zoe(folder)
    assert (ran.code, ran.err) == (0, '')
    check_results(ran, 3, folder)
    assert ran.summary['dropped'] == {'corrupt': 2}
    assert 'cut.jpg' in ran.out
    arrays = sorted(path.name for path in ran.folder.glob('*.npy'))
    assert arrays == ['0.png.depth.npy', '1.jpeg.depth.npy', '2.bmp.depth.npy']


@pytest.mark.parametrize('size', [(1, 1), (1, 50), (700, 3)])
def test_photograph_of_an_odd_size(zoe, tmp_path, size):
    path = tmp_path / 'sliver.png'
    path.write_bytes(bags.encoded(bags.picture(8, 8)))
    Image.open(path).resize(size).save(path)
    ran = zoe(path)
    assert (ran.code, ran.err) == (0, '')
    assert np.load(ran.folder / 'sliver.png.depth.npy').shape == size[::-1]
    assert (ran.folder / 'overview.png').is_file()


# --- bad input: nothing can start -----------------------------------------------------------


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('share', [0, 0.02, 0.5])
def test_truncated_or_empty_bag(refused, tmp_path, storage, share):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(3), storage)
    file = bags.storage_file(path)
    file.write_bytes(file.read_bytes()[:int(file.stat().st_size * share)])
    for data in (path, file):
        # SQLite finds out only when it gets there.
        text = refused(data)
        assert str(path) in text


def test_bag_without_images(refused, tmp_path):
    path = bags.write_bag(tmp_path / 'bag', [('/info', bags.ROSBAGS.info(4, 4))])
    assert 'no photographs' in refused(path)
    assert 'nothing' in refused(bags.write_bag(tmp_path / 'empty', []))


def test_wrong_topic(refused, tmp_path):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(1))
    assert f'no images on /other; it has {RAW}' in refused(path, '--topic', '/other')


def test_missing_path(refused, tmp_path):
    assert 'nothing at' in refused(tmp_path / 'nowhere')
    assert 'nothing at' in refused(tmp_path / 'nowhere.mcap')


def test_not_a_picture(refused, tmp_path):
    text = tmp_path / 'notes.txt'
    text.write_text('buy milk')
    assert f'{text} is no picture' in refused(text)
    empty = tmp_path / 'empty.jpg'
    empty.write_bytes(b'')
    assert f'{empty} is no picture' in refused(empty)
    cut = tmp_path / 'cut.jpg'
    cut.write_bytes(bags.encoded(bags.picture(200, 200), 'JPEG')[:2000])
    assert f'{cut} is damaged' in refused(cut)
    cut = tmp_path / 'cut.png'
    cut.write_bytes(bags.encoded(bags.picture(200, 200))[:200])
    assert f'{cut} is damaged' in refused(cut)


def test_folder_without_photographs(refused, tmp_path):
    folder = tmp_path / 'empty'
    folder.mkdir()
    assert 'neither a bag' in refused(folder)
    (folder / 'notes.txt').write_text('')
    assert 'neither a bag' in refused(folder)
    (folder / 'metadata.yaml').write_text('')
    assert 'cannot be read as a rosbag' in refused(folder)


def test_unreadable_weights(refused, tmp_path):
    noise = tmp_path / 'noise.pt'
    noise.write_bytes(b'no weights at all' * 100)
    assert str(noise) in refused(SAMPLE, weights=noise)
    missing = tmp_path / 'missing.safetensors'
    assert str(missing) in refused(SAMPLE, weights=missing)
    empty = tmp_path / 'empty.safetensors'
    empty.write_bytes(b'')
    assert str(empty) in refused(SAMPLE, weights=empty)
    assert str(tmp_path) in refused(SAMPLE, weights=tmp_path)


def test_truncated_weights(refused, tmp_path, tiny_weights):
    cut = tmp_path / 'cut.safetensors'
    cut.write_bytes(Path(tiny_weights).read_bytes()[:-100])
    assert str(cut) in refused(SAMPLE, weights=cut)


def test_wrong_variant(refused):
    assert "'tiny'" in refused(SAMPLE, '--variant', 'nk')


@pytest.mark.parametrize('device', ['cuda:77', 'cuda:-1', 'tpu', 'gpu', 'meta', 'mps', '',
                                    'cuda:' + '9' * 30])
def test_missing_device(tmp_path, tiny_weights, capsys, news, device):
    code = main(['run', str(SAMPLE), '--variant', 'tiny', '--weights', str(tiny_weights),
                 '--device', device, '--output', str(tmp_path / 'results')])
    err = capsys.readouterr().err
    assert code == 2
    assert re.fullmatch(rf"zoe: no device '{device}'[^\n]+\n", err)
    assert 'on cpu' not in news.getvalue()
    assert not (tmp_path / 'results').exists()


@pytest.mark.parametrize('option, value', [
    ('--point-cloud-downsample', '0'), ('--point-cloud-downsample', '-3'),
    ('--point-cloud-downsample', 'many'), ('--point-cloud-downsample', '1.5'),
    ('--point-cloud-downsample', '65'), ('--min-depth', '-1'), ('--min-depth', 'nan'),
    ('--max-depth', 'inf'), ('--depth-scale', '0.0'), ('--depth-scale', 'twice'),
    ('--interpolation', 'cubic'), ('--output-size', '640x480'), ('--output-decimation', '0'),
    ('--precision', 'fp8'), ('--aspect', 'crop'), ('--router', 'space'), ('--nonsense', '1')])
def test_parameter_out_of_range(zoe, tmp_path, option, value):
    ran = zoe(SAMPLE, option, value)
    assert ran.code == 2 and not (tmp_path / 'results').exists()
    # One line, by the command line's name of it or by that of the parameter, and the value.
    assert re.fullmatch(r'zoe[^\n]*: [^\n]+\n', ran.err), ran.err
    assert option.removeprefix('--') in ran.err.replace('_', '-') and value in ran.err


def test_values_that_do_not_fit_together(refused):
    assert 'min_depth' in refused(SAMPLE, '--min-depth', 5, '--max-depth', 4)
    assert 'far_value' in refused(SAMPLE, '--far-value', 9, '--max-depth', 10)


def test_a_head_that_the_model_lacks(refused, tmp_path):
    weights = made_up.write_tiny(tmp_path / 'outdoor.safetensors', heads=('outdoor',))
    assert 'ZoeD-tiny has no indoor head, only outdoor' in refused(
        SAMPLE, '--router', 'indoor', weights=weights)


def test_impossible_output(zoe, tmp_path):
    file = tmp_path / 'file'
    file.write_text('')
    for output in (file, file / 'below', Path('/proc/zoe'), Path('/dev/null')):
        ran = zoe(SAMPLE, to=output)
        assert ran.code == 2
        assert re.fullmatch(r'zoe: [^\n]+\n', ran.err) and str(output) in ran.err
    assert file.read_text() == ''


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_read_only_output(zoe, tmp_path):
    folder = tmp_path / 'read only'
    folder.mkdir(mode=0o500)
    ran = zoe(SAMPLE, to=folder)
    assert ran.code == 2 and re.fullmatch(r'zoe: [^\n]+\n', ran.err)
    assert str(folder) in ran.err and list(folder.iterdir()) == []


# --- bad input among good -------------------------------------------------------------------


def bad_images():
    """Return cause and message of every kind of image that cannot be used."""
    rosbags, stamp = bags.ROSBAGS, bags.START + 7
    jpeg = bags.encoded(bags.picture(), 'JPEG')
    raw = {'unknown encoding': ('encoding', (bytes(36), 3, 4, 12, 'purple')),
           'depth': ('encoding', (bytes(48), 3, 4, 16, '32FC1')),
           'step too small': ('data', (bytes(36), 3, 4, 11, 'rgb8')),
           'short data': ('data', (bytes(35), 3, 4, 12, 'rgb8')),
           'no data': ('data', (b'', 3, 4, 12, 'rgb8')),
           'zero width': ('size', (b'', 3, 0, 0, 'rgb8')),
           'zero height': ('size', (b'', 0, 4, 12, 'rgb8'))}
    packed = {'cut jpeg': ('corrupt', jpeg[:len(jpeg) // 2]),
              'garbage': ('encoding', b'garbage' * 9), 'empty': ('data', b'')}
    return {**{name: (cause, rosbags.image(*image, stamp=stamp))
               for name, (cause, image) in raw.items()},
            **{name: (cause, rosbags.compressed(data, stamp=stamp))
               for name, (cause, data) in packed.items()}}


BAD = bad_images()


@pytest.mark.parametrize('name', BAD)
def test_a_bad_image_among_good_ones_is_dropped(zoe, tiny_estimator, tmp_path, name):
    cause, bad = BAD[name]
    encoding = 'jpeg' if hasattr(bad, 'format') else 'rgb8'
    good = bags.camera_messages(3, encoding=encoding)
    messages = [*good[:2], (RAW, bad, good[1][2] + 1), (RAW, bad, good[1][2] + 2), *good[2:]]
    path = bags.write_bag(tmp_path / 'bag', messages)
    ran = zoe(path, *PUBLISHED)
    assert (ran.code, ran.err) == (0, '')
    assert ran.summary['dropped'] == {cause: 2}
    assert ran.out.count('is dropped:') == 1      # said once
    assert re.search(rf'frames +3, dropped 2 \({cause}\)', ran.out)
    check_results(ran, 3, path)
    images, infos = inputs(path, RAW, '/camera/camera_info')
    check_bag(ran, tiny_estimator, [images[0], *images[3:]], infos)


def test_a_message_that_was_cut_among_good_ones_is_dropped(zoe, tmp_path):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(4, info=None), cut=[1])
    ran = zoe(path)
    assert (ran.code, ran.err) == (0, '')
    assert ran.summary['frames'] == 3 and sum(ran.summary['dropped'].values()) == 1
    kept = [recorded for recorded, _ in ran.bag[DEPTH]]
    assert kept == [stamp for i, stamp in enumerate(bags.stamps(4)) if i != 1]


def test_an_image_too_small_to_be_padded_among_good_ones_is_dropped(zoe, tmp_path):
    good = bags.camera_messages(2, info=None)
    small = (RAW, bags.ROSBAGS.photo(bags.picture(3, 3)), good[0][2] + 1)
    ran = zoe(bags.write_bag(tmp_path / 'bag', [good[0], small, good[1]]), '--pad')
    assert (ran.code, ran.err) == (0, '')
    assert ran.summary['frames'] == 2 and sum(ran.summary['dropped'].values()) == 1
    folder = tmp_path / 'photos'
    folder.mkdir()
    for name, size in (('a', 3), ('b', 60)):
        (folder / f'{name}.png').write_bytes(bags.encoded(bags.picture(size, size)))
    ran = zoe(folder, '--pad', to=tmp_path / 'results of photos')
    assert (ran.code, ran.err) == (0, '')
    assert ran.summary['frames'] == 1 and sum(ran.summary['dropped'].values()) == 1


@pytest.mark.parametrize('name', ['unknown encoding', 'step too small', 'short data',
                                  'zero width', 'cut jpeg'])
def test_a_bag_of_bad_images_only(zoe, tmp_path, name):
    cause, bad = BAD[name]
    ran = zoe(bags.write_bag(tmp_path / 'bag', [(RAW, bad), (RAW, bad)]))
    assert ran.code == 2
    assert ran.err == 'zoe: none of the 2 images could be used\n'
    assert 'is dropped:' in ran.out
    assert ran.summary['complete'] is False and ran.summary['dropped'] == {cause: 2}
    assert ran.summary['depth_p50_m'] is None
    assert ran.bag == {}


def test_a_first_image_of_depth_makes_no_photograph_topic(refused, tmp_path):
    path = bags.write_bag(tmp_path / 'bag', [(RAW, BAD['depth'][1])])
    assert f'no photographs to work on; it has {RAW}' in refused(path)


@pytest.mark.parametrize('info', [None, '/camera/camera_info'])
def test_a_bag_damaged_in_the_middle_keeps_what_was_done(zoe, tmp_path, info):
    path, good = bags.damaged_in_the_middle(tmp_path / 'bag', info=info)
    ran = zoe(path)
    assert ran.code == 2
    assert re.fullmatch(r'zoe: [^\n]+ cannot be read as a rosbag [^\n]+\n', ran.err)
    assert ran.summary['complete'] is False and ran.summary['frames'] == good
    assert len(ran.bag[DEPTH]) == good
    assert (ran.folder / 'overview.png').is_file()
    assert (ran.folder.parent / 'latest').resolve() == ran.folder.resolve()


def test_only_damaged_photographs(zoe, tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    (folder / 'a.png').write_bytes(b'')
    ran = zoe(folder)
    assert ran.code == 2 and ran.err == 'zoe: none of the 1 images could be used\n'
    assert ran.summary['complete'] is False


# --- processes ------------------------------------------------------------------------------


def test_module_as_a_command(tmp_path, tiny_weights):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(2))
    done = command(path, '--variant', 'tiny', '--weights', tiny_weights, '--precision', 'fp32',
                   cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, '')
    out = done.stdout.splitlines()
    assert out[0].startswith(f'{path} is a bag: 2 images on {RAW}')
    assert any('ZoeD-tiny in fp32 on' in line for line in out)
    assert 'results in results/' in done.stdout        # the default, below where one is
    assert set(bags.read_bag(tmp_path / 'results' / 'latest' / 'bag')) == {DEPTH, INFO, POINTS}


def test_script_as_a_command(tmp_path, tiny_weights):
    script = Path(sys.executable).with_name('zoe')
    if not script.is_file():
        pytest.skip('zoe_ros is not installed here')
    done = subprocess.run(
        [script, 'run', 'nothing.mcap', '--variant', 'tiny', '--weights', tiny_weights],
        cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and done.stdout == ''
    assert re.fullmatch(r'zoe: nothing at nothing.mcap: [^\n]+\n', done.stderr)


def test_without_weights_and_network(tmp_path):
    done = command(SAMPLE, '--variant', 'nk', '--output', tmp_path / 'results',
                   HF_HUB_OFFLINE='1', HF_HOME=str(tmp_path / 'cache'))
    assert done.returncode == 2
    assert re.fullmatch(r'zoe: the weights of ZoeD\S+ are not on this machine [^\n]+\n',
                        done.stderr), done.stderr
    assert not (tmp_path / 'results').exists()


def test_interrupted_run_keeps_what_was_done(tmp_path, tiny_weights):
    count = 3000
    image = bags.ROSBAGS.compressed(bags.encoded(bags.picture(240, 320), 'JPEG'))
    path = bags.write_bag(tmp_path / 'bag', [(RAW, image)] * count)
    process = subprocess.Popen(
        [sys.executable, '-m', 'zoe_ros.cli', 'run', path, '--variant', 'tiny', '--weights',
         tiny_weights, '--output', tmp_path / 'results'], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
        env={**os.environ, **SINGLE, 'PYTHONPATH': str(ROOT)},
        # A shell that runs pytest in its background has SIGINT ignored, and children inherit it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    try:
        while not any(file.stat().st_size for file in tmp_path.glob('results/*/bag/*.mcap')):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err == 'zoe: interrupted; what was done until now is kept\n'
    summary = json.loads((tmp_path / 'results' / 'latest' / 'summary.json').read_text())
    assert summary['complete'] is False and 0 < summary['frames'] < count
    found = bags.read_bag(tmp_path / 'results' / 'latest' / 'bag')
    # The one that was in work may be in the bag and not yet in the figures.
    assert len(found[DEPTH]) - summary['frames'] in (0, 1)
    assert (tmp_path / 'results' / 'latest' / 'overview.png').is_file()
    assert re.search(rf'frames +{summary["frames"]}\b', out)
