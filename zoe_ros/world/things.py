"""Small objects of tables and shelves, and plants of many leaves, in usual sizes [m]."""
from __future__ import annotations

import math

import numpy as np

from zoe_ros.world import furniture as f
from zoe_ros.world.furniture import pick, Prop, Rng, seed
from zoe_ros.world.mesh import Mesh
from zoe_ros.world.textures import Color, Material, paint

_BRIGHT: list[Color] = [(0.6, 0.05, 0.04), (0.7, 0.45, 0.03), (0.05, 0.3, 0.08),
                        (0.03, 0.12, 0.45), (0.7, 0.7, 0.68), (0.04, 0.04, 0.04),
                        (0.55, 0.25, 0.05), (0.35, 0.6, 0.7)]
_GREENS: list[Color] = [(0.05, 0.14, 0.03), (0.09, 0.2, 0.04), (0.14, 0.2, 0.05),
                        (0.2, 0.17, 0.05), (0.04, 0.1, 0.05)]


def thing(rng: Rng) -> Prop:
    """Return a random small object, 3 to 40 cm wide."""
    makes = (_bottle, _can, _mug, _box, _box, _bowl, _plate, _fruit, _books, _laptop, _pan, _toy)
    return makes[int(rng.integers(len(makes)))](rng)


def _printed(rng: Rng, width: float, height: float) -> Material:
    """Return the surface of a package: plain, or printed."""
    if rng.random() < 0.4:
        return paint(pick(rng, _BRIGHT), 0.08, seed(rng))
    return f.motif(rng, width, height)


def _bottle(rng: Rng) -> Prop:
    mesh, k = Mesh(), rng.uniform(0.7, 1.3)
    body, cap = paint(pick(rng, _BRIGHT), 0.1, seed(rng)), paint(pick(rng, _BRIGHT))
    mesh.revolve((0, 0, 0), [(0, 0), (0.036 * k, 0), (0.037 * k, 0.15 * k), (0.014 * k, 0.21 * k),
                             (0.013 * k, 0.25 * k)], body, smooth=False)
    mesh.cylinder((0, 0, 0.25 * k), 0.015, 0.016 * k, cap)
    mesh.cylinder((0, 0, 0.04 * k), 0.08 * k, 0.0385 * k, _printed(rng, 0.1, 0.08))
    return Prop(mesh, 0.08 * k, 0.08 * k)


def _can(rng: Rng) -> Prop:
    mesh, r = Mesh(), rng.uniform(0.028, 0.05)
    height = rng.uniform(0.09, 0.16)
    mesh.cylinder((0, 0, 0), height, r, _printed(rng, 0.15, height))
    mesh.cylinder((0, 0, height), 0.004, 0.9 * r, paint((0.55, 0.55, 0.56), use='metal'))
    return Prop(mesh, 2 * r, 2 * r)


def _mug(rng: Rng) -> Prop:
    """Return a mug with a dark drink; its handle is a row of small boxes."""
    mesh, r, height = Mesh(), rng.uniform(0.036, 0.046), rng.uniform(0.08, 0.11)
    cover = paint(pick(rng, _BRIGHT), 0.04, seed(rng))
    mesh.revolve((0, 0, 0), [(0, 0), (0.9 * r, 0), (r, height), (0.9 * r, height),
                             (0.86 * r, 0.8 * height)], cover, smooth=False)
    mesh.cylinder((0, 0, 0.78 * height), 0.002, 0.88 * r, paint((0.06, 0.03, 0.02)))
    for angle in np.linspace(-1.2, 1.2, 5):
        x, z = r + 0.024 * math.cos(angle), height / 2 + 0.03 * math.sin(angle)
        mesh.box((x - 0.007, -0.006, z - 0.009), (x + 0.007, 0.006, z + 0.009), cover)
    return Prop(mesh, 2 * r + 0.05, 2 * r)


def _box(rng: Rng) -> Prop:
    """Return a package, standing or lying."""
    mesh = Mesh()
    x, y, z = rng.permutation(np.exp(rng.uniform(np.log([0.03, 0.05, 0.08]),
                                                 np.log([0.12, 0.2, 0.3]))))
    mesh.box((-x / 2, -y / 2, 0), (x / 2, y / 2, z), _printed(rng, x, z), _printed(rng, x, y))
    return Prop(mesh, x, y)


def _bowl(rng: Rng) -> Prop:
    mesh, r = Mesh(), rng.uniform(0.06, 0.14)
    cover = paint(pick(rng, [*_BRIGHT, *f.WOODS]), 0.05, seed(rng))
    mesh.revolve((0, 0, 0), [(0, 0), (0.5 * r, 0), (0.85 * r, 0.25 * r), (r, 0.55 * r),
                             (0.95 * r, 0.55 * r), (0.7 * r, 0.2 * r), (0, 0.12 * r)], cover,
                 smooth=False)
    if rng.random() < 0.5:
        for _ in range(4):
            at = np.array([*rng.uniform(-0.4 * r, 0.4 * r, 2), 0.45 * r])
            mesh.ellipsoid(at, np.full(3, 0.035), paint(pick(rng, _BRIGHT), 0.1, seed(rng)))
    return Prop(mesh, 2 * r, 2 * r)


def _plate(rng: Rng) -> Prop:
    mesh, r = Mesh(), rng.uniform(0.08, 0.14)
    mesh.revolve((0, 0, 0), [(0, 0), (0.6 * r, 0), (r, 0.02), (0.97 * r, 0.022), (0.6 * r, 0.006),
                             (0, 0.005)], paint(pick(rng, [(0.75, 0.75, 0.73), *_BRIGHT])),
                 smooth=False)
    return Prop(mesh, 2 * r, 2 * r)


def _fruit(rng: Rng) -> Prop:
    mesh, r = Mesh(), rng.uniform(0.025, 0.06)
    mesh.ellipsoid((0, 0, r), (r, r * rng.uniform(0.8, 1.5), r),
                   paint(pick(rng, [*_BRIGHT[:3], (0.7, 0.6, 0.1)]), 0.12, seed(rng)))
    return Prop(mesh, 2 * r, 3 * r)


def _books(rng: Rng) -> Prop:
    mesh, z = Mesh(), 0.0
    for _ in range(int(rng.integers(1, 5))):
        part, thick = Mesh(), rng.uniform(0.01, 0.04)
        x, y = rng.uniform((0.1, 0.15), (0.16, 0.24)) / 2
        part.box((-x, -y, 0), (x, y, thick), paint((0.7, 0.68, 0.6)), _printed(rng, 2 * x, 2 * y))
        mesh.place(part, (0, 0, z), rng.normal(0, 0.15))
        z += thick
    return Prop(mesh, 0.25, 0.3)


def _laptop(rng: Rng) -> Prop:
    mesh, cover = Mesh(), f.metal(rng)
    x, y, open_ = rng.uniform(0.14, 0.18), rng.uniform(0.1, 0.125), rng.uniform(0.0, 0.5)
    mesh.box((-x, -y, 0), (x, y, 0.016), cover)
    mesh.box((-0.9 * x, -0.1 * y, 0.016), (0.9 * x, 0.85 * y, 0.018), paint((0.03, 0.03, 0.03)))
    up = np.array([0, 2 * y * math.sin(open_), 2 * y * math.cos(open_)])
    mesh.quad((-x, y, 0.016), (2 * x, 0, 0), up, f.motif(rng, 2 * x, 2 * y, 0.6))
    mesh.quad((x, y + 0.006, 0.016), (-2 * x, 0, 0), up, cover)
    return Prop(mesh, 2 * x, 3 * y)


def _pan(rng: Rng) -> Prop:
    mesh, r, cover = Mesh(), rng.uniform(0.08, 0.13), f.metal(rng)
    mesh.cylinder((0, 0, 0), rng.uniform(0.04, 0.14), r, cover)
    mesh.box((r, -0.012, 0.035), (r + 0.16, 0.012, 0.05), paint((0.03, 0.03, 0.03)))
    return Prop(mesh, 2 * r + 0.16, 2 * r)


def _toy(rng: Rng) -> Prop:
    """Return some blocks on each other."""
    mesh, z = Mesh(), 0.0
    for _ in range(int(rng.integers(1, 5))):
        part, side = Mesh(), rng.uniform((0.03, 0.03, 0.02), (0.09, 0.06, 0.05))
        part.box((-side[0] / 2, -side[1] / 2, 0), (side[0] / 2, side[1] / 2, side[2]),
                 paint(pick(rng, _BRIGHT)))
        mesh.place(part, (0, 0, z), rng.uniform(0, 6.3))
        z += side[2]
    return Prop(mesh, 0.1, 0.1)


def greenery(rng: Rng) -> Material:
    """Return the surface of leaves."""
    one, two = pick(rng, _GREENS), pick(rng, _GREENS)
    return Material('mottled', one, two, (0.5, 0.1), 0.3, seed=seed(rng), use='leaves')


def bush(rng: Rng, size: np.ndarray, leaf: float, count: int) -> Mesh:
    """
    Return a bush that stands on the origin: some lobes, each with leaves around a dark core.

    :param size: width, depth and height [m].
    :param leaf: length of a leaf [m].
    :param count: of leaves, in all.
    """
    mesh, green = Mesh(), greenery(rng)
    r, g, b = (0.35 * c for c in green.color)
    dark = Material('mottled', (r, g, b), green.color, (0.3, 0.06), 0.4, seed=seed(rng),
                    use='leaves')
    lobes = int(rng.integers(3, 8))
    for k in range(lobes):
        radii = size * rng.uniform(0.25, 0.38)
        # The first lobes stand on the ground; the others lie within the size.
        low = radii[2] * 0.8
        z = low if k < 2 else rng.uniform(low, max(size[2] - radii[2], low))
        middle = np.array([*(rng.uniform(-1, 1, 2) * (size / 2 - radii)[:2]), z])
        mesh.ellipsoid(middle, 0.8 * radii, dark)
        _leaves(rng, mesh, middle, radii, leaf, count // lobes, green)
    return mesh


def _leaves(rng: Rng, mesh: Mesh, middle: np.ndarray, radii: np.ndarray, leaf: float, count: int,
            green: Material) -> None:
    """Add leaves around an ellipsoid, each a rhombus that hangs more or less outwards."""
    way = rng.normal(size=(count, 3))
    way /= np.linalg.norm(way, axis=-1, keepdims=True)
    at = middle + way * radii * rng.uniform(0.75, 1.1, (count, 1))
    u = rng.normal(size=(count, 3)) - 0.6 * way * rng.normal(size=(count, 1))
    u *= leaf * rng.uniform(0.5, 1, (count, 1)) / np.linalg.norm(u, axis=-1, keepdims=True)
    v = np.cross(u, way + 0.5 * rng.normal(size=(count, 3)))
    v *= 0.3 * leaf / np.linalg.norm(v, axis=-1, keepdims=True)
    for side in (1, -1):
        mesh.soup(np.stack([at - u / 2, at + side * v, at + u / 2], axis=1), green)


def grass(rng: Rng, low: np.ndarray, high: np.ndarray, count: int) -> Mesh:
    """Return blades between two corners of a ground [m]."""
    mesh = Mesh()
    foot = np.concatenate([rng.uniform(low, high, (count, 2)), np.zeros((count, 1))], axis=1)
    side = np.concatenate([rng.normal(0, 0.006, (count, 2)), np.zeros((count, 1))], axis=1)
    tip = foot + rng.normal(0, 0.04, (count, 3)) * [1, 1, 0]
    tip[:, 2] = rng.uniform(0.03, 0.2, count)
    mesh.soup(np.stack([foot - side, foot + side, tip], axis=1), greenery(rng))
    return mesh
