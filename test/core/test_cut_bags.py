"""Bags that are cut: the parts of several workers, joined, are the results of one run."""
from dataclasses import replace
from functools import partial
import json
from pathlib import Path
import tracemalloc

import bags
import numpy as np
import pytest
import raw_mcap
from runs import RAW
import yaml

from zoe_ros import cuts
from zoe_ros.bag_messages import IMAGE_TYPES
from zoe_ros.cuts import cut, Extent, extent_of, numbers_of_parts, plan
from zoe_ros.fleet import Worker
from zoe_ros.jobs import Job, Step
from zoe_ros.parts import join_parts, run_part
from zoe_ros.run import load_estimator
from zoe_ros.run_many import cut_folder, failure, results_folder, run_one
from zoe_ros.settings import RunSettings
from zoe_ros.storage import EVER
from zoe_ros.storage.recording import Recording

SECOND = bags.SECOND
# Of a frame of each head, a tenth of a second apart. Where the drive is cut into four parts, the
# average of the router is still that of the indoor head while the image is outdoor.
LETTERS = 'i' * 9 + 'o' * 6 + 'i' * 6 + 'o' * 6 + 'i' * 6 + 'o' * 6 + 'i' * 3 + 'o' * 6
TIMES = {'rate_hz', 'latency_p50_ms', 'latency_p95_ms'}


@pytest.fixture(scope='module')
def pictures(photos, tiny_estimator):
    """Return a picture for each letter of a drive."""
    small = [photo[::2, ::2] for photo in photos]
    heads = {tiny_estimator.predict(photo).head[0]: photo for photo in small}
    assert set(heads) == {'i', 'o'}
    return heads


@pytest.fixture
def write_drive(tmp_path, pictures):
    """Return a function that writes a bag with a frame for each letter, and gives its path."""
    def written(letters=LETTERS, name='drive', cut=(), times=None, depth=False, **options):
        messages = []
        for i, letter in enumerate(letters):
            picture = pictures[letter].copy()
            picture[:8, :8] = i                     # no two frames are the same
            stamp = bags.START + i * SECOND // 10
            recorded = stamp + bags.DELAY if times is None else times[i]
            messages.append(('/camera/camera_info', bags.ROSBAGS.info(
                *picture.shape[:2], stamp=stamp), recorded))
            messages.append((RAW, bags.ROSBAGS.photo(picture, stamp=stamp), recorded))
            if depth:
                metres = np.full(picture.shape[:2], 2 + i / 10, '<f4')
                messages.append(('/depth', bags.ROSBAGS.image(
                    metres.tobytes(), *metres.shape, 4 * metres.shape[1], '32FC1', stamp=stamp),
                    recorded))
        return bags.write_bag(tmp_path / name, messages, cut=cut, **options)

    return written


@pytest.fixture
def settings_of(tmp_path, tiny_weights):
    """Return a function: path of a bag and more settings -> the settings of a run over it."""
    def made(path, **more):
        return RunSettings(data=str(path), output=str(tmp_path / 'cut' / path.name),
                           variant='tiny', weights=str(tiny_weights), device='cpu',
                           precision='fp32', **{'router_time_constant': 3.0, **more})

    return made


@pytest.fixture
def run_cut(tiny_estimator):
    """Return a function that runs over a bag in parts, the last one first, and joins them."""
    def ran(settings, workers=2):
        parts, = plan([settings], workers, 1)
        for part in reversed(parts):
            run_part(settings, part, flipping(settings, tiny_estimator))
        return len(parts), join_parts(settings, len(parts), flipping(settings, tiny_estimator))

    return ran


def flipping(settings, estimator):
    """Return an estimator that averages with the mirrored image, if the settings say so."""
    if not settings.flip:
        return estimator
    return type(estimator)(estimator.model, flip=True)


@pytest.fixture
def check_same(tmp_path, tiny_estimator):
    """Return a function that compares the results of a cut bag with those of an uncut run."""
    def checked(settings, parts):
        serial = replace(settings, output=str(tmp_path / 'whole' / Path(settings.data).name))
        whole = run_one(serial, flipping(settings, tiny_estimator))
        assert not whole.error
        return same_results(settings, serial, parts)

    return checked


def same_results(settings, serial, parts):
    """Compare two folders of results; return the number of frames that were run again."""
    one, other = (results_folder(Path(each.output), Path(each.data))
                  for each in (settings, serial))
    names = sorted(str(path.relative_to(one)) for path in one.rglob('*'))
    assert names == sorted(str(path.relative_to(other)) for path in other.rglob('*'))
    for name in ('bag/bag.mcap', 'bag/metadata.yaml', 'overview.png'):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    configs = [yaml.safe_load((folder / 'config.yaml').read_text()) for folder in (one, other)]
    assert {**configs[0], 'output': ''} == {**configs[1], 'output': ''}
    summary, whole = (json.loads((folder / 'summary.json').read_text())
                      for folder in (one, other))
    assert summary.pop('parts') == parts
    again = summary.pop('frames_run_again')
    assert {**summary, **dict.fromkeys(TIMES)} == {**whole, **dict.fromkeys(TIMES)}
    assert list(summary['frames_per_head']) == list(whole['frames_per_head'])
    assert [path.name for path in one.parent.iterdir()] == [one.name]     # no parts are left
    return again


@pytest.mark.parametrize('overlap', [0.0, cuts.OVERLAP])
def test_joined_parts_are_the_results_of_one_run(
        monkeypatch, write_drive, settings_of, run_cut, check_same, overlap):
    monkeypatch.setattr(cuts, 'OVERLAP', overlap)
    settings = settings_of(write_drive())
    parts, outcome = run_cut(settings)
    assert (parts, outcome.state, outcome.figures['frames']) == (4, 'done', len(LETTERS))
    # The average forgets slowly: also after an overlap, some frames must be run again.
    assert check_same(settings, parts) > 5


@pytest.mark.slow
def test_an_overlap_saves_frames_that_would_be_run_again(
        monkeypatch, write_drive, settings_of, run_cut, check_same):
    # With all frames before a part, the router remembers the same as in one run.
    monkeypatch.setattr(cuts, 'OVERLAP', 1e3)
    monkeypatch.setattr(cuts, '_MOST_OVERLAP', 1e3)
    settings = settings_of(write_drive())
    parts, _ = run_cut(settings)
    assert check_same(settings, parts) == 0


@pytest.mark.slow
@pytest.mark.parametrize('drive, more', [
    ({'cut': (1, 24, 25, 26, 27, 81)}, {}),                         # images, and CameraInfo
    ({'times': [bags.START + i // 3 * SECOND for i in range(40)]}, {}),     # three at a time
    ({'depth': True}, {'output_decimation': 3, 'sky': 'inf'}),      # compared with true depth
    ({'storage': 'sqlite3'}, {'flip': True}),                       # a head for each direction
    ({}, {'router': 'outdoor', 'camera_view': 'training'}),         # no head is chosen
    ({}, {'router_time_constant': 0.0}),                            # nothing is remembered
])
def test_any_bag_may_be_cut(write_drive, settings_of, run_cut, check_same, drive, more):
    settings = settings_of(write_drive(LETTERS[:40], **drive), **more)
    parts, outcome = run_cut(settings)
    assert (parts, outcome.error) == (4, '')
    check_same(settings, parts)


def test_a_picture_of_the_frames_that_can_be_used(write_drive, settings_of, run_cut, check_same):
    # The large frame of the picture, the first and the last frame are damaged.
    settings = settings_of(write_drive('iiooiioo', cut=(1, 9, 15)))
    parts, _ = run_cut(settings)
    check_same(settings, parts)


def test_half_of_a_part_is_run_again(write_drive, settings_of, run_cut, check_same):
    settings = settings_of(write_drive('iiooiioo'))
    half = cut_folder(settings) / '1.part'
    half.mkdir(parents=True)
    (half / 'records.jsonl').write_text('{"recorded": ')
    parts, _ = run_cut(settings)
    check_same(settings, parts)


@pytest.fixture
def damaged(tmp_path):
    """Return the path of a bag of eight images, of which a part is damaged amid the pixels."""
    path = tmp_path / 'damaged.mcap'
    data = bytearray(raw_mcap.whole(raw_mcap.camera_records(8)))
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path


def test_damage_is_told_by_a_part(damaged, settings_of, tmp_path):
    settings = settings_of(damaged)
    parts, = plan([settings], 2, 1)
    worker = Worker(partial(load_estimator, settings), str(tmp_path), True)
    outcome, _ = worker.run_part(settings, parts[1])
    assert outcome.state == 'failed' and outcome.folder == str(
        results_folder(Path(settings.output), damaged))
    assert 'damaged.mcap cannot be read as a rosbag to its end (damaged.mcap: the chunk at byte' \
        in outcome.error
    assert not (cut_folder(settings) / '2').exists()


def test_a_bag_ends_with_the_first_part_that_fails(settings_of, tmp_path):
    settings = settings_of(tmp_path / 'bag')
    parts = cut(Extent(100, [(1000, 2001)]), 3, 0.0)
    job = Job(settings, parts)
    assert [step.arguments for step in job.first_steps()] == [(settings, part) for part in parts]
    assert job.end(None, ['dark']) == [] and job.outcome is None
    for text in ('first', 'second'):
        assert job.end(failure(settings, text), ['dark', text]) == []
        assert job.outcome.error == 'first'
    assert job.remarks == ['dark', 'first', 'second']
    job = Job(settings, parts)
    assert [job.end(None, []) for _ in parts] == [
        [], [], [Step(job, 'join', (settings, len(parts)))]]
    job = Job(settings, [])
    assert job.first_steps() == [Step(job, 'run', (settings,))]
    assert job.end(failure(settings, 'whole'), []) == [] and job.outcome.error == 'whole'


def test_missing_images_are_told_at_the_join(write_drive, settings_of, tiny_estimator):
    settings = settings_of(write_drive('iiooiioo'))
    parts, = plan([settings], 2, 1)
    for part in parts:
        # As if the index of the bag had wrong times.
        run_part(settings, replace(part, start=part.start + SECOND // 10), tiny_estimator)
    outcome = join_parts(settings, len(parts), tiny_estimator)
    assert outcome.state == 'failed'
    assert outcome.error.endswith('it gave 5 of at least 8 images on /camera/image_raw')


@pytest.mark.slow
def test_the_memory_of_a_join_does_not_grow(write_drive, settings_of, tiny_estimator):
    peaks = []
    for count in (40, 200):
        settings = settings_of(write_drive('i' * count, name=f'drive{count}'))
        parts, = plan([settings], 2, 1)
        for part in parts:
            run_part(settings, part, tiny_estimator)
        tracemalloc.start()
        assert not join_parts(settings, len(parts), tiny_estimator).error
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 160 * 2000       # a frame of the bag has 150 KB


# --- where to cut ---------------------------------------------------------------------------


@pytest.mark.parametrize('images, workers, least, expected', [
    ([1000], 2, 1, [4]),
    ([1000], 2, 300, [3]),                  # no part is smaller
    ([1000], 2, 600, [1]),
    ([500, 500], 2, 1, [1, 1]),             # every worker has a bag
    ([500, 500, 500], 2, 1, [1, 1, 1]),
    ([1000, 100, 100, 100, 100], 2, 1, [3, 1, 1, 1, 1]),
    ([1000, 0], 4, 1, [8, 1]),              # one that cannot be cut
    ([0, 0], 4, 1, [1, 1]),
])
def test_numbers_of_parts(images, workers, least, expected):
    assert numbers_of_parts(images, workers, least) == expected


def test_parts_meet_without_gap():
    parts = cut(Extent(100, [(1000, 2001)]), 4, 1e-8)
    assert [(part.warm, part.start, part.stop) for part in parts] == [
        (0, 0, 1250), (1225, 1250, 1500), (1475, 1500, 1750), (1725, 1750, EVER)]
    assert [(part.number, part.total) for part in parts] == [(i, 4) for i in (1, 2, 3, 4)]
    # Five time constants, if that is less than a tenth of a part.
    assert cut(Extent(100, [(1000, 2001)]), 4, 2e-9)[1].warm == 1240
    assert cut(Extent(100, [(1000, 2001)]), 4, 0.0)[1].warm == 1250


def test_no_cut_where_files_overlap_in_time():
    spans = [(0, 500), (400, 1000)]
    assert [part.start for part in cut(Extent(9, spans), 4, 0.0)] == [0, 250, 750]
    assert [part.start for part in cut(Extent(9, [(0, 500), (500, 1000)]), 2, 0.0)] == [0, 500]
    # The second file was recorded before the first, and is read after it.
    assert cut(Extent(9, [(500, 1000), (0, 499)]), 4, 0.0) == []
    assert cut(Extent(9, [(7, 7)]), 4, 0.0) == []       # all at one time


@pytest.mark.parametrize('more, reason', [
    ({'anchor': 'scan'}, "anchor 'scan' filters the scale from frame to frame"),
    ({'scale_time_constant': 2.0}, 'scale_time_constant makes depth depend on all frames before'),
    ({'file_format': 'lerobot'}, 'a LeRobot data set has one video of all frames'),
    ({'camera_view': 'training'},
     "camera_view 'training' takes the view of the head of the frame before"),
])
def test_what_is_not_cut_is_told_once(write_drive, settings_of, caplog, more, reason):
    path = write_drive('iiooiioo')
    settings = settings_of(path, **more)
    with caplog.at_level('INFO', 'zoe_ros.cuts'):
        assert plan([settings, settings_of(path / 'no bag', **more)], 2, 1) == [[], []]
        assert caplog.messages == [f'long bags are not cut: {reason}']
        # Nobody would cut these.
        assert plan([settings], 2, 5) == plan([settings], 2, 0) == plan([settings], 1, 1) == [[]]
    assert len(caplog.messages) == 1


def test_what_cannot_be_opened_many_times_is_not_cut(write_drive, settings_of, tmp_path):
    good = write_drive('iiooiioo')
    extent = extent_of(settings_of(good))
    first = bags.START + bags.DELAY
    assert extent == Extent(8, [(first, first + 7 * SECOND // 10)])
    assert extent_of(settings_of(good, topic=RAW)) == extent
    assert extent_of(settings_of(good, topic='/none')) == Extent(0, [])
    data = bags.storage_file(good).read_bytes()
    cut_off, packed = tmp_path / 'cut_off.mcap', tmp_path / 'packed.mcap.zstd'
    cut_off.write_bytes(data[:len(data) // 2])
    packed.write_bytes(raw_mcap.zstd(data))
    for path in (cut_off, packed, tmp_path / 'none.mcap', tmp_path / 'none'):
        assert extent_of(settings_of(path)) == Extent(0, [])


def test_a_part_reads_no_chunk_before_it(tmp_path):
    path = tmp_path / 'drive.mcap'
    data = bytearray(raw_mcap.whole(raw_mcap.camera_records(8)))
    data[len(raw_mcap.MAGIC) + 5000] ^= 1       # in the first chunk
    path.write_bytes(data)
    with Recording(path) as recording:
        (first, _), = recording.spans('', IMAGE_TYPES)
        assert len(list(recording.messages(
            raw_mcap.IMAGE, IMAGE_TYPES, first + 4 * SECOND // 10))) == 4
        assert not recording.defects()
        list(recording.messages(raw_mcap.IMAGE, IMAGE_TYPES))
        assert recording.defects()
