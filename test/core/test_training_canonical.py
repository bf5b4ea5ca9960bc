"""Training at a canonical focal length: crops change the camera, and depth follows the camera."""
from dataclasses import replace

import numpy as np
import pytest
from scenes import Planes
from short_training import CONFIG, DATA, losses, settings

from zoe_ros.camera import Camera
from zoe_ros.datasets import Sample
from zoe_ros.evaluate import evaluate
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.inference.preprocess import plan_sizes
from zoe_ros.model.weights import load_model, open_checkpoint
from zoe_ros.training.batches import Batches
from zoe_ros.training.canonical import canonical_depth, crop
from zoe_ros.training.trainer import train
from zoe_ros.training_camera import focal_factor

CANONICAL = replace(CONFIG, canonical_focal=True)


def sample(height=60, width=80, fx=64.0, fy=66.0):
    """Return a sample whose image holds its row and column, and whose depth its own number."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, rows], axis=-1).astype(np.uint8)
    depth = (1 + rows + columns / 100).astype(np.float32)
    return Sample(image, depth, Camera(width, height, fx, fy, 40, 30), 'indoor', 'it')


def points(found):
    """Return the points in space by the pixel of the first image that they were seen in."""
    at = (found.camera.rays * found.depth[..., None]).reshape(-1, 2)
    return {tuple(pixel): xy for pixel, xy in zip(found.image.reshape(-1, 3)[:, :2].tolist(), at)}


def test_crops_keep_every_point_in_its_place():
    whole = sample()
    before = points(whole)
    sizes = set()
    for seed in range(40):
        part = crop(whole, np.random.default_rng(seed))
        assert part.image.shape[:2] == part.depth.shape == (part.camera.height, part.camera.width)
        for pixel, at in points(part).items():
            np.testing.assert_allclose(at, before[pixel], atol=1e-4)
        sizes.add(part.depth.shape)
    shares = np.array([height * width for height, width in sizes]) / whole.depth.size
    assert len(sizes) > 15 and (60, 80) in sizes
    assert shares.min() < 0.4 and ((shares > 0.4) & (shares < 0.9)).sum() > 5


def test_half_the_image_is_half_as_far():
    # The network sees it at the same size, so everything looks twice as large.
    whole = sample()
    part = replace(whole, image=whole.image[:30, :40], depth=whole.depth[:30, :40],
                   camera=replace(whole.camera, height=30, width=40))
    far, near = (canonical_depth(each, CANONICAL) for each in (whole, part))
    np.testing.assert_allclose(near, far[:30, :40] / 2, rtol=1e-6)


@pytest.mark.parametrize('domain', ['indoor', 'outdoor'])
def test_the_camera_of_inference_gives_the_depth_back(domain):
    each = replace(sample(), domain=domain)
    plan = plan_sizes(each.depth.shape, CANONICAL.image_size, 'stretch', False)
    factor = focal_factor(each.camera, plan, CANONICAL.head(domain), CANONICAL.image_size)
    np.testing.assert_allclose(factor * canonical_depth(each, CANONICAL), each.depth, rtol=1e-6)
    fx, fy, cx, cy = CANONICAL.head(domain).training_camera
    own = replace(each, camera=Camera(80, 60, 80 * fx, 60 * fy, 80 * cx, 60 * cy))
    np.testing.assert_allclose(canonical_depth(own, CANONICAL), each.depth, rtol=1e-6)


def test_only_a_canonical_model_learns_from_canonical_depth():
    plain, canonical = (Batches(DATA, CONFIG.image_size, 8, seed=3, canonical=config)
                        for config in (None, CANONICAL))
    whole = {depth.shape for depth in plain[0].depths}
    assert len(whole) == 1 < len({depth.shape for depth in canonical[0].depths})
    again = Batches(DATA, CONFIG.image_size, 8, seed=3, canonical=CANONICAL)
    for one, other in zip(canonical[1].depths, again[1].depths):
        assert np.array_equal(one, other, equal_nan=True)


def test_a_canonical_model_trains_and_is_evaluated_with_and_without_cameras(tmp_path):
    path = train(settings(tmp_path, steps=30), DATA, config=CANONICAL)
    config = open_checkpoint(path).config
    assert config is not None and config.canonical_focal
    assert np.mean(losses(tmp_path)[-5:]) < np.mean(losses(tmp_path)[:5])
    estimator = DepthEstimator(load_model(config, path))
    data = Planes('indoor', 6)
    figures = [evaluate(estimator, data, intrinsics=use).figures['REL'] for use in (True, False)]
    assert figures[0] != figures[1]
