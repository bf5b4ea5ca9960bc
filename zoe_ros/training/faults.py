"""Faults of real cameras, put on images in training: lens, motion, exposure, noise, JPEG, haze."""
from __future__ import annotations

import io

import numpy as np
from PIL import Image
import torch
import torch.nn.functional as nnf

# Fraction of the faulty images that have each fault, and its range.
HAZE = (0.15, (0.005, 0.05))        # fraction of light that the air absorbs [1/m]
DISTORTION = (0.3, (-0.12, 0.12))   # change of the radius at the corner, as a fraction
VIGNETTE = (0.3, (0.1, 0.6))        # loss of light at the corner
MOTION = (0.25, (0.006, 0.03))      # length of the blur, in widths of the image
EXPOSURE = (0.6, (-1.5, 1.0))       # in stops
WHITE = (0.5, (-0.25, 0.25))        # logarithm of the gains of red and blue
NOISE = (0.6, (0.005, 0.05))        # standard deviation at full light
JPEG = (0.5, (20, 90))              # quality
_DENSE = 0.5    # share of pixels with depth; without depth in between, haze would have holes
_GAMMA = 2.2


def add_faults(image: np.ndarray, depth: np.ndarray, domain: str,
               random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """
    Return an image as a worse camera takes it, and its depth, which moves with the lens alone.

    :param image: (h, w, 3) uint8; :param depth: (h, w) float32 [m], NaN where there is none.
    """
    light = torch.from_numpy((image.astype(np.float32) / 255) ** _GAMMA)
    if domain == 'outdoor' and np.isfinite(depth).mean() > _DENSE and (
            beta := _draw(HAZE, random)):
        light = _haze(light, depth, beta, random)
    if strength := _draw(DISTORTION, random):
        light, depth = distort(light, depth, strength)
    if loss := _draw(VIGNETTE, random):
        light = light * (1 - loss * _radius(light.shape[:2]) ** 2)[..., None]
    if length := _draw(MOTION, random):
        light = _blur(light, length * light.shape[1], random.uniform(0, np.pi))
    light = light * 2.0 ** _draw(EXPOSURE, random)
    gains = np.exp([_draw(WHITE, random), 0.0, _draw(WHITE, random)])
    light = light * torch.from_numpy(gains.astype(np.float32))
    if deviation := _draw(NOISE, random):
        noise = torch.from_numpy(random.standard_normal(light.shape, np.float32))
        light = light + noise * deviation * (light.clamp(min=0) + 0.02).sqrt()
    shown = light.clamp(0, 1).numpy() ** np.float32(1 / _GAMMA)
    image = np.rint(255 * shown).astype(np.uint8)
    if quality := _draw(JPEG, random):
        image = _compress(image, round(quality))
    return image, depth


def _draw(fault: tuple[float, tuple[float, float]], random: np.random.Generator) -> float:
    """Return the strength of a fault, 0 for most images."""
    share, (low, high) = fault
    chosen, strength = random.random() < share, random.uniform(low, high)
    return float(strength) if chosen else 0.0


def _radius(shape: torch.Size | tuple[int, ...]) -> torch.Tensor:
    """Return the distance of pixels from the middle, (h, w); the corners have 1."""
    height, width = shape[:2]
    y = torch.linspace(-1, 1, height)[:, None] * height
    x = torch.linspace(-1, 1, width) * width
    return torch.hypot(x, y) / np.hypot(height, width)


def _haze(light: torch.Tensor, depth: np.ndarray, beta: float,
          random: np.random.Generator) -> torch.Tensor:
    """Mix with the light of the air; a pixel without depth is the sky, or far."""
    far = torch.from_numpy(np.nan_to_num(depth, nan=150.0))
    seen = torch.exp(-np.float32(beta) * far)[..., None]
    air = torch.from_numpy(random.uniform(0.5, 0.9) * random.uniform(
        (0.95, 0.95, 0.95), (1.0, 1.0, 1.08)).astype(np.float32))
    return light * seen + air * (1 - seen)


def distort(light: torch.Tensor, depth: np.ndarray, strength: float
            ) -> tuple[torch.Tensor, np.ndarray]:
    """
    Bend an image by radial distortion; its middle keeps its size.

    :param light: (h, w, 3).
    :param strength: change of the radius at the corner; positive: barrel, negative: pincushion.
    :return: image and depth; places outside of the image have the colour of its border and no
        depth.
    """
    height, width = depth.shape
    scale = 1 + strength * _radius((height, width)) ** 2
    x = torch.linspace(-1, 1, width) * scale
    y = torch.linspace(-1, 1, height)[:, None] * scale
    grid = torch.stack([x, y], dim=-1)[None]
    bent = nnf.grid_sample(light.permute(2, 0, 1)[None], grid, padding_mode='border',
                           align_corners=True)[0].permute(1, 2, 0)
    # Depth is not interpolated, because there is nothing between an object and its background.
    column = torch.round((x + 1) / 2 * (width - 1)).long().numpy()
    row = torch.round((y + 1) / 2 * (height - 1)).long().numpy()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    moved = depth[row.clip(0, height - 1), column.clip(0, width - 1)]
    return bent, np.where(inside, moved, np.float32('nan'))


def _blur(light: torch.Tensor, length: float, angle: float) -> torch.Tensor:
    """Blur along a line [px]."""
    half = max(1, int(np.ceil(length / 2)))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    for step in np.linspace(-length / 2, length / 2, 4 * half + 1):
        kernel[round(half + step * np.sin(angle)), round(half + step * np.cos(angle))] += 1
    weight = torch.from_numpy(kernel / kernel.sum()).expand(3, 1, -1, -1)
    padded = nnf.pad(light.permute(2, 0, 1)[None], (half,) * 4, mode='replicate')
    return nnf.conv2d(padded, weight, groups=3)[0].permute(1, 2, 0)


def _compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Return an image after JPEG compression."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'JPEG', quality=quality)
    return np.array(Image.open(file))
