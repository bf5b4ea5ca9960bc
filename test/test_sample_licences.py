"""The pictures of the sample bag: each is the one whose author and licence are stated."""
import io
from pathlib import Path
import re
import runpy

from bags import read_bag
import numpy as np
from PIL import Image
import pytest

from zoe_ros.datasets.bags import RgbdBag

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / 'zoe_ros' / 'data' / 'sample'
ROW = re.compile(
    r'\| (?P<first>\d+)-(?P<last>\d+) \| [^|]+ \| (?P<author>[^|]+) \| '
    r'`(?P<source>[^`]+)` \| (?P<terms>CC0|Apache-2\.0) \|')
RENDERED = re.compile(r'zoe world --bag (?P<domain>\w+) --seed (?P<seed>\d+)')
# Frames are rendered again at half their size and compared at an eighth. JPEG and the noise of the
# camera then cost less than 2.4 of 255 levels; the next frame of a drive is more than 3.8 apart.
RENDERED_SIZE, COMPARED_SIZE, TOLERANCE = (240, 180), (60, 45), 3


def rows():
    """Return the rows of the table of licences: (frames, author, source)."""
    lines = [line for line in (SAMPLE / 'LICENSES.md').read_text().splitlines()
             if line.startswith('|')][2:]
    found = [ROW.fullmatch(line) for line in lines]
    assert lines and all(found), f'rows of another form among {lines}'
    return [(range(int(row['first']), int(row['last']) + 1), row['author'], row['source'])
            for row in found]


def shrink(picture):
    """Return a picture at the size that is compared, (h, w, 3)."""
    return np.asarray(picture.resize(COMPARED_SIZE, Image.Resampling.BOX), np.float32)


@pytest.fixture(scope='module')
def images():
    """Return the pictures of the bag, small."""
    return [shrink(Image.open(io.BytesIO(message.data)))
            for _, message in read_bag(SAMPLE)['/camera/image_raw/compressed']]


@pytest.fixture(scope='module')
def maker():
    """Return the names of the script that made the bag."""
    pytest.importorskip('embreex', reason='renders the drive; comes with the extra "train"')
    return runpy.run_path(str(ROOT / 'docs' / 'make_sample_bag.py'))


def test_every_frame_has_one_row(images):
    frames = [i for numbers, _, _ in rows() for i in numbers]
    assert frames == list(range(len(images)))


def check(images, frames, shots):
    """Compare the frames of a row with its source: each shows its own moment, not the next."""
    assert len(shots) == len(frames)
    expected = [shrink(Image.fromarray(shot.image)) for shot in shots]
    for i, picture in zip(frames, expected):
        assert np.abs(images[i] - picture).mean() < TOLERANCE, f'frame {i} is not of its source'
    for i, picture in zip(frames, expected[1:]):
        assert np.abs(images[i] - picture).mean() > TOLERANCE


def test_rendered_frames_are_those_of_their_seeds(images, maker):
    drives = [(frames, author, RENDERED.fullmatch(source)) for frames, author, source in rows()
              if source.startswith('zoe world')]
    assert len(drives) == len(maker['DRIVES'])
    for frames, author, source in drives:
        assert author == 'zoe_ros'
        check(images, frames, maker['drive'](
            source['domain'], int(source['seed']), *RENDERED_SIZE))


def test_real_places_are_those_of_their_panoramas(images, maker):
    pytest.importorskip('OpenEXR', reason='reads the panoramas; pip install OpenEXR')
    if not maker['PANORAMAS'].is_dir():
        pytest.skip('the panoramas are not here: apt-get install blender-data')
    terms = (maker['PANORAMAS'] / 'license.txt').read_text()
    assert 'CC0' in terms
    places = {f'{place.name}.exr': place for place in maker['PLACES']}
    real = [row for row in rows() if not row[2].startswith('zoe world')]
    assert {source for _, _, source in real} == set(places)
    for frames, author, source in real:
        # The text beside the panoramas names the author, whom the row repeats.
        assert all(name in terms for name in author.split(', '))
        check(images, frames, maker['turn'](places[source]))


def test_the_drive_has_true_depth():
    """Every second frame of both drives, and no frame of a real place."""
    depth = RgbdBag(SAMPLE, 'outdoor')
    start = int(depth[0].name)
    at = [(int(depth[i].name) - start) // 100_000_000 for i in range(len(depth))]
    # The street begins after 16 frames and a pause.
    assert at == [*range(0, 16, 2), *range(56, 72, 2)]
    for i in range(len(depth)):
        assert depth[i].depth.shape == (360, 480) and depth[i].valid.mean() > 0.6


GOLDEN_ROW = re.compile(r'\| `(?P<file>\w+\.npz)` \| [^|]+ \| (?P<author>[^|]+) \| '
                        r'`skimage\.data\.(?P<source>\w+)` \| (?P<terms>CC0|public domain) \|')


def test_every_golden_picture_is_that_of_its_row():
    data = pytest.importorskip('skimage.data', reason='comes with the extra "dev"')
    folder = ROOT / 'test' / 'golden'
    found = [GOLDEN_ROW.fullmatch(line)
             for line in (folder / 'LICENSES.md').read_text().splitlines()
             if line.startswith('| `')]
    assert {row['file'] for row in found} == {
        file.name for file in folder.glob('*.npz') if 'image' in np.load(file)}
    for row in found:
        original = getattr(data, row['source'])
        # scikit-image's own text names the author.
        assert row['author'] in original.__doc__
        picture = Image.fromarray(original()).convert('RGB')
        image = np.load(folder / row['file'])['image']
        height, width = image.shape[:2]
        scale = min(picture.width / width, picture.height / height)
        left, top = (picture.width - scale * width) / 2, (picture.height - scale * height) / 2
        middle = picture.resize((width, height), Image.Resampling.BICUBIC,
                                (left, top, picture.width - left, picture.height - top))
        assert np.abs(np.asarray(middle, np.float32) - image).mean() < 3, row['file']
