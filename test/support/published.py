"""Every published dataset with a few made-up files, in the layout of its authors."""
import csv
import json

import numpy as np
from PIL import Image
import pytest

SIZES = {'kitti': (375, 1242), 'vkitti2': (375, 1242), 'ddad': (61, 97)}


def size_of(name):
    """Return the height and width of the images of a made dataset."""
    return SIZES.get(name, (48, 64))


def photograph(path, size, seed):
    """Write a smooth picture, and return it as it will be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:size[0], :size[1]]
    pixels = np.stack([(x * 3 + seed * 40) % 256, y * 4 % 256, 0 * x + 90], -1).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    with Image.open(path) as picture:
        return np.array(picture)


def png(path, values, bits=16):
    """Write a grey picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values).astype(np.uint16 if bits == 16 else np.uint8)).save(path)


def slope(size, seed, near=1.0, far=7.0):
    """Return depth [m] that grows downwards, with a corner of none."""
    depth = np.linspace(near, far + seed, size[0] * size[1]).reshape(size)
    depth[:3, :4] = 0
    return depth


# Each maker writes two samples (and more where a split needs them) and returns images and depths
# of the test split in order.


def make_nyu(root, split='official_splits/test'):
    images, depths = [], []
    for seed, scene in enumerate(('bath', 'kitchen')):
        folder = root / split / scene
        images.append(photograph(folder / 'rgb_00045.jpg', (48, 64), seed))
        depths.append(slope((48, 64), seed, far=12))
        png(folder / 'sync_depth_00045.png', depths[-1] * 1000)
    return images, depths


def make_kitti(root):
    images, depths, lines = [], [], []
    for seed, part in enumerate(('train', 'val')):
        day, drive = '2011_09_26', f'2011_09_26_drive_000{seed}_sync'
        images.append(photograph(
            root / 'raw' / day / drive / 'image_02/data/0000000005.png', (375, 1242), seed))
        depths.append(slope((375, 1242), seed, 4, 90))
        truth = f'{drive}/proj_depth/groundtruth/image_02/0000000005.png'
        png(root / 'data_depth_annotated' / part / truth, depths[-1] * 256)
        lines.append(f'{day}/{drive}/image_02/data/0000000005.png {truth} 721.5377')
    lines.insert(1, f'{day}/{drive}/image_02/data/0000000006.png None 721.5377')
    (root / 'eigen_test_files_with_gt.txt').write_text('\n'.join(lines) + '\n')
    (root / 'raw' / day / 'calib_cam_to_cam.txt').write_text(
        'calib_time: 09-Jan-2012 13:57:47\n'
        'P_rect_02: 7.215377e+02 0.0 6.095593e+02 4.485728e+01 0.0 7.215377e+02 1.728540e+02 '
        '2.163791e-01 0.0 0.0 1.0 2.745884e-03\n')
    return images, depths


def make_sunrgbd(root):
    scipy_io = pytest.importorskip('scipy.io')
    images, depths, paths = [], [], []
    for seed, scene in enumerate(('kv1/NYUdata/NYU0001', 'xtion/sun3ddata/brown_1')):
        folder = root / 'SUNRGBD' / scene
        images.append(photograph(folder / 'image' / 'a.jpg', (48, 64), seed))
        depths.append(slope((48, 64), seed, far=9))
        values = np.round(depths[-1] * 1000).astype(np.uint16)
        png(folder / 'depth_bfx' / 'a.png', (values << 3) | (values >> 13))
        (folder / 'intrinsics.txt').write_text('529.5 0 30.5\n0 528.0 20.25 \n0 0 1\n')
        paths.append(f'/n/fs/sun3d/data/SUNRGBD/{scene}/')
    split = root / 'SUNRGBDtoolbox' / 'traintestSUNRGBD' / 'allsplit.mat'
    split.parent.mkdir(parents=True)
    scipy_io.savemat(split, {
        'alltest': np.array([paths], object), 'alltrain': np.array([paths[:1]], object)})
    return images, depths


def make_ibims(root):
    images, depths = [], []
    names = ['corridor_01', 'lab_02']
    for seed, name in enumerate(names):
        images.append(photograph(root / 'rgb' / f'{name}.png', (48, 64), seed))
        depth = slope((48, 64), seed, far=11)
        png(root / 'depth' / f'{name}.png', depth * 65535 / 50)
        known, opaque = np.full((48, 64), 255), np.full((48, 64), 255)
        known[20, 7:9] = 0
        opaque[30, 5] = 0
        png(root / 'mask_invalid' / f'{name}.png', known, 8)
        png(root / 'mask_transp' / f'{name}.png', opaque, 8)
        (root / 'calib').mkdir(exist_ok=True)
        (root / 'calib' / f'{name}.txt').write_text('560.5, 561.25, 31.5, 24.0\n')
        depth[20, 7:9] = depth[30, 5] = 0
        depths.append(depth)
    (root / 'imagelist.txt').write_text('\n'.join(names) + '\n')
    return images, depths


def make_diode(root, part='indoors', far=12):
    images, depths = [], []
    for seed in range(2):
        stem = root / 'val' / part / 'scene_00019' / 'scan_00183' / f'00019_00183_{part}_{seed}'
        images.append(photograph(stem.with_suffix('.png'), (48, 64), seed))
        depth = slope((48, 64), seed, far=far)
        mask = np.ones((48, 64))
        mask[9, 9] = 0
        np.save(f'{stem}_depth.npy', depth[..., None].astype(np.float32))
        np.save(f'{stem}_depth_mask.npy', mask)
        depth[9, 9] = 0
        depths.append(depth)
    return images, depths


def make_hypersim(root):
    h5py = pytest.importorskip('h5py')
    images, depths = [], []
    with (root / 'metadata_images_split_scene_v1.csv').open('w', newline='') as file:
        table = csv.writer(file)
        table.writerow(['scene_name', 'camera_name', 'frame_id', 'included_in_public_release',
                        'exclude_reason', 'split_partition_name'])
        for seed, split in enumerate(('test', 'test', 'train')):
            table.writerow([f'ai_00{seed}_001', 'cam_00', 3, 'True', '', split])
        table.writerow(['ai_009_001', 'cam_00', 3, 'False', 'too dark', ''])
    # f = 886.81 at 1024 x 768, and pixel centres at whole numbers.
    y, x = np.mgrid[:48, :64]
    stretch = np.sqrt(1 + ((x - 31.5) / 55.425625) ** 2 + ((y - 23.5) / 55.425625) ** 2)
    for seed in range(2):
        folder = root / f'ai_00{seed}_001' / 'images'
        images.append(photograph(
            folder / 'scene_cam_00_final_preview' / 'frame.0003.tonemap.jpg', (48, 64), seed))
        depth = slope((48, 64), seed, far=90)
        path = folder / 'scene_cam_00_geometry_hdf5' / 'frame.0003.depth_meters.hdf5'
        path.parent.mkdir(parents=True)
        distance = (depth * stretch).astype(np.float32)
        distance[5, 5] = np.nan
        depth[5, 5] = 0
        with h5py.File(path, 'w') as file:
            file['dataset'] = distance
        depths.append(depth)
    return images, depths


def make_vkitti2(root):
    images, depths = [], []
    frames = root / 'Scene01' / 'clone' / 'frames'
    for number in range(25):
        image = frames / 'rgb' / 'Camera_0' / f'rgb_{number:05}.jpg'
        depth = frames / 'depth' / 'Camera_0' / f'depth_{number:05}.png'
        if number in (0, 13):       # two of 25 are 8 %
            images.append(photograph(image, (375, 1242), number))
            depths.append(slope((375, 1242), number, 3, 120))
            png(depth, depths[-1] * 100)
        else:
            photograph(image, (2, 2), number)
            png(depth, np.ones((2, 2)))
    return images, depths


def make_diml(root):
    images, depths = [], []
    for seed in range(2):
        images.append(photograph(root / 'outleft' / f'{seed}.png', (48, 64), seed))
        depths.append(slope((48, 64), seed, 2, 60))
        png(root / 'depthmap' / f'{seed}.png', depths[-1] * 1000)
    return images, depths


def make_ddad(root):
    """Two scenes; a laser 0.5 m above and 1 m behind a camera that looks along the world's x."""
    images, depths = [], []
    half = np.sqrt(0.5)
    for seed, scene in enumerate(('000150', '000151')):
        folder = root / scene
        images.append(photograph(folder / f'rgb/CAMERA_01/{seed}.png', (61, 97), seed))
        # The optical frame (x right, y down, z ahead) in a world of x ahead, y left, z up.
        camera = {'translation': {'x': 10.0, 'y': 2.0, 'z': 1.5},
                  'rotation': {'qw': 0.5, 'qx': -0.5, 'qy': 0.5, 'qz': -0.5}}
        # The laser looks along the world's y: turned by 90 degrees about z.
        laser = {'translation': {'x': 9.0, 'y': 2.0, 'z': 2.0},
                 'rotation': {'qw': half, 'qx': 0.0, 'qy': 0.0, 'qz': half}}
        depth = np.zeros((61, 97))
        points = []
        for u, v, z in ((10, 20, 9.0), (10, 20, 5.0), (60, 40, 30.0 + seed), (96, 60, 90.0)):
            depth[v, u] = z         # of two the nearer, which comes last
            optical = np.array([(u - 48) / 50 * z, (v - 30) / 50 * z, z])
            world = np.array([10 + optical[2], 2 - optical[0], 1.5 - optical[1]])
            dx, dy, dz = world - (9, 2, 2)
            points.append([dy, -dx, dz, 0.5])
        # Beside the image, and behind the camera.
        points += [[10, -3, 0, 0.5], [0, 5, 0, 0.5]]
        path = folder / 'point_cloud' / 'LIDAR' / f'{seed}.npz'
        path.parent.mkdir(parents=True)
        np.savez(path, data=np.array(points, np.float32))
        (folder / 'calibration').mkdir()
        (folder / 'calibration' / 'abc.json').write_text(json.dumps({
            'names': ['LIDAR', 'CAMERA_01'], 'extrinsics': [{}, {}],
            'intrinsics': [{'fx': 0, 'fy': 0, 'cx': 0, 'cy': 0, 'skew': 0},
                           {'fx': 50.0, 'fy': 50.0, 'cx': 48.0, 'cy': 30.0, 'skew': 0}]}))
        (folder / 'scene_x.json').write_text(json.dumps({
            'samples': [{'datum_keys': ['k1', 'k2'], 'calibration_key': 'abc'},
                        {'datum_keys': ['k2'], 'calibration_key': 'abc'}],
            'data': [
                {'key': 'k1', 'id': {'name': 'CAMERA_01'}, 'datum': {'image': {
                    'filename': f'rgb/CAMERA_01/{seed}.png', 'pose': camera}}},
                {'key': 'k2', 'id': {'name': 'LIDAR'}, 'datum': {'point_cloud': {
                    'filename': f'point_cloud/LIDAR/{seed}.npz', 'pose': laser}}}]}))
        depths.append(depth)
    (root / 'ddad.json').write_text(json.dumps({'scene_splits': {
        '0': {'filenames': []},
        '1': {'filenames': ['000150/scene_x.json', '000151/scene_x.json']}}}))
    return images, depths


MAKERS = {
    'nyu': make_nyu, 'kitti': make_kitti, 'sunrgbd': make_sunrgbd, 'ibims': make_ibims,
    'diode-indoor': make_diode, 'diode-outdoor': lambda root: make_diode(root, 'outdoor', 90),
    'hypersim': make_hypersim, 'vkitti2': make_vkitti2, 'diml': make_diml, 'ddad': make_ddad}
# Focal length and principal point at the size of the made images, after the crop.
CAMERAS = {
    'nyu': (51.8857901, 51.9469611, 32.1082449, 24.9236166),
    'kitti': (721.5377, 721.5377, 609.5593 - 13, 172.854 - 23),
    'sunrgbd': (529.5, 528, 30.5, 20.25), 'ibims': (560.5, 561.25, 31.5, 24),
    'diode-indoor': (55.425625, 57.94125, 31.53125, 23.53125),
    'diode-outdoor': (55.425625, 57.94125, 31.53125, 23.53125),
    'hypersim': (55.425625, 55.425625, 31.5, 23.5),
    'vkitti2': (725.0087, 725.0087, 620.5 - 13, 187 - 23),
    'diml': (46.6666667, 62.2222222, 31.5, 23.5), 'ddad': (50, 50, 48, 30)}
