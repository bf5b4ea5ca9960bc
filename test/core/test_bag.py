"""Bags: both storages, the choice of topics, damage of every kind, and what the writer leaves."""
import gc
import signal
import sqlite3

import bags
import numpy as np
import pytest

from zoe_ros.bag import BagError, BagReader, is_bag, SeveralTopicsError
from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.bag_writer import BagWriter, uninterrupted
from zoe_ros.images import decode_image

STORAGES = ['mcap', 'sqlite3']
RAW, INFO = '/camera/image_raw', '/camera/camera_info'


def depth_image(stamp=bags.START, encoding='16UC1'):
    """Return a depth image as an RGB-D camera publishes it."""
    size = {'16UC1': 2, '32FC1': 4}[encoding]
    return bags.ROSBAGS.image(bytes(6 * 8 * size), 6, 8, 8 * size, encoding, stamp=stamp)


def refused(path, topic=None):
    """Return the text with which a bag is refused: one line that names the bag."""
    with pytest.raises(BagError) as caught, BagReader(path, topic):
        pass
    text = str(caught.value)
    assert str(path) in text and '\n' not in text
    return text


# --- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('bare', [False, True])
@pytest.mark.parametrize('encoding', ['rgb8', 'jpeg'])
def test_images_come_in_order_with_their_camera_info(tmp_path, storage, bare, encoding):
    messages = bags.camera_messages(5, encoding=encoding)
    path = bags.write_bag(tmp_path / 'bag', messages, storage)
    if bare:
        path = bags.storage_file(path).rename(tmp_path / f'bare{bags.storage_file(path).suffix}')
    assert is_bag(path)
    with BagReader(path) as bag:
        assert (bag.topic, bag.info_topic, bag.count) == (RAW, INFO, 5)
        images = list(bag)
        assert [image.recorded for image in images] == bags.recorded(5)
        for image, (_, original, _) in zip(images, messages[1::2], strict=True):
            assert bags.key(image.message) == bags.key(original)
            assert np.array_equal(decode_image(image.message), decode_image(original))
            info = bag.infos.find(image.message.header)
            assert bags.key(info) == bags.key(original)
        assert [i.recorded for i in bag] == bags.recorded(5)    # and once more


def test_order_is_that_of_recording(tmp_path):
    messages = bags.camera_messages(4, info=None)
    shuffled = [messages[i] for i in (2, 0, 3, 1)]
    for storage in STORAGES:
        with BagReader(bags.write_bag(tmp_path / storage, shuffled, storage)) as bag:
            assert [image.recorded for image in bag] == bags.recorded(4)


def test_camera_info_may_come_after_the_image(tmp_path):
    messages = bags.camera_messages(40)
    late = [message for message in messages if message[0] == RAW]
    late += [(topic, message, recorded + 60 * bags.SECOND)
             for topic, message, recorded in messages if topic == INFO]
    with BagReader(bags.write_bag(tmp_path / 'bag', late)) as bag:
        for image in bag:
            assert bags.key(bag.infos.find(image.message.header)) == bags.key(image.message)


def test_is_bag(tmp_path):
    assert not is_bag(tmp_path)
    assert not is_bag(tmp_path / 'photo.jpg')
    assert is_bag(tmp_path / 'a.mcap') and is_bag(tmp_path / 'a.db3')
    assert is_bag(bags.write_bag(tmp_path / 'bag', bags.camera_messages(1)))


# --- topics ---------------------------------------------------------------------------------


@pytest.fixture
def stereo(tmp_path):
    """Return the path of a bag with two cameras."""
    messages = [message for side in ('right', 'left') for message in
                bags.camera_messages(2, f'/{side}/image_raw', f'/{side}/camera_info')]
    return bags.write_bag(tmp_path / 'stereo', messages)


def test_several_topics_must_be_chosen_from(stereo):
    with pytest.raises(SeveralTopicsError, match='several image topics') as caught:
        BagReader(stereo)
    assert caught.value.topics == ['/left/image_raw', '/right/image_raw']
    for topic in caught.value.topics:
        with BagReader(stereo, topic) as bag:
            assert (bag.topic, bag.count) == (topic, 2)
            assert bag.info_topic == topic.replace('image_raw', 'camera_info')


def test_wrong_topic(stereo):
    text = refused(stereo, '/middle/image_raw')
    assert 'no images on /middle/image_raw' in text
    assert '/left/image_raw, /right/image_raw' in text
    assert '/left/camera_info' not in text
    # A topic that is there, but of no images.
    assert 'no images on /left/camera_info' in refused(stereo, '/left/camera_info')


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
def test_rgbd_bag_has_one_photograph_topic(tmp_path, encoding):
    messages = [('/depth/image', depth_image(encoding=encoding)),
                *bags.camera_messages(2, '/rgb/image_raw', '/rgb/camera_info'),
                ('/depth/compressed', bags.ROSBAGS.compressed(b'\0' * 20,
                                                              '16UC1; compressedDepth png'))]
    with BagReader(bags.write_bag(tmp_path / 'rgbd', messages)) as bag:
        assert (bag.topic, bag.info_topic) == ('/rgb/image_raw', '/rgb/camera_info')


def test_a_bag_of_depth_images_has_no_photographs(tmp_path):
    text = refused(bags.write_bag(tmp_path / 'bag', [('/depth/image', depth_image())]))
    assert 'no images' in text and '/depth/image' in text


@pytest.mark.parametrize('image, infos, expected', [
    ('/cam/image_raw', ['/cam/camera_info', '/other/camera_info'], '/cam/camera_info'),
    ('/cam/image_raw/compressed', ['/cam/camera_info', '/other/camera_info'],
     '/cam/camera_info'),
    ('/cam/image_raw', ['/elsewhere/info'], '/elsewhere/info'),
    ('/cam/image_raw', ['/a/camera_info', '/b/camera_info'], None),
    ('/cam/image_raw', [], None),
    ('/image', ['/camera_info', '/b/camera_info'], '/camera_info')])
def test_whose_camera_info(tmp_path, image, infos, expected):
    encoding = 'jpeg' if image.endswith('compressed') else 'rgb8'
    messages = bags.camera_messages(1, image, None, encoding=encoding)
    messages += [(name, bags.ROSBAGS.info(48, 64)) for name in infos]
    with BagReader(bags.write_bag(tmp_path / 'bag', messages)) as bag:
        assert bag.info_topic == expected


# --- damage ---------------------------------------------------------------------------------


@pytest.fixture(params=STORAGES)
def bag_path(request, tmp_path):
    """Return the path of a good bag of a few hundred kilobytes, in either storage."""
    messages = bags.camera_messages(20, size=(96, 128))
    return bags.write_bag(tmp_path / 'bag', messages, request.param)


@pytest.mark.parametrize('share', [0.001, 0.1, 0.5, 0.99])
@pytest.mark.parametrize('bare', [False, True])
def test_truncated_bag(bag_path, share, bare):
    file = bags.storage_file(bag_path)
    data = file.read_bytes()
    file.write_bytes(data[:int(len(data) * share)])
    path = file if bare else bag_path
    images = []
    with pytest.raises(BagError) as caught, BagReader(path) as bag:
        for image in bag:
            images.append(decode_image(image.message))
    text = str(caught.value)
    assert 'cannot be read as a rosbag' in text and str(path) in text and '\n' not in text
    # All but the images of the part that is missing, if not even one channel is to be seen.
    assert len(images) <= 20 * share
    if share >= 0.5:
        assert images and f'it gave {len(images)} of at least' in text
    if not images:
        assert 'mcap recover' in text or 'it gave 0 of' in text


@pytest.mark.parametrize('bare', [False, True])
def test_empty_file(bag_path, bare):
    file = bags.storage_file(bag_path)
    file.write_bytes(b'')
    refused(file if bare else bag_path)


@pytest.mark.parametrize('name', ['noise.mcap', 'noise.db3'])
def test_no_bag_at_all(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    assert 'cannot be read as a rosbag' in refused(path)
    folder = tmp_path / f'folder.{name}'
    folder.mkdir()
    assert 'cannot be read as a rosbag' in refused(folder)


@pytest.mark.parametrize('text', ['', '{', 'a: 1', '- 1', 'rosbag2_bagfile_information: 3',
                                  'rosbag2_bagfile_information: {version: 8}', '\0\1\2'])
def test_bad_metadata(tmp_path, text):
    folder = tmp_path / 'bag'
    folder.mkdir()
    (folder / 'metadata.yaml').write_text(text)
    assert is_bag(folder)
    assert 'cannot be read as a rosbag' in refused(folder)


def test_the_storage_file_is_gone(bag_path):
    bags.storage_file(bag_path).unlink()
    assert 'missing' in refused(bag_path)


@pytest.mark.parametrize('storage', STORAGES)
def test_bag_without_messages(tmp_path, storage):
    path = bags.write_bag(tmp_path / 'bag', [], storage)
    assert 'no images' in refused(path) and 'nothing' in refused(path)
    assert 'no images at all' in refused(path, RAW)


def test_topic_that_was_announced_but_never_used(tmp_path):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(2), 'sqlite3')
    with sqlite3.connect(bags.storage_file(path)) as database:
        database.execute('DELETE FROM messages')
    database.close()
    # The metadata still count two images: a recording whose file was lost in part.
    for topic in (None, RAW):
        try:
            with BagReader(path, topic) as bag:
                assert list(bag) == []
        except BagError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize('storage', STORAGES)
def test_bag_without_images(tmp_path, storage):
    path = bags.write_bag(tmp_path / 'bag', [(INFO, bags.ROSBAGS.info(4, 4))], storage)
    text = refused(path)
    assert 'no images' in text and INFO in text


def test_damage_in_the_middle_comes_after_all_good_images(tmp_path):
    path, good = bags.damaged_in_the_middle(tmp_path / 'bag', info=None)
    with BagReader(path) as bag:
        images = []
        with pytest.raises(BagError, match='cannot be read as a rosbag'):
            for image in bag:
                images.append(image)
    assert len(images) == good


def test_damage_in_the_middle_of_a_bag_with_camera_info(tmp_path):
    path, good = bags.damaged_in_the_middle(tmp_path / 'bag')
    with BagReader(path) as bag:
        images = []
        with pytest.raises(BagError, match='cannot be read as a rosbag'):
            for image in bag:
                assert bag.infos.find(image.message.header) is not None
                images.append(image)
    assert len(images) == good


# --- writing --------------------------------------------------------------------------------


def test_what_is_written_is_read_back(tmp_path):
    infos = [bags.ROSBAGS.info(48, 64, stamp=stamp) for stamp in bags.stamps(3)]
    with BagWriter(tmp_path / 'bag') as writer:
        for i, info in enumerate(infos):
            writer.write('/a/camera_info', info, bags.START + i)
            writer.write('/b/image', depth_image(), bags.START + i)
    assert bags.storage_file(tmp_path / 'bag').suffix == '.mcap'
    found = bags.read_bag(tmp_path / 'bag')
    assert [recorded - bags.START for recorded, _ in found['/a/camera_info']] == [0, 1, 2]
    for (_, info), original in zip(found['/a/camera_info'], infos, strict=True):
        assert bags.ROSBAGS.to_bytes(info) == bags.ROSBAGS.to_bytes(original)
    assert len(found['/b/image']) == 3


@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt, SystemExit])
def test_the_bag_is_whole_after_an_exception(tmp_path, error):
    with pytest.raises(error), BagWriter(tmp_path / 'bag') as writer:
        writer.write('/b/image', depth_image(), bags.START)
        raise error
    assert (tmp_path / 'bag' / 'metadata.yaml').is_file()
    assert len(bags.read_bag(tmp_path / 'bag')['/b/image']) == 1
    assert [path.name for path in tmp_path.iterdir()] == ['bag']


def test_a_bag_has_its_name_when_it_is_finished(tmp_path):
    for _ in 'as it is', 'after a process that was killed':
        unfinished = BagWriter(tmp_path / 'bag')
        unfinished.write('/b/image', depth_image(), bags.START)
        assert [path.name for path in tmp_path.iterdir()] == ['bag.part']
    with unfinished:
        pass
    assert len(bags.read_bag(tmp_path / 'bag')['/b/image']) == 1


@pytest.fixture
def ctrl_c():
    """Let Ctrl-C raise a KeyboardInterrupt, which it does not in a process of the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('ctrl_c')
def test_ctrl_c_waits_for_the_end_of_a_record_and_is_not_lost():
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        done.append('record')
    assert done == ['record']
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_bag_is_never_overwritten(tmp_path):
    with BagWriter(tmp_path / 'bag') as writer:
        writer.write('/b/image', depth_image(), bags.START)
    with pytest.raises(Exception, match='exists'):
        BagWriter(tmp_path / 'bag')
    assert len(bags.read_bag(tmp_path / 'bag')['/b/image']) == 1


def test_types_are_those_of_rosbags():
    header = bags.ROSBAGS.header()
    message = BAG_TYPES.image(
        header=header, height=1, width=1, encoding='mono8', is_bigendian=0, step=1,
        data=BAG_TYPES.pack(np.array([[7]], np.uint8)))
    assert bags.ROSBAGS.to_bytes(message)[-1] == 7


# --- many CameraInfo ------------------------------------------------------------------------


def test_camera_info_that_differ_in_their_stamps_alone_are_read_like_others(tmp_path):
    """The content is decoded once: other bytes, another byte order and damage must not be lost."""
    messages = bags.camera_messages(10, RAW, INFO)
    infos = [message for topic, message, *_ in messages if topic == INFO]
    infos[3].k = infos[3].k * 2
    infos[5].header.frame_id = '/other'
    infos[7].header.stamp.nanosec = 4_000_000_000
    infos[8].header.stamp.sec = -1
    path = bags.write_bag(tmp_path / 'bag', messages, 'sqlite3')
    with sqlite3.connect(bags.storage_file(path)) as database:
        topic, = database.execute('SELECT id FROM topics WHERE name = ?', (INFO,)).fetchone()
        rows = database.execute('SELECT id, data FROM messages WHERE topic_id = ? ORDER BY id',
                                (topic,)).fetchall()
        swapped = [bytes(bags.TYPESTORE.serialize_cdr(info, info.__msgtype__, little_endian=False))
                   for info in infos[1:3]]
        for (number, _), data in ((rows[1], swapped[0]), (rows[2], swapped[1]),
                                  (rows[9], rows[9][1][:-1])):
            database.execute('UPDATE messages SET data = ? WHERE id = ?', (data, number))
    database.close()
    with BagReader(path) as bag:
        said, = bag.notes
        assert said == f'1 of 10 CameraInfo on {INFO} cannot be read: the one before each is used'
        for info in infos[:9]:
            found = bag.info_of(info.header, 0)
            assert (found.header, found.width) == (info.header, info.width)
            np.testing.assert_array_equal(found.k, info.k)
            np.testing.assert_array_equal(found.d, info.d)


@pytest.mark.parametrize('enabled', [True, False])
def test_reading_leaves_garbage_collection_as_it_was(tmp_path, enabled):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(2, RAW, INFO))
    try:
        if not enabled:
            gc.disable()
        BagReader(path)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
