"""Streets: carriageway, pavements, houses, cars, trees, lamp posts, people, sun and sky."""
from __future__ import annotations

import math

import numpy as np

from zoe_ros.world import furniture as f
from zoe_ros.world.furniture import pick, Prop, Rng, seed
from zoe_ros.world.mesh import Mesh
from zoe_ros.world.render import Light, Pose, Scene
from zoe_ros.world.textures import Color, lamp, Material, paint

LENGTH = 170.0          # of a street along y [m]; the camera stays in its first part
STOREY = 3.0            # [m]
_CARS: list[Color] = [(0.02, 0.02, 0.025), (0.6, 0.6, 0.6), (0.35, 0.36, 0.38), (0.4, 0.02, 0.02),
                      (0.03, 0.07, 0.25), (0.65, 0.65, 0.6), (0.05, 0.15, 0.1)]
_WALLS: list[Color] = [(0.62, 0.55, 0.42), (0.6, 0.58, 0.55), (0.45, 0.2, 0.13), (0.5, 0.42, 0.3),
                       (0.35, 0.4, 0.45), (0.65, 0.5, 0.4), (0.3, 0.3, 0.3)]
_ROOFS: list[Color] = [(0.3, 0.1, 0.06), (0.1, 0.1, 0.11), (0.2, 0.12, 0.09)]


def street(rng: Rng, poses: int) -> Scene:
    """Return a street with ``poses`` poses of a camera on it."""
    lane = rng.uniform(2.9, 3.5)
    return _street(rng, poses, lane, int(rng.choice([2, 2, 2, 3, 4])), 0.0)


def avenue(rng: Rng, poses: int) -> Scene:
    """Return a wide road whose houses stand far back, with ``poses`` poses of a camera on it."""
    lane = rng.uniform(3.0, 3.7)
    return _street(rng, poses, lane, int(rng.choice([3, 4, 4, 5, 6])), rng.uniform(4, 30))


def _street(rng: Rng, poses: int, lane: float, lanes: int, setback: float) -> Scene:
    """
    Return a street.

    :param lane: width of a lane [m].
    :param setback: additional distance of the houses from the pavement [m].
    """
    mesh = Mesh()
    half, walk = lane * lanes / 2, rng.uniform(1.8, 4.0)
    parking = rng.random() < 0.6
    verge = rng.uniform(1.5, 8)
    _ground(rng, mesh, half, walk, lane, lanes)
    for side in (-1, 1):
        gap = setback + (verge if rng.random() < 0.5 else 0.3)
        _houses(rng, mesh, side, half + walk + gap, half + walk)
        _furnish(rng, mesh, side, half, walk, verge)
    _traffic(rng, mesh, half, lane, lanes, parking)
    if rng.random() < 0.5:
        _end(rng, mesh, half)
    lights, ambient, sky, clouds = daylight(rng)
    return Scene('outdoor', mesh.arrays, lights, ambient, _walk(rng, half, walk, lane, poses),
                 haze=float(rng.uniform(0, 0.003)), sky=sky, clouds=clouds, clearance=0.9)


def daylight(rng: Rng) -> tuple[list[Light], Color, tuple[Color, Color], float]:
    """Return lights, ambient light, sky and clouds of a scene: overcast up to a clear day."""
    elevation, azimuth = math.radians(rng.uniform(15, 65)), rng.uniform(0, 2 * math.pi)
    sun = np.array([math.cos(elevation) * math.cos(azimuth),
                    math.cos(elevation) * math.sin(azimuth), math.sin(elevation)])
    bright = rng.uniform(0, 1)      # from 0, overcast, to 1, a clear day
    power = 2.6 * bright
    light = Light(sun, np.array([(0.01, 0, 0), (0, 0.01, 0)]),
                  (power, 0.94 * power, 0.82 * power), sun=True)
    ambient = 0.9 - 0.35 * bright
    blue = 0.35 * bright
    return ([light] if bright > 0.1 else [],
            (ambient * (1 - 0.3 * blue), ambient, ambient * (1 + 0.5 * blue)),
            ((1.3 - 0.2 * blue, 1.35, 1.4), (1.2 - 2.4 * blue, 1.25 - 1.4 * blue, 1.35)),
            float(1 - 0.8 * bright))


def asphalt(rng: Rng) -> Material:
    """Return the surface of a road."""
    tone = rng.uniform(0.06, 0.16)
    return Material('mottled', (tone, tone, tone), (0.8 * tone,) * 3, (6.0, 0.05), 0.15,
                    seed=seed(rng), use='road')


def meadow(rng: Rng) -> Material:
    """Return grass, or other ground."""
    return Material('mottled', (0.07, 0.13, 0.03), (0.14, 0.17, 0.06), (4.0, 0.1), 0.25,
                    seed=seed(rng), use='ground')


def _ground(rng: Rng, mesh: Mesh, half: float, walk: float, lane: float, lanes: int) -> None:
    mesh.quad((-half, -20, 0), (2 * half, 0, 0), (0, LENGTH + 20, 0), asphalt(rng))
    paving = Material('bond', pick(rng, [(0.4, 0.38, 0.36), (0.3, 0.3, 0.3), (0.42, 0.3, 0.24)]),
                      (0.2, 0.2, 0.2), (rng.choice([0.3, 0.5]), 0.3), 0.12, 0.5, 0.01,
                      seed=seed(rng), use='paving')
    curb = paint((0.42, 0.42, 0.4), 0.1, seed(rng))
    mesh.quad((-300, -20, -0.02), (600, 0, 0), (0, 500, 0), meadow(rng))
    for side in (-1, 1):
        a, b = sorted((side * half, side * (half + walk)))
        mesh.box((a, -20, -0.01), (b, LENGTH, 0.13), paving)
        a, b = sorted((side * half, side * (half + 0.15)))
        mesh.box((a, -20, -0.01), (b, LENGTH, 0.132), curb)
    white = paint((0.65, 0.65, 0.62), 0.15, seed(rng))
    for k in range(1, lanes):
        x = -half + k * lane
        if k == lanes / 2 and rng.random() < 0.3:
            mesh.quad((x - 0.06, -20, 0.004), (0.12, 0, 0), (0, LENGTH, 0), white)
            continue
        for y in np.arange(rng.uniform(-20, -11), LENGTH, 9.0):
            mesh.quad((x - 0.06, y, 0.004), (0.12, 0, 0), (0, 3.0, 0), white)
    for y in rng.uniform(5, 90, int(rng.integers(0, 3))):
        for x in np.arange(-half + 0.3, half - 0.5, 1.0):
            mesh.quad((x, y, 0.005), (0.5, 0, 0), (0, 3.0, 0), white)


def _houses(rng: Rng, mesh: Mesh, side: int, front: float, inner: float) -> None:
    y = -20 - rng.uniform(0, 8)
    detached = rng.random() < 0.4
    while y < LENGTH:
        length, storeys = rng.uniform(8, 24), int(rng.integers(1, 3 if detached else 7))
        depth, height = rng.uniform(8, 14), STOREY * storeys + 0.5
        color = pick(rng, _WALLS)
        brick = rng.random() < 0.4
        wall = Material('facade', color, (0.65, 0.64, 0.6), (rng.uniform(1.9, 3.4), STOREY), 0.12,
                        0.5 if brick else 0.0, 0.01, seed=seed(rng), use='facade')
        plain = Material('mottled', color, (0.9 * color[0], 0.9 * color[1], 0.9 * color[2]),
                         (8.0, 0.5), 0.03, seed=seed(rng), use='wall')
        part = Mesh()
        part.box((-length / 2, 0, 0), (length / 2, depth, height), wall, plain)
        roof = paint(pick(rng, _ROOFS), 0.15, seed(rng), 'roof')
        if detached or rng.random() < 0.5:
            part.frustum((-length / 2 - 0.3, -0.4, height), (length / 2 + 0.3, depth + 0.4,
                         height + rng.uniform(2, 3.5)), (0, 0, depth / 2, depth / 2), roof)
        else:
            part.box((-length / 2, -0.15, height), (length / 2, 0.3, height + 0.4), plain)
        door = f.wood(rng)
        x = rng.uniform(-length / 2 + 1, length / 2 - 1)
        part.box((x - 0.55, -0.05, 0), (x + 0.55, 0.02, 2.15), door)
        part.box((x - 0.8, -0.4, 0), (x + 0.8, 0, 0.15), plain)
        if not detached and rng.random() < 0.3:      # a shop
            glass = Material('picture', (0.1, 0.12, 0.14), (0.25, 0.25, 0.22), (length, 2.5), 0.12,
                             seed=seed(rng))
            part.quad((-length / 2 + 0.5, -0.03, 0.5), (length - 1, 0, 0), (0, 0, 2.2), glass)
            part.box((-length / 2 + 0.3, -0.2, 2.75), (length / 2 - 0.3, 0, 3.3),
                     paint(pick(rng, _CARS)))
        # Fronts face -y of the part; turned towards the street.
        mesh.place(part, (side * front, y + length / 2, 0.12), -side * math.pi / 2)
        if detached and front > 1.5 + inner and rng.random() < 0.6:
            hedge = Material('mottled', (0.04, 0.09, 0.02), (0.08, 0.14, 0.04), (0.6, 0.1), 0.3,
                             seed=seed(rng), use='leaves')
            a, b = sorted((side * (front - 1.2), side * (front - 0.7)))
            mesh.box((a, y, 0.1), (b, y + length, rng.uniform(0.8, 1.5)), hedge)
        y += length + (rng.uniform(2, 10) if detached else rng.choice([0, 0, 0, 3.5]))


def car(rng: Rng) -> Prop:
    """Return a car, 3.8 to 4.9 m long and 1.4 to 1.75 m high, or a van; its front faces -y."""
    mesh = Mesh()
    van = rng.random() < 0.15
    length, width = (5.4, 2.0) if van else (rng.uniform(3.8, 4.9), rng.uniform(1.7, 1.85))
    height = 2.3 if van else rng.uniform(1.42, 1.7)
    body = paint(pick(rng, _CARS), 0.03, seed(rng), 'car')
    glass, dark = paint((0.03, 0.035, 0.04), use='car'), paint((0.02, 0.02, 0.02), use='car')
    x, y = width / 2, length / 2
    belt = 1.1 if van else 0.62 * height
    mesh.frustum((-x, -y, 0.28), (x, y, belt), (0.05, 0.05, 0.12, 0.06), body)
    hood = 0.5 if van else rng.uniform(0.9, 1.25)
    rear = 0.05 if van or rng.random() < 0.5 else 0.6
    mesh.frustum((-x + 0.08, -y + hood, belt), (x - 0.08, y - rear, height - 0.04),
                 (0.18, 0.18, 0.55, 0.3 if not van else 0.05), body if van else glass)
    if van:
        mesh.box((-x + 0.1, -y + hood - 0.02, belt + 0.1),
                 (x - 0.1, -y + hood + 0.3, height - 0.4), glass)
    else:
        mesh.box((-x + 0.28, -y + hood + 0.55, height - 0.05), (x - 0.28, y - rear - 0.3, height),
                 body)
    for cx in (-x + 0.02, x - 0.22):
        for cy in (-y + 0.75, y - 0.75):
            wheel = Mesh()
            wheel.cylinder((0, 0, 0), 0.2, 0.31, dark)
            for patch in wheel._patches:
                turned = np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]])
                mesh._patches.append(patch.moved(turned, np.array([cx, cy, 0.31])))
    white, red = lamp((0.8, 0.8, 0.75), 0.3), paint((0.4, 0.01, 0.01))
    for cx in (-x + 0.1, x - 0.4):
        mesh.box((cx, -y - 0.005, 0.6), (cx + 0.3, -y + 0.2, 0.72), white)
        mesh.box((cx, y - 0.2, 0.65), (cx + 0.3, y + 0.005, 0.8), red)
    mesh.box((-0.26, -y - 0.01, 0.4), (0.26, -y + 0.05, 0.51), paint((0.7, 0.7, 0.65)))
    mesh.box((-0.26, y - 0.05, 0.45), (0.26, y + 0.01, 0.56), paint((0.7, 0.7, 0.65)))
    return Prop(mesh, width, length)


def tree(rng: Rng) -> Prop:
    """Return a street tree, 4 to 9 m tall."""
    mesh = Mesh()
    height = rng.uniform(4, 9)
    trunk = rng.uniform(1.7, 0.45 * height)
    bark = Material('mottled', (0.12, 0.08, 0.05), (0.2, 0.15, 0.1), (0.4, 0.05), 0.2,
                    seed=seed(rng), use='bark')
    mesh.cylinder((0, 0, 0), trunk + 0.8, rng.uniform(0.1, 0.22), bark, 0.08)
    tone = rng.uniform(0.7, 1.5)
    leaves = Material('mottled', (0.03 * tone, 0.08 * tone, 0.015),
                      (0.1 * tone, 0.16 * tone, 0.04), (0.8, 0.15), 0.35, seed=seed(rng),
                      use='leaves')
    crown = (height - trunk) / 2
    for _ in range(int(rng.integers(6, 14))):
        at = rng.normal(0, 0.4, 3) * crown * np.array([0.9, 0.9, 1.0])
        size = crown * rng.uniform(0.3, 0.6)
        mesh.ellipsoid(at + (0, 0, trunk + crown), (size, size, 0.8 * size), leaves)
    return Prop(mesh, 1.0, 1.0)


def _furnish(rng: Rng, mesh: Mesh, side: int, half: float, walk: float, verge: float) -> None:
    """Add lamp posts, trees, signs, bins and people to a pavement."""
    edge, z = side * (half + 0.5), 0.13
    post = f.metal(rng)
    spacing = rng.uniform(18, 30)
    for y in np.arange(rng.uniform(-10, 10), LENGTH, spacing):
        part = Mesh()
        part.cylinder((0, 0, 0), 6.5, 0.08, post, 0.05)
        part.box((-1.2 if side > 0 else 0, -0.05, 6.4), (0 if side > 0 else 1.2, 0.05, 6.48), post)
        mesh.place(part, (edge, y, z))
    if rng.random() < 0.7:
        for y in np.arange(rng.uniform(-10, 5), LENGTH * 0.8, rng.uniform(8, 20)):
            mesh.place(tree(rng).mesh, (edge + side * rng.uniform(0.2, 0.6), y, z),
                       rng.uniform(0, 6))
    for _ in range(int(rng.integers(0, 7))):
        x = side * (half + rng.uniform(0.8, max(walk - 0.4, 0.9)))
        mesh.place(f.person(rng).mesh, (x, rng.uniform(2, 70), z), rng.uniform(0, 6.3))
    for _ in range(int(rng.integers(0, 4))):
        part = Mesh()
        part.cylinder((0, 0, 0), 2.4, 0.03, post)
        part.box((-0.3, -0.02, 2.2), (0.3, 0.02, 2.8), paint(pick(
            rng, [(0.5, 0.02, 0.02), (0.02, 0.1, 0.5), (0.7, 0.7, 0.7)])))
        mesh.place(part, (edge, rng.uniform(3, 80), z))
    for _ in range(int(rng.integers(0, 4))):
        mesh.place(f.bin_(rng).mesh, (side * (half + walk - 0.4), rng.uniform(2, 50), z))


def _traffic(rng: Rng, mesh: Mesh, half: float, lane: float, lanes: int, parking: bool) -> None:
    """Add parked cars along the kerbs, and driving cars on the right side."""
    for side in (-1, 1):
        if parking and rng.random() < 0.8:
            y = rng.uniform(-15, 0)
            while y < LENGTH * 0.7:
                if rng.random() < 0.75:
                    mesh.place(car(rng).mesh, (side * (half - 1.05), y),
                               (math.pi if side > 0 else 0) + rng.normal(0, 0.02))
                y += rng.uniform(5.6, 8)
    for _ in range(int(rng.integers(0, 6))):
        side = int(rng.choice([-1, 1]))
        x = side * (lane / 2 + (lane if lanes >= 4 and rng.random() < 0.5 else 0))
        if parking and lanes < 4:
            x = side * (lane / 2 - 0.3)
        mesh.place(car(rng).mesh, (x, rng.uniform(22, LENGTH)), math.pi if side > 0 else 0)


def _end(rng: Rng, mesh: Mesh, half: float) -> None:
    """Close the end of the street with a house."""
    y, height = rng.uniform(60, LENGTH), STOREY * int(rng.integers(2, 6)) + 0.5
    wall = Material('facade', pick(rng, _WALLS), (0.65, 0.64, 0.6), (2.6, STOREY), 0.12,
                    0.0, 0.01, seed=seed(rng), use='facade')
    mesh.box((-half - 15, y, 0), (half + 15, y + 10, height), wall, paint((0.3, 0.3, 0.3)))


def _walk(rng: Rng, half: float, walk: float, lane: float, count: int) -> list[Pose]:
    """Return poses along a lane or a pavement, at the height of a car's or a robot's camera."""
    on_road = rng.random() < 0.65
    x = lane / 2 * rng.choice([-0.9, 1.0]) if on_road else (
        rng.choice([-1, 1]) * (half + rng.uniform(0.9, max(1.0, walk - 0.7))))
    height = (rng.uniform(1.2, 1.7) if on_road else 0.13 + rng.uniform(0.5, 1.6))
    start, step = rng.uniform(-8, 5), rng.uniform(0.8, 1.6)
    yaw0, tilt = rng.normal(0, 0.1), rng.normal(-0.03, 0.05)
    if rng.random() < 0.25:
        yaw0 += rng.choice([-1, 1]) * rng.uniform(0.3, 0.9)
    return [Pose((float(x + 0.15 * math.sin(0.4 * k)), float(start + step * k), float(height)),
                 float(yaw0 + 0.12 * math.sin(0.5 * k)), float(tilt + 0.02 * math.sin(0.9 * k)),
                 0.015 * math.sin(0.7 * k)) for k in range(count)]
