"""``zoe run`` on what users really give it: what it says, and what it leaves on a full disk."""
import json
import os
import resource
import sqlite3
import subprocess
import sys

import bags
import numpy as np
from PIL import Image
import pytest
import raw_mcap
from runs import DEPTH, INFO, POINTS, ROOT, SINGLE
import torch

from zoe_ros.bag import BagReader

IMAGE = raw_mcap.IMAGE
LOST = ('zoe: stdout cannot be written: No space left on device; the printed text is lost, files '
        'are written all the same\n')


def command(weights, *arguments, stdout=subprocess.PIPE, limit=None, **environment):
    """
    Start ``zoe run`` with the tiny model in a process of its own.

    :param limit: no file may become larger [bytes], as on a full disk.
    """
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, '-m', 'zoe_ros.cli', 'run', '--variant', 'tiny', '--weights', weights,
         '--device', 'cpu', '--precision', 'fp32', *map(str, arguments)],
        env={**os.environ, **SINGLE, 'PYTHONPATH': str(ROOT), **environment}, stdout=stdout,
        stderr=subprocess.PIPE, preexec_fn=limited if limit else None)


def finished(process):
    """Wait for a process; return its exit code, and what it said on stdout and stderr."""
    out, err = process.communicate(timeout=300)
    return process.returncode, (out or b'').decode(errors='replace'), err.decode()


@pytest.fixture
def bag(tmp_path):
    """Return the path of a bag of three images."""
    return bags.write_bag(tmp_path / 'bag', bags.camera_messages(3, IMAGE, raw_mcap.INFO))


# --- bags and folders -----------------------------------------------------------------------


def test_a_damaged_database_that_gave_all_images(zoe, tmp_path):
    """A file that is damaged anywhere is not trusted: SQLite has no checksum of contents."""
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(3, IMAGE, raw_mcap.INFO),
                          'sqlite3')
    file = bags.storage_file(path)
    with sqlite3.connect(file) as database:
        page, = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE type = 'index'").fetchone()
        size, = database.execute('PRAGMA page_size').fetchone()
    database.close()
    content = bytearray(file.read_bytes())
    content[page * size - 40:page * size] = bytes(40)
    file.write_bytes(content)
    ran = zoe(path)
    assert ran.code == 2 and 'it gave 3 of at least 3 images' in ran.err
    assert ran.summary['complete'] is False and ran.summary['frames'] == 3


def test_a_recording_that_was_cut_off(zoe, tmp_path):
    records = b''.join(data for _, data in raw_mcap.camera_records(4))
    path = raw_mcap.write(tmp_path / 'a.mcap', raw_mcap.header(), raw_mcap.camera_types(),
                          records[:-5000])
    ran = zoe(path)
    assert ran.code == 2
    assert ran.err == (f'zoe: {path} cannot be read as a rosbag to its end (a.mcap: the end of '
                       f'the file is missing): it gave 3 of at least 3 images on {IMAGE}\n')
    assert ran.summary['complete'] is False and ran.summary['frames'] == 3
    assert {topic: len(found) for topic, found in ran.bag.items()} == dict.fromkeys(
        (DEPTH, INFO, POINTS), 3)


def test_a_folder_without_metadata(zoe, bag):
    (bag / 'metadata.yaml').unlink()
    ran = zoe(bag)
    assert (ran.code, ran.err) == (0, '')
    assert 'there is no metadata.yaml' in ran.out and ran.summary['complete'] is True
    assert len(ran.bag[POINTS]) == 3


def test_camera_info_of_other_cameras_is_named(zoe, tmp_path):
    messages = bags.camera_messages(1, IMAGE, None)
    messages += [(name, bags.ROSBAGS.info(4, 4), bags.START) for name in ('/a/info', '/b/info')]
    ran = zoe(bags.write_bag(tmp_path / 'bag', messages))
    assert ran.code == 0
    assert 'no CameraInfo of this camera (none on /a/info, /b/info' in ran.out


@pytest.mark.parametrize('encoding, size', [
    ('bayer_rggb8', 1), ('bayer_bggr16', 2), ('yuv422_yuy2', 2), ('uyvy', 2), ('nv12', 1.5),
    ('rgb16', 6)])
def test_encodings_of_cameras_without_ros(zoe, tmp_path, encoding, size):
    data = np.random.default_rng(0).integers(0, 256, int(48 * 64 * size), np.uint8)
    step = 64 if encoding == 'nv12' else int(64 * size)
    image = bags.ROSBAGS.image(data.tobytes(), 48, 64, step, encoding)
    ran = zoe(bags.write_bag(tmp_path / 'bag', [(IMAGE, image)]))
    assert (ran.code, ran.err) == (0, '')
    assert bags.depth_of(ran.bag[DEPTH][0][1]).shape == (48, 64)


def test_a_folder_of_photographs_names_what_is_left_out(zoe, refused, tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    (folder / 'a.heic').write_bytes(b'?')
    text = refused(folder)
    assert 'neither a bag' in text and 'left out: 1 .heic (not read here: convert' in text
    for name in ('b.jfif', 'c.png'):
        (folder / name).write_bytes(bags.encoded(bags.picture(), 'JPEG'))
    ran = zoe(folder)
    assert (ran.code, ran.err) == (0, '')
    assert 'left out: 1 .heic' in ran.out and ran.summary['frames'] == 2


@pytest.mark.parametrize('name, said', [
    ('clip.mp4', 'a video is no input; extract its images, for example with "ffmpeg -i clip.mp4 '
                 'images/%06d.jpg"'),
    ('clip.AVI', 'a video is no input'), ('run.mcap.gz', 'unpack it first'),
    ('photos.tar', 'unpack it first'), ('notes.txt', 'convert images to JPEG or PNG')])
def test_a_file_that_is_no_image_says_what_to_do(refused, tmp_path, name, said):
    path = tmp_path / name
    path.write_bytes(b'anything')
    assert f'{path} is no picture that can be read: {said}' in refused(path)


def test_a_folder_of_bags_names_the_pattern(zoe, refused, tmp_path, bag):
    folder = tmp_path / 'drives'
    folder.mkdir()
    bag.rename(folder / 'one')
    assert f"it holds folders: name '{folder}/*', in quotes, for all of them" in refused(folder)
    assert zoe(f'{folder}/*').code == 0


def test_a_list_by_an_editor_of_windows(zoe, tmp_path, bag):
    (tmp_path / 'bags.txt').write_bytes(f'\ufeff{bag}\r\n\r\n'.encode())
    ran = zoe(f'@{tmp_path / "bags.txt"}')
    assert (ran.code, ran.err) == (0, '')


def test_an_output_that_is_a_file(zoe, tmp_path, bag):
    file = tmp_path / 'results.txt'
    file.write_text('mine')
    for output in (file, file / 'below'):
        ran = zoe(bag, to=output)
        assert (ran.code, ran.err) == (2, f'zoe: {output} cannot be the folder of the results: it '
                                          'is a file, or below one\n')
    assert file.read_text() == 'mine'


@pytest.mark.parametrize('options, said', [
    (['--focal-correction'], 'no focal correction: no focal length in the EXIF of 2 images, the '
                             'first is '),
    (['--camera-view', 'training'], 'no effect of camera_view: image files have no CameraInfo'),
    (['--topic', '/eye', '--anchor-report-only'],
     'no effect of anchor_report_only and topic: image files have no topics'),
    (['--output-size', 'network', '--point-cloud-downsample', '2'],
     'no effect of output_size and point_cloud_downsample: image files give depth of their own '),
    (['--router-time-constant', '5'], 'no effect of router_time_constant: image files are no'),
    ([], None)])
def test_options_that_do_nothing_for_photographs(zoe, tmp_path, options, said):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for name in ('a.png', 'b.png'):
        (folder / name).write_bytes(bags.encoded(bags.picture()))
    ran = zoe(folder, *options)
    assert ran.code == 0
    if said:
        assert ran.out.count(said) == 1
    else:
        assert 'no CameraInfo' not in ran.out and 'no effect' not in ran.out


def test_the_focal_length_of_an_image_file_corrects_depth(zoe, tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26
    Image.fromarray(bags.picture(48, 64)).save(folder / 'a.jpg', exif=exif, quality=100)
    found = [zoe(folder, '--router', 'indoor', *options, to=tmp_path / name)
             for name, options in (('plain', ()), ('corrected', ('--focal-correction',)))]
    plain, corrected = (np.load(run.folder / 'a.jpg.depth.npy') for run in found)
    # The tiny model's indoor camera has 0.8 widths and 1.1 heights.
    focal = 26 * 80 / np.hypot(36, 24)
    factor = np.sqrt(focal / 64 * focal / 48 / (0.8 * 1.1))
    np.testing.assert_allclose(corrected, factor * plain, rtol=1e-4)
    assert 'no focal' not in found[1].out


@pytest.mark.parametrize('options, said', [
    (['--anchor-transform', '0 0 0 0 0 0 1', '--anchor-tolerance', '1'],
     'no effect of anchor_transform and anchor_tolerance: there is no anchor'),
    (['--anchor-topic', '/odom'], 'no effect of anchor_topic: there is no anchor and no scale_ti'),
    (['--anchor-topic', '/odom', '--scale-time-constant', '2'], None), ([], None)])
def test_options_that_do_nothing_for_a_bag(zoe, bag, options, said):
    ran = zoe(bag, *options)
    assert ran.code == 0
    assert ran.out.count('no effect of') == bool(said) and (said or '') in ran.out


def test_options_that_do_nothing_for_a_bag_without_camera_info(zoe, tmp_path):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(3, IMAGE, None))
    ran = zoe(path, '--focal-correction', '--camera-view', 'training')
    assert ran.code == 0
    assert ran.out.count('no focal correction: there is no CameraInfo') == 1
    assert ran.out.count("camera_view 'training' has no effect: there is no CameraInfo") == 1


def test_another_field_of_view_is_said_once(zoe, tmp_path):
    narrow = (500, 0, 31.5, 0, 500, 23.5, 0, 0, 1)
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(3, IMAGE, raw_mcap.INFO,
                                                                 k=narrow))
    assert zoe(path).out.count('times that of the training camera') == 1
    assert 'times that of' not in zoe(path, '--focal-correction', to=tmp_path / 'other').out


# --- weights --------------------------------------------------------------------------------


@pytest.mark.parametrize('content, said', [
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n',
     'is a Git LFS pointer, not the file itself: run "git lfs pull"'),
    (b'<!DOCTYPE html>\n<html>', 'is a web page'), (b'\n\n<HTML><body>', 'is a web page')])
@pytest.mark.parametrize('name', ['a.safetensors', 'a.pt'])
def test_what_is_no_weights_file(refused, bag, tmp_path, content, said, name):
    path = tmp_path / name
    path.write_bytes(content)
    for variant in ('', 'nk'):
        assert said in refused(bag, '--variant', variant, weights=path)


@pytest.mark.parametrize('names, said', [
    (['pretrained.model.cls_token', 'scratch.layer1_rn.weight'], 'MiDaS, which has no metric'),
    (['pretrained.cls_token', 'depth_head.scratch.output_conv1.weight'],
     'holds a relative model of Depth Anything, or one of its version 2, which has no metric'),
    (['model.backbone.pretrained.cls_token', 'model.head.projects.0.weight'],
     'holds Depth Anything 3, which has no metric')])
def test_weights_of_other_models_are_called_so_at_once(refused, bag, tmp_path, names, said):
    path = tmp_path / 'other.pt'
    torch.save({name: torch.zeros(3) for name in names}, path)
    for variant in ('', 'nk'):
        assert said in refused(bag, '--variant', variant, weights=path)


def test_an_indoor_and_an_outdoor_depth_anything_look_alike(refused, bag, tmp_path):
    path = tmp_path / 'other.pt'
    torch.save({name: torch.zeros(3) for name in (
        'core.core.pretrained.cls_token', 'core.core.depth_head.projects.0.weight')}, path)
    assert 'does not tell which model it holds: name the variant da-n or da-k' in refused(
        bag, '--variant', '', weights=path)
    assert 'holds Depth Anything N or Depth Anything K, not ZoeD-M12-NK' in refused(
        bag, '--variant', 'nk', weights=path)


def test_a_folder_of_weights(zoe, refused, bag, tmp_path, tiny_weights):
    folder = tmp_path / 'model'
    folder.mkdir()
    assert f'{folder}: this is a folder without model.safetensors' in refused(bag, weights=folder)
    (folder / 'model.safetensors').symlink_to(tiny_weights)
    assert zoe(bag, weights=folder).code == 0


# --- full disks -----------------------------------------------------------------------------


def test_a_disk_that_is_full_in_the_middle_of_a_bag(tmp_path, tiny_weights):
    # A megabyte is collected before anything is written: some of it will not fit.
    source = bags.write_bag(tmp_path / 'bag', bags.camera_messages(4, IMAGE, size=(360, 480)))
    code, _, err = finished(command(tiny_weights, source, '--output', tmp_path / 'results',
                                    limit=1_600_000))
    folder = tmp_path / 'results' / 'latest'
    assert code == 2
    assert err.startswith(f'zoe: {tmp_path}/results/') and err.count('\n') == 1
    assert '/bag cannot be written: File too large; "mcap recover" saves what is in /' in err
    assert sorted(path.name for path in folder.iterdir()) == [
        'bag.part', 'config.yaml', 'overview.png', 'summary.json']
    assert json.loads((folder / 'summary.json').read_text())['complete'] is False
    # What was written can still be read.
    path, = folder.glob('bag.part/bag/*.mcap')
    with BagReader(path, DEPTH) as bag:
        depth = []
        with pytest.raises(ValueError, match='to its end'):
            for image in bag:
                depth.append(bags.depth_of(image.message).shape)
    assert depth and set(depth) == {(360, 480)}


def test_a_disk_that_is_full_but_for_the_picture(tmp_path, tiny_weights):
    photo = tmp_path / 'photo.png'
    photo.write_bytes(bags.encoded(bags.picture(24, 24)))
    assert finished(command(tiny_weights, photo, '--output', tmp_path / 'whole'))[0] == 0
    sizes = {path.name: path.stat().st_size for path in (tmp_path / 'whole').glob('*/*')}
    assert max(sizes, key=sizes.get) == 'overview.png'
    code, _, err = finished(command(tiny_weights, photo, '--output', tmp_path / 'results',
                                    limit=sizes['overview.png'] - 1))
    folder = (tmp_path / 'results' / 'latest').resolve()
    assert code == 2 and err == f'zoe: {folder}/overview.png cannot be written: File too large\n'
    assert json.loads((folder / 'summary.json').read_text())['complete'] is False
    assert sorted(path.name for path in folder.iterdir()) == [
        'config.yaml', 'photo.png.depth.npy', 'summary.json']


def test_a_photograph_s_depth_that_does_not_fit(tmp_path, tiny_weights):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for name, size in (('a.png', 30), ('b.png', 300)):
        (folder / name).write_bytes(bags.encoded(bags.picture(size, size)))
    code, _, err = finished(command(tiny_weights, folder, '--output', tmp_path / 'results',
                                    limit=100_000))
    results = (tmp_path / 'results' / 'latest').resolve()
    assert code == 2
    assert err == f'zoe: {results}/b.png.depth.npy cannot be written: File too large\n'
    assert np.load(results / 'a.png.depth.npy').shape == (30, 30)
    assert sorted(path.name for path in results.glob('*.npy')) == ['a.png.depth.npy']
    assert json.loads((results / 'summary.json').read_text())['complete'] is False


# --- terminals ------------------------------------------------------------------------------


@pytest.mark.parametrize('encoding', ['ascii', 'utf-8:strict', 'latin-1'])
@pytest.mark.parametrize('name', ['küche ✓'.encode(), b'k\xfcche'])
def test_names_of_letters_that_the_terminal_does_not_know(tmp_path, tiny_weights, encoding, name):
    path = tmp_path / os.fsdecode(name + b'.png')
    path.write_bytes(bags.encoded(bags.picture()))
    output = tmp_path / os.fsdecode(name + b' results')
    code, out, err = finished(command(tiny_weights, path, '--output', output,
                                      PYTHONIOENCODING=encoding))
    assert (code, err) == (0, '')
    assert 'is an image' in out and 'results in' in out
    assert (output / 'latest' / f'{path.name}.depth.npy').is_file()


def test_messages_that_do_not_fit_on_a_disk(tmp_path, tiny_weights, bag):
    with open('/dev/full', 'wb') as full:
        code, _, err = finished(command(tiny_weights, bag, '--output', tmp_path / 'results',
                                        stdout=full))
    assert (code, err) == (2, LOST)
    summary = json.loads((tmp_path / 'results' / 'latest' / 'summary.json').read_text())
    assert summary['complete'] is True and summary['frames'] == 3


@pytest.mark.parametrize('arguments', [
    '--version', '--help', 'run --help',
    'bench --variant mobile --size 64x64 --frames 1 --precision fp32 --device cpu',
    'world {}/world --scenes 1 --held-out 1 --frames 1 --height 32 --width 32 --workers 1'],
    ids=lambda arguments: ' '.join(arguments.split()[:2]))
def test_results_that_do_not_fit_on_a_disk(tmp_path, arguments):
    with open('/dev/full', 'wb') as full:
        done = subprocess.run(
            [sys.executable, '-m', 'zoe_ros.cli', *arguments.format(tmp_path).split()],
            env={**os.environ, **SINGLE, 'PYTHONPATH': str(ROOT)}, stdout=full,
            stderr=subprocess.PIPE, timeout=300)
    said = done.stderr.decode().splitlines()
    assert done.returncode == 2 and said.count(LOST.rstrip()) == 1
    assert not [line for line in said if 'Error' in line or 'Exception' in line]


def test_a_reader_that_leaves(tmp_path, tiny_weights, bag):
    process = command(tiny_weights, bag, '--output', tmp_path / 'results')
    assert b'is a bag' in process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read().decode()
    assert (process.wait(300), err) == (0, '')
    process.stderr.close()
    summary = json.loads((tmp_path / 'results' / 'latest' / 'summary.json').read_text())
    assert summary['complete'] is True and summary['frames'] == 3
