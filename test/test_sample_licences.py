"""The pictures of the sample bag: each is the one whose author and licence are stated."""
import io
from pathlib import Path
import re
import runpy

from bags import read_bag
import numpy as np
from PIL import Image
import pytest

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / 'zoe_ros' / 'data' / 'sample'
ROW = re.compile(
    r'\| (?P<first>\d+)-(?P<last>\d+) \| [^|]+ \| (?P<author>[^|]+) \| '
    r'`skimage\.data\.(?P<source>\w+)` \| (?P<terms>CC0|public domain) \|')
# JPEG costs each picture less than 3 of 255 levels; two different ones are more than 50 apart.
TOLERANCE = 5


def rows():
    """Return the rows of the table of licences: (frames, author, name of the source)."""
    lines = [line for line in (SAMPLE / 'LICENSES.md').read_text().splitlines()
             if line.startswith('|')][2:]
    found = [ROW.fullmatch(line) for line in lines]
    assert lines and all(found), f'rows of another form among {lines}'
    return [(range(int(row['first']), int(row['last']) + 1), row['author'], row['source'])
            for row in found]


def pixels(message):
    """Return a compressed image in RGB."""
    return np.asarray(Image.open(io.BytesIO(message.data)).convert('RGB'), np.float32)


@pytest.fixture(scope='module')
def images():
    """Return the pictures of the bag."""
    return [pixels(m) for _, m in read_bag(SAMPLE)['/camera/image_raw/compressed']]


def test_every_frame_has_one_row(images):
    frames = [i for numbers, _, _ in rows() for i in numbers]
    assert frames == list(range(len(images)))


def test_every_frame_shows_the_picture_of_its_row(images):
    data = pytest.importorskip('skimage.data', reason='comes with the extra "dev"')
    pan = runpy.run_path(str(ROOT / 'scripts' / 'make_sample_bag.py'))['pan']
    for frames, author, source in rows():
        original = getattr(data, source)
        # scikit-image's own text names the author, whom we only repeat.
        assert author in original.__doc__
        expected = pan(Image.fromarray(original()))
        assert len(expected) == len(frames)
        for i, picture in zip(frames, expected):
            difference = np.abs(images[i] - np.asarray(picture.convert('RGB'), np.float32)).mean()
            assert difference < TOLERANCE, f'frame {i} does not show {source}'
