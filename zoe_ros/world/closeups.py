"""Scenes close to the camera: table tops, floors, shelves, people, bushes within some metres."""
from __future__ import annotations

from collections.abc import Callable, Sequence
import math

import numpy as np

from zoe_ros.world import furniture as f
from zoe_ros.world import rooms
from zoe_ros.world.cameras import look_at
from zoe_ros.world.furniture import Rng, seed
from zoe_ros.world.mesh import Mesh
from zoe_ros.world.render import Light, Pose, Scene
from zoe_ros.world.rooms import at_a_wall, Plan, shell
from zoe_ros.world.streets import daylight, meadow
from zoe_ros.world.textures import Material, paint
from zoe_ros.world.things import bush, grass, thing


def tabletop(rng: Rng, poses: int) -> Scene:
    """Return objects on a table or on the floor, 0.3 to 1.5 m below the camera."""
    plan, mesh = Plan(rng.uniform(2.2, 5), rng.uniform(2.2, 5), rng.uniform(2.4, 2.9)), Mesh()
    shell(rng, mesh, plan)
    low = rng.random() < 0.2
    size = rng.uniform(0.9, 1.5, 2) if low else rng.uniform((0.7, 0.5), (1.8, 1.0))
    height = 0.0 if low else rng.uniform(0.4, 0.95)
    middle = rng.uniform(size / 2 + 0.15, np.array([plan.width, plan.length]) - size / 2 - 0.15)
    yaw = 0.0 if rng.random() < 0.5 else math.pi
    table = Mesh()
    if not low:
        top = _top(rng)
        table.box((*(-size / 2), height - 0.03), (*(size / 2), height), f.wood(rng), top)
        for x, y in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            at = np.array([x, y]) * (size / 2 - 0.06)
            table.box((*(at - 0.03), 0), (*(at + 0.03), height - 0.03), f.metal(rng))
    _scatter(rng, table, size, height, int(rng.integers(2, 16)))
    mesh.place(table, middle, yaw)
    plan.take(middle - size / 2 - 0.1, middle + size / 2 + 0.1)
    _line_walls(rng, mesh, plan, (0, 4), (f.shelf, f.cupboard, f.plant, f.carton))
    lights = _room_lights(rng, mesh, plan)
    # All poses look at about the same part of the table, from one side.
    azimuth = rng.uniform(-math.pi, math.pi)
    elevation = math.radians(rng.uniform(18, 80))
    distance = math.exp(rng.uniform(math.log(0.4), math.log(1.4)))
    walk = []
    for _ in range(poses):
        target = np.array([*(middle + rng.uniform(-0.25, 0.25, 2) * size), height + 0.04])
        a, e = azimuth + rng.normal(0, 0.25), float(np.clip(elevation + rng.normal(0, 0.1), 0.2,
                                                            1.5))
        away = np.array([math.cos(a) * math.cos(e), math.sin(a) * math.cos(e), math.sin(e)])
        at = target + away * distance * rng.uniform(0.85, 1.15)
        if _inside(plan, at):
            walk.append(look_at(at, target, float(rng.normal(0, 0.07))))
    return _near(rng, mesh, lights, walk, 0.12)


def _top(rng: Rng) -> Material:
    """Return the top of a table: wood, cloth, stone or paint."""
    kind = rng.integers(4)
    if kind == 0:
        return f.fabric(rng)
    if kind == 1:
        return paint(f.pick(rng, [(0.75, 0.75, 0.73), (0.3, 0.3, 0.3), *f.WOODS]), 0.05,
                     seed(rng), 'wall')
    return f.wood(rng)


def _scatter(rng: Rng, mesh: Mesh, size: np.ndarray, height: float, count: int) -> None:
    """Put things on a table around its middle, no two in one place."""
    taken: list[tuple[np.ndarray, float]] = []
    for _ in range(count):
        prop = thing(rng)
        radius = 0.45 * max(prop.width, prop.depth)
        for _ in range(12):
            at = rng.uniform(-0.5, 0.5, 2) * np.maximum(size - 2 * radius, 0.02)
            if _free(at, radius, taken):
                taken.append((at, radius))
                mesh.place(prop.mesh, (*at, height), rng.uniform(0, 2 * math.pi))
                break


def floor(rng: Rng, poses: int) -> Scene:
    """Return boxes, chairs and other things on a floor, 0.4 to 3 m before a low camera."""
    plan, mesh = Plan(rng.uniform(2.5, 6), rng.uniform(3, 7), rng.uniform(2.4, 3)), Mesh()
    shell(rng, mesh, plan)
    _line_walls(rng, mesh, plan, (0, 6), (f.shelf, f.cupboard, f.desk, f.sofa, f.bed))
    lights = _room_lights(rng, mesh, plan)
    start = np.array([plan.width * rng.uniform(0.3, 0.7), 0.3])
    makes = (f.carton, f.carton, f.bin_, f.plant, f.chair, f.office_chair, f.desk, thing, thing)
    taken = [(start, 0.2)]
    for _ in range(int(rng.integers(2, 10))):
        prop = makes[int(rng.integers(len(makes)))](rng)
        radius = 0.5 * math.hypot(prop.width, prop.depth)
        away = radius + math.exp(rng.uniform(math.log(0.45), math.log(3)))
        angle = rng.normal(0, 0.4)
        at = start + away * np.array([math.sin(angle), math.cos(angle)])
        if _inside(plan, np.array([*at, 1.0])) and _free(at, radius, taken):
            taken.append((at, radius))
            mesh.place(prop.mesh, at, rng.uniform(0, 2 * math.pi))
    height = math.exp(rng.uniform(math.log(0.08), math.log(0.9)))
    down = rng.normal(-0.1, 0.12) - 0.3 * max(height - 0.3, 0)
    walk = [Pose((float(start[0] + rng.normal(0, 0.08)), float(start[1] + rng.uniform(-0.1, 0.1)),
                  height), float(rng.normal(0, 0.25)), float(down + rng.normal(0, 0.03)),
                 float(rng.normal(0, 0.04))) for _ in range(poses)]
    return _near(rng, mesh, lights, walk, min(0.25, 0.6 * height))


def shelves(rng: Rng, poses: int) -> Scene:
    """Return a shelf, a kitchen or a desk, seen from 0.5 to 1.6 m."""
    plan, mesh = Plan(rng.uniform(2.8, 6), rng.uniform(2.4, 5), rng.uniform(2.4, 2.9)), Mesh()
    shell(rng, mesh, plan)
    makes = (f.shelf, f.shelf, f.cupboard, f.kitchen, f.desk)
    x, spots = 0.1, []
    while x < plan.width - 0.7:
        prop = makes[int(rng.integers(len(makes)))](rng)
        if x + prop.width > plan.width:
            break
        at = np.array([x + prop.width / 2, plan.length - prop.depth / 2 - 0.02])
        mesh.place(prop.mesh, at)
        spots.append((at[0], plan.length - prop.depth))
        x += prop.width + rng.uniform(0.02, 0.5)
    if not spots:
        spots = [(plan.width / 2, plan.length)]
    lights = _room_lights(rng, mesh, plan)
    x, front = spots[int(rng.integers(len(spots)))]
    distance, height = rng.uniform(0.5, 1.6), rng.uniform(0.3, 1.6)
    angle = rng.normal(0, 0.35)
    walk = []
    for _ in range(poses):
        target = np.array([x + rng.normal(0, 0.2), front, height + rng.normal(0, 0.2)])
        at = target + np.array([math.sin(angle), -math.cos(angle), rng.normal(0.1, 0.2)]
                               ) * distance * rng.uniform(0.85, 1.15)
        at[2] = max(at[2], 0.15)
        if _inside(plan, at):
            walk.append(look_at(at, target, float(rng.normal(0, 0.05))))
    return _near(rng, mesh, lights, walk, 0.3)


def people(rng: Rng, poses: int) -> Scene:
    """Return people 0.7 to 4 m ahead, in a room."""
    plan, mesh = Plan(rng.uniform(3, 6), rng.uniform(4, 8), rng.uniform(2.4, 3)), Mesh()
    shell(rng, mesh, plan)
    _line_walls(rng, mesh, plan, (1, 6), (f.shelf, f.cupboard, f.desk, f.sofa, f.plant))
    rooms.pictures(rng, mesh, plan, int(rng.integers(0, 4)))
    lights = _room_lights(rng, mesh, plan)
    start = np.array([plan.width * rng.uniform(0.3, 0.7), 0.5])
    for _ in range(int(rng.integers(1, 5))):
        away = math.exp(rng.uniform(math.log(0.9), math.log(3.5)))
        angle = rng.normal(0, 0.35)
        at = start + away * np.array([math.sin(angle), math.cos(angle)])
        if _inside(plan, np.array([*at, 1.0])):
            mesh.place(f.person(rng).mesh, at, rng.uniform(0, 2 * math.pi))
    height = rng.uniform(0.3, 1.7)
    walk = [Pose((float(start[0] + rng.normal(0, 0.1)), float(start[1] + rng.uniform(-0.2, 0.2)),
                  height), float(rng.normal(0, 0.2)), float((1.0 - height) * 0.3
                                                            + rng.normal(0, 0.1)),
                 float(rng.normal(0, 0.03))) for _ in range(poses)]
    return _near(rng, mesh, lights, walk, 0.4)


def foliage(rng: Rng, poses: int) -> Scene:
    """Return bushes and grass 0.4 to 3 m ahead, before a hedge, a wall or an open field."""
    mesh = Mesh()
    mesh.quad((-40, -20, 0), (80, 0, 0), (0, 80, 0), meadow(rng))
    height = rng.uniform(0.15, 1.6)
    nearest = math.exp(rng.uniform(math.log(0.5), math.log(2.5)))
    for _ in range(int(rng.integers(3, 12))):
        size = rng.uniform((0.5, 0.5, 0.4), (1.8, 1.8, 2.2))
        away = nearest * math.exp(rng.uniform(0, 1.6)) + size.max() / 2
        angle = rng.uniform(-0.8, 0.8)
        mesh.place(bush(rng, size, rng.uniform(0.05, 0.12), 4000),
                   (away * math.sin(angle), away * math.cos(angle)), rng.uniform(0, 6.3))
    mesh.place(grass(rng, np.array([-2.0, 0.2]), np.array([2.0, 4.0]), 2500), (0, 0))
    end = rng.uniform(3, 12)
    if rng.random() < 0.7:
        wall = rooms.walling(rng) if rng.random() < 0.6 else f.wood(rng)
        mesh.box((-15, end, 0), (15, end + 0.2, rng.uniform(0.8, 3.5)), wall)
    if rng.random() < 0.3:
        path = rooms.flooring(rng)
        mesh.quad((-0.6, -5, 0.006), (1.2, 0, 0), (0, 20, 0), path)
    walk = [Pose((float(rng.normal(0, 0.08)), float(rng.normal(0, 0.1)), height),
                 float(rng.normal(0, 0.25)), float(rng.normal(-0.12, 0.12)),
                 float(rng.normal(0, 0.06))) for _ in range(poses)]
    lights, ambient, sky, clouds = daylight(rng)
    return Scene('indoor', mesh.arrays, lights, ambient, walk, sky=sky, clearance=0.25,
                 clouds=clouds)


def _line_walls(rng: Rng, mesh: Mesh, plan: Plan, count: tuple[int, int],
                makes: Sequence[Callable[[Rng], f.Prop]]) -> None:
    """Put furniture at the walls: at least the first number of pieces, fewer than the second."""
    for _ in range(int(rng.integers(*count))):
        at_a_wall(rng, mesh, plan, makes[int(rng.integers(len(makes)))](rng))


def _free(at: np.ndarray, radius: float, taken: list[tuple[np.ndarray, float]]) -> bool:
    """Tell whether a circle on the floor or a table meets none of those that are taken."""
    return all(np.hypot(*(at - other)) > radius + r for other, r in taken)


def _room_lights(rng: Rng, mesh: Mesh, plan: Plan) -> list[Light]:
    lights = rooms.windows(rng, mesh, plan, int(rng.integers(0, 3)), [])
    return (lights + rooms.ceiling_lamps(rng, mesh, plan, 1))[:3]


def _inside(plan: Plan, at: np.ndarray) -> bool:
    """Tell whether a camera is in the room, away from walls and ceiling."""
    return bool((at > 0.12).all() and at[0] < plan.width - 0.12 and at[1] < plan.length - 0.12
                and at[2] < plan.height - 0.2)


def _near(rng: Rng, mesh: Mesh, lights: list[Light], walk: list[Pose], clearance: float) -> Scene:
    bright = float(rng.uniform(0.2, 0.5))
    return Scene('indoor', mesh.arrays, lights, (bright, bright, bright * 0.97), walk,
                 clearance=clearance)
