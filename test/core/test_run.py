"""``zoe run`` on photographs and as a process of its own; on bags: test_run_bags.py."""
import json
import os
from pathlib import Path
import re
import signal
import struct
import subprocess
import sys
import time

import bags
import numpy as np
from PIL import Image
import pytest
from runs import check_results, command, DEPTH, INFO, POINTS, PUBLISHED, RAW, ROOT, SAMPLE, SINGLE

# --- photographs ----------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['room.png', 'room.JPG'])
def test_photograph(zoe, tiny_estimator, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(bags.encoded(bags.picture(), path.suffix[1:].replace('JPG', 'jpeg')))
    ran = zoe(path, *PUBLISHED)
    assert (ran.code, ran.err) == (0, '')
    check_results(ran, 1, path)
    depth = np.load(ran.folder / f'{name}.depth.npy')
    with Image.open(path) as picture:
        expected = tiny_estimator.predict(np.array(picture)).depth
    assert depth.dtype == np.float32 and depth.tobytes() == expected.tobytes()
    assert sorted(p.name for p in ran.folder.iterdir()) == sorted(
        ['config.yaml', 'overview.png', f'{name}.depth.npy', 'summary.json'])


def test_photograph_is_turned_upright(zoe, tiny_estimator, tmp_path):
    rgb = bags.picture(40, 72)
    exif = Image.Exif()
    exif[0x0112] = 6        # to be turned clockwise
    path = tmp_path / 'phone.png'
    path.write_bytes(bags.encoded(rgb, exif=exif))
    ran = zoe(path, *PUBLISHED)
    depth = np.load(ran.folder / 'phone.png.depth.npy')
    assert depth.shape == (72, 40)
    assert np.array_equal(depth, tiny_estimator.predict(np.rot90(rgb, -1)).depth)


# Entries of EXIF whose type is not the one that belongs to the tag: tag, type.
ODD_ENTRIES = {'a description that is a ratio': (0x010e, 5), 'a resolution in words': (0x011a, 2),
               'a unit in words': (0x0128, 2)}


@pytest.mark.parametrize('name', ODD_ENTRIES)
def test_photograph_with_odd_exif(zoe, tmp_path, name):
    # The picture is good, and so is its orientation: it is to be turned clockwise.
    entries = (struct.pack('<HHIHxx', 0x0112, 3, 1, 6)
               + struct.pack('<HHII', *ODD_ENTRIES[name], 1, 8))
    exif = b'Exif\0\0II*\0' + struct.pack('<IH', 8, 2) + entries + bytes(4)
    path = tmp_path / 'phone.jpg'
    path.write_bytes(bags.encoded(bags.picture(40, 72), 'JPEG', exif=exif))
    ran = zoe(path)
    assert (ran.code, ran.err) == (0, '')
    assert np.load(ran.folder / 'phone.jpg.depth.npy').shape == (72, 40)


def test_folder_with_a_damaged_photograph(zoe, tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for i, suffix in enumerate(('png', 'jpeg', 'bmp')):
        (folder / f'{i}.{suffix}').write_bytes(bags.encoded(bags.picture(seed=i), suffix))
    good = (folder / '1.jpeg').read_bytes()
    (folder / 'cut.jpg').write_bytes(good[:len(good) // 2])
    (folder / 'empty.png').write_bytes(b'')
    (folder / 'notes.txt').write_text('no photograph')
    ran = zoe(folder)
    assert (ran.code, ran.err) == (0, '')
    check_results(ran, 3, folder)
    assert ran.summary['dropped'] == {'corrupt': 2}
    assert 'cut.jpg' in ran.out
    arrays = sorted(path.name for path in ran.folder.glob('*.npy'))
    assert arrays == ['0.png.depth.npy', '1.jpeg.depth.npy', '2.bmp.depth.npy']


@pytest.mark.parametrize('size', [(1, 1), (1, 50), (700, 3)])
def test_photograph_of_an_odd_size(zoe, tmp_path, size):
    path = tmp_path / 'sliver.png'
    path.write_bytes(bags.encoded(bags.picture(8, 8)))
    Image.open(path).resize(size).save(path)
    ran = zoe(path)
    assert (ran.code, ran.err) == (0, '')
    assert np.load(ran.folder / 'sliver.png.depth.npy').shape == size[::-1]
    assert (ran.folder / 'overview.png').is_file()


# --- processes ------------------------------------------------------------------------------


@pytest.mark.slow
def test_module_as_a_command(tmp_path, tiny_weights):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(2))
    done = command(path, '--variant', 'tiny', '--weights', tiny_weights, '--precision', 'fp32',
                   cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, '')
    out = done.stdout.splitlines()
    assert out[0].startswith(f'{path} is a bag: 2 images on {RAW}')
    assert any('ZoeD-tiny in fp32 on' in line for line in out)
    assert 'results in results/' in done.stdout        # the default, below where one is
    assert set(bags.read_bag(tmp_path / 'results' / 'latest' / 'bag')) == {DEPTH, INFO, POINTS}


@pytest.mark.slow
def test_script_as_a_command(tmp_path, tiny_weights):
    script = Path(sys.executable).with_name('zoe')
    if not script.is_file():
        pytest.skip('zoe_ros is not installed here')
    done = subprocess.run(
        [script, 'run', 'nothing.mcap', '--variant', 'tiny', '--weights', tiny_weights],
        cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and done.stdout == ''
    assert re.fullmatch(r'zoe: nothing at nothing.mcap: [^\n]+\n', done.stderr)


@pytest.mark.slow
def test_without_weights_and_network(tmp_path):
    done = command(SAMPLE, '--variant', 'nk', '--output', tmp_path / 'results',
                   HF_HUB_OFFLINE='1', HF_HOME=str(tmp_path / 'cache'))
    assert done.returncode == 2
    assert re.fullmatch(r'zoe: the weights of ZoeD\S+ are not on this machine [^\n]+\n',
                        done.stderr), done.stderr
    assert not (tmp_path / 'results').exists()


@pytest.mark.slow
def test_interrupted_run_keeps_what_was_done(tmp_path, tiny_weights):
    count = 3000
    image = bags.ROSBAGS.compressed(bags.encoded(bags.picture(240, 320), 'JPEG'))
    path = bags.write_bag(tmp_path / 'bag', [(RAW, image)] * count)
    process = subprocess.Popen(
        [sys.executable, '-m', 'zoe_ros.cli', 'run', path, '--variant', 'tiny', '--weights',
         tiny_weights, '--output', tmp_path / 'results'], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
        env={**os.environ, **SINGLE, 'PYTHONPATH': str(ROOT)},
        # A shell that runs pytest in its background has SIGINT ignored, and children inherit it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    try:
        while not any(file.stat().st_size for file in tmp_path.glob(
                'results/*/bag.part/bag/*.mcap')):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err == 'zoe: interrupted; results so far are kept\n'
    summary = json.loads((tmp_path / 'results' / 'latest' / 'summary.json').read_text())
    assert summary['complete'] is False and 0 < summary['frames'] < count
    found = bags.read_bag(tmp_path / 'results' / 'latest' / 'bag')
    # The one that was in work may be in the bag and not yet in the figures.
    assert len(found[DEPTH]) - summary['frames'] in (0, 1)
    assert (tmp_path / 'results' / 'latest' / 'overview.png').is_file()
    assert re.search(rf'frames +{summary["frames"]}\b', out)
