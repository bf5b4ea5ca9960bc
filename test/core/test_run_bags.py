"""``zoe run`` on bags: what it writes and says, with a tiny model."""
from dataclasses import fields
import re
import shlex
import shutil

import bags
import numpy as np
import pytest
from runs import check_bag, check_results, DEPTH, INFO, inputs, POINTS, PUBLISHED, RAW, SAMPLE
import yaml

from zoe_ros.camera import distort
from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.cli import main
from zoe_ros.images import decode_image
from zoe_ros.pipeline import Pipeline
from zoe_ros.settings import FrameSettings


def test_sample_bag(zoe, tiny_estimator):
    ran = zoe(SAMPLE, *PUBLISHED)
    assert (ran.code, ran.err) == (0, '')
    images, infos = inputs(SAMPLE, '/camera/image_raw/compressed', '/camera/camera_info')
    assert len(images) == 40 == len(infos)
    check_results(ran, 40, SAMPLE)
    check_bag(ran, tiny_estimator, images, infos)
    assert 'bag: 40 images on /camera/image_raw/compressed, CameraInfo on' in ran.out
    assert f'ros2 bag play {ran.folder / "bag"}' in ran.out
    # Every second frame of the drive has depth in the bag.
    assert ran.summary['frames_compared'] == 16
    assert re.search(r'REL / delta1 +[.\d]+ / [.\d]+ against .* 16 frames', ran.out)
    assert re.search(r'rate +[.\d]+ frames/s\n +latency p50 / p95 +\d+ / \d+ ms\n'
                     r' +depth p5 - p95 +[.\d]+ - [.\d]+ m\n +without depth +[.\d]+%\n', ran.out)


def bag_with_depth(path, depths, frame=bags.FRAME):
    """Write a bag whose images have depth beside them: [(topic, index of the image, depth)]."""
    messages = bags.camera_messages(3)
    for topic, index, depth in depths:
        stamp = bags.stamps(3)[index]
        values = depth.astype('<f4')
        messages.append((topic, bags.ROSBAGS.image(
            values.tobytes(), *values.shape, 4 * values.shape[1], '32FC1', stamp=stamp,
            frame=frame), stamp))
    return bags.write_bag(path, messages)


def test_depth_of_the_bag_is_compared(zoe, tiny_estimator, tmp_path):
    images, _ = inputs(bags.write_bag(tmp_path / 'images', bags.camera_messages(3)), RAW)
    own = [tiny_estimator.predict(decode_image(message)).depth for _, message in images]
    half = own[1] / 2
    half[:10] = 0       # no value
    path = bag_with_depth(tmp_path / 'bag', [('/stereo/depth', 0, own[0] / 0.9),
                                             ('/stereo/depth', 1, half)])
    ran = zoe(path, *PUBLISHED)
    assert (ran.code, ran.err) == (0, '')
    assert ran.summary['frames_compared'] == 2
    # Of the first frame 0.1 and 1, of the second 1 and 0.
    assert ran.summary['error_rel'] == pytest.approx(0.55, rel=1e-3)
    assert ran.summary['error_delta1'] == pytest.approx(0.5)
    assert "bag's own depth on /stereo/depth" in ran.out
    assert "REL / delta1       0.55 / 0.5 against the bag's own depth of 2 frames" in ran.out
    assert set(ran.bag) == {DEPTH, INFO, POINTS} and len(ran.bag[DEPTH]) == 3


@pytest.mark.parametrize('depths, frame', [
    ([], bags.FRAME),
    ([('/stereo/depth', 0, np.ones((48, 64)))], 'infrared_frame'),      # not registered
    ([('/stereo/depth', 0, np.ones((24, 32)))], bags.FRAME),            # of another size
    ([('/a/depth', 0, np.ones((48, 64))), ('/b/depth', 0, np.ones((48, 64)))], bags.FRAME)])
def test_depth_that_cannot_be_compared_changes_nothing(zoe, tmp_path, depths, frame):
    ran = zoe(bag_with_depth(tmp_path / 'bag', depths, frame))
    assert (ran.code, ran.err) == (0, '')
    check_results(ran, 3, tmp_path / 'bag')
    assert not [key for key in ran.summary if 'error' in key or 'compared' in key]
    assert 'delta1' not in ran.out


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
    assert [line.split()[:4] for line in lines] == [
        ['zoe', 'run', '--topic', f'/{side}/image_raw'] for side in ('left', 'right')]
    program, *arguments = shlex.split(lines[1])
    assert program == 'zoe'
    assert main(arguments) == 0
    capsys.readouterr()
    found = bags.read_bag(tmp_path / 'results' / 'latest' / 'bag')
    assert [recorded for recorded, _ in found[DEPTH]] == bags.recorded(2)


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
        pipeline = Pipeline(tiny_estimator, bags.ROSBAGS.types, settings, buffer, rectified=False)
        out = ran.bag
        for i, (_, image) in enumerate(images):
            frame = pipeline.process(image, ('depth/image', 'depth/camera_info', 'depth/points'))
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
