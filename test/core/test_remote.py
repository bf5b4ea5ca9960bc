"""Bags on other machines, by fsspec: the same results as here, from parts of the files."""
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from threading import Thread

import bags
import numpy as np
import pytest
from raw_mcap import camera_records, whole

from zoe_ros.bag import BagReader
from zoe_ros.cli import main
from zoe_ros.run_many import find_data, results_folder
from zoe_ros.storage.remote import is_there, to_path, version_of

fsspec, _, _ = (pytest.importorskip(name, reason="needs pip install '.[fleet]'")
                for name in ('fsspec', 'upath', 'aiohttp'))


class Ranges(SimpleHTTPRequestHandler):
    """A server of files that understands ranges, as an object store does, and counts bytes."""

    sent, requests, fails, etag = 0, 0, False, ''

    def do_GET(self):
        """Send a part of a file, or all of it."""
        cls = type(self)
        cls.requests += 1
        file = Path(self.translate_path(self.path))
        if cls.fails or not file.is_file():
            self.send_error(503 if cls.fails else 404)
            return
        part = re.fullmatch(r'bytes=(\d+)-(\d+)', self.headers.get('Range', ''))
        data = file.read_bytes()
        if part:
            size, (first, last) = len(data), map(int, part.groups())
            data = data[first:last + 1]
            self.send_response(206)
            self.send_header('Content-Range', f'bytes {first}-{first + len(data) - 1}/{size}')
        else:
            self.send_response(200)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        cls.sent += len(data)

    def end_headers(self):
        """Say that ranges are understood, and the hash of the file if there is one."""
        self.send_header('Accept-Ranges', 'bytes')
        if self.etag:
            self.send_header('ETag', self.etag)
        super().end_headers()

    def log_message(self, *arguments):
        """Print nothing."""


@pytest.fixture
def server(tmp_path):
    """Serve ``tmp_path``/served; return the address and the class that counts."""
    (tmp_path / 'served').mkdir()
    counting = type('Counting', (Ranges,), {})
    http = ThreadingHTTPServer(('127.0.0.1', 0),
                               partial(counting, directory=tmp_path / 'served'))
    Thread(target=http.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{http.server_port}', counting
    http.shutdown()
    http.server_close()


@pytest.fixture
def memory():
    """Return an empty store in memory."""
    store = fsspec.filesystem('memory')
    store.rm('/', recursive=True)
    yield store
    store.rm('/', recursive=True)


def cloud(size):
    """Return a PointCloud2 with so many bytes."""
    return bags.ROSBAGS.types.point_cloud(
        header=bags.ROSBAGS.header(), height=1, width=size // 16, fields=[], is_bigendian=False,
        point_step=16, row_step=size, is_dense=True,
        data=np.zeros(size, np.uint8))


def write_with_clouds(path):
    """Write a bag of images, each with a much larger cloud in the same chunk; return its file."""
    messages = []
    for i in range(0, 30, 2):
        info, image = bags.camera_messages(15, size=(240, 320))[i:i + 2]
        messages += [info, image, ('/cloud', cloud(3_000_000), image[2] + 1)]
    return bags.storage_file(bags.write_bag(path, messages))


def damage_indexes(data, change):
    """Change the offset of the first message in each index of messages of an MCAP file."""
    data, at = bytearray(data), 8       # after the magic: records of kind, length and content
    while at < len(data) - 8:
        kind, length = data[at], int.from_bytes(data[at + 1:at + 9], 'little')
        if kind == 7:       # then the channel takes two bytes, a length four, the time eight
            where = slice(at + 23, at + 31)
            offset = int.from_bytes(data[where], 'little') + change
            data[where] = offset.to_bytes(8, 'little')
        at += 9 + length
    return bytes(data)


def messages_of(path):
    """Return when each image of a bag was recorded, and its bytes."""
    with BagReader(path) as bag:
        return bag.topic, [(image.recorded, bytes(image.message.data)) for image in bag]


def depth_bag(folder):
    """Return the bytes of the bag in a folder of results."""
    return next((folder / 'bag').glob('*.mcap')).read_bytes()


def test_clouds_stay_where_they_are(server, zoe, tmp_path):
    address, counting = server
    file = write_with_clouds(tmp_path / 'bag')
    shutil.copy(file, tmp_path / 'served' / 'kitchen.mcap')
    ran = zoe(f'{address}/kitchen.mcap', to=tmp_path / 'remote')
    assert (ran.code, ran.err) == (0, '')
    assert depth_bag(ran.folder) == depth_bag(zoe(file, to=tmp_path / 'local').folder)
    images = 15 * 240 * 320 * 3
    assert file.stat().st_size > 12 * images
    # Each CameraInfo, each image and each index are followed by bytes that nobody needs.
    assert counting.sent < 2 * images
    assert counting.requests < 5 * 15


@pytest.mark.parametrize('per_chunk', [0, 1, 4])
@pytest.mark.parametrize('compression', ['', 'lz4', 'zstd'])
def test_mcap_files_of_all_kinds(memory, tmp_path, per_chunk, compression):
    file = tmp_path / 'kitchen.mcap'
    file.write_bytes(whole(camera_records(6), per_chunk, compression))
    memory.put(str(file), '/kitchen.mcap')
    assert messages_of(to_path('memory://kitchen.mcap')) == messages_of(file)


@pytest.mark.parametrize('change', [1, 40, 1 << 40])
def test_damaged_indexes_of_messages(memory, tmp_path, change):
    file = bags.storage_file(bags.write_bag(
        tmp_path / 'bag', bags.camera_messages(12, size=(240, 320))))
    memory.pipe('/kitchen.mcap', damage_indexes(file.read_bytes(), change))
    assert messages_of(to_path('memory://kitchen.mcap')) == messages_of(file)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_folders_and_patterns(memory, zoe, tmp_path, storage):
    local = [bags.write_bag(tmp_path / name, bags.camera_messages(2 + i), storage)
             for i, name in enumerate(('kitchen', 'hall'))]
    memory.put(f'{tmp_path}/', '/drives/', recursive=True)
    remote = [f'memory://drives/{path.name}' for path in local]
    assert list(map(str, find_data(['memory://drives/*'], tmp_path / 'out'))) == sorted(remote)
    files = find_data([f'memory:///drives/**/*.{"mcap" if storage == "mcap" else "db3"}'],
                      tmp_path / 'out')
    assert {path.parent for path in files} == set(map(to_path, remote))
    many = tmp_path / 'many'
    assert zoe('memory://drives/*', to=many).code == 0
    for path, address in zip(local, remote):
        assert depth_bag(results_folder(many, to_path(address))) == depth_bag(
            zoe(path, to=tmp_path / f'{path.name} alone').folder)
    assert 'done earlier' in zoe('memory://drives/*', to=many).out


def test_an_address_of_this_machine_is_a_path(tmp_path):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(1))
    assert find_data([f'file://{path}', str(path)], tmp_path / 'out') == [path]


def test_a_server_that_fails_in_the_middle(server, tmp_path):
    address, counting = server
    file = write_with_clouds(tmp_path / 'bag')
    shutil.copy(file, tmp_path / 'served' / 'kitchen.mcap')
    with BagReader(to_path(f'{address}/kitchen.mcap')) as bag:
        images = iter(bag)
        next(images)
        counting.fails = True
        with pytest.raises(OSError, match=r'^http://\S+/kitchen\.mcap cannot be read: 503'):
            list(images)


def test_what_cannot_be_read_is_one_sentence(server, refused, memory):
    address, _ = server
    assert refused(f'{address}/none.mcap').startswith(f'zoe: nothing at {address}/none.mcap: ')
    assert refused('memory://none/*.mcap') == (
        "zoe: nothing matches the pattern 'memory://none/*.mcap'\n")
    assert refused('nowhere://bag.mcap') == (
        "zoe: nowhere://bag.mcap cannot be read: Unsupported filesystem: 'nowhere'\n")
    memory.pipe('/photo.png', b'')
    assert refused('memory://photo.png') == (
        'zoe: memory://photo.png is no bag: images are read from this machine only\n')
    assert is_there(to_path('memory://photo.png'))


@pytest.mark.parametrize('command', [
    ['run', 'kitchen.mcap', '--output', 's3://drives/out'],
    ['fleet', 's3://drives/*.mcap', '--weights', 's3://drives/out'],
    ['eval', 'world', 's3://drives/out'], ['train', '--data', 's3://drives/out'],
    ['calibrate', 's3://drives/out'], ['world', 's3://drives/out'], ['export', 's3://drives/out']])
def test_addresses_are_refused_where_a_path_of_this_machine_is_needed(
        command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    assert capsys.readouterr().err == (
        "zoe: 's3://drives/out' is on another machine: zoe run, fleet and distill read bags "
        'there, all else needs a path of this machine\n')
    assert not list(tmp_path.iterdir())


def test_other_packages_tell_of_warnings_only():
    text = subprocess.run([sys.executable, '-c', """if True:
        import logging
        from zoe_ros.cli import main
        main(['run', '/nothing'])
        for name in ('botocore.credentials', 'zoe_ros.run'):
            logging.getLogger(name).info('%s says', name)
        logging.getLogger('botocore').warning('and warns')
    """], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert text.splitlines() == ['zoe_ros.run says', 'and warns']


def test_a_missing_package_is_named(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, 'upath', None)   # as if not installed
    assert refused('s3://bucket/kitchen.mcap') == (
        "zoe: s3://bucket/kitchen.mcap needs upath: pip install 'zoe_ros[fleet]'\n")


def test_a_file_that_changed_on_its_server_is_told(server, memory, zoe, tmp_path):
    address, _ = server
    data = bags.storage_file(bags.write_bag(tmp_path / 'a', bags.camera_messages(2))).read_bytes()
    served = tmp_path / 'served' / 'kitchen.mcap'
    served.write_bytes(data)
    memory.pipe('/store/bag/hall.mcap', data)
    given = [f'{address}/kitchen.mcap', 'memory://store/bag']
    many = tmp_path / 'many'
    assert zoe(*given, to=many).code == 0
    again = zoe(*given, to=many)
    assert again.code == 0 and again.out.count('done earlier') == 2
    os.utime(served, (0, 0))        # the server has no hash, but the time
    memory.pipe('/store/bag/hall.mcap', data + b'\0')
    fsspec.filesystem('http').invalidate_cache()
    again = zoe(*given, to=many)
    assert again.code == 2 and again.out.count('has changed since') == 2


def test_a_hash_of_the_server_counts_more_than_its_time(server, tmp_path):
    address, serving = server
    served = tmp_path / 'served' / 'kitchen.mcap'
    versions = []
    for serving.etag, time, content in (('"a"', 0, b'1'), ('"a"', 9, b'1'), ('"b"', 9, b'1'),
                                        ('"b"', 9, b'12')):
        served.write_bytes(content)
        os.utime(served, (time, time))
        fsspec.filesystem('http').invalidate_cache()
        versions.append(version_of(to_path(f'{address}/kitchen.mcap')))
    assert versions[0] == versions[1] and len(set(versions)) == 3
