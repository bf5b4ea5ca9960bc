"""A lidar that measures while the robot moves: the times of its points, and their places."""
import math
from types import SimpleNamespace

import numpy as np
import pytest
from robot_messages import header, scan_of

from zoe_ros.anchor.points import from_cloud, from_scan, SensorPoints
from zoe_ros.anchor.sweep import place
from zoe_ros.anchor.transform import Transform
from zoe_ros.range_messages import sensor_points

NAN, INF = math.nan, math.inf
STAMP = 1_700_000_000.25
RETURNS = 201


def driven(time):
    """Return the transform of points of a robot that drives 1 m/s and turns 1.5 rad/s."""
    return Transform.from_numbers(
        [time, 0, 0, 0, 0, math.sin(0.75 * time), math.cos(0.75 * time)])


@pytest.mark.parametrize('start', [0.0, -0.1, 0.03])
def test_each_point_is_placed_by_its_own_time(start):
    rng = np.random.default_rng(0)
    xyz, times = rng.uniform(-5, 5, (200, 3)), start + rng.uniform(0, 0.1, 200)
    found = place(SensorPoints(xyz, {}, times), driven)
    exact = np.concatenate([driven(t)(p[None]) for t, p in zip(times, xyz)])
    assert np.abs(found - exact).max() < 0.01
    # By the pose of one moment, points are up to half a metre wrong.
    assert np.abs(driven(start)(xyz) - exact).max() > 0.3


def test_points_of_one_moment_are_placed_once():
    xyz, asked = np.ones((3, 3)), []

    def placed(time):
        asked.append(time)
        return driven(time)

    for times, time in ((None, 0.0), (np.zeros(0), 0.0), (np.full(3, 0.04), 0.04)):
        points = SensorPoints(xyz if times is None or times.size else xyz[:0], {}, times)
        assert np.array_equal(place(points, placed), driven(time)(points.xyz))
        assert asked.pop() == time and not asked


# Times of scans and clouds.

def test_the_first_ray_of_a_scan_is_at_its_stamp():
    points = from_scan([1, NAN, 3, 4], 0, 0.1, 0.1, 10, 0.02)
    assert points.times == pytest.approx([0, 0.04, 0.06]) and points.dropped == {'nan': 1}
    assert from_scan([1, 2], 0, 0.1, 0.1, 10).times is None


@pytest.mark.parametrize('increment', [NAN, INF, -INF, -1e-4, 0.0026, 65535.0, 1e300])
def test_a_scan_with_a_bad_time_increment_is_of_one_moment(increment):
    points = from_scan(np.ones(RETURNS), 0, 0.01, 0.1, 10, increment)
    assert points.times is None and points.dropped == {'times': 1}
    assert len(points.xyz) == RETURNS
    assert not len(from_scan([], 0, 0.01, 0.1, 10, increment).xyz)


def test_thinned_points_keep_their_times():
    cloud, times = np.ones((9000, 3)), np.linspace(0, 0.1, 9000)
    points = from_cloud(cloud * (1 + times[:, None]), times)
    assert len(points.xyz) == 3000 and np.allclose(points.xyz[:, 0], 1 + points.times)


@pytest.mark.parametrize('wrong', [NAN, INF, -0.6, 5.0])
def test_times_that_no_lidar_has_are_counted(wrong):
    cloud, times = np.ones((4, 3)), np.array([0, 0.01, wrong, 0.03])
    points = from_cloud(cloud, times)
    assert points.times is None and points.dropped == {'times': 1} and len(points.xyz) == 4
    # Those of points without a return do not matter.
    cloud[2] = 0
    assert from_cloud(cloud, times).times.tolist() == [0, 0.01, 0.03]


def cloud_of(name, kind, values, datatype=None):
    """Return a PointCloud2 with a field of times."""
    rows = np.zeros(len(values), [('xyz', '<f4', 3), ('ring', '<f4'), (name, kind)])
    rows['xyz'], rows[name] = np.arange(1, len(values) + 1)[:, None], values
    fields = [SimpleNamespace(name=axis, offset=4 * k, datatype=7, count=1)
              for k, axis in enumerate('xyz')]
    fields.append(SimpleNamespace(name=name, offset=16, count=1, datatype=datatype or {
        '<u4': 6, '<f4': 7, '<f8': 8, '<u2': 4}[kind]))
    data = np.frombuffer(rows.tobytes(), np.uint8)
    return SimpleNamespace(header=header(STAMP, 'lidar'), fields=fields, is_bigendian=False,
                           width=len(values), height=1, point_step=rows.itemsize,
                           row_step=len(data), data=data)


AFTER = np.array([0.0, 0.025, 0.1])


@pytest.mark.parametrize('name, kind, values', [
    ('t', '<u4', AFTER * 1e9), ('offset_time', '<u4', AFTER * 1e9), ('time', '<f4', AFTER),
    ('time', '<f4', AFTER - 0.1), ('timestamp', '<f8', STAMP + AFTER),
    ('timestamp', '<f8', (STAMP + AFTER) * 1e9)],
    ids=['Ouster', 'Livox', 'Velodyne', 'Velodyne, last packet', 'Hesai', 'Livox since the epoch'])
def test_the_times_of_common_lidars(name, kind, values):
    points = sensor_points(cloud_of(name, kind, values))
    expected = AFTER - 0.1 if values[0] == -0.1 else AFTER
    assert points.times == pytest.approx(expected, abs=1e-6) and points.dropped == {}


@pytest.mark.parametrize('cloud', [
    cloud_of('timestamp', '<f8', AFTER), cloud_of('time', '<f4', AFTER * 1e9),
    cloud_of('t', '<u2', [1, 2, 3]), cloud_of('timestamp', '<f8', AFTER * NAN),
    cloud_of('t', '<u2', [1, 2, 3], datatype=8)],
    ids=['of another clock', 'of another unit', 'of another kind', 'NaN', 'beyond the point'])
def test_other_times_of_clouds_are_counted(cloud):
    points = sensor_points(cloud)
    assert points.times is None and points.dropped == {'times': 1} and len(points.xyz) == 3


def test_a_cloud_without_times_is_of_one_moment():
    points = sensor_points(cloud_of('intensity', '<f4', [1, 2, 3]))
    assert points.times is None and points.dropped == {}


def test_the_time_increment_of_a_scan_is_read():
    message = scan_of(np.full((120, 160), 3, np.float32), 1.0)
    assert sensor_points(message).times is None
    message.time_increment = 0.001
    assert sensor_points(message).times[-1] == pytest.approx(0.16)
