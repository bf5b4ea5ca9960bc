"""What ``zoe run`` left and said, and what must hold for the results of any run."""
import json
import os
from pathlib import Path
import re
import subprocess
import sys

import bags
import numpy as np
from PIL import Image
import yaml

from zoe_ros.images import decode_image

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / 'zoe_ros' / 'data' / 'sample'
DEPTH, INFO, POINTS = '/depth/image', '/depth/camera_info', '/depth/points'
RAW = '/camera/image_raw'
# What DepthEstimator.predict returns, bit for bit.
PUBLISHED = ('--interpolation', 'linear', '--router-time-constant', '0')
# With two threads this small model spends its time waiting for other processes of the machine.
SINGLE = {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}


class Ran:
    """
    A finished command.

    :ivar out: what it said on stdout, and in its log.
    """

    def __init__(self, code, out, err, output):
        self.code, self.out, self.err, self._output = code, out, err, output

    @property
    def folder(self):
        """Return the folder of the results."""
        folder, = (path for path in self._output.iterdir() if not path.is_symlink())
        return folder

    @property
    def summary(self):
        """Return what summary.json says."""
        return json.loads((self.folder / 'summary.json').read_text())

    @property
    def bag(self):
        """Return the messages of the bag that was written."""
        return bags.read_bag(self.folder / 'bag')


def command(*arguments, cwd=None, **environment):
    """Run ``zoe run`` as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, '-m', 'zoe_ros.cli', 'run', *map(str, arguments)], cwd=cwd,
        env={**os.environ, **SINGLE, 'PYTHONPATH': str(ROOT), **environment}, capture_output=True,
        text=True, timeout=300)


def check_results(ran, frames, data):
    """Check the files that every run leaves, however it got its images."""
    folder = ran.folder
    latest = folder.parent / 'latest'
    assert latest.is_symlink() and latest.resolve() == folder.resolve()
    assert re.fullmatch(r'\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d', folder.name)
    config = yaml.safe_load((folder / 'config.yaml').read_text())
    assert config['data'] == str(data) and config['variant'] == 'tiny'
    assert config['point_cloud_downsample'] >= 1 and config['aspect'] == 'stretch'
    summary = ran.summary
    assert summary['complete'] is True and summary['frames'] == frames
    assert sum(summary['frames_per_head'].values()) == frames
    assert 0 < summary['depth_p5_m'] <= summary['depth_p50_m'] <= summary['depth_p95_m']
    assert 0 < summary['latency_p50_ms'] <= summary['latency_p95_ms']
    assert summary['rate_hz'] > 0
    with Image.open(folder / 'overview.png') as overview:
        assert overview.size[0] in range(40, 1500) and overview.size[1] in range(40, 3000)
        assert len(overview.convert('RGB').getcolors(1 << 24)) > 50
    assert str(folder) in ran.out
    assert re.search(rf'frames +{frames}\b', ran.out)
    assert re.search(r'depth p5 - p95 +\S+ - \S+ m', ran.out)


def check_bag(ran, estimator, images, infos, downsample=4):
    """
    Check each message of a bag of results against its input.

    :param images: [(time of recording, message)].
    :param infos: [CameraInfo of each image], or None.
    """
    out = ran.bag
    assert set(out) == ({DEPTH, INFO, POINTS} if infos else {DEPTH})
    assert len(out[DEPTH]) == len(images)
    for i, (recorded, message) in enumerate(images):
        rgb = decode_image(message)
        when, depth = out[DEPTH][i]
        assert when == recorded
        assert bags.key(depth) == bags.key(message)
        assert (depth.encoding, depth.height, depth.width) == ('32FC1', *rgb.shape[:2])
        expected = estimator.predict(rgb).depth
        assert bags.depth_of(depth).tobytes() == expected.tobytes()
        if not infos:
            continue
        when, info = out[INFO][i]
        assert when == recorded and bags.key(info) == bags.key(message)
        for name in ('height', 'width', 'distortion_model', 'binning_x', 'binning_y'):
            assert getattr(info, name) == getattr(infos[i], name)
        for name in 'dkrp':
            assert np.array_equal(getattr(info, name), getattr(infos[i], name))
        when, cloud = out[POINTS][i]
        assert when == recorded and bags.key(cloud) == bags.key(message)
        points = bags.cloud_points(cloud)
        assert np.array_equal(points[..., 2], expected[::downsample, ::downsample])
        if not any(infos[i].d):
            fx, _, cx, _, fy, cy = np.asarray(infos[i].k)[:6]
            rows, columns = np.mgrid[:rgb.shape[0]:downsample, :rgb.shape[1]:downsample]
            z = points[..., 2]
            assert np.allclose(points[..., 0], (columns - cx) / fx * z, rtol=1e-5, atol=1e-6)
            assert np.allclose(points[..., 1], (rows - cy) / fy * z, rtol=1e-5, atol=1e-6)


def inputs(path, topic, info=None):
    """Return the images and the CameraInfo of each in a bag, both in order."""
    found = bags.read_bag(path)
    return found[topic], [message for _, message in found.get(info, [])]
