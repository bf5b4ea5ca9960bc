"""Rooms and corridors: walls, doors and windows, furniture, lamps, and a walk through them."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
import math

import numpy as np

from zoe_ros.world import furniture as f
from zoe_ros.world.furniture import pick, Prop, Rng, seed
from zoe_ros.world.mesh import Mesh, turn
from zoe_ros.world.render import Light, Pose, Scene
from zoe_ros.world.textures import Color, lamp, Material, paint

_PAINTS: list[Color] = [(0.72, 0.7, 0.66), (0.75, 0.75, 0.74), (0.6, 0.55, 0.42),
                        (0.45, 0.55, 0.6),
                        (0.5, 0.58, 0.45), (0.62, 0.45, 0.38), (0.66, 0.62, 0.5), (0.4, 0.42, 0.5)]
_LAMP = np.array([1.0, 0.86, 0.68])
_DAY = np.array([0.85, 0.95, 1.1])
_CLEAR = 0.42           # between the camera and furniture [m]

# Furniture along the walls of a room, and in the middle.
_ROOMS: dict[str, tuple[list[Callable[[Rng], Prop]], list[Callable[[Rng], Prop]]]] = {
    'bedroom': ([f.bed, f.cupboard, f.cupboard, f.shelf, f.desk, f.chair, f.plant, f.carton],
                []),
    'living': ([f.sofa, f.shelf, f.cupboard, f.sofa, f.floor_lamp, f.plant, f.shelf],
               [f.coffee_table]),
    'dining': ([f.kitchen, f.cupboard, f.shelf, f.plant, f.bin_], [f.table]),
    'office': ([f.desk, f.desk, f.shelf, f.shelf, f.cupboard, f.plant, f.bin_, f.carton],
               [f.table]),
    'study': ([f.desk, f.shelf, f.shelf, f.shelf, f.sofa, f.floor_lamp], []),
}


@dataclass(eq=False)
class Plan:
    """A floor of width x length [m], and the rectangles on it that are taken."""

    width: float
    length: float
    height: float
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def free(self, low: np.ndarray, high: np.ndarray, gap: float) -> bool:
        """Tell whether a rectangle, with a gap around it, is free."""
        return not any(low[0] - gap < x1 and high[0] + gap > x0 and low[1] - gap < y1
                       and high[1] + gap > y0 for x0, y0, x1, y1 in self.taken)

    def take(self, low: np.ndarray, high: np.ndarray) -> None:
        """Take a rectangle."""
        self.taken.append((low[0], low[1], high[0], high[1]))

    def walls(self) -> list[tuple[np.ndarray, float, float]]:
        """Return start, yaw of furniture against the wall, and length, for each wall."""
        w, n = self.width, self.length
        return [(np.array([0.0, n]), 0.0, w), (np.array([w, n]), -math.pi / 2, n),
                (np.array([w, 0.0]), math.pi, w), (np.array([0.0, 0.0]), math.pi / 2, n)]


def room(rng: Rng, poses: int) -> Scene:
    """Return a furnished room with ``poses`` poses of a camera."""
    kind = str(rng.choice(list(_ROOMS)))
    plan = Plan(rng.uniform(2.8, 5.5), rng.uniform(3.4, 8.5), rng.uniform(2.4, 2.9))
    mesh = Mesh()
    shell(rng, mesh, plan)
    doors = _doors(rng, mesh, plan, int(rng.integers(1, 3)))
    lights = windows(rng, mesh, plan, int(rng.integers(0, 4)), doors)
    along, inside = _ROOMS[kind]
    for make in inside:
        for _ in range(2 if plan.length > 6 else 1):
            _in_the_middle(rng, mesh, plan, make(rng))
    for index in rng.permutation(len(along)):
        at_a_wall(rng, mesh, plan, along[index](rng))
    for _ in range(int(plan.width * plan.length / 12)):
        at_a_wall(rng, mesh, plan, along[int(rng.integers(len(along)))](rng))
    if rng.random() < 0.3:
        somewhere(rng, mesh, plan, f.person(rng))
    pictures(rng, mesh, plan, int(rng.integers(1, 5)))
    lights += ceiling_lamps(rng, mesh, plan, 1 if plan.length < 5 else 2)
    return _scene(rng, mesh, plan, lights, poses)


def corridor(rng: Rng, poses: int) -> Scene:
    """Return a corridor with doors along it and ``poses`` poses of a camera."""
    plan = Plan(rng.uniform(1.7, 2.8), rng.uniform(9, 22), rng.uniform(2.4, 3.0))
    mesh = Mesh()
    shell(rng, mesh, plan)
    doors = _doors(rng, mesh, plan, int(plan.length / 2.2))
    lights = windows(rng, mesh, plan, int(rng.integers(0, 2)), doors)
    for _ in range(int(rng.integers(1, 6))):
        make = (f.cupboard, f.plant, f.bin_, f.carton, f.chair, f.shelf)[int(rng.integers(6))]
        prop = make(rng)
        if prop.depth < plan.width - 1.2:
            at_a_wall(rng, mesh, plan, prop)
    for _ in range(int(rng.integers(0, 3))):
        somewhere(rng, mesh, plan, f.person(rng))
    pictures(rng, mesh, plan, int(rng.integers(2, 7)))
    lights += ceiling_lamps(rng, mesh, plan, int(plan.length / 4))
    return _scene(rng, mesh, plan, lights, poses)


def flooring(rng: Rng) -> Material:
    """Return planks, tiles, carpet or a checked floor."""
    kind = rng.integers(4)
    if kind == 0:
        return Material('bond', pick(rng, f.WOODS[:5]), (0.06, 0.04, 0.02),
                        (1.2, float(rng.choice([0.09, 0.14, 0.19]))), 0.25, -1, 0.004,
                        seed=seed(rng), use='floor')
    if kind == 1:
        side = float(rng.choice([0.2, 0.3, 0.45, 0.6]))
        tiles: list[Color] = [(0.55, 0.52, 0.47), (0.6, 0.45, 0.35), (0.3, 0.3, 0.3)]
        return Material('bond', pick(rng, tiles), (0.3, 0.3, 0.28), (side, side), 0.12, 0, 0.006,
                        seed=seed(rng), use='floor')
    if kind == 2:
        color = pick(rng, f.FABRICS)
        r, g, b = (0.7 * c for c in color)
        return Material('mottled', color, (r, g, b), (1.5, 0.25), 0.2, seed=seed(rng),
                        use='floor')
    side = float(rng.choice([0.3, 0.5]))
    one = pick(rng, f.FABRICS[2:])
    return Material('checker', one, pick(rng, [one, one, (0.6, 0.58, 0.54)]), (side, side), 0.08,
                    seed=seed(rng), use='floor')


def walling(rng: Rng) -> Material:
    """Return paint, wallpaper or bricks."""
    color = pick(rng, _PAINTS)
    kind = rng.random()
    if kind < 0.7:
        return paint(color, 0.035, seed(rng), 'wall')
    if kind < 0.85:
        r, g, b = (0.85 * c for c in color)
        period = float(rng.choice([0.1, 0.2, 0.3]))
        return Material('stripes', color, (r, g, b), (period, period / 2), 0.03, seed=seed(rng),
                        use='wall')
    return Material('bond', pick(rng, [(0.45, 0.2, 0.13), (0.65, 0.63, 0.6)]), (0.5, 0.48, 0.45),
                    (0.25, 0.075), 0.18, 0.5, 0.01, seed=seed(rng), use='wall')


def shell(rng: Rng, mesh: Mesh, plan: Plan) -> None:
    """Add floor, ceiling, walls and skirting."""
    w, n, h = plan.width, plan.length, plan.height
    floor = flooring(rng)
    if rng.random() < 0.5:
        mesh.quad((0, 0, 0), (w, 0, 0), (0, n, 0), floor)
    else:
        mesh.quad((w, 0, 0), (0, n, 0), (-w, 0, 0), floor)
    ceiling = paint((0.75, 0.75, 0.73), 0.03, seed(rng), 'ceiling')
    mesh.quad((0, n, h), (w, 0, 0), (0, -n, 0), ceiling)
    wall, other = walling(rng), walling(rng)
    skirting = paint((0.65, 0.63, 0.6)) if rng.random() < 0.6 else f.wood(rng)
    one = int(rng.integers(8))      # one wall has another colour, in half of the rooms
    for k, (start, yaw, length) in enumerate(plan.walls()):
        part = Mesh()
        part.quad((0, 0, 0), (length, 0, 0), (0, 0, h), other if k == one else wall)
        part.box((0, -0.015, 0), (length, 0, 0.08), skirting)
        mesh.place(part, start, yaw)
    if rng.random() < 0.4:
        size = np.array([min(w - 0.8, rng.uniform(1.2, 2.4)), min(n - 0.8, rng.uniform(1.6, 3))])
        low = rng.uniform(0.4, np.array([w, n]) - 0.35 - size)
        mesh.box((*low, 0), (*(low + size), 0.012), f.fabric(rng))


def _along(rng: Rng, plan: Plan, width: float, depth: float, tries: int = 30,
           only: int | None = None) -> tuple[np.ndarray, float] | None:
    """Reserve a free place with the back to a wall; return the place and the yaw."""
    for _ in range(tries):
        start, yaw, length = plan.walls()[int(rng.integers(4)) if only is None else only]
        if length < width + 0.1:
            continue
        x = rng.uniform(width / 2 + 0.03, length - width / 2 - 0.03)
        rotation = turn(yaw)[:2, :2]
        ends = np.array([start + rotation @ (x - width / 2, -0.02),
                         start + rotation @ (x + width / 2, -depth)])
        low, high = ends.min(axis=0), ends.max(axis=0)
        if plan.free(low, high, 0.05):
            plan.take(low, high)
            return start + rotation @ (x, 0.0), yaw
    return None


def _doors(rng: Rng, mesh: Mesh, plan: Plan, count: int) -> list[tuple[float, float]]:
    """Add doors, 2 m high, and keep the floor in front of them free."""
    leaf = f.wood(rng) if rng.random() < 0.6 else paint(pick(rng, _PAINTS))
    frame, handle = paint(pick(rng, _PAINTS)), f.metal(rng)
    width = float(rng.choice([0.8, 0.9]))
    places = []
    for _ in range(count):
        place = _along(rng, plan, width + 0.2, 0.5)
        if place is None:
            continue
        door, z = Mesh(), 2.0
        door.box((-width / 2, -0.02, 0.005), (width / 2, -0.002, z), leaf)
        for low, high in ((0.2, 0.9), (1.1, 1.85)):
            door.box((-width / 2 + 0.15, -0.03, low), (width / 2 - 0.15, -0.02, high), leaf)
        for x in (-width / 2 - 0.08, width / 2):
            door.box((x, -0.04, 0), (x + 0.08, -0.001, z + 0.08), frame)
        door.box((-width / 2, -0.04, z), (width / 2, -0.001, z + 0.08), frame)
        side = width / 2 - 0.08
        door.box((side - 0.12, -0.08, 1.03), (side + 0.01, -0.06, 1.05), handle)
        door.box((side - 0.015, -0.06, 0.98), (side + 0.015, -0.02, 1.1), handle)
        mesh.place(door, place[0], place[1])
        places.append((float(place[0][0]), float(place[0][1])))
    return places


def windows(rng: Rng, mesh: Mesh, plan: Plan, count: int,
            doors: list[tuple[float, float]]) -> list[Light]:
    """Add windows with a view of the day, all in one wall, and return their light."""
    wall = int(rng.integers(4))
    start, yaw, length = plan.walls()[wall]
    rotation = turn(yaw)
    frame, day = paint((0.75, 0.75, 0.73)), float(np.exp(rng.normal(0.4, 0.4)))
    curtains = f.fabric(rng) if rng.random() < 0.5 else None
    lights: list[Light] = []
    used: list[float] = [float((np.array(d) - start) @ rotation[:2, 0]) for d in doors
                         if abs((np.array(d) - start) @ rotation[:2, 1]) < 0.1]
    for _ in range(count):
        width, height, sill = rng.uniform(0.9, 1.5), rng.uniform(1.2, 1.4), 0.9
        x = rng.uniform(width / 2 + 0.4, max(length - width / 2 - 0.4, width / 2 + 0.41))
        if length < width + 0.8 or any(abs(x - other) < width + 0.5 for other in used):
            continue
        used.append(x)
        part = Mesh()
        view = Material('picture', (0.2, 0.28, 0.2), (0.75, 0.85, 1.0), (width, height), 0.15,
                        glow=1.4 * day, seed=seed(rng), use='view')
        part.quad((-width / 2, -0.005, sill), (width, 0, 0), (0, 0, height), view)
        for a in (-width / 2 - 0.05, -0.025, width / 2):
            part.box((a, -0.05, sill), (a + 0.05, -0.002, sill + height), frame)
        for z in (sill - 0.05, sill + height):
            part.box((-width / 2 - 0.05, -0.05, z), (width / 2 + 0.05, -0.002, z + 0.05), frame)
        part.box((-width / 2 - 0.08, -0.2, sill - 0.08), (width / 2 + 0.08, -0.002, sill - 0.05),
                 frame)
        if curtains is not None:
            for a in (-width / 2 - 0.3, width / 2 - 0.05):
                part.box((a, -0.1, 0.1), (a + 0.35, -0.06, sill + height + 0.15), curtains)
        part.box((-0.5, -0.12, 0.12), (0.5, -0.03, 0.72), frame)      # the radiator below
        at = np.array([*(start + rotation[:2, 0] * x), 0.0])
        mesh.place(part, at, yaw)
        inward = -rotation[:, 1]
        r, g, b = 1.6 * day * width * height * _DAY
        lights.append(Light(at + inward * 0.25 + (0, 0, sill + height / 2), np.array(
            [rotation[:, 0] * width / 2, (0, 0, height / 2)]), (r, g, b), inward))
    return lights[:2]


def ceiling_lamps(rng: Rng, mesh: Mesh, plan: Plan, count: int) -> list[Light]:
    """Add lamps in a row; the light of many is that of the three that matter for one place."""
    lights = []
    hanging = rng.random() < 0.4 and plan.height > 2.5
    power = float(np.exp(rng.normal(0.6, 0.3)))
    warm = rng.uniform(0, 1)
    color = _LAMP * warm + (1 - warm)
    for k in range(count):
        y = plan.length * (k + 0.5) / count
        part, z = Mesh(), plan.height
        glow = lamp((0.95, 0.9, 0.8), 3.0)
        if hanging:
            part.cylinder((0, 0, -0.5), 0.5, 0.008, paint((0.1,) * 3))
            part.cylinder((0, 0, -0.7), 0.2, 0.2, glow, 0.08)
            z -= 0.8
        elif plan.width < 3 or rng.random() < 0.4:
            part.box((-0.15, -0.6, -0.05), (0.15, 0.6, -0.001), glow)
            z -= 0.15
        else:
            part.cylinder((0, 0, -0.1), 0.099, 0.2, glow)
            z -= 0.2
        mesh.place(part, (plan.width / 2, y, plan.height))
        r, g, b = color * power * (1.8 if count < 3 else 1.3)
        lights.append(Light(np.array([plan.width / 2, y, z]),
                            np.array([(0.15, 0, 0), (0, 0.2, 0)]),
                            (r, g, b)))
    return lights


def at_a_wall(rng: Rng, mesh: Mesh, plan: Plan, prop: Prop) -> None:
    """Add an object with its back to a wall, where there is a free place."""
    place = _along(rng, plan, prop.width, prop.depth + 0.03)
    if place is not None:
        start, yaw = place
        away = turn(yaw)[:2, 1] * (prop.depth / 2 + 0.03)
        mesh.place(prop.mesh, start - away, yaw)


def _in_the_middle(rng: Rng, mesh: Mesh, plan: Plan, prop: Prop) -> None:
    """Add a table, and chairs around a table that is high enough to sit at."""
    yaw = float(rng.choice([0, math.pi / 2]))
    size = np.array([prop.width, prop.depth])[::1 if yaw == 0 else -1]
    room_ = np.array([plan.width, plan.length]) - size
    if (room_ < 1.8).any():
        return
    middle = rng.uniform(size / 2 + 0.9, size / 2 + room_ - 0.9)
    if not plan.free(middle - size / 2, middle + size / 2, 0.5):
        return
    group = Mesh()
    group.place(prop.mesh, (0, 0))
    if prop.depth > 0.72:
        style = int(rng.integers(1 << 30))
        for x in (-0.35, 0.35):
            for side in (0, 1):
                if rng.random() < 0.8:
                    seat = f.chair(np.random.default_rng(style))
                    y = (prop.depth / 2 + rng.uniform(-0.05, 0.25)) * (1 if side else -1)
                    group.place(seat.mesh, (x, y), (0 if side else math.pi) + rng.normal(0, 0.15))
        size = size + 0.5
    mesh.place(group, middle, yaw)
    plan.take(middle - size / 2, middle + size / 2)


def somewhere(rng: Rng, mesh: Mesh, plan: Plan, prop: Prop) -> None:
    """Add an object at a free place."""
    size = max(prop.width, prop.depth)
    for _ in range(20):
        at = rng.uniform(size / 2 + 0.05, np.array([plan.width, plan.length]) - size / 2 - 0.05)
        if plan.free(at - size / 2, at + size / 2, 0.1):
            plan.take(at - size / 2, at + size / 2)
            mesh.place(prop.mesh, at, rng.uniform(0, 2 * math.pi))
            return


def pictures(rng: Rng, mesh: Mesh, plan: Plan, count: int) -> None:
    """Add pictures to walls, away from doors and furniture."""
    for _ in range(count):
        width, height = rng.uniform(0.3, 0.9), rng.uniform(0.3, 0.7)
        place = _along(rng, plan, width, 0.06, tries=8)
        if place is None:
            continue
        part, z = Mesh(), rng.uniform(1.45, 1.65)
        part.box((-width / 2, -0.03, z - height / 2), (width / 2, -0.003, z + height / 2),
                 f.wood(rng))
        part.quad((-width / 2 + 0.03, -0.033, z - height / 2 + 0.03), (width - 0.06, 0, 0),
                  (0, 0, height - 0.06), f.motif(rng, width, height))
        mesh.place(part, *place)
        plan.taken.pop()        # the floor below stays free


def _scene(rng: Rng, mesh: Mesh, plan: Plan, lights: list[Light], poses: int) -> Scene:
    ambient = float(rng.uniform(0.25, 0.5))
    walk = _walk(rng, plan, poses)
    middle = np.mean([pose.position for pose in walk], axis=0)
    lights = sorted(lights, key=lambda light: float(np.linalg.norm(light.position - middle)))
    return Scene('indoor', mesh.arrays, lights[:4], (ambient, ambient, ambient * 0.97), walk)


def _walk(rng: Rng, plan: Plan, count: int) -> list[Pose]:
    """Return poses on straight lines between free places, at one height, with a far view."""
    size = np.array([plan.width, plan.length])
    height = float(rng.choice(
        [rng.uniform(0.4, 1.0), rng.uniform(1.0, 1.7), rng.uniform(1.2, 1.6)]))
    tilt = -0.05 - 0.12 * max(height - 0.6, 0) + rng.normal(0, 0.06)
    stops: list[tuple[np.ndarray, float]] = []
    for _ in range(400):
        at = rng.uniform(0.45, size - 0.45)
        if not plan.free(at, at, _CLEAR):
            continue
        if stops and not _way_is_free(plan, stops[-1][0], at):
            continue
        yaws = rng.uniform(-math.pi, math.pi, 6)
        yaw = max(yaws, key=lambda a: _view(plan, at, a))
        stops.append((at, float(yaw)))
        if len(stops) == max(3, count // 3):
            break
    if not stops:
        stops = [(size / 2, 0.0)]
    poses = []
    for t in np.linspace(0, len(stops) - 1, count):
        k = min(int(t), len(stops) - 2) if len(stops) > 1 else 0
        (a, yaw), (b, next_yaw) = stops[k], stops[min(k + 1, len(stops) - 1)]
        part = t - k
        bend = (next_yaw - yaw + math.pi) % (2 * math.pi) - math.pi
        x, y = a + (b - a) * part
        poses.append(Pose((float(x), float(y), height + 0.02 * math.sin(5 * t)),
                          yaw + bend * part, tilt + 0.05 * math.sin(1.7 * t),
                          0.02 * math.sin(2.3 * t)))
    return poses


def _way_is_free(plan: Plan, a: np.ndarray, b: np.ndarray) -> bool:
    return all(plan.free(p, p, _CLEAR) for p in np.linspace(a, b, 12))


def _view(plan: Plan, at: np.ndarray, yaw: float) -> float:
    """Return the distance to the wall in the viewing direction, [m], clamped to 4."""
    way = np.array([-math.sin(yaw), math.cos(yaw)])
    ends = np.where(way > 0, np.array([plan.width, plan.length]) - at, -at)
    return float(min(np.min(ends / np.where(way == 0, 1e-9, way)), 4.0))
