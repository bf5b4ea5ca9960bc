"""The random changes of the published training (section 6.2), the same for image and depth."""
from __future__ import annotations

import numpy as np
from PIL import Image

MAX_ANGLE = 1.0     # [degrees]
GAMMA = (0.9, 1.1)
BRIGHTNESS = {'indoor': (0.75, 1.25), 'outdoor': (0.9, 1.1)}
COLOUR = (0.9, 1.1)


def augment(image: np.ndarray, depth: np.ndarray, domain: str,
            random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """
    Rotate by up to one degree, mirror half of the images and change the colours of half.

    :param image: (h, w, 3) uint8; :param depth: (h, w) float32 [m], NaN where there is none.
    :return: new arrays of the same kinds; pixels from outside the image have no depth.
    """
    image, depth = _rotate(image, depth, random.uniform(-MAX_ANGLE, MAX_ANGLE))
    if random.random() < 0.5:
        image, depth = image[:, ::-1], depth[:, ::-1]
    if random.random() < 0.5:
        image = _recolour(image, domain, random)
    return np.ascontiguousarray(image), np.ascontiguousarray(depth)


def _rotate(image: np.ndarray, depth: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    turned = Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR)
    # Zero means no depth here, because Pillow fills the corners with zeros.
    plain = Image.fromarray(np.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0))
    turned_depth = np.array(plain.rotate(angle, Image.Resampling.NEAREST))
    return np.array(turned), np.where(turned_depth > 0, turned_depth, np.float32('nan'))


def _recolour(image: np.ndarray, domain: str, random: np.random.Generator) -> np.ndarray:
    table = np.linspace(0, 1, 256) ** random.uniform(*GAMMA)
    factors = random.uniform(*COLOUR, size=3) * random.uniform(*BRIGHTNESS[domain])
    # All three changes depend on a pixel's own value only: one table for each channel.
    tables = np.clip(table[:, None] * factors * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.stack([tables[image[..., c], c] for c in range(3)], axis=-1)
