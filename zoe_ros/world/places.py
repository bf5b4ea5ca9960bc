"""Wide places besides streets: halls with racks, parks, and roads through the country."""
from __future__ import annotations

import math

import numpy as np

from zoe_ros.world import furniture as f
from zoe_ros.world.furniture import pick, Rng, seed
from zoe_ros.world.mesh import Mesh
from zoe_ros.world.render import Light, Pose, Scene
from zoe_ros.world.rooms import walling
from zoe_ros.world.streets import asphalt, car, daylight, meadow, tree
from zoe_ros.world.textures import Color, lamp, Material, paint
from zoe_ros.world.things import bush

_STEEL: list[Color] = [(0.05, 0.15, 0.4), (0.6, 0.25, 0.03), (0.4, 0.4, 0.42), (0.1, 0.25, 0.15)]


def hall(rng: Rng, poses: int) -> Scene:
    """Return a hall of 20 to 60 m: a warehouse, or a hall with pillars."""
    mesh = Mesh()
    width, length, height = rng.uniform(12, 30), rng.uniform(20, 60), rng.uniform(4, 10)
    tone = rng.uniform(0.2, 0.5)
    floor = Material('mottled', (tone, tone, tone), (0.85 * tone,) * 3, (5.0, 0.2), 0.08,
                     seed=seed(rng), use='floor')
    mesh.quad((0, 0, 0), (width, 0, 0), (0, length, 0), floor)
    mesh.quad((0, length, height), (width, 0, 0), (0, -length, 0),
              paint((0.5, 0.5, 0.5), 0.05, seed(rng), 'ceiling'))
    wall = walling(rng)
    for corner, along in (((0, length, 0), (width, 0, 0)), ((width, 0, 0), (-width, 0, 0)),
                          ((0, 0, 0), (0, length, 0)), ((width, length, 0), (0, -length, 0))):
        mesh.quad(corner, along, (0, 0, height), wall)
    aisle = rng.uniform(2.4, 4.5)
    x, middle = 1.2, []
    racks = rng.random() < 0.6
    while x < width - 3:
        if racks:
            _rack(rng, mesh, x, length, min(height - 0.5, rng.uniform(2.5, 6)))
        else:
            for y in np.arange(4, length - 2, rng.uniform(4, 8)):
                mesh.box((x, y, 0), (x + 0.5, y + 0.5, height), wall)
        middle.append(x + 1.1 + aisle / 2)
        x += 1.1 + aisle
    at = float(middle[int(rng.integers(len(middle)))])
    for _ in range(int(rng.integers(1, 10))):
        make = (f.person, f.carton, f.carton, f.bin_)[rng.integers(4)]
        mesh.place(make(rng).mesh, (at + rng.uniform(-0.4, 0.4) * aisle,
                                    rng.uniform(3, length - 1)), rng.uniform(0, 6.3))
    lights = []
    glow = lamp((0.9, 0.92, 0.95), 3.0)
    for y in np.arange(2.5, length, 6.0):
        mesh.box((at - 0.15, y - 0.8, height - 0.08), (at + 0.15, y + 0.8, height - 0.01), glow)
        lights.append(Light(np.array([at, y, height - 0.2]),
                            np.array([(0.15, 0, 0), (0, 0.8, 0)]), (9.0, 9.2, 9.5)))
    start = rng.uniform(0.8, 0.4 * length)
    yaw = rng.normal(0, 0.2)
    walk = [Pose((float(at + 0.15 * math.sin(k)), float(start + 0.5 * k), rng.uniform(0.5, 1.7)),
                 float(yaw + 0.1 * math.sin(0.5 * k)), float(rng.normal(-0.03, 0.05)), 0.0)
            for k in range(poses) if start + 0.5 * k < length - 3]
    lights.sort(key=lambda light: abs(light.position[1] - walk[0].position[1] - 4))
    bright = float(rng.uniform(0.25, 0.6))
    return Scene('outdoor', mesh.arrays, lights[:4], (bright, bright, bright), walk)


def _rack(rng: Rng, mesh: Mesh, x: float, length: float, height: float) -> None:
    """Add a rack with boxes from x to x + 1.1 m, along the whole hall."""
    steel = paint(pick(rng, _STEEL), 0.05, seed(rng), 'metal')
    board = f.wood(rng)
    covers = [Material('mottled', pick(rng, [(0.42, 0.28, 0.16), (0.5, 0.36, 0.22)]),
                       (0.36, 0.23, 0.13), (1.0, 0.3), 0.06, seed=seed(rng)) for _ in range(3)]
    covers += [paint(pick(rng, _STEEL), 0.06, seed(rng)), f.motif(rng, 0.8, 0.8)]
    gap = rng.uniform(1.0, 1.6)
    for y in np.arange(3.0, length - 1, 2.7):
        for side in (0, 1.0):
            mesh.box((x + side, y, 0), (x + side + 0.1, y + 0.1, height), steel)
    for z in np.arange(0.0, height - 0.4, gap):
        mesh.box((x, 3, z + 0.05), (x + 1.1, length - 1, z + 0.12), board)
        y = 3.1
        while y < length - 2:
            size = rng.uniform((0.7, 0.6, 0.3), (1.05, 1.3, 0.9 * gap - 0.1))
            if rng.random() < 0.8:
                inset = (1.1 - size[0]) / 2
                mesh.box((x + inset, y, z + 0.12), (x + 1.1 - inset, y + size[1], z + 0.12
                                                    + size[2]),
                         covers[int(rng.integers(len(covers)))])
            y += size[1] + rng.uniform(0.05, 0.3)


def park(rng: Rng, poses: int) -> Scene:
    """Return a path between trees, bushes and fences."""
    mesh = Mesh()
    mesh.quad((-200, -30, 0), (400, 0, 0), (0, 300, 0), meadow(rng))
    half = rng.uniform(0.7, 2.5)
    path = asphalt(rng) if rng.random() < 0.5 else meadow(rng)
    mesh.quad((-half, -30, 0.01), (2 * half, 0, 0), (0, 200, 0), path)
    for _ in range(int(rng.integers(15, 45))):
        x = rng.choice([-1, 1]) * (half + 0.6 + rng.exponential(6))
        mesh.place(tree(rng).mesh, (x, rng.uniform(-5, 80)), rng.uniform(0, 6.3))
    for _ in range(int(rng.integers(4, 14))):
        size = rng.uniform((0.6, 0.6, 0.5), (3.0, 3.0, 2.5))
        x = rng.choice([-1, 1]) * (half + size[0] / 2 + rng.exponential(3))
        mesh.place(bush(rng, size, rng.uniform(0.1, 0.2), 1200),
                   (x, rng.uniform(1, 35)))
    for _ in range(int(rng.integers(0, 5))):
        mesh.place(f.person(rng).mesh, (rng.uniform(-half, half), rng.uniform(2, 40)),
                   rng.uniform(0, 6.3))
    if rng.random() < 0.5:
        _fence(rng, mesh, float(rng.choice([-1, 1])) * (half + rng.uniform(0.5, 6)))
    if rng.random() < 0.5:
        wall = walling(rng)
        for _ in range(int(rng.integers(1, 4))):
            x, y = rng.uniform(-60, 40), rng.uniform(35, 90)
            mesh.box((x, y, 0), (x + rng.uniform(8, 25), y + 10, rng.uniform(3, 12)), wall)
    return _open(rng, mesh, float(rng.uniform(-0.6, 0.6) * half), poses, 0.6)


def country(rng: Rng, poses: int) -> Scene:
    """Return a road through fields, with trees, posts, hills and some cars."""
    mesh = Mesh()
    mesh.quad((-400, -30, -0.05), (800, 0, 0), (0, 700, 0), meadow(rng))
    lane, lanes = rng.uniform(2.8, 3.7), int(rng.choice([1, 2, 2, 4]))
    half = lane * lanes / 2
    mesh.quad((-half, -30, 0), (2 * half, 0, 0), (0, 400, 0), asphalt(rng))
    white = paint((0.6, 0.6, 0.57), 0.15, seed(rng), 'none')
    for side in (-1, 1):
        mesh.quad((side * (half - 0.2) - 0.06, -30, 0.005), (0.12, 0, 0), (0, 400, 0), white)
        x = side * (half + rng.uniform(0.6, 1.5))
        if rng.random() < 0.4:
            _fence(rng, mesh, x)
        for y in np.arange(rng.uniform(0, 20), 120, rng.uniform(12, 40)):
            mesh.box((x - 0.06, y - 0.06, 0), (x + 0.06, y + 0.06, 1.0), white)
    for k in range(1, lanes):
        for y in np.arange(rng.uniform(-20, -8), 200, 9.0):
            mesh.quad((-half + k * lane - 0.06, y, 0.005), (0.12, 0, 0), (0, 4.0, 0), white)
    rows = rng.random() < 0.5
    for k in range(int(rng.integers(5, 40))):
        side = rng.choice([-1, 1])
        away = half + (2.5 if rows else 2 + rng.exponential(15))
        mesh.place(tree(rng).mesh, (side * away, 8.0 * (k // 2) if rows else
                                    rng.uniform(-5, 100)), rng.uniform(0, 6.3))
    hill = meadow(rng)
    for _ in range(int(rng.integers(0, 5))):
        at = (rng.uniform(-250, 250), rng.uniform(120, 400), -5)
        mesh.ellipsoid(at, rng.uniform((60, 40, 10), (150, 90, 45)), hill)
    for _ in range(int(rng.integers(0, 4))):
        side = int(rng.choice([-1, 1]))
        mesh.place(car(rng).mesh, (side * lane / 2, rng.uniform(12, 90)),
                   math.pi if side > 0 else 0)
    return _open(rng, mesh, float(half - lane / 2), poses, 0.9)


def _fence(rng: Rng, mesh: Mesh, x: float) -> None:
    """Add a fence or a guard rail along y."""
    cover = f.wood(rng) if rng.random() < 0.5 else f.metal(rng)
    height = rng.uniform(0.6, 1.5)
    for y in np.arange(-10, 90, rng.uniform(2, 4)):
        mesh.box((x - 0.05, y - 0.05, 0), (x + 0.05, y + 0.05, height), cover)
    for z in np.linspace(0.45, 1, int(rng.integers(1, 4))) * height:
        mesh.box((x - 0.03, -10, z - 0.12), (x + 0.03, 90, z), cover)


def _open(rng: Rng, mesh: Mesh, x: float, poses: int, clearance: float) -> Scene:
    """Return a scene under the sky with a path along y."""
    height, step = rng.uniform(0.6, 1.7), rng.uniform(0.5, 1.5)
    yaw, tilt = rng.normal(0, 0.2), rng.normal(-0.05, 0.06)
    walk = [Pose((x + 0.2 * math.sin(0.4 * k), float(step * k), float(height)),
                 float(yaw + 0.12 * math.sin(0.5 * k)), float(tilt + 0.02 * math.sin(0.9 * k)),
                 0.015 * math.sin(0.7 * k)) for k in range(poses)]
    lights, ambient, sky, clouds = daylight(rng)
    return Scene('outdoor', mesh.arrays, lights, ambient, walk, haze=float(rng.exponential(0.002)),
                 sky=sky, clouds=clouds, clearance=clearance)
