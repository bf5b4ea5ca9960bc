"""Which scenes a world holds, how often, and how cameras are carried through them."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zoe_ros.camera import Camera
from zoe_ros.world import closeups, places, rooms, streets
from zoe_ros.world.cameras import camera_of, draw_camera, mount
from zoe_ros.world.furniture import Rng
from zoe_ros.world.moods import draw_mood
from zoe_ros.world.render import Response, Scene

# Horizontal field of view [degrees], similar to the cameras of NYU and KITTI.
FIELDS = {'indoor': (60.0, 66.0), 'outdoor': (74.0, 84.0)}


@dataclass(frozen=True)
class Kind:
    """
    A kind of scene.

    :param domain: the head whose range fits the scene: indoor for near scenes, outdoor for wide
        ones, with or without a roof.
    :param share: of the scenes of this domain.
    :param mounts: how the camera is carried, each as likely.
    """

    domain: str
    share: float
    build: Callable[[Rng, int], Scene]
    mounts: tuple[str, ...]


KINDS = {
    'room': Kind('indoor', 0.32, rooms.room, ('robot', 'robot', 'narrow', 'low', 'handheld')),
    'corridor': Kind('indoor', 0.08, rooms.corridor, ('robot', 'narrow', 'low', 'handheld')),
    'tabletop': Kind('indoor', 0.20, closeups.tabletop, ('near',)),
    'floor': Kind('indoor', 0.15, closeups.floor, ('near', 'robot')),
    'shelf': Kind('indoor', 0.09, closeups.shelves, ('near', 'robot')),
    'people': Kind('indoor', 0.08, closeups.people, ('near', 'robot')),
    'foliage': Kind('indoor', 0.08, closeups.foliage, ('near', 'robot')),
    'street': Kind('outdoor', 0.30, streets.street,
                   ('robot', 'low', 'handheld', 'drone', 'car', 'car', 'car', 'wide car')),
    'avenue': Kind('outdoor', 0.30, streets.avenue, ('car', 'car', 'car', 'wide car', 'robot')),
    'country': Kind('outdoor', 0.16, places.country, ('car', 'car', 'wide car', 'robot')),
    'park': Kind('outdoor', 0.14, places.park, ('robot', 'narrow', 'low', 'handheld', 'drone')),
    'hall': Kind('outdoor', 0.10, places.hall, ('robot', 'narrow', 'low', 'handheld')),
}


def draw_scene(rng: Rng, recipe: str, domain: str, poses: int, size: tuple[int, int]
               ) -> tuple[str, Scene, Camera, Response]:
    """
    Return kind, scene, camera of ``size`` (height, width) and its response.

    :param recipe: 'plain': rooms, corridors and streets by day, seen by robots and cars;
        'varied': all kinds of scenes, at all hours, however the camera is carried.
    """
    if recipe == 'plain':
        name = 'street' if domain == 'outdoor' else 'room' if rng.random() < 0.65 else 'corridor'
        scene = KINDS[name].build(rng, poses)
        return name, scene, camera_of(rng.uniform(*FIELDS[domain]), size), Response.draw(rng)
    names = [name for name, kind in KINDS.items() if kind.domain == domain]
    name = str(rng.choice(names, p=[KINDS[name].share for name in names]))
    carried = str(rng.choice(KINDS[name].mounts))
    scene = mount(KINDS[name].build(rng, poses), carried, rng)
    scene, dark = draw_mood(scene, rng)
    return name, scene, draw_camera(carried, size, rng), Response.draw_any(rng, dark)
