"""The training camera's view of an image, and depth back from there."""
import dataclasses

import bags
import numpy as np
import pytest
import torch

from zoe_ros.camera import Camera
from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.model.config import VARIANTS
from zoe_ros.outputs import DEPTH, POINTS
from zoe_ros.pipeline import Pipeline
from zoe_ros.settings import FrameSettings
from zoe_ros.training_camera import TrainingCamera

INDOOR, OUTDOOR = VARIANTS['nk'].metric.heads
SIZE = (384, 512)
CPU = torch.device('cpu')
NYU = Camera(640, 480, 518.8579, 519.4696, 325.5824, 253.7362)
WIDE = Camera(640, 480, 210.24, 211.48, 318.5, 252.5, 'plumb_bob',
              (0.19941624, -0.20736409, 0.00070405, 0.00080602, 0.04787549))
FISHEYE = Camera(640, 480, 230.0, 230.0, 320.0, 240.0, 'equidistant', (0.02, -0.01, 0.01, -0.002))


def smooth(camera):
    """Return an image whose colour tells the ray of each pixel, as far as 8 bits go."""
    rays = np.nan_to_num(camera.rays)
    channels = [127 + 60 * rays[..., 0], 127 + 60 * rays[..., 1], np.full(rays.shape[:2], 200.0)]
    return np.stack(channels, axis=-1).clip(0, 255).round().astype(np.uint8)


def test_the_training_camera_itself_sees_what_it_sees():
    view = TrainingCamera.between(NYU, INDOOR, SIZE, CPU)
    image = smooth(NYU)
    seen = view.warp(image).numpy()
    assert seen.shape == (*SIZE, 3)
    # The view is that image at the size of the network: pixel i there is pixel i * 640/512 here.
    expected = image[np.arange(0, 480, 1.25).astype(int)][:, np.arange(0, 640, 1.25).astype(int)]
    assert np.abs(seen[:-2, :-2].astype(int) - expected[:-2, :-2]).max() <= 1


@pytest.mark.parametrize('camera', [WIDE, FISHEYE], ids=['plumb_bob', 'equidistant'])
@pytest.mark.parametrize('head', [INDOOR, OUTDOOR], ids=['indoor', 'outdoor'])
def test_each_network_pixel_looks_along_its_own_ray(camera, head):
    view = TrainingCamera.between(camera, head, SIZE, CPU)
    seen = view.warp(smooth(camera)).numpy().astype(float)
    fx, fy, cx, cy = np.array(head.training_camera) * (SIZE[1], SIZE[0], SIZE[1], SIZE[0])
    x, y = np.meshgrid((np.arange(SIZE[1]) - cx) / fx, (np.arange(SIZE[0]) - cy) / fy)
    assert seen[..., 2].min() > 199     # no black border
    inside = (view.to_network.abs() <= 1).all(dim=-1).numpy()
    assert inside.mean() > 0.5
    np.testing.assert_allclose(seen[..., 0][inside], (127 + 60 * x)[inside], atol=1.5)
    np.testing.assert_allclose(seen[..., 1][inside], (127 + 60 * y)[inside], atol=1.5)


def test_the_image_is_mirrored_where_the_camera_sees_nothing():
    tele = Camera(64, 48, 90.0, 90.0, 31.5, 23.5)
    ramp = np.broadcast_to(np.arange(0, 256, 4, np.uint8)[:, None], (48, 64, 3))
    view = TrainingCamera.between(tele, INDOOR, SIZE, CPU)
    row = SIZE[0] // 2
    x, seen = view.to_network[row, :, 0].numpy(), view.warp(ramp).numpy()[row, :, 0]
    beyond = (x > 1.05) & (x < 1.4)
    assert beyond.sum() > 20
    np.testing.assert_allclose(seen[beyond], (1 + (2 - x[beyond])) / 2 * 252, atol=1)


@pytest.mark.parametrize('camera', [NYU, WIDE, FISHEYE], ids=['pinhole', 'plumb', 'equidistant'])
@pytest.mark.parametrize('linear', [True, False], ids=['linear', 'nearest'])
def test_values_come_back_to_the_pixels_that_look_along_their_ray(camera, linear):
    view = TrainingCamera.between(camera, INDOOR, SIZE, CPU)
    fx, fy, cx, cy = np.array(INDOOR.training_camera) * (SIZE[1], SIZE[0], SIZE[1], SIZE[0])
    x = torch.from_numpy((np.arange(SIZE[1]) - cx) / fx).float().expand(SIZE)
    back = view.unwarp(x, linear).numpy()
    rays = camera.rays
    seen = ~np.isnan(back)
    step = 1 / fx       # of one network pixel
    np.testing.assert_allclose(back[seen], rays[..., 0][seen],
                               atol=1e-3 if linear else 0.51 * step)
    # Not seen is just what lies outside of the training camera's image.
    u, v = rays[..., 0] * fx + cx, rays[..., 1] * fy + cy
    inside = (u >= 0) & (u <= SIZE[1] - 1) & (v >= 0) & (v <= SIZE[0] - 1)
    assert (seen == inside).mean() > 0.999


def test_projection_is_the_inverse_of_the_rays():
    for camera in (NYU, WIDE, FISHEYE):
        u, v = camera.project(camera.rays[..., 0].astype(float), camera.rays[..., 1].astype(float))
        exists = ~np.isnan(camera.rays[..., 0])     # the fisheye's corners look sideways
        assert exists.mean() > 0.9
        expected_u, expected_v = np.meshgrid(np.arange(640), np.arange(480))
        np.testing.assert_allclose(u[exists], expected_u[exists], atol=0.01)
        np.testing.assert_allclose(v[exists], expected_v[exists], atol=0.01)


def frame_of(estimator, settings, camera_info, image):
    infos = CameraInfoBuffer()
    if camera_info is not None:
        infos.add(camera_info)
    pipeline = Pipeline(estimator, bags.ROSBAGS.types, settings, infos, rectified=False)
    return pipeline.process(image, (DEPTH, POINTS))


def test_through_the_pipeline(tiny_estimator):
    image = bags.ROSBAGS.photo(bags.picture(480, 640))
    info = bags.ROSBAGS.info(**bags.HALLWAY)
    plain, training = (FrameSettings(router='indoor', camera_view=view, point_cloud_downsample=1,
                                     focal_correction=True)
                       for view in ('as_is', 'training'))
    frame = frame_of(tiny_estimator, training, info, image)
    seen = ~np.isnan(frame.depth)
    # This camera sees 113 degrees, the training camera 63: most pixels were not seen.
    assert 0.1 < seen.mean() < 0.3
    assert seen[240:270, 300:340].all()
    cloud = bags.cloud_points(frame.messages[POINTS])
    assert (np.isnan(cloud[..., 2]) == ~seen).all()
    # With its own focal length the training view needs no correction for it.
    bare = frame_of(tiny_estimator, dataclasses.replace(training, focal_correction=False), info,
                    image)
    np.testing.assert_array_equal(frame.depth, bare.depth)
    # Without CameraInfo there is no other view than the image.
    without = frame_of(tiny_estimator, training, None, image)
    np.testing.assert_array_equal(
        without.depth, frame_of(tiny_estimator, plain, None, image).depth)
