"""Published datasets: each layout with a few files, what its depth means, and what is missing."""
import pickle
import sys

import numpy as np
from PIL import Image
from published import (
    CAMERAS,
    make_ddad,
    make_diode,
    make_ibims,
    make_nyu,
    make_sunrgbd,
    make_vkitti2,
    MAKERS,
    png,
    slope,
)
import pytest

from zoe_ros.camera import Camera
from zoe_ros.command_settings import DataSettings
from zoe_ros.datasets import check_metres, DatasetError, EvalProtocol
from zoe_ros.datasets.ddad import splat
from zoe_ros.datasets.open import open_datasets
from zoe_ros.datasets.published import kb_crop, PublishedDataset, recognise, SOURCES


def test_the_table_is_that_of_the_paper():
    """Domain, range [m] and crop, from table 7 of the paper and section 6.3."""
    assert set(MAKERS) == set(SOURCES) == set(CAMERAS)
    rows = {name: (s.domain, s.protocol.max_depth, s.protocol.crop, s.kb_crop)
            for name, s in SOURCES.items()}
    assert rows == {
        'nyu': ('indoor', 10, 'eigen', False), 'kitti': ('outdoor', 80, 'garg', True),
        'sunrgbd': ('indoor', 8, 'eigen', False), 'ibims': ('indoor', 10, 'eigen', False),
        'diode-indoor': ('indoor', 10, 'eigen', False),
        'diode-outdoor': ('outdoor', 80, 'garg', False),
        'hypersim': ('indoor', 80, 'eigen', False), 'vkitti2': ('outdoor', 80, 'garg', True),
        'ddad': ('outdoor', 80, 'garg', False), 'diml': ('outdoor', 80, 'garg', False)}
    assert {s.protocol.min_depth for s in SOURCES.values()} == {1e-3}


@pytest.mark.parametrize('name', SOURCES)
def test_samples(tmp_path, name):
    images, depths = MAKERS[name](tmp_path)
    assert recognise(tmp_path) == [name]
    dataset, = open_datasets([str(tmp_path)], 'test')
    assert (dataset.name, dataset.domain, len(dataset)) == (name, SOURCES[name].domain, 2)
    assert len({dataset[i].name for i in range(2)}) == 2
    far = SOURCES[name].protocol.max_depth
    for index in range(2):
        sample = dataset[index]
        image, depth = images[index], depths[index]
        if SOURCES[name].kb_crop:
            image, depth = image[23:, 13:1229], depth[23:, 13:1229]
        assert sample.depth.dtype == np.float32 and sample.image.dtype == np.uint8
        assert np.array_equal(sample.image, image)
        # A unit of the file, which at the cap decides on which side of it a value falls.
        known = np.abs(depth - far) > 0.02
        depth = np.where((depth > 0) & (depth <= far), depth, np.nan)
        np.testing.assert_allclose(sample.depth[known], depth[known], rtol=1e-5, atol=0.011)
        assert np.nanmax(sample.depth) <= far
        assert 0 < sample.valid.sum() < sample.depth.size
        camera = sample.camera
        assert (camera.height, camera.width) == sample.depth.shape
        assert (camera.fx, camera.fy, camera.cx, camera.cy) == pytest.approx(CAMERAS[name])
        assert (sample.domain, dataset.protocol) == (dataset.domain, SOURCES[name].protocol)
    with pytest.raises(IndexError):
        dataset[2]
    again = pickle.loads(pickle.dumps(dataset))     # as it goes to another process
    assert np.array_equal(again[1].depth, dataset[1].depth, equal_nan=True)


@pytest.mark.parametrize('name, pattern', [
    ('nyu', 'sync_depth_*.png'), ('kitti', 'raw/**/*.png'), ('kitti', 'data_depth*/**/*.png'),
    ('kitti', 'eigen*.txt'), ('kitti', 'calib*.txt'), ('sunrgbd', 'image/*.jpg'),
    ('sunrgbd', 'depth_bfx/*.png'), ('sunrgbd', 'intrinsics.txt'), ('sunrgbd', 'allsplit.mat'),
    ('ibims', 'rgb/*.png'), ('ibims', 'depth/*.png'), ('ibims', 'mask_invalid/*.png'),
    ('ibims', 'mask_transp/*.png'), ('ibims', 'calib/*.txt'), ('ibims', 'imagelist.txt'),
    ('diode-indoor', '*_depth.npy'), ('diode-indoor', '*_depth_mask.npy'),
    ('hypersim', '*.tonemap.jpg'), ('hypersim', '*.hdf5'), ('hypersim', '*.csv'),
    ('vkitti2', 'depth_*.png'), ('diml', 'depthmap/*.png'), ('ddad', 'ddad.json'),
    ('ddad', 'scene_*.json'), ('ddad', 'abc.json'), ('ddad', '*.png'), ('ddad', '*.npz')])
def test_a_file_that_is_missing_is_named(tmp_path, name, pattern):
    MAKERS[name](tmp_path)
    path = sorted(tmp_path.rglob(pattern))[0]
    path.unlink()
    with pytest.raises(DatasetError) as caught:
        dataset = PublishedDataset(name, tmp_path, 'test')
        for index in range(len(dataset)):
            dataset[index]
    text = str(caught.value)
    assert text.startswith(f'{SOURCES[name].title}: ') and '\n' not in text
    assert path.name in text or str(path.parent) in text


@pytest.mark.parametrize('name, root, text', [
    ('nyu', 'official_splits', r'NYU Depth v2: .*holds nothing like <scene>/rgb_00000.jpg, sync_'),
    ('kitti', 'data_depth_annotated', r'KITTI: .*eigen_test_files_with_gt.txt is missing: the li'),
    ('sunrgbd', 'SUNRGBD', r'SUN RGB-D: .*allsplit.mat is missing: the split'),
    ('ibims', 'mask_transp', r'iBims-1: .*imagelist.txt is missing'),
    ('diode-indoor', 'val/indoors', r'DIODE indoor: .*val/indoors holds nothing like scene_\*'),
    ('hypersim', 'ai_001_001', r'Hypersim: .*metadata_images_split_scene_v1.csv is missing'),
    ('vkitti2', 'Scene01', r'Virtual KITTI 2: .*holds nothing like Scene01/clone/frames/rgb'),
    ('diml', 'outleft', r'DIML outdoor: .*holds nothing like outleft/\*.png and depthmap')])
def test_empty_folders(tmp_path, name, root, text):
    (tmp_path / root).mkdir(parents=True)
    assert recognise(tmp_path) == [name]
    with pytest.raises(DatasetError, match=text):
        open_datasets([str(tmp_path)], 'test')


def test_a_folder_of_no_known_kind(tmp_path):
    with pytest.raises(DatasetError, match=r'no data of a known kind: .*NYU Depth v2 \(offici'):
        open_datasets([str(tmp_path)], 'test')


def test_diode_is_two_datasets(tmp_path):
    make_diode(tmp_path)
    make_diode(tmp_path, 'outdoor', 90)
    assert [d.name for d in open_datasets([str(tmp_path)], 'test')] == [
        'diode-indoor', 'diode-outdoor']
    assert [d.name for d in open_datasets([str(tmp_path)], 'test', DataSettings('outdoor'))] == [
        'diode-outdoor']


# --- splits ---------------------------------------------------------------------------------


def test_splits_to_learn_from(tmp_path):
    make_nyu(tmp_path / 'nyu', 'sync')
    assert recognise(tmp_path / 'nyu') == ['nyu']
    assert len(PublishedDataset('nyu', tmp_path / 'nyu', 'train')) == 2
    (tmp_path / 'nyu' / 'nyudepthv2_train_files_with_gt.txt').write_text(
        '/kitchen/rgb_00045.jpg /kitchen/sync_depth_00045.png 518.8579\n')
    picked = PublishedDataset('nyu', tmp_path / 'nyu', 'train')
    assert [picked[i].name for i in range(len(picked))] == ['kitchen/rgb_00045']

    make_vkitti2(tmp_path / 'vkitti2')
    train, test = (PublishedDataset('vkitti2', tmp_path / 'vkitti2', split)
                   for split in ('train', 'test'))
    assert (len(train), len(test)) == (23, 2)
    assert not {i.name for i in train._items} & {i.name for i in test._items}
    assert [test[i].name[-9:] for i in range(2)] == ['rgb_00000', 'rgb_00013']

    make_sunrgbd(tmp_path / 'sunrgbd')
    assert len(PublishedDataset('sunrgbd', tmp_path / 'sunrgbd', 'train')) == 1


@pytest.mark.parametrize('name', ['ibims', 'diml'])
def test_sets_that_are_for_measuring_only(tmp_path, name):
    MAKERS[name](tmp_path)
    with pytest.raises(DatasetError, match='is for measuring: it has no part to learn from'):
        PublishedDataset(name, tmp_path, 'train')


def test_a_split_without_samples(tmp_path):
    make_ddad(tmp_path)
    with pytest.raises(DatasetError, match=r'DDAD: .*holds no sample of its train split'):
        PublishedDataset('ddad', tmp_path, 'train')


# --- wrong data -----------------------------------------------------------------------------


def test_depth_in_another_unit(tmp_path):
    make_diode(tmp_path / 'diode')
    path = next((tmp_path / 'diode').rglob('*_0_depth.npy'))
    np.save(path, 1000 * np.load(path))
    with pytest.raises(DatasetError, match=r'median depth of .*looks like millimetres, not'):
        PublishedDataset('diode-indoor', tmp_path / 'diode', 'test')[0]

    make_nyu(tmp_path / 'nyu')
    png(next((tmp_path / 'nyu').rglob('bath/sync_*.png')), slope((48, 64), 0))
    with pytest.raises(DatasetError, match='looks like metres that were divided by 1000'):
        PublishedDataset('nyu', tmp_path / 'nyu', 'test')[0]


def test_plausible_depth_passes():
    for depth in (np.full((2, 2), np.nan), np.array([[0.3, np.nan]]), np.array([[9.0, 60000.0,
                                                                               8.0]])):
        check_metres(depth, 'indoor', 'here')
    check_metres(np.full((2, 2), 900.0), 'outdoor', 'here')
    check_metres(np.array([[0.05, 0.06, 0.5]]), 'indoor', 'here')       # a hand at the lens
    with pytest.raises(DatasetError, match=r'^here: '):
        check_metres(np.full((2, 2), 900.0), 'indoor', 'here')


def test_pairs_of_different_sizes(tmp_path):
    make_nyu(tmp_path)
    png(tmp_path / 'official_splits/test/bath/sync_depth_00045.png', np.full((10, 20), 2000))
    with pytest.raises(DatasetError, match='has 64 x 48 pixels, its depth 20 x 10'):
        PublishedDataset('nyu', tmp_path, 'test')[0]


def test_an_image_without_any_depth_has_no_valid_pixel(tmp_path):
    make_ibims(tmp_path)
    png(tmp_path / 'mask_invalid' / 'corridor_01.png', np.zeros((48, 64)), 8)
    assert not PublishedDataset('ibims', tmp_path, 'test')[0].valid.any()


@pytest.mark.parametrize('content, text', [(b'', 'cannot be read as an image'),
                                           (b'\x89PNG\r\n', 'cannot be read as an image')])
def test_damaged_files(tmp_path, content, text):
    make_nyu(tmp_path)
    for name in ('rgb_00045.jpg', 'sync_depth_00045.png'):
        path = tmp_path / 'official_splits' / 'test' / 'bath' / name
        before = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=f'{name} {text}'):
            PublishedDataset('nyu', tmp_path, 'test')[0]
        path.write_bytes(before)
    Image.new('RGB', (64, 48)).save(path)
    with pytest.raises(DatasetError, match='is a colour image, not a depth map'):
        PublishedDataset('nyu', tmp_path, 'test')[0]
    make_diode(tmp_path)
    next(tmp_path.rglob('*_0_depth.npy')).write_bytes(content)
    with pytest.raises(DatasetError, match=r'the depth or the camera of .* cannot be read'):
        PublishedDataset('diode-indoor', tmp_path, 'test')[0]


@pytest.mark.parametrize('name, file', [
    ('kitti', 'eigen_test_files_with_gt.txt'), ('ddad', 'ddad.json'),
    ('hypersim', 'metadata_images_split_scene_v1.csv'),
    ('sunrgbd', 'SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat')])
def test_damaged_lists(tmp_path, name, file):
    MAKERS[name](tmp_path)
    (tmp_path / file).write_text('"3"\nnothing\n')
    with pytest.raises(DatasetError, match=r'a list or an index under .* is damaged') as caught:
        PublishedDataset(name, tmp_path, 'test')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name, package', [('sunrgbd', 'scipy.io'), ('hypersim', 'h5py')])
def test_a_missing_package_is_no_damage(tmp_path, monkeypatch, name, package):
    MAKERS[name](tmp_path)
    monkeypatch.setitem(sys.modules, package, None)     # as if it were not installed
    with pytest.raises(DatasetError, match=f'^[^(]+: this dataset needs {package}: pip install'):
        PublishedDataset(name, tmp_path, 'test')[0]


# --- parts ----------------------------------------------------------------------------------


def test_the_crop_of_kitti_keeps_the_rays():
    camera = Camera(1242, 375, 721.5, 722.5, 609.5, 172.8)
    image = np.zeros((375, 1242, 3), np.uint8)
    image[30, 40] = 255
    depth = np.arange(375 * 1242, dtype=np.float32).reshape(375, 1242)
    cropped, below, moved = kb_crop(image, depth, camera)
    assert cropped.shape == (352, 1216, 3) and cropped[7, 27, 0] == 255
    assert below[0, 0] == depth[23, 13] and below[-1, -1] == depth[374, 1228]
    assert np.allclose(moved.rays, camera.rays[23:, 13:1229])
    with pytest.raises(DatasetError, match='96 x 64 pixels is smaller than the crop of KITTI'):
        kb_crop(image[:64, :96], depth[:64, :96], camera)


def test_splatting_keeps_what_is_near():
    depth = splat(np.array([1, 1, 1, 0, -1, 3]), np.array([0, 0, 0, 1, 0, 0]),
                  np.array([5.0, 3.0, 4.0, 7.0, 1.0, 1.0]), (2, 3))
    assert depth.tolist() == [[0, 3, 0], [7, 0, 0]]


def test_protocols_mask_range_and_crop():
    depth = np.full((480, 640), 5.0, np.float32)
    depth[100, 100], depth[100, 101], depth[100, 102] = 10.5, 1e-4, np.nan
    mask = EvalProtocol(1e-3, 10, 'eigen').mask(depth)
    assert mask.sum() == 426 * 560 - 3 and mask[45, 41] and not mask[44, 41]
    garg = EvalProtocol(1e-3, 80, 'garg').mask(np.full((352, 1216), 5.0))
    rows, columns = np.flatnonzero(garg.any(1)), np.flatnonzero(garg.any(0))
    assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == (143, 349, 43, 1172)
