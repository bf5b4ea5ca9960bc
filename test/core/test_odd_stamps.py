"""Stamps that jump, and very many CameraInfo: bench/attack in small."""
import bags
from bench.attack import infos, stamps
import numpy as np
import pytest

from zoe_ros.bag import BagReader
from zoe_ros.camera_info import CameraInfoBuffer


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_each_image_of_a_bag_has_its_own_camera_info(zoe, tmp_path, storage):
    sequence = [
        (5, 0), (5, 0), (6, 10 ** 9), (7, 0), (6, 2 ** 32 - 1), (0, 0), (4, 0), (0, 0), (-1, 5),
        (2 ** 31 - 1, 2 ** 32 - 1), (-2 ** 31, 0), (5, 0), (8, 1), (8, 0)]
    stamps.write(tmp_path / 'bag', sequence, storage)
    ran = zoe(tmp_path / 'bag')
    assert ran.code == 0 and ran.summary['frames'] == len(sequence)
    assert not stamps.wrong_pairs(ran.folder / 'bag', sequence)


@pytest.mark.slow
def test_bags_of_random_stamps(tmp_path):
    judged = list(stamps.attack(tmp_path, 4, seed=3))
    assert [kind for _, _, kind, _ in judged] == ['same'] * 4, judged


def test_camera_info_of_one_stamp_goes_by_recording(tmp_path):
    stamps.write(tmp_path / 'bag', [(0, 0)] * 5, 'mcap')
    with BagReader(tmp_path / 'bag') as bag:
        given = [bag.infos.find(image.message.header).k[0] for image in bag]
        assert given == [100, 101, 102, 103, 104]
        # Also of images that are looked up in any order.
        header = bags.ROSBAGS.header(0)
        found = [bag.info_of(header, bags.START + at * bags.SECOND // 10).k[0]
                 for at in (3, 0, 9, -9, 2)]
        assert found == [103, 100, 104, 100, 102]


def test_a_live_camera_that_does_not_stamp_has_its_latest_camera_info():
    buffer = CameraInfoBuffer()
    for number in range(3):
        buffer.add(stamps.info(bags.ROSBAGS, number, (0, 0)))
    assert buffer.find(bags.ROSBAGS.header(0)).k[0] == 102


@pytest.mark.slow
def test_a_long_bag_of_camera_info(tmp_path):
    """A look-up in a bag of twenty times the length takes about as long."""
    measured = {(found.count, found.order): found for found in infos.measure(
        tmp_path, (1000, 20_000))}
    assert not any(found.wrong for found in measured.values())
    for order in ('rising', 'falling', 'equal'):
        short, long = measured[1000, order], measured[20_000, order]
        assert np.isfinite(long.look_up) and long.look_up < 5 * short.look_up
        assert long.memory < 4000
