"""Damaged bags give the recorded images, or say what is missing: bench/attack in small."""
import re
import struct
import zlib

import bags
from bench.attack import damaged
import numpy as np
import pytest
import raw_mcap

from zoe_ros.bag import BagError, BagReader
from zoe_ros.images import decode_image, MessageError

IMAGE, INFO = raw_mcap.IMAGE, raw_mcap.INFO


def mcap(path, *, count=4, **form):
    """Write a whole MCAP of a camera; return its path and its bytes."""
    path.write_bytes(raw_mcap.whole(raw_mcap.camera_records(count), **form))
    return path, path.read_bytes()


def changed(path, data, at, value):
    """Write other bytes at a place of a file."""
    path.write_bytes(data[:at] + value + data[at + len(value):])


@pytest.mark.slow
def test_damage_at_random_places(tmp_path):
    results = list(damaged.attack(tmp_path, 33, seed=11))
    assert len({name for name, _, _, _ in results}) == 11
    bad = [result for result in results if result[2] not in damaged.GOOD]
    assert not bad


@pytest.mark.parametrize('form', [
    {'per_chunk': 0}, {'per_chunk': 3, 'compression': 'lz4'},
    {'per_chunk': 3, 'compression': 'zstd'}, {'per_chunk': 3}], ids=str)
def test_flipped_bits_of_a_file_with_checksums(tmp_path, form):
    path, data = mcap(tmp_path / 'a.mcap', **form)
    whole = damaged.read(path)
    assert whole.images.total() == 4 and not whole.said
    # From the first record on; a prime step meets every field of a record in time.
    for at in range(len(raw_mcap.MAGIC), len(data), 211):
        changed(path, data, at, bytes([data[at] ^ 0x10]))
        found = damaged.read(path)
        assert found.images == whole.images or found.said, at


def test_the_checksum_of_a_file_without_chunks(tmp_path):
    path, data = mcap(tmp_path / 'a.mcap', per_chunk=0)
    changed(path, data, len(data) // 2, b'\x99')    # amid the pixels of an image
    with BagReader(path) as bag, pytest.raises(BagError, match=re.escape(
            '(a.mcap: its checksum is wrong, any message may be damaged): it gave 4 of at least')):
        list(bag)


def test_an_index_whose_checksum_is_wrong_is_not_believed(tmp_path):
    path, data = mcap(tmp_path / 'a.mcap')
    at = data.rindex(IMAGE.encode())
    changed(path, data, at, b'/dam')
    with BagReader(path) as bag:
        assert bag.topic == IMAGE and len(list(bag)) == 4


def test_a_message_index_cannot_hide_a_chunk(tmp_path):
    records = [data for _, data in raw_mcap.camera_records(4)]
    path = raw_mcap.write(
        tmp_path / 'a.mcap', raw_mcap.header(), raw_mcap.camera_types(),
        raw_mcap.chunk(b''.join(records[:4]), [bags.START]),
        # It says that there is only CameraInfo, channel 1.
        raw_mcap.record(7, struct.pack('<HIQQ', 1, 16, bags.START, 0)),
        raw_mcap.chunk(b''.join(records[4:]), [bags.START + 1]), raw_mcap.end())
    with BagReader(path) as bag:
        assert len(list(bag)) == 4


def test_the_size_of_a_chunk_reserves_no_memory(tmp_path):
    path, data = mcap(tmp_path / 'a.mcap', per_chunk=8, compression='lz4')
    # Kind and length of the chunk, first and last time; then the size before compression.
    at = data.index(b'lz4') - 4 - 4 - 8
    changed(path, data, at, struct.pack('<Q', 2 ** 50))
    with BagReader(path, IMAGE) as bag, pytest.raises(BagError, match='bytes instead of 112589'):
        list(bag)


def test_the_checksum_of_the_pixels_of_a_png(tmp_path):
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (40, 40, 3), np.uint8)
    data = bytearray(bags.encoded(picture, compress_level=0))
    assert decode_image(bags.ROSBAGS.compressed(data, 'png')).tobytes() == picture.tobytes()
    data[len(data) // 2] ^= 1
    with pytest.raises(MessageError, match='checksum of its pixels'):
        decode_image(bags.ROSBAGS.compressed(data, 'png'))
    # Not those of other parts: the picture is whole.
    data[len(data) // 2] ^= 1
    text = b'tEXtComment\0hello'
    data[33:33] = struct.pack('>I', len(text) - 4) + text + struct.pack('>I', zlib.crc32(text))
    assert decode_image(bags.ROSBAGS.compressed(data, 'png')).tobytes() == picture.tobytes()


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_camera_info_that_cannot_be_read_is_told(tmp_path, storage):
    messages = bags.camera_messages(4)
    path = bags.write_bag(tmp_path / 'bag', messages, storage, cut=(2, 4))
    with BagReader(path) as bag:
        assert bag.notes == ['2 of 4 CameraInfo on /camera/camera_info cannot be read: '
                             'the one before each is used']
        assert len(list(bag)) == 4


def test_a_page_of_another_image_in_sqlite(tmp_path):
    """The pointer of a page leads to another image: SQLite itself reads on without a word."""
    file = bags.storage_file(bags.write_bag(tmp_path / 'bag', bags.camera_messages(4), 'sqlite3'))
    data, page = file.read_bytes(), 4096
    numbers = [int.from_bytes(data[at:at + 4], 'big') for at in range(0, len(data), page)]
    # An image fills several pages: each begins with the number of the next.
    chained = [at for at, number in enumerate(numbers) if number == at + 2]
    assert len(chained) == 4
    changed(file, data, chained[0] * page, data[chained[1] * page:chained[1] * page + 4])
    given = []
    with BagReader(tmp_path / 'bag') as bag, pytest.raises(
            BagError, match=r'bag\.db3: .*2nd reference to page'):
        for image in bag:
            given.append(image)
    assert len(given) == 4
