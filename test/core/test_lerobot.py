"""``zoe run --format lerobot``: read back by the specification, and by LeRobot itself."""
import io
import json
import logging
import os
import resource
import signal
import sys

import bags
from bench.attack import child
from hypothesis import given, strategies
import numpy as np
import pytest
from runs import PUBLISHED

from zoe_ros.cli import main
from zoe_ros.lerobot.codes import FARTHEST, from_codes, LAST, NEAREST, to_codes
from zoe_ros.lerobot.dataset import DatasetWriter
from zoe_ros.lerobot.timeline import LONGEST, SECOND, Timeline
from zoe_ros.lerobot.video import LOSSLESS, Video

STEP = 0.1      # [s] between the images of bags.camera_messages
# Half a step of the codes, and what float32 adds.
ROUNDING = 0.00085
IMAGE, DEPTH = 'observation.images.camera', 'observation.images.depth'


@pytest.fixture
def packages():
    """Skip a test that writes a data set where the packages for that are not installed."""
    for name in ('av', 'pyarrow'):
        pytest.importorskip(name, reason="needs pip install '.[lerobot]'")


@pytest.fixture
def said():
    """Return a text stream with what the writer logs."""
    stream, logger = io.StringIO(), logging.getLogger('zoe_ros.lerobot.dataset')
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


class ByTheBook:
    """
    A data set, read by the published specification of the format.

    :ivar rows: one of each frame; :ivar images, depths: the frames of the videos, depth in
        metres by the formula of the specification.
    """

    def __init__(self, root):
        from pyarrow import parquet

        self.info = json.loads((root / 'meta' / 'info.json').read_text())
        self.statistics = json.loads((root / 'meta' / 'stats.json').read_text())
        self.episodes = parquet.read_table(root / 'meta' / 'episodes').to_pylist()
        self.rows, self.images, self.depths = [], [], []
        facts = self.info['features'][DEPTH]['info']
        near, far, shift = (facts[f'video.{name}'] for name in ('depth_min', 'depth_max', 'shift'))
        assert facts['is_depth_map'] and facts['video.use_log'] and facts['depth_unit'] == 'm'
        for episode in self.episodes:
            self.rows += parquet.read_table(root / self.info['data_path'].format(
                chunk_index=episode['data/chunk_index'],
                file_index=episode['data/file_index'])).to_pylist()
            self.images += self._frames(root, episode, IMAGE, 'rgb24')
            for codes in self._frames(root, episode, DEPTH, 'gray12le'):
                low, high = np.log(near + shift), np.log(far + shift)
                self.depths.append(np.exp(low + codes / 4095 * (high - low)) - shift)

    def _frames(self, root, episode, key, form):
        import av

        path = root / self.info['video_path'].format(
            video_key=key, chunk_index=episode[f'videos/{key}/chunk_index'],
            file_index=episode[f'videos/{key}/file_index'])
        with av.open(str(path)) as file:
            frames = list(file.decode(video=0))
        times = [float(frame.pts * frame.time_base) for frame in frames]
        assert times == pytest.approx(np.arange(episode['length']) / self.info['fps'])
        arrays = [frame.to_ndarray(format=form) for frame in frames]
        assert all(list(array.shape[:2]) == self.info['features'][key]['shape'][:2]
                   for array in arrays)
        return arrays


def at(*seconds):
    """Return stamps [ns]."""
    return [bags.START + round(second * SECOND) for second in seconds]


def bag_of(path, seconds, **options):
    """Write a bag whose images have stamps at these times [s]."""
    messages = bags.camera_messages(len(seconds), info=None, **options)
    for (_, message, _), stamp in zip(messages, at(*seconds)):
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, SECOND)
    return bags.write_bag(path, messages)


@given(strategies.floats(1.001 * NEAREST, FARTHEST))
def test_codes_keep_depth_to_their_rounding(depth):
    there = np.full((1, 1), depth, np.float32)
    assert from_codes(to_codes(there)) == pytest.approx(there, rel=ROUNDING)


def test_codes_of_what_is_no_depth():
    values = np.array([[np.nan, -np.inf, 0, -1, 1e-3, NEAREST, FARTHEST, 1e4, np.inf]], np.float32)
    codes = to_codes(values)
    assert codes.tolist() == [[0, 0, 0, 0, 1, 1, LAST, LAST, LAST]]
    assert codes.dtype == np.uint16


def test_even_stamps():
    line = Timeline(at(0, 0.1, 0.2))
    assert line.rate == 10
    # Ends of exposure that tremble by a third of a period.
    stamps = at(*(0.1 * i + 0.03 * (-1) ** i for i in range(50)))
    assert [line.place(stamp) for stamp in stamps] == [(True, 0)] + [(False, 0)] * 49


def test_a_rate_beside_a_whole_number_repeats_one_image_in_a_thousand():
    stamps = at(*np.arange(3000) / 29.97)
    line = Timeline(stamps)
    assert [place.repeats for place in map(line.place, stamps)].count(1) == 3


def test_lost_images_and_several_at_once():
    line = Timeline(at(0, 0.1, 0.2))
    places = [line.place(stamp) for stamp in at(0, 0.1, 0.4, 0.41, 0.5, 0.45, 0.6)]
    assert places == [(True, 0), (False, 0), (False, 2), None, (False, 0), None, (False, 0)]


@pytest.mark.parametrize('later', [1.21, -1.0, 3600])
def test_a_pause_or_a_step_back_starts_an_episode(later):
    line = Timeline(at(0, 0.1, 0.2))
    places = [line.place(stamp) for stamp in at(0, 0.1, 0.2, later, later + 0.1, later + 0.2)]
    assert places == [(True, 0), (False, 0), (False, 0)] * 2


def test_an_episode_ends_before_float32_loses_its_times():
    line = Timeline(at(0, 0.5))
    starts = [place.starts for place in map(line.place, at(*np.arange(0, 2 * LONGEST + 1, 0.5)))]
    assert [i for i, start in enumerate(starts) if start] == [0, 2 * LONGEST, 4 * LONGEST]


@pytest.mark.parametrize('seconds, rate', [
    ([0], 1), ([0, 10, 20], 1), (np.arange(9) / 29.97, 30), ([0, 0.1, 0.2, 5, 5.1], 10)])
def test_the_rate_is_the_median(seconds, rate):
    assert Timeline(at(*seconds)).rate == rate


def test_slow_images_stay_one_episode():
    line = Timeline(at(0, 10, 20))
    assert [line.place(stamp) for stamp in at(0, 10, 20)] == [(True, 0), (False, 9), (False, 9)]


def test_depth_is_that_of_the_bag(zoe, packages, tmp_path):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(5))
    narrow = (*PUBLISHED, '--max-relative-uncertainty', '0.3')
    plain = zoe(path, *narrow, to=tmp_path / 'plain')
    depths = [bags.depth_of(message) for _, message in plain.bag['/depth/image']]
    assert any(np.isnan(depth).any() for depth in depths)
    ran = zoe(path, *narrow, '--format', 'lerobot')
    assert (ran.code, ran.err) == (0, '')
    assert f"root='{ran.folder / 'lerobot'}'" in ran.out
    assert {item.name for item in ran.folder.iterdir()} == {
        'config.yaml', 'summary.json', 'overview.png', 'lerobot'}
    found = ByTheBook(ran.folder / 'lerobot')
    assert found.info['fps'] == 10 and found.info['codebase_version'] == 'v3.0'
    assert [row['timestamp'] for row in found.rows] == pytest.approx(np.arange(5) * STEP)
    assert [row['stamp_ns'] for row in found.rows] == list(bags.stamps(5))
    assert len(found.depths) == len(depths) == 5
    for depth, read in zip(depths, found.depths):
        np.testing.assert_allclose(read, np.nan_to_num(depth, nan=NEAREST), rtol=ROUNDING)
    for i, image in enumerate(found.images):
        # The codec is lossy; another image of this bag differs by 60 and more.
        assert np.abs(image.astype(float) - bags.picture(48, 64, seed=i)).mean() < 12
    known = np.concatenate([depth[::4, ::4][np.isfinite(depth[::4, ::4])] for depth in depths])
    assert found.statistics[DEPTH]['mean'] == [[[pytest.approx(known.mean(), rel=1e-5)]]]
    assert found.statistics[DEPTH]['std'] == [[[pytest.approx(known.std(), rel=1e-4)]]]
    assert found.statistics[IMAGE]['count'] == [5 * 12 * 16]


def test_uneven_stamps_and_odd_sizes(zoe, packages, said, tmp_path):
    path = bag_of(tmp_path / 'bag', (0, 0.1, 0.2, 0.21, 0.5, 0.6, 9, 9.1), size=(47, 63))
    ran = zoe(path, '--format', 'lerobot', '--output-decimation', '2')
    assert ran.code == 0
    assert ('9 frames at 10 Hz in 2 episodes; repeated, because none was recorded then: 2 images; '
            'left out, because another has the frame: 1 image') in said.getvalue()
    found = ByTheBook(ran.folder / 'lerobot')
    assert [episode['length'] for episode in found.episodes] == [7, 2]
    assert [(episode['dataset_from_index'], episode['dataset_to_index'])
            for episode in found.episodes] == [(0, 7), (7, 9)]
    assert [row['index'] for row in found.rows] == list(range(9))
    assert [row['frame_index'] for row in found.rows] == [0, 1, 2, 3, 4, 5, 6, 0, 1]
    assert [row['stamp_ns'] for row in found.rows] == at(
        0, 0.1, 0.2, 0.2, 0.2, 0.5, 0.6, 9, 9.1)
    assert found.images[0].shape == (47, 63, 3) and found.depths[0].shape == (24, 32)
    assert np.array_equal(found.depths[2], found.depths[3])
    assert not np.array_equal(found.depths[4], found.depths[5])


def test_short_videos_have_their_times(packages, tmp_path):
    import av

    codes = [np.full((48, 64), value, np.uint16) for value in (7, LAST)]
    for _ in range(100):    # with B-frames, one in 20 fails
        video = Video(tmp_path / 'video.mp4', LOSSLESS, 10, (48, 64))
        for frame in codes:
            video.write(frame)
        video.close()
        with av.open(str(tmp_path / 'video.mp4')) as file:
            frames = list(file.decode(video=0))
        assert [float(frame.pts * frame.time_base) for frame in frames] == [0, 0.1]
        assert np.array_equal([frame.to_ndarray(format='gray12le') for frame in frames], codes)


def test_lerobot_reads_it(zoe, packages, tmp_path):
    reading = pytest.importorskip('lerobot.datasets.lerobot_dataset',
                                  reason="needs pip install 'lerobot[dataset]>=0.6'")
    path = bag_of(tmp_path / 'bag', (0, 0.1, 0.3, 0.4, 9, 9.1), size=(48, 64))
    ran = zoe(path, '--format', 'lerobot')
    root = ran.folder / 'lerobot'
    book = ByTheBook(root)
    found = reading.LeRobotDataset('zoe/depth', root=root, depth_output_unit='m',
                                   video_backend='pyav')
    assert (found.num_frames, found.num_episodes, found.fps) == (7, 2, 10)
    for i, item in enumerate(found):
        np.testing.assert_allclose(item[DEPTH][0].numpy(), book.depths[i], rtol=1e-4)
        np.testing.assert_allclose(item[IMAGE].permute(1, 2, 0).numpy() * 255, book.images[i],
                                   atol=1)
        assert item['stamp_ns'] == book.rows[i]['stamp_ns'] and item['task'] == ''
    assert found.meta.stats[DEPTH]['mean'].item() == book.statistics[DEPTH]['mean'][0][0][0]


@pytest.mark.parametrize('name', ['av', 'pyarrow'])
def test_without_the_packages(refused, monkeypatch, packages, tmp_path, name):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(2))
    monkeypatch.setitem(sys.modules, name, None)    # as if it were not installed
    assert refused(path, '--format', 'lerobot') == (
        f"zoe: format lerobot needs {name}: pip install 'zoe_ros[lerobot]'\n")


def test_stamps_that_do_not_increase(refused, packages, tmp_path):
    assert 'stamps of the images do not increase' in refused(
        bag_of(tmp_path / 'bag', (3, 3, 3)), '--format', 'lerobot')


def test_images_have_no_stamps(refused, tmp_path):
    (tmp_path / 'kitchen.png').write_bytes(bags.encoded(bags.picture()))
    assert 'a LeRobot data set needs images with stamps' in refused(
        tmp_path / 'kitchen.png', '--format', 'lerobot')


def test_another_size_ends_the_data_set(zoe, packages, tmp_path):
    messages = bags.camera_messages(4, info=None)
    other = bags.camera_messages(4, info=None, size=(64, 96))
    path = bags.write_bag(tmp_path / 'bag', [*messages[:3], other[3]])
    ran = zoe(path, '--format', 'lerobot')
    assert ran.code == 2
    assert '96 x 64 pixels after frames of 64 x 48: a LeRobot data set has one size' in ran.err
    assert len(ByTheBook(ran.folder / 'lerobot').depths) == 3


def test_a_damaged_bag_gives_what_can_be_read(zoe, packages, tmp_path):
    path, count = bags.damaged_in_the_middle(tmp_path / 'bag')
    plain = zoe(path, to=tmp_path / 'plain')
    ran = zoe(path, '--format', 'lerobot')
    assert (ran.code, ran.err) == (2, plain.err)
    stamps = [message.header.stamp for _, message in plain.bag['/depth/image']]
    assert len(stamps) == count
    found = ByTheBook(ran.folder / 'lerobot')
    assert {row['stamp_ns'] for row in found.rows} == {
        stamp.sec * SECOND + stamp.nanosec for stamp in stamps}


def test_a_full_disk_leaves_no_data_set(packages, tiny_weights, tmp_path):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(40))
    arguments = ['run', str(path), '--format', 'lerobot', '--variant', 'tiny', '--weights',
                 str(tiny_weights), '--device', 'cpu', '--output', str(tmp_path / 'out')]

    def on_a_full_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        return main(arguments)

    log = tmp_path / 'log'
    assert child.call(on_a_full_disk, log=log) == child.End('returned', 2)
    assert 'lerobot cannot be written: File too large' in log.read_text()
    assert not list((tmp_path / 'out').rglob('lerobot*'))
    assert child.call(main, arguments) == child.End('returned', 0)


def test_a_kill_leaves_no_data_set(packages, pipeline, tmp_path):
    frames = [pipeline().process(bags.ROSBAGS.photo(bags.picture(), stamp=stamp),
                                 DatasetWriter.outputs) for stamp in at(0, 0.1)]
    path = tmp_path / 'lerobot'

    def write(then):
        with DatasetWriter(path, Timeline(at(0, 0.1))) as out:
            for frame in frames:
                out.write_frame(frame, bags.START)
            then()

    assert child.call(write, lambda: os.kill(os.getpid(), signal.SIGKILL)) == child.End(
        'died', -signal.SIGKILL)
    assert [item.name for item in tmp_path.iterdir()] == ['lerobot.part']
    assert child.call(write, lambda: None) == child.End('returned', None)
    assert [item.name for item in tmp_path.iterdir()] == ['lerobot']
    assert len(ByTheBook(path).rows) == 2


def test_many_bags(zoe, packages, tmp_path):
    paths = [bags.write_bag(tmp_path / name, bags.camera_messages(2)) for name in 'ab']
    assert zoe(*paths, '--format', 'lerobot').code == 0
    roots = [path.parent for path in (tmp_path / 'results').glob('*/lerobot/meta')]
    assert [len(ByTheBook(root).rows) for root in roots] == [2, 2]
    ran = zoe(*paths)
    assert ran.code == 2 and 'was made with another file_format' in ran.out


def test_results_of_a_version_without_formats_are_finished(zoe, tmp_path):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(2))
    zoe(path, '--shard', '1/1')
    config, = (tmp_path / 'results').glob('*/config.yaml')
    text = config.read_text()
    assert 'file_format: bag\n' in text
    config.write_text(text.replace('file_format: bag\n', ''))
    ran = zoe(path, '--shard', '1/1')
    assert ran.code == 0 and 'done earlier' in ran.out
