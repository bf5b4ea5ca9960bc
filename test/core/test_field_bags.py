"""Bags as they are found: of other recorders, cut off, moved, renamed, with odd things in them."""
import shutil
import sqlite3

import bags
import pytest
import raw_mcap
from raw_mcap import IMAGE, INFO
from whole_bags import change_metadata, check_whole, read

from zoe_ros.bag import BagError, BagReader

SCHEMAS = {
    'a service as the text of a message': f'{"=" * 80}\nSRV: a/srv/B\nint64 a\n---',
    'only its own name': 'my_msgs/msg/Odd',
    'other line ends': 'float32 x\r\nuint8 A=1\r\n',
    'a constant with quotes': "string A='it''s'\nuint8 b",
    'nothing': '', 'not even text': '\0\1\2'}
ENCODINGS = [('jsonschema', 'json'), ('protobuf', 'protobuf'), ('flatbuffer', 'flatbuffer'),
             ('ros1msg', 'ros1'), ('ros2msg', 'cdr'), ('ros2idl', 'cdr'), ('', 'cbor')]


def loose(count=3):
    """Return the records of a camera's messages in the order of recording."""
    return b''.join(data for _, data in raw_mcap.camera_records(count))


# --- what else is in a bag, and what it says about types ------------------------------------


@pytest.mark.parametrize('name', SCHEMAS)
def test_other_types_cannot_spoil_a_bag(tmp_path, name):
    odd = raw_mcap.schema(7, 'my_msgs/msg/Odd', 'ros2msg', SCHEMAS[name])
    path = raw_mcap.write(
        tmp_path / 'a.mcap', raw_mcap.header(), odd, raw_mcap.channel(7, 7, '/odd'),
        raw_mcap.camera_types(), raw_mcap.message(7, bags.START, b'odd'), loose(), raw_mcap.end())
    check_whole(path)


@pytest.mark.parametrize('schema, encoding', ENCODINGS)
def test_channels_of_other_encodings_do_not_matter(tmp_path, schema, encoding):
    # Even one that calls itself an image.
    for kind in ('foxglove.CompressedImage', 'sensor_msgs/msg/Image'):
        if encoding == 'cdr' and kind.endswith('Image') and kind.startswith('sensor'):
            continue
        path = raw_mcap.write(
            tmp_path / 'a.mcap', raw_mcap.header(''),
            raw_mcap.schema(7, kind, schema, '{}'), raw_mcap.channel(7, 7, '/odd', encoding),
            raw_mcap.camera_types(), raw_mcap.message(7, bags.START, b'{}'), loose(),
            raw_mcap.end())
        check_whole(path)


@pytest.mark.parametrize('definition', ['', 'int32 x', 'sensor_msgs/msg/Image', '===\0'])
@pytest.mark.parametrize('encoding', ['ros2msg', 'ros2idl', 'omgidl', '', 'unheard_of'])
def test_images_are_those_of_ros_whatever_the_bag_says_of_them(tmp_path, definition, encoding):
    path = raw_mcap.write(
        tmp_path / 'a.mcap', raw_mcap.header(),
        raw_mcap.camera_types(definition, definition, encoding), loose(), raw_mcap.end())
    check_whole(path)


@pytest.mark.parametrize('profile', ['ros2', '', 'ros1', 'x-mine'])
def test_the_profile_does_not_matter(tmp_path, profile):
    path = raw_mcap.write(tmp_path / 'a.mcap', raw_mcap.header(profile),
                          raw_mcap.camera_types(), loose(), raw_mcap.end())
    check_whole(path)


@pytest.mark.parametrize('name', ['sensor_msgs/Image', 'sensor_msgs::msg::Image'])
def test_other_ways_to_write_the_name_of_a_type(tmp_path, name):
    types = (raw_mcap.schema(1, name.replace('Image', 'CameraInfo')) + raw_mcap.channel(1, 1, INFO)
             + raw_mcap.schema(2, name) + raw_mcap.channel(2, 2, IMAGE))
    check_whole(raw_mcap.write(tmp_path / 'a.mcap', raw_mcap.header(), types, loose(),
                               raw_mcap.end()))


def test_an_mcap_of_ros_1_is_called_so(tmp_path):
    path = raw_mcap.write(
        tmp_path / 'a.mcap', raw_mcap.header('ros1'),
        raw_mcap.schema(1, 'sensor_msgs/Image', 'ros1msg'), raw_mcap.channel(1, 1, IMAGE, 'ros1'),
        raw_mcap.message(1, bags.START, b'1'), raw_mcap.end())
    with pytest.raises(BagError, match='is a bag of ROS 1: convert it'):
        BagReader(path)


def test_a_bag_of_another_encoding_says_which(tmp_path):
    path = raw_mcap.write(
        tmp_path / 'a.mcap', raw_mcap.header(''),
        raw_mcap.schema(1, 'foxglove.CompressedImage', 'protobuf'),
        raw_mcap.channel(1, 1, '/eye', 'protobuf'), raw_mcap.message(1, bags.START, b'1'),
        raw_mcap.end())
    with pytest.raises(BagError, match=r'no images to work on.* it has /eye \(protobuf\)'):
        BagReader(path)


# --- order and chunks -----------------------------------------------------------------------


@pytest.mark.parametrize('chunked', [False, True])
@pytest.mark.parametrize('compression', ['', 'lz4'])
def test_messages_in_any_order(tmp_path, chunked, compression):
    records = raw_mcap.camera_records(6)
    shuffled = [records[i] for i in (8, 3, 11, 0, 5, 6, 9, 2, 1, 10, 7, 4)]
    parts = [raw_mcap.camera_types(), *(data for _, data in shuffled)]
    if chunked:
        # Chunks that overlap in time, the second later than the third, without indexes.
        parts = [raw_mcap.chunk(raw_mcap.camera_types() + b''.join(d for _, d in some),
                                [time for time, _ in some], compression)
                 for some in (shuffled[:5], shuffled[5:7], shuffled[7:])]
    path = raw_mcap.write(tmp_path / 'a.mcap', raw_mcap.header(), *parts, raw_mcap.end())
    check_whole(path, 6)
    with BagReader(path) as bag:
        image = bag.image_at(IMAGE, bags.recorded(6)[3], bags.stamps(6)[3])
        assert bags.key(image)[0] == bags.stamps(6)[3]


def test_messages_are_counted_by_the_indexes_behind_a_chunk(tmp_path):
    records = raw_mcap.camera_records(3)
    path = raw_mcap.write(
        tmp_path / 'a.mcap', raw_mcap.header(), raw_mcap.camera_types(),
        raw_mcap.chunk(loose(), [time for time, _ in records]), raw_mcap.index(1, 3),
        raw_mcap.index(2, 3), raw_mcap.end())
    check_whole(path)
    with BagReader(path) as bag:
        assert bag.count == 3


def test_messages_that_were_packed_one_by_one(tmp_path):
    zstd = pytest.importorskip('backports.zstd')
    packed = [raw_mcap.message(1 if topic == INFO else 2, recorded,
                               zstd.compress(bags.ROSBAGS.to_bytes(sent)))
              for topic, sent, recorded in bags.camera_messages(3, IMAGE, INFO)]
    check_whole(raw_mcap.write(tmp_path / 'a.mcap', raw_mcap.header(), raw_mcap.camera_types(),
                               *packed, raw_mcap.end()))


# --- recordings that were cut off -----------------------------------------------------------


@pytest.mark.parametrize('compression', ['', 'lz4'])
@pytest.mark.parametrize('chunked', [False, True])
def test_every_cut_of_an_mcap_gives_what_is_there(tmp_path, compression, chunked):
    records = raw_mcap.camera_records(6)
    parts = [raw_mcap.camera_types(), *(data for _, data in records)]
    if chunked:
        parts = [raw_mcap.chunk(raw_mcap.camera_types() + b''.join(d for _, d in some),
                                [time for time, _ in some], compression)
                 for some in (records[:6], records[6:])]
    path = raw_mcap.write(tmp_path / 'a.mcap', raw_mcap.header(), *parts)
    whole, before = path.read_bytes(), 0
    for size in [*range(2000, len(whole), 4001), len(whole)]:
        path.write_bytes(whole[:size])
        try:
            stamps, infos, said = read(path)
        except BagError as error:   # not even one image
            assert 'the end of the file is missing' in str(error) and size < len(whole) / 2
            continue
        assert stamps == infos == bags.stamps(len(stamps)) and len(stamps) >= before
        assert 'a.mcap: the end of the file is missing' in said
        assert f'it gave {len(stamps)} of at least' in said
        before = len(stamps)
    assert before == 6


def test_noise_at_the_end_of_an_mcap(tmp_path):
    # After a loss of power a file may end in zeros.
    path = raw_mcap.write(tmp_path / 'a.mcap', raw_mcap.header(), raw_mcap.camera_types(),
                          loose(), bytes(5000))
    stamps, _, said = read(path)
    assert stamps == bags.stamps(3) and 'there is no record at byte' in said


def test_a_missing_summary_is_no_loss(tmp_path):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(3, IMAGE, INFO))
    file = bags.storage_file(path)
    data = file.read_bytes()
    # All is there until the record that ends the data; then the index was cut.
    file.write_bytes(data[:data.rindex(raw_mcap.record(15, bytes(4))) + 13])
    check_whole(path)


def wal_bag(path, count=3, checkpointed=1):
    """Write a .db3 of which only the first messages are in the file, the others in its log."""
    source = bags.storage_file(bags.write_bag(
        path.parent / 'source', bags.camera_messages(count, IMAGE, INFO), 'sqlite3'))
    with sqlite3.connect(source) as database:
        rows = list(database.execute('SELECT * FROM messages'))
        database.execute('DELETE FROM messages')
    database.close()
    database = sqlite3.connect(source)
    database.execute('PRAGMA journal_mode=WAL')
    database.execute('PRAGMA wal_autocheckpoint=0')
    for i, row in enumerate(rows):
        database.execute('INSERT INTO messages VALUES (?, ?, ?, ?)', row)
        database.commit()
        if i + 1 == 2 * checkpointed:
            database.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    # As a recorder that was killed leaves them.
    shutil.copy(source, path)
    shutil.copy(f'{source}-wal', f'{path}-wal')
    database.close()
    assert path.with_name(path.name + '-wal').stat().st_size
    return path


@pytest.mark.parametrize('checkpointed', [0, 1, 2])
def test_the_log_of_a_recorder_that_was_killed_is_read(tmp_path, checkpointed):
    path = wal_bag(tmp_path / 'run.db3', checkpointed=checkpointed)
    before = path.read_bytes(), path.with_name('run.db3-wal').read_bytes()
    check_whole(path)
    assert before == (path.read_bytes(), path.with_name('run.db3-wal').read_bytes())


def test_a_change_that_a_killed_process_has_not_finished_is_taken_back(tmp_path):
    source = bags.storage_file(bags.write_bag(
        tmp_path / 'source', bags.camera_messages(40, IMAGE, INFO), 'sqlite3'))
    path = tmp_path / 'run.db3'
    database = sqlite3.connect(source)
    database.execute('PRAGMA cache_size=1')     # so that changes go to the file at once
    database.execute('DELETE FROM messages')
    for end in ('', '-journal'):
        shutil.copy(f'{source}{end}', f'{path}{end}')
    database.close()
    assert path.read_bytes() != source.read_bytes()
    check_whole(path, 40)


def test_fewer_images_than_the_bag_says_it_holds(tmp_path):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(3, IMAGE, INFO), 'sqlite3')
    with sqlite3.connect(bags.storage_file(path)) as database:
        database.execute('DELETE FROM messages WHERE id > 3')
    database.close()
    stamps, _, said = read(path)
    assert stamps == bags.stamps(1)
    assert f'it gave 1 of at least 3 images on {IMAGE}' in said
    entries = [{'topic_metadata': {'name': IMAGE}, 'message_count': count} for count in (2, 3)]
    change_metadata(path, topics_with_message_count=entries)    # of two publishers
    assert f'it gave 1 of at least 5 images on {IMAGE}' in read(path)[2]


@pytest.mark.parametrize('share', [0.3, 0.6, 0.9])
def test_a_cut_db3_gives_what_is_there(tmp_path, share):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(40, IMAGE, INFO), 'sqlite3')
    file = bags.storage_file(path)
    file.write_bytes(file.read_bytes()[:int(file.stat().st_size * share)])
    stamps, _, said = read(path)
    assert stamps == bags.stamps(40)[:len(stamps)] and 40 * share - 8 < len(stamps) < 40 * share
    assert 'malformed' in said


# --- topics ---------------------------------------------------------------------------------


@pytest.mark.parametrize('form', ['16UC1; png compressed ', '32FC1; tiff compressed',
                                  '16UC1; compressedDepth png'])
def test_the_colour_topic_of_an_rgbd_bag_whose_depth_is_a_picture(tmp_path, form):
    depth = bags.ROSBAGS.compressed(bags.encoded(bags.picture()[..., 0]), form)
    colour = bags.camera_messages(2, '/c/color/image_raw/compressed', '/c/color/camera_info',
                                  encoding='jpeg')
    path = bags.write_bag(tmp_path / 'bag', [('/c/depth/image_raw/compressed', depth), *colour])
    with BagReader(path) as bag:
        assert bag.topic == '/c/color/image_raw/compressed'
    path = bags.write_bag(tmp_path / 'depth', [('/c/depth/image_raw/compressed', depth)])
    with pytest.raises(BagError, match='no images to work on'):
        BagReader(path)
