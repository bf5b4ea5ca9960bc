"""What the model learns from and is measured on: images with metric depth, whatever the source."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from zoe_ros.camera import Camera

DOMAINS = ('indoor', 'outdoor')


class DatasetError(ValueError):
    """Data that is missing or cannot be right; the text says what is expected where."""


@dataclass(frozen=True, eq=False)
class Sample:
    """
    An image with its depth.

    :param image: (h, w, 3) uint8 RGB.
    :param depth: (h, w) float32 [m] along the optical axis, NaN where there is none.
    :param camera: of this image, at this resolution.
    :param domain: one of ``DOMAINS``.
    :param name: for messages and file names, unique within a dataset.
    """

    image: np.ndarray
    depth: np.ndarray
    camera: Camera
    domain: str
    name: str

    @property
    def valid(self) -> np.ndarray:
        """Return where there is depth, (h, w) bool."""
        return np.isfinite(self.depth)


@dataclass(frozen=True)
class EvalProtocol:
    """
    Which true depths count in an evaluation (specification, section 6.3).

    :param min_depth, max_depth: [m]; predictions are clamped to them.
    :param crop: 'eigen' (rows 45 to 471, columns 41 to 601 whatever the size, trap T16), 'garg'
        (shares of the size), or '' for the whole image.
    """

    min_depth: float
    max_depth: float
    crop: str = ''

    def mask(self, depth: np.ndarray) -> np.ndarray:
        """Return where a true depth (h, w) [m] counts."""
        h, w = depth.shape
        rows, columns = {
            'eigen': (slice(45, 471), slice(41, 601)),
            'garg': (slice(int(0.40810811 * h), int(0.99189189 * h)),
                     slice(int(0.03594771 * w), int(0.96405229 * w))),
            '': (slice(None), slice(None))}[self.crop]
        inside = np.zeros(depth.shape, bool)
        inside[rows, columns] = True
        with np.errstate(invalid='ignore'):
            return inside & (depth > self.min_depth) & (depth < self.max_depth)


class Dataset(Protocol):
    """Samples of one source and one domain, in a fixed order."""

    @property
    def name(self) -> str:
        """Return the name of the source, as tables show it."""

    @property
    def domain(self) -> str:
        """Return the domain of all samples, one of ``DOMAINS``."""

    @property
    def protocol(self) -> EvalProtocol:
        """Return how predictions for it are measured."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int) -> Sample:
        """
        Return a sample.

        :raises IndexError: there are not that many.
        :raises DatasetError: its files are missing or cannot be right.
        """
