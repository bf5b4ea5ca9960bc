"""Data for training and evaluation: images with metric depth, from any source."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from zoe_ros.camera import Camera

DOMAINS = ('indoor', 'outdoor')


class DatasetError(ValueError):
    """Data that is missing or implausible; the text says which data is expected where."""


@dataclass(frozen=True, eq=False)
class Sample:
    """
    An image with its depth.

    :param image: (h, w, 3) uint8 RGB.
    :param depth: (h, w) float32 [m] along the optical axis, NaN where there is none.
    :param camera: of this image, at this resolution; None if it is not known, which only the
        data of an evaluation may be.
    :param domain: one of ``DOMAINS``.
    :param name: used in messages and file names, unique within a dataset.
    :param head_probabilities: head -> its probability by the router of a teacher; None for data
        whose domain is certain.
    """

    image: np.ndarray
    depth: np.ndarray
    camera: Camera | None
    domain: str
    name: str
    head_probabilities: Mapping[str, float] | None = None

    @property
    def valid(self) -> np.ndarray:
        """Return the mask of pixels with depth, (h, w) bool."""
        return np.isfinite(self.depth)


@dataclass(frozen=True)
class EvalProtocol:
    """
    The pixels that count in an evaluation (specification, section 6.3).

    :param min_depth, max_depth: [m]; true depth outside of them does not count.
    :param crop: 'eigen' (rows 45 to 471, columns 41 to 601 whatever the size, trap T16), 'garg'
        (shares of the size), or '' for the whole image.
    :param clamps: whether predictions are clamped to the range.
    :param min_pixels: an image with fewer such pixels does not count.
    :param max_pixels: at most so many pixels of an image count, drawn at random, always the same
        ones; 0: all.
    """

    min_depth: float
    max_depth: float
    crop: str = ''
    clamps: bool = True
    min_pixels: int = 1
    max_pixels: int = 0

    def mask(self, depth: np.ndarray) -> np.ndarray:
        """Return which pixels of true depth (h, w) [m] count."""
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

    def pick(self, depth: np.ndarray) -> np.ndarray:
        """Return the indices of the pixels of true depth (h, w) [m] that count, flattened."""
        where = np.flatnonzero(self.mask(depth))
        if len(where) < self.min_pixels:
            return where[:0]
        if 0 < self.max_pixels < len(where):
            where = where[np.random.default_rng(0).permutation(len(where))[:self.max_pixels]]
        return where

    def clamp(self, depth: np.ndarray) -> np.ndarray:
        """Return predicted depth [m] as it is compared; NaN counts as wrong, not as missing."""
        known = np.nan_to_num(depth, nan=self.min_depth)
        return known.clip(self.min_depth, self.max_depth) if self.clamps else known


class Dataset(Protocol):
    """Samples of one source and one domain, in a fixed order."""

    @property
    def name(self) -> str:
        """Return the name of the dataset in tables."""

    @property
    def domain(self) -> str:
        """Return the domain of all samples, one of ``DOMAINS``."""

    @property
    def protocol(self) -> EvalProtocol:
        """Return the evaluation protocol."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int) -> Sample:
        """
        Return a sample.

        :raises IndexError: the dataset has fewer samples.
        :raises DatasetError: files of the sample are missing or implausible.
        """


# No scene has so large a median depth [m], but many have the same number in millimetres.
_TOO_FAR = {'indoor': 100.0, 'outdoor': 1000.0}
_TOO_NEAR = 0.1


def check_metres(depth: np.ndarray, domain: str, where: str) -> None:
    """
    Check that depth (h, w) looks like metres; an image without any depth passes.

    :param where: name of the data in the message.
    :raises DatasetError: the depth looks like another unit.
    """
    values = depth[np.isfinite(depth)]
    if not values.size:
        return
    middle, most = float(np.median(values)), float(values.max())
    if middle > _TOO_FAR[domain]:
        raise DatasetError(f'{where}: a median depth of {middle:g} m {domain}s looks like '
                           'millimetres, not metres')
    if most < _TOO_NEAR:
        raise DatasetError(f'{where}: no depth beyond {most:g} m looks like metres that were '
                           'divided by 1000 as if they were millimetres')
