"""Points of scans, clouds and sparse depth images, and rigid transforms: values by hand."""
import math

import numpy as np
import pytest

from zoe_ros.anchor.points import from_cloud, from_depth, from_scan
from zoe_ros.anchor.transform import IDENTITY, Transform

NAN, INF = float('nan'), float('inf')
HALF = math.sqrt(0.5)


def test_a_scan_by_hand():
    points, dropped, _ = from_scan([1, 2, 3], -math.pi / 2, math.pi / 2, 0.1, 10)
    assert np.allclose(points, [[0, -1, 0], [2, 0, 0], [0, 3, 0]])
    assert dropped == {}


def test_bad_returns_of_a_scan_are_dropped_and_counted():
    ranges = [NAN, INF, -INF, 0.05, 11, -1, 5]
    points, dropped, _ = from_scan(np.array(ranges, np.float32), 0, 0.1, 0.1, 10)
    assert np.allclose(points, [[5 * math.cos(0.6), 5 * math.sin(0.6), 0]])
    assert dropped == {'nan': 1, 'infinite': 2, 'out of range': 3}


@pytest.mark.parametrize('numbers, cause', [
    ((NAN, 0.1, 0, 10), 'angles'), ((0, INF, 0, 10), 'angles'), ((0, 1e308, 0, 10), 'angles'),
    ((0, 0.1, NAN, 10), 'out of range'), ((0, 0.1, 0, NAN), 'out of range'),
    ((0, 0.1, 5, 1), 'out of range')])
def test_a_scan_with_bad_limits_gives_no_wrong_point(numbers, cause):
    points, dropped, _ = from_scan([1.0] * 20, *numbers)
    assert dropped[cause] + len(points) == 20 and len(points) <= 2


@pytest.mark.parametrize('ranges', [None, 'abc', [[1, 2], [3]], np.ones((2, 3)), 3.0, [None]])
def test_what_is_no_scan_is_counted(ranges):
    points, dropped, _ = from_scan(ranges, 0, 0.1, 0, 10)
    assert points.shape == (0, 3) and dropped == {'malformed': 1}


def test_a_cloud_by_hand():
    cloud = np.array([[[1, 2, 3, 77], [NAN, 0, 0, 77]], [[0, 0, 0, 77], [1, 1, 5000, 77]]])
    points, dropped, _ = from_cloud(cloud.astype(np.float32))
    assert points.tolist() == [[1, 2, 3]]
    assert dropped == {'nan or infinite': 1, 'no return': 1, 'out of range': 1}
    for bad in ([1, 2, 3], np.ones((4, 2)), None, 'cloud'):
        assert from_cloud(bad).dropped == {'malformed': 1}


def test_large_clouds_are_thinned_evenly():
    cloud = np.ones((100_000, 3)) * np.arange(1, 100_001)[:, None] / 1000
    points, dropped, _ = from_cloud(cloud)
    assert 2000 < len(points) <= 4000 and dropped == {'thinned': 100_000 - len(points)}
    assert points[:, 0].min() < 0.02 and points[:, 0].max() > 99.9


@pytest.mark.parametrize('unit, kind', [(1, np.float32), (1000, np.uint16)])
def test_a_sparse_depth_image_by_hand(unit, kind):
    image = np.zeros((4, 6), kind)
    image[1, 5], image[3, 0] = 2 * unit, 4 * unit
    points = from_depth(image)
    assert np.allclose([points.u, points.v, points.z], [[5, 0], [1, 3], [2, 4]])
    assert points.size == (4, 6) and points.dropped == {}


def test_values_that_are_no_depth():
    points = from_depth(np.array([[NAN, INF, -INF, -1, 0, 2]], np.float32))
    assert points.z.tolist() == [2] and points.dropped == {'out of range': 3}
    assert from_depth(np.array([[65535, 0, 1500]], np.uint16)).z.tolist() == [1.5]
    for bad in (None, [[1.0]], np.ones((2, 2, 2)), np.ones(3), np.ones((2, 2), np.int16)):
        assert from_depth(bad).dropped == {'malformed': 1}


def test_a_transform_by_hand():
    quarter = Transform.from_numbers([1, 2, 3, 0, 0, HALF, HALF])     # about z
    assert np.allclose(quarter(np.array([[1.0, 0, 0]])), [[1, 3, 3]])
    roll = Transform.from_numbers([0, 0, 0, HALF, 0, 0, HALF])        # about x
    assert np.allclose(roll(np.array([[0, 1.0, 0]])), [[0, 0, 1]])
    pitch = Transform.from_numbers([0, 0, 0, 0, HALF, 0, HALF])       # about y
    assert np.allclose(pitch(np.array([[0, 0, 1.0]])), [[1, 0, 0]])


def test_transforms_compose_and_invert():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5, 3))
    one, other = (Transform.from_numbers([*rng.normal(size=3), *q / np.linalg.norm(q)])
                  for q in rng.normal(size=(2, 4)))
    assert np.allclose(one.after(other)(points), one(other(points)))
    assert np.allclose(one.inverse()(one(points)), points)
    assert np.allclose(IDENTITY.after(one)(points), one(points))
    for transform in (one, other):
        assert np.allclose(transform.rotation @ transform.rotation.T, np.eye(3))
        assert np.linalg.det(transform.rotation) == pytest.approx(1)


def test_a_rounded_quaternion_is_normalised():
    rotation = Transform.from_numbers([0, 0, 0, 0, 0, 0.707, 0.707]).rotation
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize('values, text', [
    ([0, 0, 0, 0, 0, 0, 0], 'the quaternion (qx qy qz qw) = (0 0 0 0) of a transform has length 0 '
                            'instead of 1'),
    ([0, 0, 0, 0, 0, 1, 1], 'has length 1.41421 instead of 1'),
    ([0, 0, 0, 0, 1], 'a transform is seven finite numbers, x y z qx qy qz qw, not 0 0 0 0 1'),
    ([0, NAN, 0, 0, 0, 0, 1], 'not 0 nan 0 0 0 0 1'),
    ([0, 0, INF, 0, 0, 0, 1], 'not 0 0 inf 0 0 0 1')])
def test_what_is_no_transform_is_refused(values, text):
    with pytest.raises(ValueError) as error:
        Transform.from_numbers(values)
    assert text in str(error.value)
