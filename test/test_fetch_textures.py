"""experiments/fetch_textures.py on packages that are there: what is taken, and its place."""
import io
from pathlib import Path
import runpy
import sys
import tarfile
import zipfile

import numpy as np
from PIL import Image
import pytest

ROOT = Path(__file__).resolve().parents[1]
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: many
License: CC0

Files: data/textures/brick.png data/textures/grass_a.png
       data/textures/wood1.jpg
Copyright: one
License: CC-BY-3.0

Files: data/textures/plank.png
License: CC-BY-SA-3.0

Files: data/textures/stone.png
License: GPL-3+
"""


@pytest.fixture(scope='module')
def fetch():
    """Return the names of the script."""
    return runpy.run_path(str(ROOT / 'experiments' / 'fetch_textures.py'))


def picture(size=(80, 80), mode='RGB', form='PNG'):
    """Return the bytes of an image that shows something."""
    pixels = np.random.default_rng(1).integers(0, 256, (*size[::-1], len(mode)), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, form)
    return file.getvalue()


def package_of_debian(path, files):
    """Write the files of a Debian package, as dpkg-deb gives them."""
    with tarfile.open(path, 'w') as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_debian_s_copyright_file_decides_about_each_image(fetch, tmp_path):
    package = fetch['Package']('apt', 'a-data', r'/data/textures/[^/]*\.(png|jpg)$', None)
    textures = './usr/share/a/data/textures/'
    package_of_debian(tmp_path / 'a.tar', {
        **{f'{textures}{name}': name.encode() for name in (
            'brick.png', 'grass_a.png', 'wood1.jpg', 'plank.png', 'stone.png', 'rest.png')},
        './usr/share/a/data/brick.png': b'elsewhere',
        './usr/share/doc/a-data/copyright': COPYRIGHT.encode()})
    assert list(fetch['images'](package, tmp_path)) == [
        (f'{textures}{name}', name.encode(), 'CC-BY-3.0')
        for name in ('brick.png', 'grass_a.png', 'wood1.jpg')]


def test_images_of_an_archive_within_a_package(fetch, tmp_path):
    package = fetch['Package']('apt', 'b', r'^textures/.*\.png$', None, r'0textures\.pk3$')
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, 'w') as inner:
        inner.writestr('textures/tex_a/brick.png', b'brick')
        inner.writestr('textures/tex_a/stone.png', b'stone')
        inner.writestr('models/tex_a/brick.png', b'model')
    package_of_debian(tmp_path / 'b.tar', {
        './base/0textures.pk3': archive.getvalue(),
        './usr/share/doc/b/copyright': b'Files: base/textures/tex_a/brick.png\nLicense: CC0-1\n'})
    assert list(fetch['images'](package, tmp_path)) == [
        ('textures/tex_a/brick.png', b'brick', 'CC0-1')]


@pytest.mark.parametrize('licence, accepted', [
    ('CC0', True), ('CC0-1.0', True), ('CC-BY-4.0', True), ('public-domain', True), ('MIT', True),
    ('Expat', True), ('Apache-2.0', True), ('CC-BY-SA-4.0', False), ('CC-BY-NC-4.0', False),
    ('GPL-2+', False), ('', False), ('not-CC0', False)])
def test_licences(fetch, licence, accepted):
    assert bool(fetch['ACCEPTED'].match(licence)) is accepted


@pytest.mark.parametrize('name, place', [
    ('textures/Brick Wall_2.PNG', 'wall/a-brick-wall-2.jpg'),
    ('textures/grass.png', 'ground/a-grass.jpg'),
    ('textures/brick_norm.png', None), ('textures/unheard_of.png', None),
    ('hdri/city.exr', 'sky/a-city.jpg'), ('hdri/apartment.exr', None),
    ('hdri/bridge.exr.js', None), ('hdri/esplanade.exr.js', None), ('world/courtyard.exr', None),
    ('hdri/sunrise.exr.js', None), ('world/sunrise.exr', 'sky/a-sunrise.jpg'),
    ('tex_buildings/plaster.png', 'wall/a-plaster.jpg')])
def test_the_name_of_an_image_tells_its_use(fetch, name, place):
    found = fetch['place'](fetch['Package']('npm', '@x/a-b', '', 'CC0'), name)
    assert found == (None if place is None else Path(place))


def test_images_that_are_no_surface(fetch):
    grey = io.BytesIO()
    Image.new('RGB', (80, 80), 'grey').save(grey, 'PNG')
    see_through = picture(mode='RGBA')
    for data in (b'no image', grey.getvalue(), picture((63, 80)), picture((400, 90)), see_through):
        assert fetch['texture'](data) is None
    assert fetch['texture'](picture((1024, 600))).size == (512, 300)


def test_a_panorama_has_the_brightness_of_a_photograph(fetch, monkeypatch):
    monkeypatch.setenv('OPENCV_IO_ENABLE_OPENEXR', '1')
    cv2 = pytest.importorskip('cv2', reason='comes with the extra "test"')
    light = np.full((32, 64, 3), 200, np.float32)
    light[:4] = 1000, 0, 0
    done, data = cv2.imencode('.hdr', light)
    assert done
    shown = np.asarray(fetch['panorama'](data.tobytes()))
    assert 120 < np.median(shown) < 200
    assert tuple(shown[0, 0, :2]) == (0, 0) and shown[0, 0, 2] > 200, 'OpenCV gives BGR'


def test_the_sun_of_a_panorama_is_white(fetch, monkeypatch):
    """A filter that made it smaller left negative light, and one colour alone, around the sun."""
    monkeypatch.setenv('OPENCV_IO_ENABLE_OPENEXR', '1')
    cv2 = pytest.importorskip('cv2', reason='comes with the extra "test"')
    light = np.full((64, 128, 3), 0.2, np.float32)
    light[8:24, 8:24] = 8                       # the glow
    light[13:19, 13:19] = -400
    light[14:18, 14:18] = 400, 0, 0             # BGR
    light[15:17, 15:17, 0] = 12000
    light[40, 40] = 0                           # a dark thing far from the sun
    done, data = cv2.imencode('.exr', light)
    assert done
    shown = np.asarray(fetch['panorama'](data.tobytes()))
    assert shown[8:24, 8:24].min() == 255
    assert shown[40, 40].max() == 0


def test_the_folder_and_its_table(fetch, tmp_path, monkeypatch, capsys):
    """One image for each name, each with a row of its source and licence."""
    wheel = tmp_path / 'cache' / 'pictures.whl'
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, 'w') as files:
        for name in ('a/textures/brick.png', 'b/textures/brick.png', 'a/textures/wood.jpg'):
            files.writestr(name, picture(form='JPEG' if name.endswith('jpg') else 'PNG'))
        files.writestr('a/textures/lawn.txt', b'grass')
    main = fetch['main']
    downloaded = main.__globals__
    package = fetch['Package']('pip', 'pictures', r'textures/[^/]*\.(png|jpg)$', 'MIT')
    monkeypatch.setitem(downloaded, 'PACKAGES', (package,))
    # The downloads of pip are the one part that needs a network: a package that is there already.
    images = downloaded['images']
    monkeypatch.setitem(downloaded, 'images', lambda package, work: images(package, wheel.parent))
    monkeypatch.setattr(sys, 'argv', ['fetch_textures.py', str(tmp_path / 'out')])
    main()
    assert capsys.readouterr().out == 'pip pictures: 2 images\n'
    rows = (tmp_path / 'out' / 'LICENSES.md').read_text().splitlines()[4:]
    assert rows == ['| wall/pictures-brick.jpg | pip pictures | a/textures/brick.png | MIT |',
                    '| wood/pictures-wood.jpg | pip pictures | a/textures/wood.jpg | MIT |']
    stored = {path.relative_to(tmp_path / 'out').as_posix()
              for path in (tmp_path / 'out').rglob('*.jpg')}
    assert stored == {row.split()[1] for row in rows}
