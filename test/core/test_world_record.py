"""RGB-D bags of the synthetic world: smooth, exact, the same by seed."""
from importlib.util import find_spec
import itertools
import math

import numpy as np
import pytest

from zoe_ros.cli import main
from zoe_ros.command_settings import WorldSettings
from zoe_ros.datasets import DatasetError
from zoe_ros.datasets.bags import RgbdBag
from zoe_ros.world.record import record_world, smooth
from zoe_ros.world.render import Pose

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec('embreex') is None,
                       reason='the world is ray cast by Embree, an extra')]
SMALL = {'frames': 4, 'height': 48, 'width': 64}


@pytest.mark.parametrize('domain', ['indoor', 'outdoor'])
def test_a_bag_reads_back_as_a_dataset(tmp_path, domain):
    path = record_world(WorldSettings(str(tmp_path / 'bag'), bag=domain, **SMALL))
    dataset = RgbdBag(path, domain)
    again = RgbdBag(record_world(
        WorldSettings(str(tmp_path / 'again'), bag=domain, **SMALL)), domain)
    assert len(dataset) == len(again) == 4
    for index in range(4):
        sample, same = dataset[index], again[index]
        assert sample.image.shape == (48, 64, 3) and sample.image.std() > 5
        assert sample.camera.fx > 0 and sample.valid.mean() > 0.3
        assert sample.camera == same.camera and np.array_equal(sample.image, same.image)
        assert np.array_equal(sample.depth, same.depth, equal_nan=True)
    with pytest.raises(DatasetError, match='exists: a bag needs a new folder'):
        record_world(WorldSettings(str(path), bag=domain, **SMALL))


def test_the_command(tmp_path, capsys):
    path = tmp_path / 'bag'
    assert main(['world', str(path), '--bag', 'indoor', '--frames', '2', '--height', '48',
                 '--width', '64']) == 0
    assert str(path) in capsys.readouterr().out
    assert len(RgbdBag(path, 'indoor')) == 2


def test_a_way_is_smooth_and_turns_the_short_way():
    walk = [Pose((0, 0, 1), 3.0), Pose((1, 0, 1), -3.0, 0.1), Pose((1, 0, 1), -1.0)]
    poses = smooth(walk, 0.1)
    assert poses[0] == walk[0] and poses[-1] == walk[-1]
    for a, b in itertools.pairwise(poses):
        assert math.dist(a.position, b.position) < 0.1001
        assert abs(math.remainder(b.yaw - a.yaw, 2 * math.pi)) < 0.0501
