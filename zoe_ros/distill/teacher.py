"""What a teacher says about one image: depth, its deviation, and the pixels to be trusted."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from zoe_ros.anchor.correction import Correction
from zoe_ros.camera import Camera
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.model.config import PAIRS, VARIANTS

# A pixel has no label where the depths of image and mirrored image differ by more than this
# (difference of the logarithms), or where the relative deviation is more than so many times the
# median of the image: absolute deviations of models differ too much for one limit.
MOST_DISAGREEMENT = 0.2
MOST_DEVIATION = 2.0
LEAST_TRUSTED = 0.2     # share of the pixels with a label; a frame with fewer is left out


@dataclass(frozen=True, eq=False)
class Opinion:
    """
    The prediction of a teacher for one image, the mean of the image and its mirror image.

    :param depth, deviation: (h, w) float32 [m].
    :param trusted: (h, w) bool, the pixels that may teach.
    :param head: that predicted the depth; :param probabilities: head -> its probability.
    """

    depth: np.ndarray
    deviation: np.ndarray
    trusted: np.ndarray
    head: str
    probabilities: dict[str, float]

    def corrected(self, correction: Correction) -> Opinion:
        """Return the opinion at the scale of an anchor."""
        depth, deviation = correction.apply(self.depth, self.deviation)
        return replace(self, depth=depth, deviation=deviation)


class Teacher:
    """
    A model that labels images.

    :ivar title: of the model; :ivar heads: the names of its heads.
    :ivar identity: variant and SHA-256 of the weights, by which labels are told apart.
    :ivar calibration: SHA-256 of the calibration of its deviations, '' without one.
    """

    def __init__(self, name: str, device: str = 'auto', precision: str = 'auto') -> None:
        """
        Load the model.

        :param name: a variant or a weights file.
        :raises ValueError, OSError: the weights cannot be used.
        """
        known = name in VARIANTS or name in PAIRS
        self._estimator = DepthEstimator.load(name if known else '', None if known else name,
                                              device, precision)
        config = self._estimator.model.config
        self.title, self.heads = config.title, config.head_names
        self.identity = {'variant': config.variant, 'sha256': self._estimator.identity['weights']}
        self.calibration = self._estimator.identity['calibration']

    def look(self, image: np.ndarray, camera: Camera | None) -> Opinion | None:
        """
        Predict the depth of an image and of its mirror image.

        :param image: (h, w, 3) uint8 RGB; :param camera: that took the image, None if unknown.
        :return: None if the router sends the two to different heads.
        """
        # The focal length is all that a model takes from a camera, and has no mirror image.
        mirrored = np.ascontiguousarray(image[:, ::-1])
        one, other = self._estimator.predict_batch([image, mirrored], [camera, camera], True)
        if one.head != other.head:
            return None
        assert one.deviation is not None and other.deviation is not None
        depths = np.stack([one.depth, other.depth[:, ::-1]])
        depth = depths.mean(axis=0)
        deviation = (one.deviation + other.deviation[:, ::-1]) / 2
        probabilities = {head: (value + other.head_probabilities[head]) / 2
                         for head, value in one.head_probabilities.items()}
        return Opinion(depth, deviation, trusted(depths, deviation / depth), one.head,
                       probabilities)


def trusted(depths: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """
    Return the pixels that may teach, (h, w) bool.

    :param depths: (2, h, w) [m] of image and mirrored image, at the same pixels.
    :param relative: (h, w) relative deviation; pixels without a number are not trusted.
    """
    first, second = np.log(depths)
    with np.errstate(invalid='ignore'):
        return (np.abs(first - second) <= MOST_DISAGREEMENT) & (
            relative <= MOST_DEVIATION * np.nanmedian(relative))
