"""Photographs on the surfaces of a scene, each at a plausible size."""
from __future__ import annotations

from dataclasses import replace
import math

import numpy as np

from zoe_ros.world.photos import Photo, Photos, Pyramid
from zoe_ros.world.render import Scene
from zoe_ros.world.textures import Material

# Use -> share of the surfaces that get a photograph; width of the photograph [m]; share of the
# surface's own colour, at most. The rest keep their pattern, because many surfaces are plain.
_USES: dict[str, tuple[float, tuple[float, float], float]] = {
    'floor': (0.9, (0.8, 2.5), 0.8), 'wall': (0.5, (1.2, 3.0), 0.9),
    'ceiling': (0.3, (1.2, 3.0), 0.9), 'wood': (0.85, (0.5, 1.5), 0.7),
    'fabric': (0.7, (0.3, 1.0), 0.9), 'metal': (0.5, (0.4, 1.2), 0.9),
    'object': (0.35, (0.15, 0.5), 0.6), 'road': (0.7, (2.5, 6.0), 0.6),
    'paving': (0.9, (1.5, 3.0), 0.6), 'ground': (0.95, (1.5, 4.0), 0.5),
    'facade': (0.8, (2.5, 5.0), 0.8), 'roof': (0.9, (2.0, 4.0), 0.6),
    'bark': (0.95, (0.5, 1.2), 0.4), 'leaves': (0.9, (0.5, 1.5), 0.4)}
_PICTURES = 0.8         # share of pictures that are photographs, and of spines
_VIEW = math.radians(50)        # of a panorama that a window shows


def dress(scene: Scene, photos: Photos, rng: np.random.Generator) -> Scene:
    """Return a scene whose surfaces, and whose sky in most cases, are photographs."""
    materials = [_dress(material, photos, rng) for material in scene.mesh.materials]
    scene = replace(scene, mesh=replace(scene.mesh, materials=materials))
    panorama = photos.draw('sky', rng) if scene.sky is not None and rng.random() < 0.75 else None
    if panorama is None or scene.sky is None:
        return scene
    # The sky keeps its light, to which the lights of the scene belong; its upper half counts.
    bright = np.mean(scene.sky) / max(float(panorama.mean.mean()), 0.02)
    gain = np.full(3, bright, np.float32)
    return replace(scene, panorama=Photo(panorama, 2 * math.pi, gain, 1.0,
                                         (float(rng.random()), 0.5), limit=8.0))


def _dress(material: Material, photos: Photos, rng: np.random.Generator) -> Material:
    use = material.use
    if use == 'view':
        return _view(material, photos, rng)
    if use in ('picture', 'spines'):
        pyramid = photos.draw('picture', rng)
        if pyramid is None or rng.random() > _PICTURES:
            return material
        # A picture hangs whole in its frame; of books, a row is 0.3 m wide.
        width = material.size[0] if use == 'picture' else 0.35
        return replace(material, photo=Photo(pyramid, width, _gain(material, pyramid, 0.2, rng)))
    if use not in _USES or material.glow or not material.contrast:
        return material
    share, (low, high), tint = _USES[use]
    pyramid = photos.draw(use, rng)
    if pyramid is None or rng.random() > share:
        return material
    width = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    strength = float(rng.uniform(0.4, 1.0))
    shift = (float(rng.random()), float(rng.random()))
    return replace(material, photo=Photo(
        pyramid, width, _gain(material, pyramid, tint, rng), strength, shift))


def _gain(material: Material, pyramid: Pyramid, tint: float,
          rng: np.random.Generator) -> np.ndarray:
    """Return factors of the colours that move the mean towards the colour of the material."""
    mean = np.maximum(pyramid.mean, 0.02)
    target = np.maximum(material.color, 0.02)
    shade = np.exp(rng.normal(0, 0.15)) * np.exp(rng.normal(0, 0.04, 3))
    gain = (target / mean) ** rng.uniform(0, tint) * shade
    return gain.clip(0.25, 4.0).astype(np.float32)


def _view(material: Material, photos: Photos, rng: np.random.Generator) -> Material:
    """Return a window that shows a part of a panorama around its horizon."""
    pyramid = photos.draw('sky', rng)
    if pyramid is None:
        return material
    width, height = material.size
    gain = np.full(3, 0.45 / max(float(pyramid.mean.mean()), 0.02), np.float32)
    turn = width * 2 * math.pi / _VIEW      # width of the panorama on the window [m]
    # The horizon is a bit below the middle of the window.
    middle = 0.5 + 0.4 * height * 2 / turn
    return replace(material, photo=Photo(pyramid, turn, gain, 1.0,
                                         (float(rng.random()), middle)))
