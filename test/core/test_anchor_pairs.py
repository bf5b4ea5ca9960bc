"""Pairs of true and predicted depth: lens models, depth edges, occlusion; each cause counted."""
import numpy as np
import pytest

from zoe_ros.anchor.pairs import find_pairs, project
from zoe_ros.anchor.points import ImagePoints
from zoe_ros.camera import Camera

LENSES = {
    'pinhole': Camera(160, 120, 100, 105, 80.5, 58),
    'plumb_bob': Camera(160, 120, 100, 105, 80.5, 58, 'plumb_bob',
                        (-0.2, 0.05, 0.002, -0.001, 0.01)),
    'rational': Camera(160, 120, 70, 70, 79, 60, 'rational_polynomial',
                       (0.2, 0.1, 0.001, 0.001, 0.01, 0.5, 0.15, 0.02)),
    'equidistant': Camera(160, 120, 70, 72, 79, 60, 'equidistant', (0.02, -0.01, 0.003, -0.001))}
SIZE = (40, 60)


def at(pixels, size=SIZE):
    """Return points of the image from rows of u, v, z."""
    return ImagePoints(*np.array(pixels, np.float64).reshape(-1, 3).T, size, {})


def step():
    """Return depth with a near surface left of column 30, and a far one."""
    depth = np.full(SIZE, 2.0, np.float32)
    depth[:, 30:] = 6.0
    return depth


@pytest.mark.parametrize('lens', LENSES)
def test_points_fall_on_the_pixels_whose_rays_they_lie_on(lens):
    camera = LENSES[lens]
    rng = np.random.default_rng(1)
    v, u = rng.integers(0, 120, 300), rng.integers(0, 160, 300)
    z = rng.uniform(0.5, 20, 300)
    points = np.concatenate([camera.rays[v, u], np.ones((300, 1))], axis=1) * z[:, None]
    found = project(points, camera)
    assert found.size == (120, 160) and found.dropped == {}
    assert np.allclose(found.u, u, atol=0.01) and np.allclose(found.v, v, atol=0.01)
    assert np.allclose(found.z, z)


def test_points_that_the_camera_cannot_see_are_counted():
    camera = LENSES['pinhole']
    points = np.array([[0, 0, 2.0], [0, 0, -2], [0, 0, 0], [0, 0, 0.05], [9, 0, 1], [0, -9, 1]])
    found = project(points, camera)
    assert found.z.tolist() == [2]
    assert found.dropped == {'behind': 2, 'too near': 1, 'outside': 2}


def test_a_lens_is_not_extended_beyond_its_fold():
    # Barrel distortion: the polynomial turns back, so that far points would fall on the image.
    camera = Camera(160, 120, 100, 100, 80, 60, 'plumb_bob', (-0.3, 0, 0, 0, 0))
    found = project(np.array([[1.6, 0, 1.0], [0.1, 0, 1]]), camera)
    assert len(found.z) == 1 and found.dropped == {'outside': 1}


def test_predicted_depth_is_the_median_around_a_point():
    depth = np.full(SIZE, 3.0, np.float32)
    depth[9:12, 19:22] = np.array([[3, 3.01, 3.02], [3.03, 3.04, 3.05], [3.06, 3.07, 3.08]])
    pairs = find_pairs(at([[20.4, 9.6, 5]]), depth, None)
    assert pairs.true.tolist() == [5] and pairs.predicted == pytest.approx([3.04])
    assert np.allclose(pairs.place, [[10 / 60, 20 / 60]])


def test_depth_is_not_read_across_an_edge():
    points = [[u, 20, 2.0 if u < 30 else 6.0] for u in (10, 28, 29, 30, 31, 50)]
    pairs = find_pairs(at(points), step(), None)
    assert pairs.left_out == {'depth edge': 2}
    assert np.allclose(pairs.true, pairs.predicted) and len(pairs.true) == 4


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf, 0, -1])
def test_no_pair_without_a_prediction(value):
    depth = np.full(SIZE, 2.0, np.float32)
    depth[20, 20] = value
    points = at([[20, 20, 2], [21, 21, 2], [22, 20, 2], [0, 0, 2], [59, 39, 2]])
    pairs = find_pairs(points, depth, None)
    assert pairs.left_out == {'no prediction': 2} and len(pairs.true) == 3


def test_a_point_past_an_edge_is_left_out_and_one_on_a_surface_is_kept():
    good = [[u, v, 2.0] for u in range(2, 20, 2) for v in (5, 20, 35)]
    # Both are three times as far as predicted. Only the first may be seen past the near surface.
    pairs = find_pairs(at([*good, [26, 10, 6.0], [10, 10, 6.0]]), step(), None)
    assert pairs.left_out == {'occluded': 1}
    assert 6.0 in pairs.true


def test_a_point_behind_a_nearer_one_is_left_out():
    good = [[u, v, 2.0] for u in range(2, 20, 2) for v in (5, 20, 35)]
    pairs = find_pairs(at([*good, [11, 20, 6.0]]), np.full(SIZE, 2.0, np.float32), None)
    assert pairs.left_out == {'occluded': 1} and set(pairs.true) == {2.0}


def test_a_wrong_return_in_front_hides_no_good_ones():
    good = [[u, 20, 2.0] for u in range(2, 58)]
    pairs = find_pairs(at([*good, [30, 21, 0.5]]), np.full(SIZE, 2.0, np.float32), None)
    assert pairs.left_out == {} and len(pairs.true) == 57


def test_pixels_outside_and_another_image_size():
    depth = np.full(SIZE, 2.0, np.float32)
    points = [[-0.6, 3, 2], [59.6, 3, 2], [3, 39.6, 2], [np.nan, 3, 2], [3, 3, 0],
              [3, 3, np.inf], [59.4, 39.4, 2]]
    pairs = find_pairs(at(points), depth, None)
    assert pairs.left_out == {'outside': 4, 'out of range': 2} and len(pairs.true) == 1
    pairs = find_pairs(at(points, size=(20, 30)), depth, None)
    assert pairs.left_out == {'image size': 7} and len(pairs.true) == 0
    assert len(find_pairs(at([]), depth, None).true) == 0


def test_each_point_is_a_pair_or_counted():
    rng = np.random.default_rng(2)
    points = rng.uniform((-5, -5, -1), (65, 45, 9), (500, 3))
    pairs = find_pairs(at(points), step(), None)
    assert len(pairs.true) + sum(pairs.left_out.values()) == 500
    assert set(pairs.left_out) == {'outside', 'out of range', 'depth edge', 'occluded'}


def test_the_deviation_grows_with_depth():
    points = at([(5, 5, 2.5), (50, 20, 5.0)])
    assert find_pairs(points, step(), None).deviation is None
    pairs = find_pairs(points._replace(deviation=0.02), step(), None)
    assert np.allclose(pairs.true, (2.5, 5.0)) and np.allclose(pairs.deviation, (0.05, 0.1))
