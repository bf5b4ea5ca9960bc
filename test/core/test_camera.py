"""Rays and points: by hand, by round trips, against OpenCV, and on bodies of known shape."""
import bags
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import torch

from zoe_ros.camera import Camera, distort
from zoe_ros.cloud import Unprojection

HALLWAY = Camera(640, 480, 210.24, 211.48, 318.5, 252.5, 'plumb_bob', bags.HALLWAY['d'])
# Calibrations as they are met; the strong ones bend the corners by a hundred pixels.
CAMERAS = {
    'hallway': HALLWAY,
    'barrel': Camera(640, 480, 400, 400, 320, 240, 'plumb_bob', (-0.28, 0.07, 0.0002, 2e-5, 0)),
    'pincushion': Camera(640, 480, 600, 590, 310, 250, 'plumb_bob', (0.3, 0.1, -0.002, 0.003)),
    'rational': Camera(640, 480, 320, 321, 319, 241, 'rational_polynomial',
                       (8.2, 4.1, 1e-4, -2e-4, 0.21, 8.55, 6.6, 1.14)),
    'webcam': Camera(320, 240, 270, 271, 158, 122, 'plumb_bob', (0.06, -0.15, 0.001, -0.002, 0)),
    'fisheye': Camera(640, 480, 330, 331, 318, 242, 'equidistant', (-0.05, 0.02, -0.01, 0.001)),
    'wide fisheye': Camera(640, 480, 300, 300, 320, 240, 'equidistant', (0.05, -0.01)),
}


def pixel_grid(camera):
    """Return the column and row of each pixel."""
    return np.meshgrid(np.arange(camera.width), np.arange(camera.height))


def image_of(camera, rays):
    """Return column and row where rays fall, by the formulas of OpenCV's manual."""
    x, y = rays[..., 0].astype(np.float64), rays[..., 1].astype(np.float64)
    d = [*camera.distortion, *[0.0] * 8]
    if camera.model == 'equidistant':
        r = np.hypot(x, y)
        t = np.arctan(r)
        td = t + d[0] * t ** 3 + d[1] * t ** 5 + d[2] * t ** 7 + d[3] * t ** 9
        scale = np.divide(td, r, out=np.ones_like(r), where=r > 0)
        x, y = x * scale, y * scale
    else:
        k1, k2, p1, p2, k3, k4, k5, k6 = d[:8]
        r2 = x ** 2 + y ** 2
        radial = ((1 + k1 * r2 + k2 * r2 ** 2 + k3 * r2 ** 3)
                  / (1 + k4 * r2 + k5 * r2 ** 2 + k6 * r2 ** 3))
        x, y = (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x ** 2),
                y * radial + p1 * (r2 + 2 * y ** 2) + 2 * p2 * x * y)
    return x * camera.fx + camera.cx, y * camera.fy + camera.cy


# --- without distortion ---------------------------------------------------------------------


def unproject(camera, depth, every=1):
    return Unprojection.from_camera(camera, every)(torch.from_numpy(depth)).numpy()


def test_rays_by_hand():
    camera = Camera(3, 2, fx=2.0, fy=4.0, cx=1.0, cy=0.5)
    assert camera.rays.dtype == np.float32 and camera.rays.shape == (2, 3, 2)
    assert camera.rays[..., 0].tolist() == [[-0.5, 0, 0.5]] * 2
    assert camera.rays[..., 1].tolist() == [[-0.125] * 3, [0.125] * 3]


def test_points_by_hand():
    camera = Camera(3, 2, fx=2.0, fy=4.0, cx=1.0, cy=0.5)
    depth = np.array([[2, 4, 8], [1, np.nan, 16]], np.float32)
    points = unproject(camera, depth)
    assert points.dtype == np.float32 and points.shape == (2, 3, 3)
    assert points[0].tolist() == [[-1, -0.25, 2], [0, -0.5, 4], [4, -1, 8]]
    assert points[1, 0].tolist() == [-0.5, 0.125, 1] and points[1, 2].tolist() == [8, 2, 16]
    assert np.isnan(points[1, 1]).all()


def test_zeros_are_no_distortion():
    plain = Camera(8, 6, 5.0, 5.0, 3.5, 2.5)
    for model in ('plumb_bob', 'rational_polynomial', '', 'unheard_of'):
        camera = Camera(8, 6, 5.0, 5.0, 3.5, 2.5, model, (0.0,) * 5)
        assert np.array_equal(camera.rays, plain.rays)


@pytest.mark.parametrize('every', [1, 2, 3, 7, 50])
@pytest.mark.parametrize('name', ['hallway', 'wide fisheye'])
def test_every(name, every):
    camera = CAMERAS[name]
    depth = np.random.default_rng(0).uniform(1, 9, (480, 640)).astype(np.float32)
    assert np.array_equal(unproject(camera, depth, every),
                          unproject(camera, depth)[::every, ::every], equal_nan=True)


def test_unproject_leaves_depth_as_it_is():
    depth = np.full((480, 640), 2, np.float32)
    depth[3, 4] = np.nan
    before = depth.copy()
    unproject(HALLWAY, depth)
    assert np.array_equal(depth, before, equal_nan=True)


def test_the_range_of_a_cloud_includes_its_end():
    depth = torch.tensor([[1.0, 2.5, 2.5000002]])
    points = Unprojection.from_camera(Camera(3, 1, 1.0, 1.0, 1.0, 0.0))(depth, 2.5)
    assert points.isfinite().all(dim=-1).tolist() == [[True, True, False]]


# --- distortion -----------------------------------------------------------------------------


@pytest.mark.parametrize('name', CAMERAS)
def test_rays_fall_on_their_pixels(name):
    camera = CAMERAS[name]
    rays = camera.rays
    good = np.isfinite(rays).all(axis=-1)
    columns, rows = pixel_grid(camera)
    for u, v in (image_of(camera, rays),
                 camera.project(*np.moveaxis(rays.astype(np.float64), -1, 0))):
        assert np.abs(u - columns)[good].max() < 1e-3
        assert np.abs(v - rows)[good].max() < 1e-3
    # These lenses cover their whole images.
    assert good.all()
    # The distortion matters: without it the rays are elsewhere by pixels.
    bare = Camera(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy)
    assert np.abs((rays - bare.rays) * (camera.fx, camera.fy)).max() > 2


def test_distort_is_opencvs_formula():
    x, y = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-0.8, 0.8, 7))
    for camera in CAMERAS.values():
        if camera.model != 'equidistant':
            u, v = image_of(camera, np.stack([x, y], axis=-1))
            xd, yd = distort(x, y, camera.distortion)
            assert np.allclose(xd * camera.fx + camera.cx, u, rtol=0, atol=1e-9)
            assert np.allclose(yd * camera.fy + camera.cy, v, rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.floats(-0.3, 0.3), st.floats(-0.1, 0.1), st.floats(-0.01, 0.01), st.floats(-0.01, 0.01),
       st.floats(-0.02, 0.02))
def test_any_plumb_bob_ray_falls_on_its_pixel_or_is_nan(k1, k2, p1, p2, k3):
    camera = Camera(64, 48, 40.0, 42.0, 31, 24, 'plumb_bob', (k1, k2, p1, p2, k3))
    rays = camera.rays
    good = np.isfinite(rays).all(axis=-1)
    assert (good == np.isfinite(rays).any(axis=-1)).all()
    assert good[20:28, 26:37].all()         # never lost in the middle
    columns, rows = pixel_grid(camera)
    u, v = image_of(camera, rays)
    assert np.abs(u - columns)[good].max() < 1e-3
    assert np.abs(v - rows)[good].max() < 1e-3


@pytest.mark.parametrize('name', CAMERAS)
def test_rays_agree_with_opencv(name):
    cv2 = pytest.importorskip('cv2')
    camera = CAMERAS[name]
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1.0]])
    pixels = np.stack(pixel_grid(camera), axis=-1).reshape(-1, 1, 2).astype(np.float64)
    d = np.array(camera.distortion)
    if camera.model == 'equidistant':
        theirs = cv2.fisheye.undistortPoints(pixels, matrix, np.resize(
            np.pad(d, (0, 4 - len(d))), (4, 1)))
    else:
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 500, 1e-12)
        theirs = cv2.undistortPointsIter(pixels, matrix, d, np.eye(3), np.eye(3), criteria)
    difference = np.abs(theirs.reshape(camera.rays.shape) - camera.rays) * (camera.fx, camera.fy)
    # Where the lens bends strongly OpenCV's fixed-point iteration may not have arrived.
    rows, columns = np.mgrid[:camera.height, :camera.width]
    u, v = image_of(camera, theirs.reshape(camera.rays.shape))
    arrived = np.hypot(u - columns, v - rows) < 1e-4
    assert arrived.mean() > 0.7
    assert difference[arrived].max() < 1e-2


def test_beyond_90_degrees_there_is_no_ray():
    # theta = r / fx without further coefficients: 90 degrees are 157 px from the centre.
    camera = Camera(401, 5, 100.0, 100.0, 200.0, 2.0, 'equidistant', (1e-9,))
    radius = np.abs(np.arange(401) - 200)
    seen = np.isfinite(camera.rays[2]).all(axis=-1)
    assert seen[radius < 157].all() and not seen[radius > 158].any()
    assert np.allclose(camera.rays[2, 200 + 100, 0], np.tan(1.0), rtol=1e-6)
    points = unproject(camera, np.ones((5, 401), np.float32))
    assert np.array_equal(np.isfinite(points[2]).all(axis=-1), seen)
    assert (np.isnan(points).any(axis=-1) == np.isnan(points).all(axis=-1)).all()


def first_fold(function, most=6.0):
    """Return the radius and height of the first maximum of a radial function of the image."""
    r = np.linspace(0, most, 600_001)
    value = function(r)
    falling = np.flatnonzero(np.diff(value) < 0)
    at = falling[0] if len(falling) else len(r) - 1
    return r[at], value[at]


# (k1, k2, k3): one that folds for ever, and some that run forward again further out.
FOLDS = [(-0.3, 0.0, 0.0), (-0.5, 0.0, 0.0), (-0.4, 0.06, 0.0), (-0.5, 0.09, 0.0),
         (0.1, -0.15, 0.02), (-0.6, 0.15, -0.005)]


@pytest.mark.parametrize('k', FOLDS)
def test_beyond_the_fold_there_is_no_ray(k):
    camera = Camera(401, 3, 100.0, 100.0, 200.0, 1.0, 'plumb_bob', (k[0], k[1], 0, 0, k[2]))
    inner, highest = first_fold(
        lambda r: r * (1 + k[0] * r ** 2 + k[1] * r ** 4 + k[2] * r ** 6))
    seen = np.isfinite(camera.rays[1]).all(axis=-1)
    radius = np.abs(np.arange(401) - 200) / 100
    assert seen[radius < highest - 0.01].all()
    # A lens shows each direction once: what lies outside of the fold is no part of the picture.
    assert not seen[radius > highest + 0.01].any()
    assert np.nanmax(np.abs(camera.rays[1, :, 0])) <= inner + 1e-6


@pytest.mark.parametrize('k', [(-0.2, 0.0, 0.0, 0.0), (-0.5, 0.1, 0.0, 0.0),
                               (0.1, -0.2, 0.05, 0.0)])
def test_beyond_the_fold_of_a_fisheye_there_is_no_ray(k):
    camera = Camera(401, 3, 100.0, 100.0, 200.0, 1.0, 'equidistant', k)
    inner, highest = first_fold(
        lambda t: t + sum(c * t ** (3 + 2 * i) for i, c in enumerate(k)), most=np.pi / 2)
    seen = np.isfinite(camera.rays[1]).all(axis=-1)
    radius = np.abs(np.arange(401) - 200) / 100
    assert seen[radius < highest - 0.01].all()
    assert not seen[radius > highest + 0.01].any()
    assert np.nanmax(np.arctan(np.abs(camera.rays[1, :, 0]))) <= inner + 1e-6


@pytest.mark.parametrize('model, coefficients, function, most', [
    *(('plumb_bob', (k[0], k[1], 0, 0, k[2]),
       lambda r, k=k: r * (1 + k[0] * r ** 2 + k[1] * r ** 4 + k[2] * r ** 6), 6.0)
      for k in FOLDS),
    ('equidistant', (-0.5, 0.1, 0.0, 0.0), lambda t: t - 0.5 * t ** 3 + 0.1 * t ** 5, np.pi / 2)])
def test_beyond_the_fold_nothing_is_projected(model, coefficients, function, most):
    camera = Camera(401, 3, 100.0, 100.0, 200.0, 1.0, model, coefficients)
    inner, _ = first_fold(function, most)
    slope = np.tan(inner) if model == 'equidistant' else inner
    u, v = camera.project(np.array([0.99, 1.01, 2.0]) * slope, np.zeros(3))
    assert np.isfinite([u[0], v[0]]).all() and np.isnan([u[1:], v[1:]]).all()


# --- bodies of known shape ------------------------------------------------------------------


def true_rays(camera):
    """Invert a radial lens by a table, which has nothing in common with Newton's method."""
    d = [*camera.distortion, *[0.0] * 8]
    angle = np.linspace(0, 1.4, 1_000_001)
    r = np.tan(angle)
    if camera.model == 'equidistant':
        image = angle * (1 + d[0] * angle ** 2 + d[1] * angle ** 4 + d[2] * angle ** 6
                         + d[3] * angle ** 8)
    else:
        assert d[2] == d[3] == 0
        image = r * (1 + d[0] * r ** 2 + d[1] * r ** 4 + d[4] * r ** 6)
    columns, rows = pixel_grid(camera)
    x, y = (columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy
    rising = slice(0, np.argmax(image) + 1)
    radius = np.hypot(x, y)
    scale = np.interp(radius, image[rising], r[rising]) / np.maximum(radius, 1e-12)
    return np.stack([x * scale, y * scale, np.ones_like(x)], axis=-1)


LENSES = [
    Camera(160, 120, 52.5, 52.8, 79.6, 63.1, 'plumb_bob', (0.19941624, -0.20736409, 0, 0,
                                                           0.04787549)),
    Camera(160, 120, 100, 100, 80, 60, 'plumb_bob', (-0.28, 0.07)),
    Camera(160, 120, 85, 84, 79, 61, 'equidistant', (-0.05, 0.02, -0.01, 0.001))]


@pytest.mark.parametrize('lens', LENSES)
def test_a_tilted_plane(lens):
    normal, distance = np.array([0.2, -0.1, 1.0]), 3.0
    depth = (distance / (true_rays(lens) @ normal)).astype(np.float32)
    assert (depth > 0).all()
    points = unproject(lens, depth)
    assert np.abs(points @ normal - distance).max() < 1e-4
    bare = Camera(lens.width, lens.height, lens.fx, lens.fy, lens.cx, lens.cy)
    assert np.abs(unproject(bare, depth) @ normal - distance).max() > 0.05


@pytest.mark.parametrize('lens', LENSES)
def test_a_sphere_around_the_camera(lens):
    rays = true_rays(lens)
    depth = (2.0 / np.linalg.norm(rays, axis=-1)).astype(np.float32)
    assert np.abs(np.linalg.norm(unproject(lens, depth), axis=-1) - 2).max() < 1e-4
    bare = Camera(lens.width, lens.height, lens.fx, lens.fy, lens.cx, lens.cy)
    assert np.abs(np.linalg.norm(unproject(bare, depth), axis=-1) - 2).max() > 0.05


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize('numbers', [
    (0, 1, 1, 1), (1, 0, 1, 1), (-1, 1, 1, 1), (np.nan, 1, 1, 1), (1, np.inf, 1, 1),
    (1, 1, np.nan, 1), (1, 1, 1, -np.inf)])
def test_not_calibrated(numbers):
    with pytest.raises(ValueError, match='not calibrated'):
        Camera(4, 3, *numbers)


def test_a_broken_coefficient():
    with pytest.raises(ValueError, match='not calibrated'):
        Camera(4, 3, 1, 1, 1, 1, 'plumb_bob', (0.1, np.nan))


@pytest.mark.parametrize('model', ['', 'thin_prism', 'Plumb_Bob', 'fisheye'])
def test_unknown_model(model):
    with pytest.raises(ValueError, match=f"'{model}' is not one of plumb_bob"):
        Camera(4, 3, 1, 1, 1, 1, model, (0.1,))


@pytest.mark.parametrize('model, most', [('equidistant', 4), ('rational_polynomial', 8)])
def test_too_many_coefficients(model, most):
    Camera(4, 3, 1, 1, 1, 1, model, (0.1,) * most)
    Camera(4, 3, 1, 1, 1, 1, model, (*(0.1,) * most, 0.0, 0.0))     # zeros do no harm
    with pytest.raises(ValueError, match=f'at most {most} are supported'):
        Camera(4, 3, 1, 1, 1, 1, model, (0.1,) * (most + 1))
