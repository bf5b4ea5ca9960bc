"""Streets: road, pavements, buildings, cars, trees and people under a sky, and a drive along."""
from __future__ import annotations

from collections.abc import Callable
import math

import numpy as np

from zoe_ros.world import street_props as s
from zoe_ros.world.furniture import person, pick, Prop, Rng, seed
from zoe_ros.world.mesh import Mesh
from zoe_ros.world.render import Light, Pose, Scene
from zoe_ros.world.textures import Material, paint

_LENGTH = 170.0         # of a street [m]; its camera stays in the first half
_KERB = 0.12            # height of the pavement [m]
_WHITE = (0.6, 0.6, 0.57)


def street(rng: Rng, poses: int) -> Scene:
    """Return a street along y with ``poses`` poses of a camera."""
    mesh = Mesh()
    lane = rng.uniform(2.9, 3.6)
    parking = [2.1 if rng.random() < 0.6 else 0.0 for _ in range(2)]
    pavement = rng.uniform(1.6, 3.2)
    front = 0.0 if rng.random() < 0.45 else rng.uniform(2.5, 8)     # depth of the gardens
    _ground(rng, mesh, lane, parking, pavement)
    for side, room in zip((-1, 1), parking):
        kerb = lane + room
        half = Mesh()       # of the street: as if it were to the right, the houses facing -x
        _row_of_houses(rng, half, kerb + pavement + front)
        _pavement(rng, half, kerb, pavement, front)
        if room:
            _parked(rng, half, lane + room / 2, side)
        mesh.place(half, (0, 0) if side > 0 else (0, _LENGTH), 0 if side > 0 else math.pi)
    walking = rng.random() < 0.3
    lateral = rng.uniform(0.3, 0.7) * lane if not walking else (
        lane + parking[1] + 0.5 * pavement + rng.uniform(-0.2, 0.2))
    start = rng.uniform(4, 25)
    way = rng.uniform(15, 50)
    _traffic(rng, mesh, lane, lateral, start + way)
    walk = _walk(rng, poses, lateral, start, way, _KERB if walking else 0.0)
    return _scene(rng, mesh, walk)


def _scene(rng: Rng, mesh: Mesh, walk: list[Pose]) -> Scene:
    """Add the weather: sun and blue sky, or clouds."""
    overcast = rng.random() < 0.35
    height, bearing = rng.uniform(0.35, 1.2), rng.uniform(0, 2 * math.pi)
    to_sun = np.array([math.cos(height) * math.cos(bearing), math.cos(height) * math.sin(bearing),
                       math.sin(height)])
    if overcast:
        gray = float(rng.uniform(0.9, 1.3))
        return Scene('outdoor', mesh.arrays, [], (gray, gray, 1.04 * gray), walk,
                     haze=float(rng.uniform(5e-4, 4e-3)), clouds=float(rng.uniform(0.6, 1.2)),
                     sky=((1.5 * gray, 1.5 * gray, 1.55 * gray), (1.1 * gray, 1.15 * gray, 1.2 * gray)))
    sun = rng.uniform(1.5, 2.6)
    warm = 0.25 * (1.2 - height)
    light = Light(to_sun, 0.008 * np.eye(3)[:2], (sun, sun * (0.95 - 0.3 * warm), sun * (0.88 - warm)),
                  sun=True)
    return Scene('outdoor', mesh.arrays, [light], (0.5, 0.6, 0.75), walk,
                 haze=float(rng.uniform(1e-4, 2e-3)), clouds=float(rng.uniform(0, 0.7)),
                 sky=((1.3, 1.45, 1.6), (0.45, 0.8, 1.5)))


def _ground(rng: Rng, mesh: Mesh, lane: float, parking: list[float], pavement: float) -> None:
    """Add the land, the road with its markings, and perhaps a zebra crossing."""
    gray = rng.uniform(0.07, 0.2)
    asphalt = Material('mottled', (gray, gray, gray), (0.8 * gray, 0.8 * gray, 0.82 * gray),
                       (5.0, 0.5), 0.15, seed=seed(rng))
    grass = Material('mottled', pick(rng, [(0.1, 0.16, 0.04), (0.15, 0.17, 0.06)]),
                     (0.06, 0.1, 0.03), (3.0, 0.5), 0.3, seed=seed(rng))
    mesh.quad((-300, -300, -0.05), (600, 0, 0), (0, 900, 0), grass)
    left, right = -lane - parking[0], lane + parking[1]
    mesh.quad((left, -30, 0), (right - left, 0, 0), (0, _LENGTH + 300, 0), asphalt)
    white, z = paint(_WHITE, 0.1, seed(rng)), 0.006
    if rng.random() < 0.8:
        dash, gap = ((3.0, 6.0), (6.0, 12.0), (4.0, 4.0))[int(rng.integers(3))]
        for y in np.arange(rng.uniform(-5, 0), _LENGTH, dash + gap):
            mesh.quad((-0.06, y, z), (0.12, 0, 0), (0, dash, 0), white)
    for x, room in ((-lane, parking[0]), (lane, parking[1])):
        if room and rng.random() < 0.6:
            mesh.quad((x - 0.05, -30, z), (0.1, 0, 0), (0, _LENGTH + 60, 0), white)
    if rng.random() < 0.5:
        y = rng.uniform(15, 70)
        for x in np.arange(left + 0.4, right - 0.5, 1.0):
            mesh.quad((x, y, z), (0.5, 0, 0), (0, 3.0, 0), white)


def _pavement(rng: Rng, half: Mesh, kerb: float, pavement: float, front: float) -> None:
    """Add the pavement and what stands on it, and gardens with fences or hedges behind it."""
    stone = float(rng.uniform(0.2, 0.4))
    slab = Material('bond', (stone, stone, 0.95 * stone), (0.12, 0.12, 0.11),
                    (float(rng.choice([0.3, 0.5, 0.6])),) * 2, 0.12, float(rng.choice([0, 0.5])),
                    0.012, seed=seed(rng))
    edge = paint((0.4, 0.4, 0.38), 0.08, seed(rng))
    half.box((kerb, -30, -0.05), (kerb + 0.15, _LENGTH + 60, _KERB), edge)
    half.box((kerb + 0.15, -30, -0.05), (kerb + pavement, _LENGTH + 60, _KERB), slab)
    furniture: list[tuple[Callable[[Rng], Prop], float]] = [
        (s.tree, rng.choice([8, 12, 1e3])), (s.lamp_post, 28), (s.sign, 35), (s.bollard, 25)]
    for make, every in furniture:
        y = rng.uniform(2, every)
        while y < _LENGTH:
            half.place(make(rng).mesh, (kerb + 0.5, y, _KERB),
                       math.pi / 2 * -1 if make is s.lamp_post else rng.choice([0, math.pi]))
            y += every * rng.uniform(0.8, 1.2)
    for _ in range(int(rng.integers(1, 9))):
        at = (kerb + rng.uniform(0.6, pavement - 0.3), rng.uniform(3, 100), _KERB)
        half.place(person(rng).mesh, at, rng.choice([0, math.pi]) + rng.normal(0, 0.4))
    if front:
        _gardens(rng, half, kerb + pavement, front)


def _gardens(rng: Rng, half: Mesh, x: float, depth: float) -> None:
    kind = rng.integers(3)
    height = rng.uniform(0.7, 1.5)
    cover = (s.leaves(rng), paint(pick(rng, [(0.4, 0.38, 0.35), (0.35, 0.15, 0.1)]), 0.1, seed(rng)),
             paint(pick(rng, [(0.6, 0.6, 0.58), (0.3, 0.2, 0.12)])))[kind]
    y = rng.uniform(0, 8)
    while y < _LENGTH:
        end = y + rng.uniform(6, 16)
        if kind < 2:
            half.box((x, y, 0), (x + (0.6, 0.25)[kind], end, height), cover)
        else:
            half.box((x, y, height - 0.15), (x + 0.04, end, height - 0.05), cover)
            for post in np.arange(y, end, 0.25 if y < 60 else 1.0):
                half.box((x, post, 0), (x + 0.04, post + 0.1, height), cover)
        y = end + rng.uniform(1, 4)
    for _ in range(int(rng.integers(4, 16))):
        make = s.bush if rng.random() < 0.6 or depth < 4 else s.tree
        half.place(make(rng).mesh, (x + rng.uniform(1.2, depth - 0.8), rng.uniform(0, 120)))


def _row_of_houses(rng: Rng, half: Mesh, x: float) -> None:
    closed = rng.random() < 0.5     # wall to wall, as in old towns
    y = rng.uniform(-25, -10)
    while y < _LENGTH:
        width = rng.uniform(12, 24) if closed else rng.uniform(8, 14)
        if rng.random() < 0.92:
            part = s.house(rng, float(width))
            half.place(part.mesh, (x + rng.uniform(0, 0.3), y + width / 2), -math.pi / 2)
        y += width + (rng.choice([0.05, 0.05, 0.05, 9.0]) if closed else rng.uniform(2, 9))


def _parked(rng: Rng, half: Mesh, x: float, side: int) -> None:
    density = rng.uniform(0.2, 0.9)
    y = rng.uniform(0, 6)
    while y < 110:
        if rng.random() < density:
            part = s.car(rng)
            half.place(part.mesh, (x + rng.uniform(-0.1, 0.1), y + part.depth / 2),
                       (math.pi if rng.random() < 0.85 else 0) + rng.normal(0, 0.015))
        y += rng.uniform(5.6, 7)


def _traffic(rng: Rng, mesh: Mesh, lane: float, lateral: float, end: float) -> None:
    """Add cars on both lanes, in front of the camera's own way where they share its lane."""
    y = end + rng.uniform(6, 40)
    while y < _LENGTH:
        mesh.place(s.car(rng).mesh, (lane / 2, y), math.pi)
        y += rng.uniform(12, 60)
    y = rng.uniform(0, 30)
    while y < _LENGTH:
        mesh.place(s.car(rng).mesh, (-lane / 2, y))
        y += rng.uniform(12, 70)
    if rng.random() < 0.25:
        mesh.place(person(rng).mesh, (rng.uniform(-lane, lane), end + rng.uniform(5, 15)),
                   rng.choice([-1, 1]) * math.pi / 2)


def _walk(rng: Rng, count: int, x: float, start: float, way: float, ground: float) -> list[Pose]:
    """Return poses on a straight drive or walk along the street; it glances at either side."""
    height = float(rng.choice([rng.uniform(0.5, 1.2), rng.uniform(1.3, 1.7), rng.uniform(1.5, 1.7)]))
    aim, swing = rng.normal(0, 0.15), abs(rng.normal(0, 0.25))
    tilt = rng.normal(-0.05, 0.05)
    phase = rng.uniform(0, 6)
    return [Pose((float(x + 0.15 * math.sin(3 * t + phase)), float(start + way * t),
                  ground + height + 0.02 * math.sin(9 * t)),
                 aim + swing * math.sin(7 * t + phase), tilt + 0.02 * math.sin(11 * t),
                 0.015 * math.sin(8 * t + phase)) for t in np.linspace(0, 1, count)]
