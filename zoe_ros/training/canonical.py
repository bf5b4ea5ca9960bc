"""Depth of the training camera, for models that leave the focal length to CameraInfo."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from zoe_ros.camera import Camera
from zoe_ros.datasets import Sample
from zoe_ros.datasets.files import cropped
from zoe_ros.inference.preprocess import plan_sizes
from zoe_ros.model.config import ZoeConfig
from zoe_ros.training_camera import focal_factor

CROPPED = 0.7               # fraction of the images that are cropped
SHARE = (0.5, 1.0)          # of the width that a crop keeps
SHAPE = (0.85, 1.18)        # change of width / height by a crop


def crop(sample: Sample, random: np.random.Generator) -> Sample:
    """Cut a random rectangle out of most images: the camera then has another field of view."""
    if random.random() >= CROPPED:
        return sample
    height, width = sample.depth.shape
    share, shape = random.uniform(*SHARE), np.sqrt(random.uniform(*SHAPE))
    rows = min(height, max(2, round(height * share / shape)))
    columns = min(width, max(2, round(width * share * shape)))
    top, left = random.integers(height - rows + 1), random.integers(width - columns + 1)
    window = (slice(top, top + rows), slice(left, left + columns))
    return replace(sample, image=sample.image[window], depth=sample.depth[window],
                   camera=cropped(_camera(sample), (top, left), (rows, columns)))


def canonical_depth(sample: Sample, config: ZoeConfig) -> np.ndarray:
    """
    Return the depth that the training camera of the sample's head would see.

    The inverse of the correction by :func:`zoe_ros.training_camera.focal_factor`.

    :return: (h, w) float32 [m at the focal length of the training camera].
    """
    head = config.head(config.head_for(sample.domain))
    height, width = sample.depth.shape
    plan = plan_sizes((height, width), config.image_size, 'stretch', False)
    factor = focal_factor(_camera(sample), plan, head, config.image_size)
    return sample.depth / np.float32(factor)


def _camera(sample: Sample) -> Camera:
    assert sample.camera is not None, 'training data has cameras'
    return sample.camera
