"""The robot of a recorded drive: its scan, transforms and depth agree."""
from importlib.util import find_spec
import json

import numpy as np
import pytest

from zoe_ros.anchor.frames import Frames
from zoe_ros.anchor.pairs import project
from zoe_ros.bag import BagReader
from zoe_ros.cli import main
from zoe_ros.command_settings import WorldSettings
from zoe_ros.datasets.bags import RgbdBag
from zoe_ros.range_messages import add_transforms, sensor_points
from zoe_ros.world.record import FRAME, record_world
from zoe_ros.world.robot import LASER, SCAN, TF, TF_STATIC

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec('embreex') is None,
                       reason='the world is ray cast by Embree, an extra')]
PERIOD = 0.1
START = 1.7e9


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    """Return a bag of a drive through a room."""
    return record_world(WorldSettings(str(tmp_path_factory.mktemp('world') / 'bag'), bag='indoor',
                                      frames=8, height=96, width=128, seed=3))


def messages(path, topic, kind):
    """Return the messages of a topic."""
    with BagReader(path, '/camera/image_rect') as bag:
        return [item.message for item in bag.messages(topic, kind)]


def test_scans_show_the_depth_of_images_that_are_taken_later(drive):
    frames = Frames()
    for topic in (TF_STATIC, TF):
        for message in messages(drive, topic, 'tf2_msgs/msg/TFMessage'):
            assert add_transforms(frames, message, topic == TF_STATIC) == 0
    scans = messages(drive, SCAN, 'sensor_msgs/msg/LaserScan')
    dataset = RgbdBag(drive, 'indoor')
    assert len(scans) == len(dataset) == 8
    with_motion, without = [], []
    for index, scan in enumerate(scans):
        sample, image = dataset[index], START + index * PERIOD
        taken = scan.header.stamp.sec + scan.header.stamp.nanosec / 1e9
        assert image - taken == pytest.approx(PERIOD / 2, abs=1e-6)
        for errors, at in ((with_motion, image), (without, taken)):
            to_camera = frames.across(LASER, taken, FRAME, at)
            points = project(to_camera(sensor_points(scan).xyz), sample.camera)
            seen = sample.depth[np.rint(points.v).astype(int), np.rint(points.u).astype(int)]
            errors += list(np.abs(np.log(points.z / seen))[np.isfinite(seen)])
    assert len(with_motion) > 300
    assert np.median(with_motion) < 0.01
    assert np.median(without) > 1.3 * np.median(with_motion)


def test_odometry_and_the_lidar_anchor_the_model_of_the_package(drive, tmp_path):
    for anchor in ('scan', 'odometry', 'scan+odometry'):
        results = tmp_path / anchor
        assert main(['run', str(drive), '--anchor', anchor, '--output', str(results)]) == 0
        found = json.loads((results / 'latest/summary.json').read_text())['anchor']
        assert found['frames_measured'] >= 4
        assert 0.4 < found['scale_p50'] < 2.5


def test_equal_settings_give_equal_scans(drive, tmp_path):
    again = record_world(WorldSettings(str(tmp_path / 'bag'), bag='indoor', frames=8, height=96,
                                       width=128, seed=3))
    for topic, kind in ((SCAN, 'sensor_msgs/msg/LaserScan'), (TF, 'tf2_msgs/msg/TFMessage')):
        first, second = (repr(messages(path, topic, kind)) for path in (drive, again))
        assert first == second
