"""Light of other hours: dusk, night and backlight outdoors, few lamps indoors."""
from __future__ import annotations

from dataclasses import replace
import math

import numpy as np

from zoe_ros.world.furniture import Rng
from zoe_ros.world.render import Light, Scene

_MOODS = {'day': 0.6, 'dusk': 0.12, 'backlight': 0.15, 'night': 0.13}
_SODIUM, _WHITE = np.array([1.0, 0.72, 0.4]), np.array([0.95, 0.95, 1.0])


def draw_mood(scene: Scene, rng: Rng) -> tuple[Scene, bool]:
    """Return a scene in a random light, and whether little light is left."""
    if scene.sky is None:
        if len(scene.lights) > 1 and rng.random() < 0.2:
            few = [scene.lights[int(rng.integers(len(scene.lights)))]]
            return replace(scene, lights=few, ambient=_times(scene.ambient, 0.25)), True
        return scene, False
    name = str(rng.choice(list(_MOODS), p=list(_MOODS.values())))
    if name == 'dusk':
        return _low_sun(scene, rng, rng.uniform(0, 2 * math.pi), rng.uniform(1, 7), 0.45), False
    if name == 'backlight':
        ahead = scene.walk[len(scene.walk) // 2].yaw + rng.normal(0, 0.3)
        return _low_sun(scene, rng, ahead + math.pi / 2, rng.uniform(8, 28), 1.0), False
    return (_night(scene, rng), True) if name == 'night' else (scene, False)


def _low_sun(scene: Scene, rng: Rng, azimuth: float, elevation: float, bright: float) -> Scene:
    """Return a scene under a low sun, whose light is the redder the lower it stands."""
    angle = math.radians(elevation)
    sun = np.array([math.cos(angle) * math.cos(azimuth), math.cos(angle) * math.sin(azimuth),
                    math.sin(angle)])
    red = math.exp(-elevation / 9)
    power = 3.0 * bright
    light = Light(sun, np.array([(0.02, 0, 0), (0, 0.02, 0)]),
                  (power, power * (1 - 0.4 * red), power * (1 - 0.75 * red)), sun=True)
    low = (1.2 * bright, bright * (1.15 - 0.4 * red), bright * (1.15 - 0.7 * red))
    high = (0.45 * bright, 0.6 * bright, 0.95 * bright)
    ambient = _times((0.45, 0.5, 0.62), bright)
    return replace(scene, lights=[light], sky=(low, high), ambient=ambient,
                   glare=float(rng.uniform(0.3, 1.2)), clouds=float(rng.uniform(0, 0.4)))


def _night(scene: Scene, rng: Rng) -> Scene:
    """Return a scene in the light of street lamps beside the path of the camera."""
    color = _SODIUM if rng.random() < 0.5 else _WHITE
    middle = np.mean([pose.position for pose in scene.walk], axis=0)
    yaw = scene.walk[len(scene.walk) // 2].yaw
    ahead, right = (np.array([-math.sin(a), math.cos(a), 0]) for a in (yaw, yaw - math.pi / 2))
    spacing, lights = rng.uniform(10, 22), []
    for k in range(4):
        at = middle + ahead * (k - 0.6) * spacing + right * rng.uniform(2, 6) * (-1) ** k
        at[2] = rng.uniform(3.5, 6.5)
        r, g, b = color * rng.uniform(12, 30)
        lights.append(Light(at, np.array([(0.15, 0, 0), (0, 0.15, 0)]), (r, g, b)))
    dark = float(rng.uniform(0.01, 0.06))
    sky = (_times((0.9, 0.75, 0.6), dark), _times((0.3, 0.35, 0.5), dark))
    return replace(scene, lights=lights, sky=sky, ambient=_times((0.9, 0.9, 1.1), dark),
                   haze=0.0, clouds=0.0)


def _times(color: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    r, g, b = (factor * c for c in color)
    return r, g, b
