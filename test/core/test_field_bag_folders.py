"""Folders of bags as they are found: without metadata, damaged, renamed, packed."""
import os

import bags
import pytest
from raw_mcap import IMAGE, INFO, zstd
from whole_bags import change_metadata, check_whole, read
import yaml

from zoe_ros.bag import BagError, BagReader, is_bag, SeveralTopicsError


def split_bag(path, counts, storage='mcap'):
    """Write a bag of several files with so many images each, all from one drive."""
    messages = bags.camera_messages(sum(counts), IMAGE, INFO)
    names, at = [], 0
    for i, count in enumerate(counts):
        part = bags.write_bag(path.parent / f'{path.name} {i}',
                              messages[2 * at:2 * (at + count)], storage)
        at += count
        names.append(f'run_{i}.{bags.storage_file(part).suffix[1:]}')
        if i == 0:
            part.rename(path)
            bags.storage_file(path).rename(path / names[0])
        else:
            bags.storage_file(part).rename(path / names[-1])
    change_metadata(path, relative_file_paths=names)
    return path, [path / name for name in names]


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_files_without_metadata_are_read_in_order(tmp_path, storage):
    # run_10 comes after run_9.
    path, _ = split_bag(tmp_path / 'bag', [1] * 12, storage)
    (path / 'metadata.yaml').unlink()
    check_whole(path, 12)
    with BagReader(path) as bag:
        assert 'no metadata.yaml' in bag.notes[0]


@pytest.mark.parametrize('content', [b'', b'{', b'rosbag2_bagfile_information: 3', b'\0\1', b'- a',
                                     b'rosbag2_bagfile_information: {version: 99}'])
def test_damaged_metadata(tmp_path, content):
    path, _ = split_bag(tmp_path / 'bag', [1, 2])
    (path / 'metadata.yaml').write_bytes(content)
    check_whole(path)
    assert is_bag(path / 'metadata.yaml')
    with BagReader(path / 'metadata.yaml') as bag:
        assert bag.count == 3


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('identifier', ['', 'mcap', 'sqlite3', 'my_plugin', None])
def test_the_files_tell_their_storage(tmp_path, storage, identifier):
    path, _ = split_bag(tmp_path / 'bag', [3], storage)
    change_metadata(path, storage_identifier=identifier)
    check_whole(path)


def test_quality_of_service_does_not_matter_for_reading(tmp_path):
    path, _ = split_bag(tmp_path / 'bag', [3], 'sqlite3')
    content = yaml.safe_load((path / 'metadata.yaml').read_text())
    for entry in content['rosbag2_bagfile_information']['topics_with_message_count']:
        entry['topic_metadata']['offered_qos_profiles'] = '- depth: 99'
    (path / 'metadata.yaml').write_text(yaml.safe_dump(content))
    check_whole(path)


@pytest.mark.parametrize('at', [0, 1, 2])
@pytest.mark.parametrize('damage', ['cut', 'empty', 'noise', 'gone'])
def test_one_bad_file_of_several(tmp_path, at, damage):
    path, files = split_bag(tmp_path / 'bag', [2, 2, 2])
    change_metadata(path, topics_with_message_count=[])
    data = files[at].read_bytes()
    if damage == 'gone':
        files[at].unlink()
    else:
        files[at].write_bytes({'cut': data[:2000], 'empty': b'', 'noise': bytes(99)}[damage])
    stamps, infos, said = read(path)
    expected = [s for i, s in enumerate(bags.stamps(6)) if i // 2 != at]
    assert stamps == infos == expected
    assert files[at].name in said


def test_files_that_were_renamed_with_their_folder(tmp_path):
    path, files = split_bag(tmp_path / 'bag', [1, 2])
    for file in files:
        file.rename(file.with_name(file.name.replace('run', 'kitchen')))
    check_whole(path)
    with BagReader(path) as bag:
        assert 'names other files' in bag.notes[0]


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('stem', ['run#2', '50%20off', 'what?', 'a&b=c', 'é ü', "it's"])
def test_names_that_mean_something_in_an_address(tmp_path, storage, stem):
    path, files = split_bag(tmp_path / 'bag', [3], storage)
    name = f'{stem}{files[0].suffix}'
    files[0].rename(path / name)
    path = path.rename(tmp_path / stem)
    change_metadata(path, relative_file_paths=[name])
    check_whole(path)
    check_whole(path / name)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_suffixes_in_capitals(tmp_path, storage):
    _, files = split_bag(tmp_path / 'bag', [3], storage)
    check_whole(files[0].rename(tmp_path / f'RUN{files[0].suffix.upper()}'))


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_files_that_were_compressed(tmp_path, storage):
    zstd = pytest.importorskip('backports.zstd')
    path, files = split_bag(tmp_path / 'bag', [1, 2], storage)
    for file in files:
        packed = file.with_name(file.name + '.zstd')
        packed.write_bytes(zstd.compress(file.read_bytes()))
        file.unlink()
    check_whole(path)                       # metadata that name the files before
    change_metadata(path, relative_file_paths=[f'{file.name}.zstd' for file in files])
    check_whole(path)
    (path / 'metadata.yaml').unlink()
    check_whole(path)
    bare = path / f'{files[0].name}.zstd'
    assert read(bare) == (bags.stamps(1), bags.stamps(1), '')
    bare.write_bytes(bare.read_bytes()[:-30])
    stamps, _, said = read(path)
    assert stamps[-2:] == bags.stamps(3)[1:] and bare.name in said


@pytest.mark.parametrize('named', ['{}', '{}.zstd'])
def test_one_file_of_two_was_packed(tmp_path, named):
    zstd = pytest.importorskip('backports.zstd')
    path, files = split_bag(tmp_path / 'bag', [1, 2])
    files[1].with_name(f'{files[1].name}.zstd').write_bytes(zstd.compress(files[1].read_bytes()))
    files[1].unlink()
    change_metadata(path, relative_file_paths=[named.format(file.name) for file in files])
    check_whole(path)


# --- names of files -------------------------------------------------------------------------


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize(
    'name', ['run', 'run.mcap.bak', 'run.1', 'run.db', 'run.sqlite3', 'run.jpg'])
def test_a_file_is_a_bag_whatever_its_name(tmp_path, storage, name):
    _, (file,) = split_bag(tmp_path / 'bag', [3], storage)
    check_whole(file.rename(tmp_path / name))


def test_a_link_to_a_bag(tmp_path):
    _, (file,) = split_bag(tmp_path / 'bag', [3])
    link = tmp_path / 'latest'
    link.symlink_to(file)
    check_whole(link)


def test_a_bag_of_ros_1_whatever_its_name(tmp_path):
    path = tmp_path / 'run.old'
    path.write_bytes(b'#ROSBAG V2.0\n' + bytes(99))
    assert is_bag(path)
    with pytest.raises(BagError, match='old is a bag of ROS 1'):
        BagReader(path)


@pytest.mark.parametrize('content', [b'', b'SQLite', b'\x89PNG\r\n\x1a\n' + bytes(99)])
def test_other_files_are_no_bags(tmp_path, content):
    (tmp_path / 'run').write_bytes(content)
    assert not is_bag(tmp_path / 'run')
    assert not is_bag(tmp_path / 'nothing')


def test_nothing_is_taken_from_a_pipe(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    assert not is_bag(tmp_path / 'pipe')    # opening it would wait for a writer


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('names', ['suffix of the files', 'suffix of rosbag2'])
def test_files_packed_by_the_command_zstd(tmp_path, storage, names):
    path, files = split_bag(tmp_path / 'bag', [1, 2], storage)
    for file in files:
        file.with_name(f'{file.name}.zst').write_bytes(zstd(file.read_bytes()))
        file.unlink()
    if names == 'suffix of rosbag2':
        change_metadata(path, relative_file_paths=[f'{file.name}.zst' for file in files])
    check_whole(path)
    (path / 'metadata.yaml').unlink()
    check_whole(path)
    assert read(path / f'{files[1].name}.zst')[0] == bags.stamps(3)[1:]


# --- topics ---------------------------------------------------------------------------------


def test_raw_images_are_taken_if_the_same_are_compressed_too(tmp_path):
    raw, packed = '/camera/image_raw', '/camera/image_raw/compressed'
    messages = bags.camera_messages(3, raw) + bags.camera_messages(3, packed, None,
                                                                   encoding='jpeg')
    path = bags.write_bag(tmp_path / 'bag', messages)
    check_whole(path)
    for topic in (raw, packed):
        with BagReader(path, topic) as bag:
            assert (bag.topic, bag.count) == (topic, 3)
    with BagReader(path) as bag:
        assert bag.topic == raw


def test_raw_images_of_another_camera_do_not_count(tmp_path):
    messages = bags.camera_messages(1, '/left/image_raw') + bags.camera_messages(
        1, '/right/image_raw/compressed', None, encoding='jpeg')
    with pytest.raises(SeveralTopicsError) as caught:
        BagReader(bags.write_bag(tmp_path / 'bag', messages))
    assert caught.value.topics == ['/left/image_raw', '/right/image_raw/compressed']


@pytest.mark.parametrize('topic, chosen', [
    ('/camera/depth/image_raw', True), ('/camera/aligned_depth/image', True),
    ('/thermal/image_raw', False)])
def test_depth_that_is_published_as_brightness(tmp_path, topic, chosen):
    values = bags.ROSBAGS.image(bytes(2 * 48 * 64), 48, 64, 128, 'mono16')
    path = bags.write_bag(tmp_path / 'bag', [*bags.camera_messages(1, IMAGE, INFO),
                                             (topic, values, bags.START)])
    if not chosen:
        with pytest.raises(SeveralTopicsError):
            BagReader(path)
        return
    with BagReader(path) as bag:
        assert bag.topic == IMAGE
