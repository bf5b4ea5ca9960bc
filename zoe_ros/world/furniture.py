"""Furniture and other objects of rooms in usual sizes [m], which show the scale of an image."""
from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np

from zoe_ros.world.mesh import Mesh
from zoe_ros.world.textures import Color, lamp, Material, paint

Rng = np.random.Generator
WOODS: list[Color] = [(0.45, 0.27, 0.13), (0.32, 0.17, 0.08), (0.6, 0.42, 0.24), (0.2, 0.11, 0.06),
                      (0.68, 0.55, 0.38), (0.75, 0.73, 0.7)]
FABRICS: list[Color] = [(0.12, 0.16, 0.3), (0.4, 0.08, 0.08), (0.35, 0.33, 0.3), (0.1, 0.22, 0.14),
                        (0.08, 0.08, 0.09), (0.55, 0.48, 0.36), (0.45, 0.25, 0.1),
                        (0.25, 0.3, 0.38), (0.6, 0.6, 0.58)]
SKINS: list[Color] = [(0.55, 0.36, 0.27), (0.35, 0.2, 0.13), (0.15, 0.08, 0.05),
                      (0.62, 0.45, 0.36)]


@dataclass(frozen=True, eq=False)
class Prop:
    """An object on the floor at the origin; the front faces -y. Width along x, depth along y."""

    mesh: Mesh
    width: float
    depth: float


def pick(rng: Rng, items: list[Color]) -> Color:
    """Return one of the colours with a small random change."""
    base = np.array(items[int(rng.integers(len(items)))])
    shade, tint = np.exp(rng.normal(0, 0.12)), np.exp(rng.normal(0, 0.06, 3))
    r, g, b = (base * shade * tint).clip(0.02, 0.85)
    return float(r), float(g), float(b)


def seed(rng: Rng) -> int:
    """Return a random seed for a material."""
    return int(rng.integers(1 << 16))


def wood(rng: Rng) -> Material:
    """Return a board with grain."""
    return Material('bond', pick(rng, WOODS), (0.1, 0.06, 0.03), (2.5, 0.4), 0.12, -1, 0.0,
                    seed=seed(rng), use='wood')


def fabric(rng: Rng) -> Material:
    """Return plain, mottled, striped or checked cloth."""
    kind = rng.choice(['mottled', 'mottled', 'stripes', 'checker'])
    color, second = pick(rng, FABRICS), pick(rng, FABRICS)
    if kind == 'mottled':
        r, g, b = (0.8 * c for c in color)
        return Material('mottled', color, (r, g, b), (1.0, 0.3), 0.1, seed=seed(rng),
                        use='fabric')
    period = float(rng.uniform(0.08, 0.25))
    size = (period, period / 2) if kind == 'stripes' else (period, period)
    return Material(str(kind), color, second, size, 0.08, seed=seed(rng), use='fabric')


def metal(rng: Rng) -> Material:
    """Return dark or bright metal or plastic."""
    gray = float(rng.choice([0.04, 0.1, 0.35, 0.6]))
    return paint((gray, gray, gray * 1.03), 0.04, seed(rng), 'metal')


def motif(rng: Rng, width: float, height: float, glow: float = 0.0) -> Material:
    """Return a picture."""
    one, two = (tuple(float(x) for x in rng.uniform(0.05, 0.7, 3)) for _ in range(2))
    return Material('picture', one, two, (width, height), 0.45, glow=glow,  # type: ignore
                    seed=seed(rng), use='picture')


def _legs(mesh: Mesh, width: float, depth: float, height: float, thick: float,
          material: Material) -> None:
    for x in (-width / 2, width / 2 - thick):
        for y in (-depth / 2, depth / 2 - thick):
            mesh.box((x, y, 0), (x + thick, y + thick, height), material)


def table(rng: Rng) -> Prop:
    """Return a dining table, 0.72 to 0.76 m high, with objects on the top."""
    width, depth = rng.uniform(1.1, 1.9), rng.uniform(0.75, 0.95)
    return _tabletop(rng, width, depth, rng.uniform(0.72, 0.76), int(rng.integers(0, 6)))


def coffee_table(rng: Rng) -> Prop:
    """Return a low table."""
    return _tabletop(rng, rng.uniform(0.8, 1.2), rng.uniform(0.5, 0.7), rng.uniform(0.38, 0.46),
                     int(rng.integers(0, 4)))


def _tabletop(rng: Rng, width: float, depth: float, height: float, things: int) -> Prop:
    mesh = Mesh()
    material = wood(rng)
    mesh.box((-width / 2, -depth / 2, height - 0.035), (width / 2, depth / 2, height), material)
    _legs(mesh, width - 0.08, depth - 0.08, height - 0.035, rng.uniform(0.04, 0.07),
          material if rng.random() < 0.6 else metal(rng))
    clutter(rng, mesh, (-width / 2, -depth / 2), (width / 2, depth / 2), height, things)
    return Prop(mesh, width, depth)


def clutter(rng: Rng, mesh: Mesh, low: tuple[float, float], high: tuple[float, float], z: float,
            count: int) -> None:
    """Put cups, books, bowls and boxes on a surface."""
    for _ in range(count):
        x, y = rng.uniform(np.add(low, 0.15), np.subtract(high, 0.15))
        kind = rng.integers(4)
        thing = Mesh()
        if kind == 0:
            thing.cylinder((0, 0, 0), 0.1, 0.04, paint(pick(rng, FABRICS)))
        elif kind == 1:
            for k in range(int(rng.integers(1, 4))):
                thing.box((-0.1, -0.14, 0.03 * k), (0.1, 0.14, 0.03 * k + 0.028),
                          paint(pick(rng, FABRICS)))
        elif kind == 2:
            thing.cylinder((0, 0, 0), 0.08, 0.07, paint(pick(rng, WOODS)), 0.13)
        else:
            thing.cylinder((0, 0, 0), 0.2, 0.035, paint(pick(rng, FABRICS)))
            thing.cylinder((0, 0, 0.2), 0.08, 0.015, paint(pick(rng, FABRICS)))
        mesh.place(thing, (x, y, z), rng.uniform(0, 6.3))


def chair(rng: Rng) -> Prop:
    """Return a chair, its seat at 0.45 m."""
    mesh = Mesh()
    frame = wood(rng) if rng.random() < 0.6 else metal(rng)
    seat = frame if rng.random() < 0.5 else fabric(rng)
    _legs(mesh, 0.42, 0.42, 0.43, 0.035, frame)
    mesh.box((-0.22, -0.22, 0.43), (0.22, 0.22, 0.47), seat)
    top = rng.uniform(0.82, 0.95)
    for x in (-0.21, 0.175):
        mesh.box((x, 0.175, 0.47), (x + 0.035, 0.21, top), frame)
    if rng.random() < 0.5:
        mesh.box((-0.175, 0.18, 0.58), (0.175, 0.205, top), seat)
    else:
        for z in (0.57, 0.7, top - 0.09):
            mesh.box((-0.175, 0.18, z), (0.175, 0.205, z + 0.07), frame)
    return Prop(mesh, 0.45, 0.45)


def office_chair(rng: Rng) -> Prop:
    """Return a swivel chair on a star of five feet."""
    mesh = Mesh()
    dark, cloth = metal(rng), fabric(rng)
    for k in range(5):
        arm = Mesh()
        arm.box((0, -0.025, 0.03), (0.3, 0.025, 0.08), dark)
        mesh.place(arm, (0, 0), 2 * math.pi * k / 5)
    mesh.cylinder((0, 0, 0.06), 0.36, 0.03, dark)
    mesh.box((-0.25, -0.25, 0.42), (0.25, 0.25, 0.51), cloth)
    mesh.frustum((-0.23, 0.2, 0.6), (0.23, 0.27, 1.1), (0.04, 0.04, 0.02, 0), cloth)
    mesh.box((-0.03, 0.21, 0.45), (0.03, 0.25, 0.7), dark)
    return Prop(mesh, 0.6, 0.6)


def sofa(rng: Rng) -> Prop:
    """Return a sofa or an armchair, its seat at 0.42 m."""
    mesh = Mesh()
    cloth = fabric(rng)
    width, depth = float(rng.choice([0.9, 1.6, 2.1])), 0.9
    mesh.box((-width / 2, -depth / 2, 0.08), (width / 2, depth / 2, 0.3), cloth)
    mesh.frustum((-width / 2, depth / 2 - 0.25, 0.3), (width / 2, depth / 2, 0.85),
                 (0, 0, 0.1, 0), cloth)
    for x in (-width / 2, width / 2 - 0.16):
        mesh.box((x, -depth / 2, 0.3), (x + 0.16, depth / 2 - 0.2, 0.6), cloth)
    seats = max(1, round((width - 0.32) / 0.65))
    for k in range(seats):
        side = (width - 0.34) / seats
        x = -width / 2 + 0.17 + k * side
        mesh.box((x + 0.01, -depth / 2 + 0.01, 0.3), (x + side - 0.01, depth / 2 - 0.22, 0.44),
                 cloth)
    for _ in range(int(rng.integers(0, 3))):
        x = rng.uniform(-width / 2 + 0.4, max(width / 2 - 0.4, -width / 2 + 0.41))
        cushion = Mesh()
        cushion.ellipsoid((0, 0, 0.2), (0.22, 0.09, 0.2), fabric(rng))
        mesh.place(cushion, (x, depth / 2 - 0.33, 0.44), rng.uniform(-0.3, 0.3))
    return Prop(mesh, width, depth)


def bed(rng: Rng) -> Prop:
    """Return a bed, 2 m long, its head at the back."""
    mesh = Mesh()
    frame = wood(rng)
    width, depth = float(rng.choice([0.9, 1.4, 1.6])) + 0.08, 2.08
    top = rng.uniform(0.45, 0.55)
    mesh.box((-width / 2, -depth / 2, 0.1), (width / 2, depth / 2, 0.28), frame)
    mesh.box((-width / 2, depth / 2 - 0.05, 0.1), (width / 2, depth / 2, rng.uniform(0.8, 1.1)),
             frame)
    mesh.box((-width / 2 + 0.03, -depth / 2 + 0.03, 0.28),
             (width / 2 - 0.03, depth / 2 - 0.05, top),
             paint((0.75, 0.74, 0.72)))
    mesh.box((-width / 2 + 0.01, -depth / 2 + 0.01, top - 0.15),
             (width / 2 - 0.01, depth / 2 - 0.7, top + 0.06), fabric(rng))
    for k in range(1 if width < 1.2 else 2):
        x = 0 if width < 1.2 else (k - 0.5) * 0.75
        mesh.ellipsoid((x, depth / 2 - 0.35, top + 0.05), (0.36, 0.24, 0.1),
                       paint((0.8, 0.78, 0.75)))
    return Prop(mesh, width, depth)


def shelf(rng: Rng) -> Prop:
    """Return a shelf with books and other objects, boards 0.3 to 0.38 m apart."""
    mesh = Mesh()
    frame = wood(rng)
    width, depth = float(rng.choice([0.6, 0.8, 1.0, 1.6])), 0.3
    gap, count = rng.uniform(0.3, 0.38), int(rng.integers(3, 7))
    height = gap * count + 0.03
    for x in (-width / 2, width / 2 - 0.025):
        mesh.box((x, -depth / 2, 0), (x + 0.025, depth / 2, height), frame)
    mesh.box((-width / 2, depth / 2 - 0.01, 0), (width / 2, depth / 2, height), frame)
    for k in range(count + 1):
        z = min(0.05 + gap * k, height - 0.025)
        mesh.box((-width / 2 + 0.025, -depth / 2, z),
                 (width / 2 - 0.025, depth / 2 - 0.01, z + 0.025),
                 frame)
        if k < count:
            _fill_board(rng, mesh, width, depth, z + 0.025, gap)
    return Prop(mesh, width, depth)


def _fill_board(rng: Rng, mesh: Mesh, width: float, depth: float, z: float, gap: float) -> None:
    x, end = -width / 2 + 0.03, width / 2 - 0.03
    while x < end - 0.12:
        piece = min(rng.uniform(0.15, 0.6), end - x)
        if rng.random() < 0.65:
            height = rng.uniform(0.6, 0.85) * gap
            spines = Material('spines', (0, 0, 0), size=(float(rng.uniform(0.025, 0.045)), height),
                              seed=seed(rng), use='spines')
            y = -depth / 2 + rng.uniform(0.02, 0.08)
            mesh.box((x, y, z), (x + piece, depth / 2 - 0.01, z + height), spines,
                     paint((0.6, 0.57, 0.5)))
        elif piece > 0.3:
            clutter(rng, mesh, (x, -depth / 2), (x + piece, depth / 2), z, 1)
        x += piece + 0.01


def cupboard(rng: Rng) -> Prop:
    """Return a wardrobe, a chest of drawers or a sideboard, with doors or drawers."""
    mesh = Mesh()
    body = wood(rng) if rng.random() < 0.7 else paint(pick(rng, [(0.7, 0.7, 0.68)]))
    kind = rng.integers(3)
    width = (float(rng.choice([1.0, 1.5, 2.0])), rng.uniform(0.7, 1.0),
             rng.uniform(1.2, 1.8))[kind]
    depth = (0.6, 0.45, 0.42)[kind]
    height = (rng.uniform(1.9, 2.1), rng.uniform(0.8, 1.1), rng.uniform(0.6, 0.85))[kind]
    rows = (1, int(rng.integers(3, 5)), int(rng.integers(1, 3)))[kind]
    columns = (round(width / 0.5), 1, 3)[kind]
    mesh.box((-width / 2, -depth / 2 + 0.02, 0), (width / 2, depth / 2, height), body)
    knob = metal(rng)
    w, h = width / columns, (height - 0.1) / rows
    for i in range(columns):
        for k in range(rows):
            x, z = -width / 2 + i * w, 0.08 + k * h
            mesh.box((x + 0.006, -depth / 2, z + 0.006),
                     (x + w - 0.006, -depth / 2 + 0.02, z + h - 0.006), body)
            at = x + w / 2 if rows > 1 else x + (w - 0.06 if i % 2 == 0 else 0.06)
            middle = z + h / 2
            mesh.box((at - 0.015, -depth / 2 - 0.03, middle - 0.06),
                     (at + 0.015, -depth / 2, middle + 0.06), knob)
    if height < 1.3:
        clutter(rng, mesh, (-width / 2, -depth / 2), (width / 2, depth / 2), height,
                int(rng.integers(0, 4)))
    if kind == 2 and rng.random() < 0.6:
        _screen(rng, mesh, rng.uniform(0.9, 1.25), (0, 0.05, height + 0.06))
    return Prop(mesh, width, depth)


def _screen(rng: Rng, mesh: Mesh, width: float, at: tuple[float, float, float]) -> None:
    """Add a television or a monitor of 16:9 on a foot."""
    x, y, z = at
    height, black = width * 9 / 16, paint((0.03, 0.03, 0.03))
    mesh.box((x - width / 2, y, z), (x + width / 2, y + 0.04, z + height), black)
    mesh.box((x - 0.12, y - 0.08, z - 0.06), (x + 0.12, y + 0.12, z - 0.045), black)
    mesh.box((x - 0.03, y + 0.01, z - 0.045), (x + 0.03, y + 0.03, z), black)
    shown = motif(rng, width, height, 0.8) if rng.random() < 0.5 else paint((0.05, 0.05, 0.06))
    mesh.quad((x - width / 2 + 0.02, y - 0.003, z + 0.02), (width - 0.04, 0, 0),
              (0, 0, height - 0.04), shown)


def desk(rng: Rng) -> Prop:
    """Return a desk with a monitor and a keyboard."""
    prop = _tabletop(rng, rng.uniform(1.2, 1.6), rng.uniform(0.7, 0.8), 0.74,
                     int(rng.integers(0, 3)))
    mesh = prop.mesh
    _screen(rng, mesh, rng.uniform(0.5, 0.62), (rng.uniform(-0.2, 0.2), 0.15, 0.86))
    mesh.box((-0.22, -0.18, 0.74), (0.22, -0.04, 0.765), metal(rng))
    x = prop.width / 2 - 0.45
    mesh.box((x, -0.3, 0.05), (x + 0.4, 0.3, 0.6), wood(rng))
    return prop


def floor_lamp(rng: Rng) -> Prop:
    """Return a standing lamp, 1.5 to 1.8 m high."""
    mesh = Mesh()
    height, dark = rng.uniform(1.5, 1.8), metal(rng)
    mesh.cylinder((0, 0, 0), 0.03, 0.15, dark)
    mesh.cylinder((0, 0, 0.03), height - 0.25, 0.015, dark)
    mesh.cylinder((0, 0, height - 0.28), 0.28, 0.2, lamp((0.9, 0.8, 0.6), rng.uniform(0.5, 2)),
                  0.13)
    return Prop(mesh, 0.4, 0.4)


def plant(rng: Rng) -> Prop:
    """Return a plant in a pot."""
    mesh = Mesh()
    height = rng.uniform(0.7, 1.6)
    mesh.cylinder((0, 0, 0), 0.3, 0.13, paint(pick(rng, WOODS)), 0.17)
    mesh.cylinder((0, 0, 0.3), height - 0.5, 0.02, paint((0.2, 0.14, 0.08)))
    leaves = Material('mottled', (0.03, 0.1, 0.02), (0.12, 0.25, 0.06), (0.3, 0.2), 0.3,
                      seed=seed(rng), use='leaves')
    for _ in range(int(rng.integers(5, 10))):
        at = rng.normal(0, 0.12, 3) * (1, 1, 1.2) + (0, 0, height - 0.25)
        mesh.ellipsoid(at, rng.uniform((0.1, 0.1, 0.06), (0.2, 0.2, 0.14)), leaves)
    return Prop(mesh, 0.6, 0.6)


def carton(rng: Rng) -> Prop:
    """Return a stack of boxes."""
    mesh = Mesh()
    z, cover = 0.0, Material('mottled', (0.42, 0.28, 0.16), (0.36, 0.23, 0.13), (1.0, 0.3), 0.05,
                             seed=seed(rng))
    for _ in range(int(rng.integers(1, 4))):
        size = rng.uniform((0.3, 0.25, 0.2), (0.5, 0.4, 0.4))
        part = Mesh()
        part.box((-size[0] / 2, -size[1] / 2, 0), (size[0] / 2, size[1] / 2, size[2]), cover)
        mesh.place(part, (0, 0, z), rng.uniform(-0.15, 0.15))
        z += size[2]
    return Prop(mesh, 0.55, 0.45)


def bin_(rng: Rng) -> Prop:
    """Return a waste bin."""
    mesh = Mesh()
    mesh.cylinder((0, 0, 0), rng.uniform(0.3, 0.5), 0.13, metal(rng), 0.16)
    return Prop(mesh, 0.34, 0.34)


def kitchen(rng: Rng) -> Prop:
    """Return a row of kitchen units, 0.9 m high, with cupboards on the wall and a refrigerator."""
    mesh = Mesh()
    front = wood(rng) if rng.random() < 0.5 else paint(pick(rng, [(0.75, 0.75, 0.72), *FABRICS]))
    top = Material('mottled', pick(rng, WOODS), (0.1, 0.1, 0.1), (0.6, 0.15), 0.1, seed=seed(rng))
    count, depth, knob = int(rng.integers(3, 6)), 0.6, metal(rng)
    width = 0.6 * count
    mesh.box((-width / 2, -depth / 2 + 0.06, 0), (width / 2, depth / 2, 0.1), paint((0.05,) * 3))
    mesh.box((-width / 2, -depth / 2 + 0.02, 0.1), (width / 2, depth / 2, 0.86), front)
    mesh.box((-width / 2, -depth / 2, 0.86), (width / 2, depth / 2, 0.9), top)
    for i in range(count):
        x = -width / 2 + 0.6 * i
        mesh.box((x + 0.005, -depth / 2, 0.11), (x + 0.595, -depth / 2 + 0.02, 0.85), front)
        mesh.box((x + 0.2, -depth / 2 - 0.03, 0.76), (x + 0.4, -depth / 2, 0.78), knob)
        if i != 1:
            mesh.box((x + 0.005, depth / 2 - 0.35, 1.45), (x + 0.595, depth / 2, 2.15), front)
    x = -width / 2 + 0.9
    mesh.box((x - 0.28, -0.24, 0.9), (x + 0.28, 0.2, 0.906), paint((0.02, 0.02, 0.02)))
    clutter(rng, mesh, (-width / 2, -depth / 2), (width / 2, 0), 0.9, int(rng.integers(1, 5)))
    x = width / 2 + 0.02
    mesh.box((x, -0.3, 0), (x + 0.6, 0.3, rng.uniform(1.6, 1.9)), paint((0.7, 0.7, 0.7)))
    shifted = Mesh()
    shifted.place(mesh, (-0.31, 0))
    return Prop(shifted, width + 0.62, depth)


def person(rng: Rng) -> Prop:
    """Return a person, standing or walking, 1.5 to 1.9 m tall."""
    mesh = Mesh()
    k = rng.uniform(1.5, 1.9) / 1.75
    skin, shirt, trousers = (paint(pick(rng, c), use=use) for c, use in (
        (SKINS, 'skin'), (FABRICS, 'fabric'), (FABRICS, 'fabric')))
    shoes, hair = paint((0.05, 0.04, 0.04)), paint(pick(rng, WOODS[:4]))
    stride = rng.uniform(0, 0.18)
    for x, y in ((-0.1, stride), (0.1, -stride)):
        mesh.hexahedron(k * np.array([
            [[[x - 0.07, y - 0.08, 0.07], [x + 0.07, y - 0.08, 0.07]],
             [[x - 0.07, y + 0.08, 0.07], [x + 0.07, y + 0.08, 0.07]]],
            [[[x - 0.09, -0.1, 0.85], [x + 0.09, -0.1, 0.85]],
             [[x - 0.09, 0.1, 0.85], [x + 0.09, 0.1, 0.85]]]]), trousers)
        mesh.box(k * np.array([x - 0.06, y - 0.2, 0]), k * np.array([x + 0.06, y + 0.09, 0.08]),
                 shoes)
    mesh.ellipsoid((0, 0, 1.13 * k), (0.22 * k, 0.14 * k, 0.38 * k), shirt)
    for x in (-0.25, 0.25):
        mesh.ellipsoid((x * k, 0, 1.12 * k), (0.06 * k, 0.08 * k, 0.32 * k), shirt)
        mesh.ellipsoid((x * k, 0, 0.79 * k), (0.05 * k, 0.05 * k, 0.08 * k), skin)
    mesh.ellipsoid((0, 0, 1.6 * k), (0.09 * k, 0.11 * k, 0.14 * k), skin)
    mesh.ellipsoid((0, 0.02 * k, 1.66 * k), (0.1 * k, 0.115 * k, 0.1 * k), hair)
    return Prop(mesh, 0.6 * k, 0.55 * k)
