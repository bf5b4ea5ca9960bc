"""RGB-D bags as datasets: pairs, units, the choice of topics, one sentence for each defect."""
import pickle

import bags
import numpy as np
import pytest
from torch.utils.data import DataLoader

from zoe_ros.bag import BagError, BagReader, SeveralTopicsError
from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.cli import main
from zoe_ros.command_settings import DataSettings
from zoe_ros.datasets import DatasetError
from zoe_ros.datasets.bags import RgbdBag
from zoe_ros.datasets.open import open_datasets
from zoe_ros.images import decode_depth, MessageError
from zoe_ros.messages import compressed_depth_message

RAW, INFO, DEPTH = '/camera/image_raw', '/camera/camera_info', '/depth/image_raw'
HEIGHT, WIDTH = 48, 64
MS = 1_000_000
EVERY = 100 * MS


def metres(index):
    """Return the depth of a frame: a slope with a hole, different for each frame."""
    depth = np.linspace(1 + index, 3 + index, HEIGHT * WIDTH, dtype=np.float32)
    depth = depth.reshape(HEIGHT, WIDTH)
    depth[5:9, 10:20] = np.nan
    return depth


def depth_image(depth, encoding='32FC1', big_endian=0, **header):
    """Return depth [m] as a message."""
    order = '>' if big_endian else '<'
    if encoding in ('16UC1', 'mono16'):
        values = np.nan_to_num(depth * 1000).round().astype(f'{order}u2')
    else:
        values = depth.astype(f'{order}f4' if encoding == '32FC1' else f'{order}f8')
    return bags.ROSBAGS.image(values.tobytes(), HEIGHT, WIDTH, values.itemsize * WIDTH, encoding,
                              big_endian, **header)


def rgbd_bag(path, count=4, *, late=3 * MS, encoding='32FC1', compressed=False, info=True,
             scale=1.0, depth_frame=bags.FRAME, depth_topics=(DEPTH,)):
    """
    Write a bag whose depth is ``late`` [ns] behind its images, and return its path.

    On topics that end in compressedDepth it is compressed.
    """
    messages = []
    for index in range(count):
        stamp = bags.START + index * EVERY
        pixels = bags.picture(HEIGHT, WIDTH, index)
        image = bags.ROSBAGS.compressed(bags.encoded(pixels), 'png', stamp=stamp) if compressed \
            else bags.ROSBAGS.photo(pixels, 'bgr8', stamp=stamp)
        if info:
            messages.append((INFO, bags.ROSBAGS.info(HEIGHT, WIDTH, stamp=stamp), stamp))
        messages.append((RAW, image, stamp))
        for topic in depth_topics:
            frame = bags.FRAME if topic != DEPTH else depth_frame
            depth, about = scale * metres(index), {'stamp': stamp + late, 'frame': frame}
            message = (compressed_depth_message(BAG_TYPES, bags.ROSBAGS.header(**about), depth)
                       if topic.endswith('compressedDepth')
                       else depth_image(depth, encoding, **about))
            messages.append((topic, message, stamp + late))
    return bags.write_bag(path, messages, 'mcap')


# --- messages -------------------------------------------------------------------------------


@pytest.mark.parametrize('big_endian', [0, 1])
@pytest.mark.parametrize('encoding', ['32FC1', '16UC1', '64FC1', 'mono16'])
def test_depth_messages(encoding, big_endian):
    depth = decode_depth(depth_image(metres(0), encoding, big_endian))
    assert depth.dtype == np.float32
    assert depth == pytest.approx(metres(0), abs=6e-4 if '16' in encoding else 0, nan_ok=True)


def test_what_is_no_depth_is_nan():
    values = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    values[0, :5] = np.inf, -np.inf, 0, -1, np.nan
    depth = decode_depth(depth_image(values))
    assert np.isnan(depth[0, :5]).all() and (depth.ravel()[5:] == 2).all()
    far = bags.ROSBAGS.image(np.array([[65535, 65534]], '<u2').tobytes(), 1, 2, 4, '16UC1')
    assert decode_depth(far) == pytest.approx(np.array([[np.nan, 65.534]]), nan_ok=True)


@pytest.mark.parametrize('message, cause', [
    (bags.ROSBAGS.photo(bags.picture()), 'encoding'),
    (bags.ROSBAGS.compressed(b'x', '16UC1; compressedDepth png'), 'corrupt'),
    (bags.ROSBAGS.compressed(b'x', 'jpeg'), 'encoding'),
    (bags.ROSBAGS.image(b'', 0, 0, 0, '32FC1'), 'size'),
    (bags.ROSBAGS.image(bytes(15), 2, 2, 8, '32FC1'), 'data'),
    (bags.ROSBAGS.image(bytes(16), 2, 2, 7, '32FC1'), 'data')])
def test_messages_that_are_no_depth(message, cause):
    with pytest.raises(MessageError) as caught:
        decode_depth(message)
    assert caught.value.cause == cause


def test_rows_with_padding():
    rows = np.pad(metres(0).view(np.uint8).reshape(HEIGHT, -1), ((0, 0), (0, 12)),
                  constant_values=99)
    message = bags.ROSBAGS.image(rows.tobytes(), HEIGHT, WIDTH, rows.shape[1], '32FC1')
    assert np.array_equal(decode_depth(message), metres(0), equal_nan=True)


# --- pairs ----------------------------------------------------------------------------------


@pytest.mark.parametrize('encoding', ['32FC1', '16UC1'])
@pytest.mark.parametrize('compressed', [False, True])
def test_samples(tmp_path, encoding, compressed):
    path = rgbd_bag(tmp_path / 'kitchen', encoding=encoding, compressed=compressed)
    dataset = RgbdBag(path, 'indoor')
    assert (dataset.name, dataset.domain, len(dataset)) == ('kitchen', 'indoor', 4)
    assert (dataset.protocol.min_depth, dataset.protocol.max_depth) == (1e-3, 10.0)
    for index in (2, 0, 3):     # in any order
        sample = dataset[index]
        assert np.array_equal(sample.image, bags.picture(HEIGHT, WIDTH, index))
        assert sample.depth == pytest.approx(metres(index), abs=6e-4, nan_ok=True)
        assert sample.valid.sum() == HEIGHT * WIDTH - 40
        assert (sample.camera.fx, sample.camera.width) == (WIDTH * 0.9, WIDTH)
        assert (sample.domain, sample.name) == ('indoor', str(bags.START + index * EVERY))
    with pytest.raises(IndexError):
        dataset[4]


def test_pairs_are_made_by_stamp_and_no_depth_twice(tmp_path):
    messages = [(INFO, bags.ROSBAGS.info(HEIGHT, WIDTH), bags.START)]
    for at in (0, 20, 100, 200):        # [ms]
        stamp = bags.START + at * MS
        messages.append((RAW, bags.ROSBAGS.photo(bags.picture(HEIGHT, WIDTH, at), stamp=stamp),
                         stamp))
    # Recorded late and out of order; what counts is the stamp.
    for number, at in enumerate((205, 18, 131)):
        messages.append((DEPTH, depth_image(metres(at), stamp=bags.START + at * MS),
                         bags.START + (900 - number) * MS))
    dataset = RgbdBag(bags.write_bag(tmp_path / 'bag', messages, 'mcap'), 'outdoor')
    assert [int(dataset[i].name) - bags.START for i in range(len(dataset))] == [20 * MS, 200 * MS]
    assert [float(dataset[i].depth[0, 0]) for i in range(2)] == [19.0, 206.0]
    wide = RgbdBag(tmp_path / 'bag', 'outdoor', tolerance=0.035)
    assert [int(wide[i].name) - bags.START for i in range(3)] == [20 * MS, 100 * MS, 200 * MS]


def test_a_depth_belongs_to_the_nearer_of_two_images(tmp_path):
    messages = [(INFO, bags.ROSBAGS.info(HEIGHT, WIDTH), bags.START)]
    for at in (0, 20):      # [ms], of which the later one is within the tolerance, too
        stamp = bags.START + at * MS
        messages.append((RAW, bags.ROSBAGS.photo(bags.picture(HEIGHT, WIDTH), stamp=stamp), stamp))
    messages.append((DEPTH, depth_image(metres(0), stamp=bags.START + MS), bags.START + MS))
    dataset = RgbdBag(bags.write_bag(tmp_path / 'bag', messages, 'mcap'), 'indoor')
    assert [int(dataset[i].name) - bags.START for i in range(len(dataset))] == [0]


def test_images_of_one_time_of_recording_are_told_apart_by_their_stamps(tmp_path):
    # A recorder that lags behind writes what has piled up at once.
    late = bags.START + 900 * MS
    messages = [(INFO, bags.ROSBAGS.info(HEIGHT, WIDTH), late)]
    for index in range(3):
        stamp = bags.START + index * EVERY
        messages += [
            (RAW, bags.ROSBAGS.photo(bags.picture(HEIGHT, WIDTH, index), stamp=stamp), late),
            (DEPTH, depth_image(metres(index), stamp=stamp), late)]
    dataset = RgbdBag(bags.write_bag(tmp_path / 'bag', messages, 'mcap'), 'indoor')
    for index in range(3):
        sample = dataset[index]
        assert np.array_equal(sample.image, bags.picture(HEIGHT, WIDTH, index))
        assert np.array_equal(sample.depth, metres(index), equal_nan=True)


def test_other_processes_read_too(tmp_path):
    """A forked reader would share the position in the file with its parent."""
    dataset = RgbdBag(rgbd_bag(tmp_path / 'bag', 12), 'indoor')
    assert float(dataset[1].depth[0, 0]) == 2.0
    loader = DataLoader(dataset, batch_size=None, num_workers=2,
                        collate_fn=lambda sample: float(sample.depth[0, 0]))
    for _ in range(2):
        assert list(loader) == list(range(1, 13))
    assert float(pickle.loads(pickle.dumps(dataset))[3].depth[0, 0]) == 4.0


def test_the_depth_topic_is_that_of_the_same_frame(tmp_path):
    path = rgbd_bag(tmp_path / 'bag', depth_frame='depth_frame',
                    depth_topics=(DEPTH, '/aligned/image_raw'))
    assert RgbdBag(path, 'indoor')._depth_topic == '/aligned/image_raw'
    assert RgbdBag(path, 'indoor', RAW, DEPTH)._depth_topic == DEPTH
    lone = rgbd_bag(tmp_path / 'lone', depth_frame='depth_frame')
    assert RgbdBag(lone, 'indoor')._depth_topic == DEPTH


def test_compressed_depth_is_read_where_there_is_no_raw_depth(tmp_path):
    packed = f'{DEPTH}/compressedDepth'
    lone = RgbdBag(rgbd_bag(tmp_path / 'lone', depth_topics=(packed,)), 'indoor')
    assert lone._depth_topic == packed
    assert lone[1].depth == pytest.approx(metres(1), abs=6e-4, nan_ok=True)
    both = RgbdBag(rgbd_bag(tmp_path / 'both', depth_topics=(packed, DEPTH)), 'indoor')
    assert both._depth_topic == DEPTH
    assert np.array_equal(both[1].depth, metres(1), equal_nan=True)
    # Of another sensor: both are depth, and one must be chosen.
    other = '/other/image_raw'
    with pytest.raises(BagError, match='several depth topics'):
        RgbdBag(rgbd_bag(tmp_path / 'two', depth_topics=(packed, other)), 'indoor')


@pytest.mark.parametrize('topic, named, read', [
    ('/camera/depth/image_raw', None, True), ('/tof/image_raw', '/tof/image_raw', True),
    ('/tof/image_raw', None, False)])
def test_depth_in_mono16_is_read_where_its_topic_or_the_user_says_so(tmp_path, topic, named, read):
    path = rgbd_bag(tmp_path / 'bag', encoding='mono16', depth_topics=(topic,))
    if not read:
        with pytest.raises(DatasetError, match=r'has no depth: .* mono16 .* --depth-topic'):
            RgbdBag(path, 'indoor', RAW, named)
        return
    bag = RgbdBag(path, 'indoor', RAW, named)
    assert len(bag) == 4
    assert bag[1].depth == pytest.approx(metres(1), abs=6e-4, nan_ok=True)


@pytest.mark.parametrize('frame, doubted', [
    (bags.FRAME, False), ('/' + bags.FRAME, False), ('', False), ('depth_optical_frame', True)])
def test_depth_of_another_frame_is_doubted(tmp_path, caplog, frame, doubted):
    assert len(RgbdBag(rgbd_bag(tmp_path / 'bag', depth_frame=frame), 'indoor')) == 4
    assert [f"the frame '{frame}'" in text for text in caplog.messages] == [True] * doubted


def test_mono16_beside_depth_is_brightness(tmp_path):
    path = rgbd_bag(tmp_path / 'bag', depth_topics=(DEPTH,))
    infrared = bags.ROSBAGS.image(bytes(2 * HEIGHT * WIDTH), HEIGHT, WIDTH, 2 * WIDTH, 'mono16')
    with BagReader(path) as bag:
        images = [(RAW, image.message, image.recorded) for image in bag]
        depth = next(bag.images(DEPTH)).message
        info = bag.infos.find(depth.header)
    both = bags.write_bag(tmp_path / 'both', [
        *images, (INFO, info, bags.START), (DEPTH, depth, bags.START),
        ('/depth_camera/infrared', infrared, bags.START)])
    assert RgbdBag(both, 'indoor')._depth_topic == DEPTH


def test_a_user_names_a_bag(tmp_path):
    path = str(rgbd_bag(tmp_path / 'bag'))
    dataset, = open_datasets([path], 'train', DataSettings('outdoor'))
    assert (dataset.domain, len(dataset)) == ('outdoor', 4)
    with pytest.raises(DatasetError, match=r'bag is a bag, .*add --domain indoor or'):
        open_datasets([path], 'train')


# --- defects --------------------------------------------------------------------------------


@pytest.mark.parametrize('options, text', [
    ({'late': 30 * MS}, r'none of 4 images of /camera/image_raw has one of the 4 of '
                        r'/depth/image_raw within 0.02 s'),
    ({'info': False}, 'no CameraInfo for the images of /camera/image_raw'),
    ({'depth_topics': ()}, r'has no depth: a topic of 32FC1 \[m\] or 16UC1 \[mm\]')])
def test_bags_without_pairs(tmp_path, options, text):
    path = rgbd_bag(tmp_path / 'bag', **options)
    with pytest.raises(DatasetError, match=text) as caught:
        RgbdBag(path, 'indoor')
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('scale, text', [(1000, 'looks like millimetres'),
                                         (1e-3, 'looks like metres that were divided by 1000')])
def test_depth_in_another_unit(tmp_path, scale, text):
    dataset = RgbdBag(rgbd_bag(tmp_path / 'bag', scale=scale), 'indoor')
    with pytest.raises(DatasetError, match=text):
        dataset[0]


def test_a_topic_that_must_be_chosen_or_is_not_there(tmp_path):
    path = rgbd_bag(tmp_path / 'bag', depth_topics=('/a/image_raw', '/b/image_raw'))
    with pytest.raises(BagError, match=r'several depth topics, /a/image_raw, /b/image_raw'):
        RgbdBag(path, 'indoor')
    with pytest.raises(BagError, match='no depth images of 32FC1, 16UC1 or mono16 on /c; it has '
                                       '/a/image_raw'):
        RgbdBag(path, 'indoor', None, '/c')
    with pytest.raises(BagError, match='no images on /nowhere'):
        RgbdBag(path, 'indoor', '/nowhere')
    messages = [(f'/{side}/image', bags.ROSBAGS.photo(bags.picture()), bags.START)
                for side in ('left', 'right')]
    with pytest.raises(SeveralTopicsError):
        RgbdBag(bags.write_bag(tmp_path / 'stereo', messages, 'mcap'), 'indoor')


def test_depth_of_another_size(tmp_path):
    stamp = bags.START
    path = bags.write_bag(tmp_path / 'bag', [
        (INFO, bags.ROSBAGS.info(2 * HEIGHT, WIDTH), stamp),
        (RAW, bags.ROSBAGS.photo(bags.picture(2 * HEIGHT, WIDTH)), stamp),
        (DEPTH, depth_image(metres(0)), stamp)], 'mcap')
    with pytest.raises(DatasetError, match='64 x 48 pixels and the image 64 x 96: record depth'):
        RgbdBag(path, 'indoor')[0]


def test_a_damaged_image_is_named(tmp_path):
    stamp = bags.START
    path = bags.write_bag(tmp_path / 'bag', [
        (INFO, bags.ROSBAGS.info(HEIGHT, WIDTH), stamp),
        (RAW, bags.ROSBAGS.compressed(b'not a picture', 'jpeg'), stamp),
        (DEPTH, depth_image(metres(0)), stamp)], 'mcap')
    with pytest.raises(DatasetError, match=r'bag at 1700000000.000 s: .*neither JPEG nor PNG'):
        RgbdBag(path, 'indoor')[0]


def test_camera_info_of_another_size_or_none_at_all(tmp_path):
    photo, depth = bags.ROSBAGS.photo(bags.picture(HEIGHT, WIDTH)), depth_image(metres(0))
    for name, info, text in (
            ('size', bags.ROSBAGS.info(10, 20), 'CameraInfo is for 20 x 10 pixels, the image has'),
            ('zero', bags.ROSBAGS.info(HEIGHT, WIDTH, k=(0,) * 9), 'is not calibrated')):
        path = bags.write_bag(tmp_path / name, [
            (INFO, info, bags.START), (RAW, photo, bags.START), (DEPTH, depth, bags.START)],
            'mcap')
        with pytest.raises(DatasetError, match=text):
            RgbdBag(path, 'indoor')[0]


def test_topics_are_settings(tmp_path):
    path = str(rgbd_bag(tmp_path / 'bag', depth_topics=('/a/image_raw', '/b/image_raw')))
    with pytest.raises(BagError, match=r'choose one by --depth-topic'):
        open_datasets([path], 'test', DataSettings('indoor'))
    dataset, = open_datasets([path], 'test', DataSettings('indoor', RAW, '/b/image_raw'))
    assert dataset[0].valid.any()


@pytest.mark.slow
def test_a_bag_is_learnt_from_and_measured_on(tmp_path, capsys, monkeypatch):
    """The way of a robot's own recording, in small."""
    monkeypatch.chdir(tmp_path)
    rgbd_bag(tmp_path / 'kitchen')
    assert main(['train', '--data', 'kitchen', '--domain', 'indoor', '--steps', '1', '--batch',
                 '2', '--size', '64x96', '--workers', '0', '--device', 'cpu', '--output', 'run']
                ) == 0
    assert main(['eval', 'kitchen', '--domain', 'indoor', '--weights', 'run/model.safetensors',
                 '--device', 'cpu']) == 0
    assert 'kitchen' in capsys.readouterr().out
    assert main(['eval', 'kitchen', '--weights', 'run/model.safetensors']) == 2
    assert 'add --domain indoor or --domain outdoor' in capsys.readouterr().err
