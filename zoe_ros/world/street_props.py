"""What stands along streets, in its usual sizes [m]: cars, trees, lamp posts, signs, houses."""
from __future__ import annotations

import math

import numpy as np

from zoe_ros.world.furniture import pick, Prop, Rng, seed, WOODS
from zoe_ros.world.mesh import Mesh
from zoe_ros.world.textures import Color, lamp, Material, paint

CARS: list[Color] = [(0.6, 0.6, 0.6), (0.05, 0.05, 0.06), (0.3, 0.3, 0.32), (0.45, 0.04, 0.04),
                     (0.05, 0.1, 0.3), (0.7, 0.7, 0.68), (0.1, 0.2, 0.15), (0.4, 0.36, 0.28)]
_WALLS: list[Color] = [(0.6, 0.55, 0.45), (0.65, 0.63, 0.6), (0.55, 0.42, 0.3), (0.5, 0.5, 0.5),
                       (0.6, 0.5, 0.35), (0.45, 0.3, 0.25), (0.55, 0.58, 0.6)]
_BRICKS: list[Color] = [(0.35, 0.14, 0.09), (0.42, 0.24, 0.16), (0.3, 0.22, 0.18)]
_ROOFS: list[Color] = [(0.3, 0.12, 0.08), (0.13, 0.12, 0.12), (0.2, 0.14, 0.1), (0.4, 0.2, 0.12)]
_GLASS = paint((0.04, 0.05, 0.06), 0.3)


def leaves(rng: Rng) -> Material:
    """Return foliage."""
    color = pick(rng, [(0.05, 0.13, 0.02), (0.09, 0.17, 0.03), (0.04, 0.1, 0.03), (0.14, 0.15, 0.03)])
    r, g, b = (0.35 * c for c in color)
    return Material('mottled', color, (r, g, b), (1.8, 0.6), 0.35, seed=seed(rng))


def car(rng: Rng) -> Prop:
    """Return a car, a van or a small lorry, its bonnet at -y."""
    kind = rng.choice(['hatch', 'sedan', 'estate', 'van'], p=[0.3, 0.3, 0.25, 0.15])
    length, width, height = {'hatch': (3.9, 1.7, 1.48), 'sedan': (4.6, 1.8, 1.45),
                             'estate': (4.5, 1.8, 1.6), 'van': (5.3, 2.0, 2.2)}[kind]
    scale = rng.uniform(0.96, 1.04)
    length, width, height = length * scale, width * scale, height * scale
    body = paint(pick(rng, CARS), 0.03, seed(rng))
    dark = paint((0.02, 0.02, 0.02))
    mesh = Mesh()
    w, front, back, belt = width / 2, -length / 2, length / 2, (0.58 if kind != 'van' else 0.5) * height
    mesh.frustum((-w, front, 0.22), (w, back, belt), (0.04, 0.04, 0.06, 0.04), body)
    bonnet = {'hatch': 0.95, 'sedan': 1.2, 'estate': 1.15, 'van': 0.55}[kind]
    boot = {'hatch': 0.12, 'sedan': 0.75, 'estate': 0.08, 'van': 0.03}[kind]
    rake = (0.18, 0.18, 0.65, 0.55 if kind == 'sedan' else 0.2)
    mesh.frustum((-w + 0.05, front + bonnet, belt), (w - 0.05, back - boot, height - 0.04), rake,
                 body if kind == 'van' else _GLASS)
    roof = (np.array([-w + 0.22, front + bonnet + rake[2] - 0.03, height - 0.05]),
            np.array([w - 0.22, back - boot - rake[3] + 0.03, height]))
    mesh.box(*roof, body)
    if kind == 'van':
        mesh.frustum((-w + 0.04, front + bonnet - 0.02, belt + 0.08),
                     (w - 0.04, front + bonnet + 1.1, height - 0.25), (0.14, 0.14, 0.45, 0), _GLASS)
    else:       # the pillars
        middle = front + bonnet + 0.45 * (length - bonnet - boot)
        mesh.frustum((-w + 0.04, middle - 0.05, belt), (w - 0.04, middle + 0.05, height - 0.03),
                     (0.18, 0.18, 0, 0), body)
    _wheels(mesh, w, front + 0.8, back - 0.75, 0.31)
    for x in (-w + 0.08, w - 0.42):
        mesh.box((x, front - 0.012, 0.55), (x + 0.34, front + 0.1, 0.7), lamp((0.8, 0.8, 0.75), 0.4))
        mesh.box((x, back - 0.1, 0.6), (x + 0.34, back + 0.012, 0.78), lamp((0.4, 0.02, 0.02), 0.3))
    for y in (front - 0.014, back + 0.002):
        mesh.box((-0.26, y, 0.4), (0.26, y + 0.012, 0.51), paint((0.75, 0.75, 0.7)))
    mesh.box((-w, front + 0.0, 0.18), (w, front + 0.3, 0.3), dark)
    mesh.box((-w, back - 0.3, 0.18), (w, back, 0.3), dark)
    return Prop(mesh, width, length)


def _wheels(mesh: Mesh, half: float, front: float, back: float, radius: float) -> None:
    """Add wheels as short prisms about x."""
    angles = np.linspace(0, 2 * np.pi, 13)
    rubber, rim = paint((0.015, 0.015, 0.015)), paint((0.4, 0.4, 0.42))
    for x0, x1 in ((-half - 0.01, -half + 0.2), (half - 0.2, half + 0.01)):
        outer = x0 if x0 < 0 else x1
        for y in (front, back):
            points = np.stack([np.zeros(13), y + radius * np.cos(angles),
                               radius + radius * np.sin(angles)], axis=-1)
            center = np.array([outer, y, radius])
            for a, b in zip(points[:-1], points[1:]):
                mesh.quad(a + (x0, 0, 0), (x1 - x0, 0, 0), b - a, rubber)
                mesh.triangle(center, a + (outer, 0, 0), b + (outer, 0, 0), rubber)
                side = np.array([np.sign(outer) * 0.01, 0, 0])
                inner = [center + 0.6 * (p + (outer, 0, 0) - center) + side for p in (a, b)]
                mesh.triangle(center + side, *inner, rim)


def tree(rng: Rng) -> Prop:
    """Return a broad-leaved tree or a conifer, 4 to 10 m high."""
    mesh = Mesh()
    bark = Material('mottled', (0.2, 0.14, 0.09), (0.1, 0.07, 0.05), (1.0, 0.3), 0.3, seed=seed(rng))
    height, green = rng.uniform(4, 10), leaves(rng)
    trunk = 0.03 * height
    if rng.random() < 0.2:
        mesh.cylinder((0, 0, 0), 1.0, trunk, bark)
        for k in range(4):
            z = 0.7 + k * (height - 0.7) / 5
            mesh.cylinder((0, 0, z), (height - 0.7) * 0.4, 0.2 * height * (1 - 0.2 * k), green, 0.05)
        return Prop(mesh, 0.5, 0.5)
    crown = rng.uniform(0.32, 0.45) * height
    mesh.cylinder((0, 0, 0), height - crown, trunk, bark, 0.6 * trunk)
    for _ in range(int(rng.integers(6, 12))):
        at = rng.normal(0, 0.35, 3) * crown * (0.6, 0.6, 0.8) + (0, 0, height - crown)
        at[2] = max(at[2], 0.35 * height + 0.8)
        mesh.ellipsoid(at, rng.uniform(0.35, 0.6, 3) * crown, green)
    return Prop(mesh, 0.5, 0.5)


def bush(rng: Rng) -> Prop:
    """Return a bush."""
    mesh, green = Mesh(), leaves(rng)
    size = rng.uniform(0.5, 1.2)
    for _ in range(4):
        at = rng.normal(0, 0.3, 3) * size
        mesh.ellipsoid((at[0], at[1], 0.4 * size), rng.uniform(0.5, 0.8, 3) * size, green)
    return Prop(mesh, 2 * size, 2 * size)


def lamp_post(rng: Rng) -> Prop:
    """Return a street lamp, 5 to 8 m high, its arm towards -y."""
    mesh, gray = Mesh(), paint((0.25, 0.26, 0.26))
    height = rng.uniform(5, 8)
    mesh.cylinder((0, 0, 0), height, 0.08, gray, 0.05)
    mesh.box((-0.03, -1.4, height - 0.08), (0.03, 0.0, height - 0.02), gray)
    mesh.box((-0.12, -1.6, height - 0.12), (0.12, -1.0, height), gray)
    return Prop(mesh, 0.2, 0.2)


def sign(rng: Rng) -> Prop:
    """Return a traffic sign, 2.2 to 2.6 m high."""
    mesh = Mesh()
    height = rng.uniform(2.2, 2.6)
    mesh.cylinder((0, 0, 0), height, 0.03, paint((0.4, 0.4, 0.4)))
    edge = paint([(0.6, 0.03, 0.03), (0.03, 0.1, 0.5), (0.6, 0.5, 0.02)][int(rng.integers(3))])
    field = paint((0.75, 0.75, 0.75)) if rng.random() < 0.6 else edge
    mesh.box((-0.3, -0.06, height - 0.65), (0.3, -0.04, height - 0.05), edge)
    mesh.box((-0.23, -0.065, height - 0.58), (0.23, -0.06, height - 0.12), field)
    return Prop(mesh, 0.6, 0.2)


def bollard(rng: Rng) -> Prop:
    """Return a bollard, a hydrant or a litter bin, about 1 m high."""
    mesh = Mesh()
    gray = paint(pick(rng, [(0.1, 0.1, 0.1), (0.4, 0.05, 0.04), (0.1, 0.2, 0.12)]))
    if rng.random() < 0.5:
        mesh.cylinder((0, 0, 0), 0.95, 0.06, gray)
    else:
        mesh.box((-0.28, -0.28, 0), (0.28, 0.28, 1.05), gray)
    return Prop(mesh, 0.5, 0.5)


def house(rng: Rng, width: float) -> Prop:
    """Return a building of 1 to 6 storeys, its front at -y; the window cells are 2.2 to 3.2 m."""
    depth = rng.uniform(8, 13)
    storey = rng.uniform(2.9, 3.3)
    detached = width < 13
    storeys = int(rng.integers(1, 4)) if detached else int(rng.integers(2, 7))
    height = storeys * storey + rng.uniform(0.2, 0.6)
    spacing = width / max(2, round(width / rng.uniform(2.2, 3.2)))
    frame = pick(rng, [(0.7, 0.7, 0.68), (0.7, 0.7, 0.68), (0.2, 0.15, 0.1)])
    if rng.random() < 0.4:
        front = Material('facade', pick(rng, _BRICKS), frame, (spacing, storey), 0.2, 0.5, 0.012,
                         seed=seed(rng))
    else:
        front = Material('facade', pick(rng, _WALLS), frame, (spacing, storey), seed=seed(rng))
    mesh = Mesh()
    x0, x1 = -width / 2, width / 2
    mesh.quad((x0, 0, 0), (width, 0, 0), (0, 0, height), front)
    mesh.quad((x1, 0, 0), (0, depth, 0), (0, 0, height), front)
    mesh.quad((x1, depth, 0), (-width, 0, 0), (0, 0, height), front)
    mesh.quad((x0, depth, 0), (0, -depth, 0), (0, 0, height), front)
    _entrance(rng, mesh, spacing, round(width / spacing))
    tiles = Material('bond', pick(rng, _ROOFS), (0.06, 0.05, 0.05), (0.3, 0.35), 0.25, 0.5, 0.03,
                     seed=seed(rng))
    if detached or rng.random() < 0.4:
        _gable(mesh, width, depth, height, tiles, paint(front.color, 0.03), rng.random() < 0.3)
    else:
        mesh.box((x0 - 0.2, -0.2, height), (x1 + 0.2, depth + 0.2, height + 0.35), paint(frame))
    if not detached and storeys > 2 and rng.random() < 0.5:
        rail = paint((0.15, 0.15, 0.16))
        for i in range(round(width / spacing)):
            for k in range(1, storeys):
                if (i + k) % 2:
                    x, z = x0 + (i + 0.5) * spacing, k * storey + 0.1
                    mesh.box((x - 0.9, -1.1, z), (x + 0.9, 0, z + 0.15), paint(frame))
                    mesh.box((x - 0.9, -1.1, z + 0.15), (x + 0.9, -1.05, z + 1.1), rail)
    if rng.random() < 0.5:
        x = rng.uniform(x0 + 1, x1 - 1)
        mesh.box((x, depth / 2, height), (x + 0.6, depth / 2 + 0.6, height + depth / 3 + 0.5),
                 paint(pick(rng, _BRICKS)))
    return Prop(mesh, width, depth)


def _entrance(rng: Rng, mesh: Mesh, spacing: float, cells: int) -> None:
    """Add a door of 1 x 2.1 m in place of a window, with a step and a canopy."""
    x = (int(rng.integers(cells)) + 0.5 - cells / 2) * spacing
    mesh.box((x - 0.95, -0.05, 0), (x + 0.95, -0.01, 2.75), paint(pick(rng, _WALLS)))
    mesh.box((x - 0.5, -0.09, 0.15), (x + 0.5, -0.05, 2.25), paint(pick(rng, [*CARS, *WOODS])))
    mesh.box((x - 0.8, -0.8, 0), (x + 0.8, 0, 0.15), paint((0.4, 0.4, 0.38)))
    if rng.random() < 0.5:
        mesh.box((x - 0.9, -0.9, 2.4), (x + 0.9, 0, 2.5), paint((0.2, 0.2, 0.2)))


def _gable(mesh: Mesh, width: float, depth: float, z: float, tiles: Material, wall: Material,
           towards: bool) -> None:
    """Add a roof of 35 to 40 degrees; its ridge along the street, or towards it."""
    over = 0.4
    if towards:
        turned = Mesh()
        _gable(turned, depth, width, 0.0, tiles, wall, False)
        mesh.place(turned, (width / 2, depth / 2, z), math.pi / 2)
        return
    ridge = z + depth * 0.38
    x0, x1, middle = -width / 2 - over, width / 2 + over, depth / 2
    drop = 0.76 * over
    for x in (-width / 2, width / 2):
        mesh.triangle((x, 0, z), (x, depth, z), (x, middle, ridge), wall)
    mesh.quad((x0, -over, z - drop), (x1 - x0, 0, 0), (0, middle + over, ridge - z + drop), tiles)
    mesh.quad((x1, depth + over, z - drop), (x0 - x1, 0, 0),
              (0, -middle - over, ridge - z + drop), tiles)
