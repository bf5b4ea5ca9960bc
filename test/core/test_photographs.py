"""experiments/fetch_photographs.py on repositories made here: metres, lenses, what is left out."""
from dataclasses import replace
from functools import partial
import json
from pathlib import Path
import re
import subprocess
import sys
import zipfile

import fetch_photographs
import make_mobile_lite
import numpy as np
import photograph_files as kinds
import photograph_folders as folders
import photograph_pairs as pairs
import photograph_sources as sources
from PIL import Image
import pytest

from zoe_ros.datasets.folders import ImageFolder, open_folder, RgbdFolder

cv2 = pytest.importorskip('cv2', reason='comes with the extra "test"')

ROOT = Path(__file__).resolve().parents[2]
NAME = 'owner/rooms'
HEIGHT, WIDTH = 48, 64
LENS = (60.0, 61.0, 31.0, 24.0)
# Each pixel has another depth [m], so that a shifted or mirrored map is noticed.
TRUTH = (1 + 0.02 * np.arange(HEIGHT)[:, None] + 0.005 * np.arange(WIDTH)).astype(np.float32)
TRUTH[3, 5] = np.nan
CALIB = ('cam0=[ 60 0 31 ; 0 61 24 ; 0 0 1 ] \ncam1=[ 60 0 33.5 ; 0 61 24 ; 0 0 1 ]\n doffs= 2.5 '
         '\nbaseline= 250.0\n width= 64 \n')


def texture(seed=0, size=(HEIGHT, WIDTH)):
    """Return an image with detail."""
    coarse = np.random.default_rng(seed).integers(0, 256, (size[0] // 4, size[1] // 4, 3))
    return coarse.astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)


def write_grey(path, depth, unit):
    """Write depth [m] as 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.nan_to_num(depth / unit).round().astype(np.uint16)).save(path)


def write_pfm(path, disparity):
    """Write a portable float map."""
    path.write_bytes(b'Pf\n%d %d\n-1.0\n' % disparity.shape[::-1]
                     + disparity[::-1].astype('<f4').tobytes())


def packed(data):
    """Return data as LZF has it, without any repetition."""
    return b''.join(bytes([len(part) - 1]) + part
                    for part in (data[at:at + 32] for at in range(0, len(data), 32)))


def write_pcd(path, image, depth, compressed):
    """Write an organised cloud; colours are integers if it is compressed, else floats."""
    colour = (image.astype(np.uint32) << np.uint32([16, 8, 0])).sum(axis=-1, dtype=np.uint32)
    name, kind = ('rgba', 'U') if compressed else ('rgb', 'F')
    columns = {'x': depth * 0, 'y': depth * 0, 'z': depth, name: colour.view(f'{kind.lower()}4')}
    body, form = np.stack([column.view('u4') for column in columns.values()], -1).tobytes(), ''
    if compressed:
        plain = b''.join(column.tobytes() for column in columns.values())
        small = packed(plain)
        form, body = '_compressed', np.uint32([len(small), len(plain)]).tobytes() + small
    path.write_bytes(f'# .PCD v0.7\nVERSION 0.7\nFIELDS x y z {name}\nSIZE 4 4 4 4\n'
                     f'TYPE F F F {kind}\nCOUNT 1 1 1 1\nWIDTH {WIDTH}\nHEIGHT {HEIGHT}\n'
                     f'VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {WIDTH * HEIGHT}\n'
                     f'DATA binary{form}\n'.encode() + body)


def git(folder, *arguments):
    """Run git in a repository; return what it prints."""
    return subprocess.run(['git', '-C', str(folder), '-c', 'user.name=a', '-c', 'user.email=a@b',
                           *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope='module')
def clones(tmp_path_factory):
    """Return a folder of clones: that of a repository with a file of each kind."""
    root = tmp_path_factory.mktemp('clones')
    work = root / 'owner+rooms' / 'repo'
    for name in ('rgb', 'depth', 'scene', 'cloud', 'exr', 'tof'):
        (work / name).mkdir(parents=True)
    (work / 'LICENSE').write_text('MIT\n\nPermission is hereby\ngranted, free of charge\n')
    (work / 'package.json').write_text('{"license": "MIT"}')
    for stamp in (9.5, 10.5):           # the depth of the first is that of 9.48 s
        Image.fromarray(texture()).save(work / 'rgb' / f'{stamp}.png')
    write_grey(work / 'depth' / '9.48.png', TRUTH, 1 / 5000)
    write_grey(work / 'depth' / '9.6.png', TRUTH * 2, 1 / 5000)
    write_grey(work / 'depth' / '8.9.png', TRUTH * 3, 1 / 5000)
    Image.fromarray(texture()).save(work / 'scene' / 'im0.png')
    values = np.nan_to_num(TRUTH / 1e-4).round().astype(np.uint16)
    Image.fromarray(values << 3 | values >> 13).save(work / 'scene' / 'turned.png')
    (work / 'scene' / 'camera.txt').write_text('# K\n 6.0e+01 0 31\n 0 61 24\n 0 0 1\n')
    (work / 'scene' / 'calib.txt').write_text(CALIB)
    write_pfm(work / 'scene' / 'disparity.pfm',
              np.nan_to_num(0.25 * 60 / TRUTH - 2.5, nan=np.inf))
    for name, compressed in (('plain', False), ('small', True)):
        write_pcd(work / 'cloud' / f'{name}.pcd', texture(), TRUTH, compressed)
    Image.fromarray(texture()).save(work / 'exr' / 'im.png')
    encoded, data = cv2.imencode('.exr', np.nan_to_num(TRUTH))
    assert encoded
    (work / 'exr' / 'depth.exr').write_bytes(data.tobytes())
    # A telephone: the image has four times the size of depth, and bits of confidence.
    Image.fromarray(texture(size=(4 * HEIGHT, 4 * WIDTH))).save(work / 'tof' / 'image.png')
    range_mm = np.nan_to_num(TRUTH * 1000).round().astype('<u2')
    (work / 'tof' / 'depth16.bin').write_bytes((range_mm | np.uint16(5 << 13)).tobytes())
    (work / 'large.png').write_text('version https://git-lfs.github.com/spec/v1\nsize 9\n')
    git(root, 'init', '-q', str(work))
    git(work, 'add', '.')
    git(work, 'commit', '-q', '-m', 'all')
    git(work, 'config', 'uploadpack.allowFilter', 'true')
    return root


def source(clones, images='rgb/9.5.png', read=None, **more):
    """Return a source of the repository; by default its image with depth of the nearest stamp."""
    read = read or partial(kinds.with_grey, depth=kinds.nearest('depth'), unit=1 / 5000, lens=LENS)
    known = {'name': 'made', 'repository': NAME, 'images': images, 'read': read, 'shows': 'a room',
             'licence': 'MIT', 'credit': 'the author', 'group': 'room',
             'commit': git(clones / 'owner+rooms' / 'repo', 'rev-parse', 'HEAD')}
    return folders.Source(**known | more)


def made(clones, folder, one):
    """Make the folder of a source; return it, opened."""
    assert folders.make_all([one], folder, clones) == 0
    return open_folder(folder / one.name)


CAMERA = kinds.renamed(r'[^/]+$', 'camera.txt')
KINDS = {
    'grey': {},
    'turned': {'images': 'scene/im0.png', 'read': partial(
        kinds.with_grey, depth=kinds.renamed('im0', 'turned'), unit=1e-4, turned=True,
        lens=CAMERA)},
    'disparity': {'images': 'scene/im0.png', 'read': partial(
        pairs.with_disparity, disparity=kinds.renamed('im0.png', 'disparity.pfm'),
        calibration=kinds.renamed('im0.png', 'calib.txt'))},
    'cloud': {'images': 'cloud/plain.pcd', 'read': partial(kinds.with_cloud, lens=LENS)},
    'packed cloud': {'images': 'cloud/small.pcd', 'read': partial(kinds.with_cloud, lens=LENS)},
    'exr': {'images': 'exr/im.png', 'read': partial(
        kinds.with_exr, depth=kinds.renamed('im.png', 'depth.exr'), lens=LENS)},
}


@pytest.mark.parametrize('kind', KINDS)
def test_depth_of_each_kind_of_file_in_metres(clones, tmp_path, kind):
    folder = made(clones, tmp_path, source(clones, **KINDS[kind]))
    sample, = folder
    assert type(folder) is RgbdFolder and sample.domain == 'indoor'
    np.testing.assert_allclose(sample.depth, TRUTH, atol=0.0006)
    camera = sample.camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == LENS
    assert abs(sample.image.astype(int) - texture()).mean() < 25, 'colours, but for JPEG'


def test_an_image_of_another_size_than_its_depth(clones, tmp_path):
    read = partial(kinds.with_tof, depth=kinds.renamed('image.png', 'depth16.bin'), lens=LENS,
                   size=(WIDTH, HEIGHT))
    sample, = made(clones, tmp_path, source(clones, 'tof/image.png', read))
    assert sample.image.shape == (4 * HEIGHT, 4 * WIDTH, 3)
    np.testing.assert_allclose(sample.depth[2::4, 2::4], TRUTH, atol=0.0006)
    assert (sample.camera.fx, sample.camera.cx) == (240, 125.5)


def test_large_images_are_stored_with_640_pixels():
    depth = np.full((300, 1280), 2.0)
    depth[:, 640:] = 70             # [m] more than 16 bits of millimetres
    image, small, lens = kinds.stored(kinds.View(
        texture(size=(300, 1280)), depth, (800.0, 800.0, 639.5, 149.5)))
    assert image.shape == (150, 640, 3) and small.dtype == np.uint16
    assert (small[:, :320] == 2000).all() and not small[:, 320:].any()
    assert lens == (400, 400, 319.5, 74.5)


def test_lzf_repeats_what_is_out():
    assert kinds.lzf(b'\x02abc\x20\x02', 6) == b'abcabc'
    assert kinds.lzf(b'\x00a\xe0\x05\x00', 15) == b'a' * 15, 'a long run that overlaps itself'
    with pytest.raises(sources.UnusableError, match='damaged'):
        kinds.lzf(b'\x02abc', 4)


def test_images_without_depth(clones, tmp_path):
    folder = made(clones, tmp_path, source(
        clones, r'rgb/(\d+)\.\d\.png', kinds.alone, domain='outdoor', group=None))
    assert type(folder) is ImageFolder
    assert [sample.name for sample in folder] == ['9', '10'], 'natural order, names by the group'
    assert (folder.domain, folder.group) == ('outdoor', 'outdoor')
    assert made(clones, tmp_path, source(clones, r'rgb/.*', kinds.alone, name='half', every=2)
                )[0].name == '9.5'


def test_what_the_folder_says(clones, tmp_path):
    one = source(clones, intrinsics='calib.txt')
    made(clones, tmp_path, one)
    about = json.loads((tmp_path / 'made' / 'source.json').read_text())
    assert about['repository'] == 'github.com/owner/rooms' and about['commit'] == one.commit
    assert about['data_licence'] == 'MIT' and about['intrinsics'] == 'calib.txt'
    assert about['frames'][0]['median_m'] == pytest.approx(float(np.nanmedian(TRUTH)), abs=0.001)
    assert 'granted' in (tmp_path / 'made' / 'LICENSE').read_text()
    assert not list(tmp_path.glob('*.part'))


@pytest.mark.parametrize(('change', 'text'), [
    ({'repository': 'owner/none'}, 'holds no clone of owner/none'),
    ({'commit': 'a' * 40}, f'owner/rooms has no commit {"a" * 40}'),
    ({'images': 'rgb/8.png'}, 'owner/rooms has no images rgb/8.png'),
    ({'images': 'large.png', 'read': kinds.alone}, 'large.png of owner/rooms is kept outside'),
    ({'images': 'LICENSE', 'read': kinds.alone}, 'an image is damaged'),
    ({'licence': 'Apache-2.0'}, 'LICENSE of owner/rooms does not say Apache-2.0'),
    ({'licence_file': 'COPYING'}, 'owner/rooms has no COPYING at '),
    ({'read': partial(kinds.with_grey, depth=kinds.renamed('rgb', 'lost'), unit=1, lens=LENS)},
     'owner/rooms has no lost/9.5.png at '),
    ({'read': partial(kinds.with_grey, depth=kinds.nearest('rgb'), unit=1, lens=LENS)},
     'depth is no grey image of 16 bits'),
    ({'read': partial(kinds.with_grey, depth=kinds.nearest('depth'), unit=1.0, lens=LENS)},
     'has no depth'),
    ({'read': partial(kinds.with_grey, depth=kinds.nearest('depth'), unit=1e-5, lens=LENS)},
     'the median of the depth values is'),
], ids=lambda value: value if isinstance(value, str) else '')
def test_a_source_that_cannot_be_used_is_one_line(clones, tmp_path, capsys, change, text):
    """The others go on, and nothing of it stays."""
    bad, good = source(clones, **change), source(clones, name='good')
    assert folders.make_all([bad, good], tmp_path, clones) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[1] == 'good: 1 frame'
    assert lines[0].startswith('made is left out: ') and text in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ['good']


def test_a_licence_that_a_package_names(clones, tmp_path):
    made(clones, tmp_path, source(clones, licence_file='package.json'))
    made(clones, tmp_path, source(clones, name='tum', licence='CC BY 4.0', licence_file=None))
    assert (tmp_path / 'tum' / 'LICENSE').read_text() == 'CC BY 4.0\nthe author\n'


def test_without_git(clones, tmp_path, capsys, monkeypatch):
    one = source(clones)
    monkeypatch.setenv('PATH', str(tmp_path))
    assert folders.make_all([one], tmp_path, clones) == 1
    assert capsys.readouterr().out == 'made is left out: git is not installed\n'


def test_a_user_has_no_clones(clones, tmp_path, capsys, monkeypatch):
    """Git clones without files and reads single ones; only the address is another here."""
    mirror = tmp_path / 'mirror' / 'owner'
    mirror.mkdir(parents=True)
    (mirror / 'rooms').symlink_to(clones / 'owner+rooms' / 'repo')
    for key, value in {'GIT_CONFIG_COUNT': '1', 'GIT_CONFIG_VALUE_0': 'https://github.com/',
                       'GIT_CONFIG_KEY_0': f'url.file://{mirror.parent}/.insteadOf'}.items():
        monkeypatch.setenv(key, value)
    absent = source(clones, repository='owner/none', name='absent')
    both = [source(clones), absent, source(clones, name='again')]
    assert folders.make_all(both, tmp_path / 'out', None) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'made: 1 frame' and lines[2] == 'again: 1 frame'
    assert lines[1].startswith('absent is left out: owner/none cannot be cloned (')
    np.testing.assert_allclose(open_folder(tmp_path / 'out' / 'made')[0].depth, TRUTH, atol=6e-4)


def test_files_of_a_package(clones, tmp_path, capsys, monkeypatch):
    pytest.importorskip('pip')
    links = tmp_path / 'links'
    links.mkdir()
    with zipfile.ZipFile(links / 'pictures-1.0-py3-none-any.whl', 'w') as wheel:
        wheel.writestr('pictures-1.0.dist-info/METADATA',
                       'Metadata-Version: 2.1\nName: pictures\nVersion: 1.0\n')
        wheel.writestr('pictures-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\nTag: py3-none-any\n')
        wheel.writestr('pictures-1.0.dist-info/RECORD', '')
        for path in ('LICENSE', 'rgb/9.5.png', 'depth/9.48.png'):
            wheel.write(clones / 'owner+rooms' / 'repo' / path, path)
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('PIP_FIND_LINKS', str(links))
    one = source(clones, wheel='pictures==1.0')
    sample, = made(clones, tmp_path, one)
    np.testing.assert_allclose(sample.depth, TRUTH, atol=0.0006)
    lost = replace(one, name='lost', licence_file='COPYING')
    other = replace(one, name='other', wheel='pictures==2.0')
    assert folders.make_all([lost, other], tmp_path, clones) == 2
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines[0] == 'lost is left out: pictures==1.0 has no COPYING'
    assert lines[1].startswith('other is left out: pictures==2.0 cannot be downloaded (')


def test_the_command(clones, tmp_path, capsys, monkeypatch):
    """It keeps what is there, and its exit status tells whether all is there."""
    for names, text, status in (
            (('one',), 'one: 1 frame\n', 0), (('one', 'two'), 'one: kept\ntwo: 1 frame\n', 0)):
        monkeypatch.setattr(fetch_photographs, 'WITH_DEPTH',
                            tuple(source(clones, name=name) for name in names))
        monkeypatch.setattr(fetch_photographs, 'WITHOUT_DEPTH', ())
        assert run_command(monkeypatch, tmp_path / 'out', clones) == status
        assert capsys.readouterr().out == text
    monkeypatch.setattr(fetch_photographs, 'WITHOUT_DEPTH', (source(clones, 'none'),))
    assert run_command(monkeypatch, tmp_path / 'out', clones) == 1
    (tmp_path / 'file').write_text('')
    assert 'cannot be written' in run_command(monkeypatch, tmp_path / 'file' / 'out', clones)


def run_command(monkeypatch, folder, clones):
    """Run the script; return its exit status or message."""
    monkeypatch.setattr(sys, 'argv', ['fetch', str(folder), '--clones', str(clones)])
    with pytest.raises(SystemExit) as end:
        fetch_photographs.main()
    return end.value.code


# --- pairs of images ------------------------------------------------------------------------


def test_a_pair_is_matched():
    """A plane 12 px away, and one in front of it: what only one camera sees has no value."""
    scene = texture(3, (96, 200))
    left, right = scene[:, 20:180].copy(), scene[:, 32:192].copy()
    near = texture(4, (40, 48))
    left[30:70, 70:118], right[30:70, 42:90] = near, near
    found = pairs.matched(left, right, 48)
    seen = np.isfinite(found)
    assert np.median(found[35:65, 80:110]) == pytest.approx(28, abs=0.1)
    behind = np.ones(found.shape, bool)
    behind[20:80, 30:130] = False
    assert seen[behind].mean() > 0.8
    assert np.median(found[behind & seen]) == pytest.approx(12, abs=0.1)
    assert seen[:, 2:10].mean() < 0.5, 'the right camera does not see these columns'
    assert seen[35:65, 45:65].mean() < 0.5, 'and these are behind the near plane'


def pair_of_images(clones, tmp_path, baseline):
    """Return a source of a plane that is seen by two cameras, ``baseline`` [mm] apart."""
    scene = texture(5, (240, 1400))
    repository = tmp_path / 'owner+pairs'
    repository.mkdir(parents=True)
    Image.fromarray(scene[:, 50:1330]).save(repository / 'im0.png')
    Image.fromarray(scene[:, 74:1354]).save(repository / 'im1.png')
    (repository / 'calib.txt').write_text(
        'cam0=[1000 0 639.5; 0 1000 119.5; 0 0 1]\ncam1=[1000 0 655.5; 0 1000 119.5; 0 0 1]\n'
        f'doffs=16\nbaseline={baseline}\n')
    (repository / 'LICENSE').write_text('Permission is hereby granted')
    git(tmp_path, 'init', '-q', str(repository))
    git(repository, 'add', '.')
    git(repository, 'commit', '-q', '-m', 'all')
    return source(clones, 'im0.png', partial(fetch_photographs.middlebury_pair, most=32),
                  repository='owner/pairs', commit=git(repository, 'rev-parse', 'HEAD'))


def test_depth_of_a_pair_at_the_stored_size(clones, tmp_path):
    """The images have twice the stored size; doffs and focal length shrink with them."""
    sample, = made(tmp_path, tmp_path, pair_of_images(clones, tmp_path, 80))
    assert sample.image.shape == (120, 640, 3) and sample.camera.fx == 500
    assert np.isfinite(sample.depth).mean() > 0.7
    # 80 mm * 1000 px / (24 px + 16 px)
    assert np.nanmedian(sample.depth) == pytest.approx(2, abs=0.02)


def test_matched_depth_beyond_10_m_is_left_out(clones, tmp_path, capsys):
    assert folders.make_all([pair_of_images(clones, tmp_path, 480)], tmp_path, tmp_path) == 1
    assert 'im0.png of owner/pairs has no depth' in capsys.readouterr().out


def test_other_descriptions_of_a_pair():
    q = b'1 0 0 -320\n0 1 0 -240\n0 0 0 500\n0 0 4 0\n'
    assert pairs.Rig.of_opencv(q) == pairs.Rig((500, 500, 320, 240), 0.25)
    text = json.dumps({'fx': 450, 'fy': 451, 'cx0': 300, 'cx1': 302, 'cy': 250,
                       'baseline_meters': 0.075})
    rig = pairs.Rig.of_stereodemo(text.encode())
    assert rig == pairs.Rig((450, 451, 300, 250), 0.075, 2)
    assert rig.depth(np.float32([7, np.inf])).tolist() == [3.75, 0]


# --- the table ------------------------------------------------------------------------------


def test_the_table_agrees_with_the_model_card():
    """Each source is in a row of the card, with its licence; and REPEATS knows the names."""
    rows = (ROOT / 'zoe_ros' / 'data' / 'weights' / 'README.md').read_text().splitlines()
    names = []
    for one in (*fetch_photographs.WITH_DEPTH, *fetch_photographs.WITHOUT_DEPTH):
        assert any(one.repository in row and f'`{one.name}`' in row and one.licence in row
                   for row in rows), one.name
        assert re.fullmatch('[0-9a-f]{40}', one.commit) and re.compile(one.images)
        names.append(one.name)
    assert len(set(names)) == len(names)
    elsewhere = {'room', 'tabletop', 'street', 'boxes_d435', 'lab_d435'}
    assert set(make_mobile_lite.REPEATS) <= {*names, *elsewhere}
