"""RGB-D folders: samples, collections, the split of train and eval, and what is refused."""
import pickle

import numpy as np
from PIL import Image
import pytest
from rgbd_folders import CAMERA, read_json, write_depth, write_folder, write_json
from scenes import Planes

from zoe_ros.command_settings import DataSettings
from zoe_ros.datasets import DatasetError
from zoe_ros.datasets.folders import RgbdFolder
from zoe_ros.datasets.open import open_datasets


def test_samples(tmp_path):
    data = RgbdFolder(write_folder(tmp_path / 'desk', group='tabletop'))
    assert (data.name, data.group, data.domain, len(data)) == ('desk', 'tabletop', 'indoor', 3)
    for index, plane in enumerate(Planes('indoor', 3)):
        sample = data[index]
        assert (sample.name, sample.domain) == (f'frame{index}', 'indoor')
        np.testing.assert_allclose(sample.depth, plane.depth, atol=6e-4)
        assert sample.depth.dtype == np.float32
        assert np.array_equal(sample.depth, data.depth(index), equal_nan=True)
        assert np.abs(sample.image.astype(int) - plane.image).mean() < 4
        camera = sample.camera
        assert (camera.width, camera.height) == (96, 64)
        assert {key: getattr(camera, key) for key in CAMERA} == CAMERA
    with pytest.raises(IndexError):
        data[3]
    again = pickle.loads(pickle.dumps(data))     # as it goes to another process
    assert np.array_equal(again[1].depth, data[1].depth, equal_nan=True)


@pytest.mark.parametrize('domain, near, far', [('indoor', 0.1, 10.0), ('outdoor', 0.5, 65.0)])
def test_depth_outside_of_the_range_is_missing(tmp_path, domain, near, far):
    folder = write_folder(tmp_path / 'a', domain, count=1)
    depth = np.full((64, 96), 3.0)
    depth[0, :5] = near - 0.01, near + 0.01, far - 0.01, far + 0.01, np.nan
    write_depth(folder / 'frame0.depth.png', depth)
    found = RgbdFolder(folder)[0].depth
    assert np.isfinite(found[0, :5]).tolist() == [False, True, True, False, False]
    assert np.isfinite(found[1:]).all()


def test_another_unit_that_the_description_states(tmp_path):
    folder = write_folder(tmp_path / 'a', depth_unit_m=0.0005, factor=2)
    np.testing.assert_allclose(RgbdFolder(folder)[1].depth, Planes('indoor', 3)[1].depth,
                               atol=6e-4)


def test_defaults_of_the_description(tmp_path):
    folder = write_folder(tmp_path / 'garden', 'outdoor')
    about = read_json(folder)
    write_json(folder, {'domain': 'outdoor', 'frames': about['frames']})
    data = RgbdFolder(folder)
    assert (data.name, data.group) == ('garden', 'outdoor')
    assert np.nanmedian(data[0].depth) == pytest.approx(
        np.nanmedian(Planes('outdoor', 1)[0].depth), abs=1e-3)


def test_collections(tmp_path):
    for name, domain in (('b', 'indoor'), ('a', 'outdoor'), ('c', 'indoor')):
        write_folder(tmp_path / name, domain)
    (tmp_path / 'notes').mkdir()

    def names(*data, domain='', split='train'):
        return [d.name for d in open_datasets(list(map(str, data)), split, DataSettings(domain))]

    assert names(tmp_path) == ['a', 'b', 'c']
    assert names(tmp_path, domain='indoor') == ['b', 'c']
    # Leaving a source out: name the folders of the others.
    assert names(tmp_path / 'c', tmp_path / 'a', split='test') == ['c', 'a']
    with pytest.raises(DatasetError, match="several RGB-D folders have the source name 'a'"):
        names(tmp_path, tmp_path / 'a')
    with pytest.raises(DatasetError, match='holds RGB-D folders, but none is outdoor'):
        names(tmp_path / 'b', domain='outdoor')
    (tmp_path / 'b' / 'source.json').unlink()
    with pytest.raises(DatasetError, match=r'/b holds depth but no source\.json$'):
        names(tmp_path)


def test_a_source_without_intrinsics_is_for_evaluation_only(tmp_path):
    folder = write_folder(tmp_path / 'a')
    about = read_json(folder)
    for key in CAMERA:
        del about['frames'][2][key]
    write_json(folder, about)
    data, = open_datasets([str(folder)], 'test')
    assert data[2].camera is None and data[1].camera is not None
    with pytest.raises(DatasetError, match=r'source\.json has no fx, fy, cx, cy for frame2: '
                                           'zoe train needs intrinsics'):
        open_datasets([str(folder)], 'train')


def remove(name):
    """Return a fault: a file is missing."""
    return lambda folder: (folder / name).unlink()


def add(name):
    """Return a fault: a file that source.json does not name."""
    return lambda folder: (folder / name).write_bytes(
        (folder / 'frame0.jpg').read_bytes())


def change(frame=None, **entries):
    """Return a fault: other entries in source.json, or in one of its frames."""
    def fault(folder):
        about = read_json(folder)
        (about if frame is None else about['frames'][frame]).update(entries)
        write_json(folder, about)

    return fault


def text(content):
    """Return a fault: another text in source.json."""
    return lambda folder: (folder / 'source.json').write_text(content)


def depth_file(values, form='PNG'):
    """Return a fault: depth of another kind."""
    return lambda folder: Image.fromarray(values).save(folder / 'frame1.depth.png', format=form)


def everywhere(depth):
    """Return a fault: the same depth [m] in all frames."""
    def fault(folder):
        for path in folder.glob('*.depth.png'):
            write_depth(path, np.full((64, 96), depth))

    return fault


FAULTS = {
    'no image': (remove('frame1.jpg'), r'frame1\.jpg, which source\.json names, is missing$'),
    'no depth': (remove('frame2.depth.png'),
                 r'frame2\.depth\.png, which source\.json names, is missing$'),
    'extra image': (add('z.jpg'), r'z\.jpg, which source\.json does not name, is in the folder$'),
    'renamed frame': (change(0, name='other'),
                      r'other\.jpg, which .*is missing \(and 1 more such files\)'),
    'size': (change(1, width=97),
             r'frame1\.jpg has 96 x 64 pixels, but source\.json says 97 x 64'),
    'size of depth': (depth_file(np.ones((32, 48), np.uint16)),
                      r'frame1\.depth\.png has 48 x 32 pixels, but source\.json says 96 x 64'),
    '8 bits': (depth_file(np.ones((64, 96), np.uint8)),
               r'frame1\.depth\.png has 8-bit values \(PNG\): depth must be a 16-bit grey PNG'),
    'colours': (depth_file(np.ones((64, 96, 3), np.uint8)), r'has colour values \(PNG\)'),
    'float': (depth_file(np.ones((64, 96), np.float32), 'TIFF'), r'has float values \(TIFF\)'),
    'no image file': (lambda folder: (folder / 'frame1.depth.png').write_text('x'),
                      r'frame1\.depth\.png cannot be read as an image'),
    'decimetres': (everywhere(0.03), r'the median of the depth values is 30, that is 0\.03 m; '
                                     r'indoors it should be 0\.1 to 10 m'),
    '1/5000 m': (everywhere(15.0), r'is 15000, that is 15 m; indoors .* in units of 0\.001 m\?'),
    'unit': (change(depth_unit_m='mm'), '"depth_unit_m" is \'mm\', not a positive number'),
    'broken': (text('{"domain": '), r'source\.json cannot be read as JSON \(Expecting'),
    'a list': (text('[]'), r'source\.json: an object with "domain" and "frames" is expected'),
    'no domain': (change(domain='street'), '"domain" is \'street\', not one of indoor, outdoor'),
    'no frames': (change(frames=[]), '"frames" names no frame'),
    'frame': (change(frames=['a']), 'frame 1 is no object'),
    'frame name': (change(1, name='../a'), '"name" of frame 2 is \'../a\', not a file name'),
    'frame size': (change(2, height=None), r'of frame 3 \(frame2\) are 96 and None'),
    'twice': (change(1, name='frame0'), "several frames have the name 'frame0'"),
    'half a camera': (change(1, fx=None), r'fx, fy, cx, cy of frame 2 \(frame1\) are None, 91\.0'),
    'no focal length': (change(1, fx=0), r'frame 2 \(frame1\): the camera is not calibrated'),
    'group': (change(group=3), '"group" is 3, not a name')}


@pytest.mark.parametrize('fault', FAULTS)
def test_refusals(tmp_path, fault):
    folder = write_folder(tmp_path / 'a')
    RgbdFolder(folder)
    spoil, words = FAULTS[fault]
    spoil(folder)
    with pytest.raises(DatasetError, match=words) as found:
        RgbdFolder(folder)
    assert '\n' not in str(found.value) and str(folder) in str(found.value)


def test_a_damaged_image_is_named(tmp_path):
    folder = write_folder(tmp_path / 'a')
    path = folder / 'frame1.jpg'
    path.write_bytes(path.read_bytes()[:-200])
    data = RgbdFolder(folder)       # the header is whole
    with pytest.raises(DatasetError, match=r'frame1\.jpg cannot be read as an image'):
        data[1]
