"""Shapes of a scene: triangles with a material and texture coordinates in metres."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise

import numpy as np

from zoe_ros.world.textures import Material, paint

Vector = Sequence[float] | np.ndarray
_SIDES = 10             # of round shapes
_RINGS = 6


def turn(yaw: float) -> np.ndarray:
    """Return the (3, 3) rotation by ``yaw`` [rad] about z, which points up."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@dataclass(frozen=True, eq=False)
class Patch:
    """
    Triangles of one material.

    :param corners: (n, 3, 3) [m], z up.
    :param normals: (n, 3, 3) of the corners.
    :param axes: (n, 2, 3) unit vectors along which the texture coordinates u and v grow.
    :param origin: (n, 2) [m], u and v of the point (0, 0, 0).
    """

    corners: np.ndarray
    normals: np.ndarray
    axes: np.ndarray
    origin: np.ndarray
    material: Material

    def moved(self, rotation: np.ndarray, shift: np.ndarray) -> Patch:
        """Return the patch, rotated and then shifted [m]; the texture moves with the patch."""
        axes = self.axes @ rotation.T
        return Patch(self.corners @ rotation.T + shift, self.normals @ rotation.T, axes,
                     self.origin - axes @ shift, self.material)


class Mesh:
    """A collection of shapes, to which more can be added; z points up, lengths are metres."""

    def __init__(self) -> None:
        """Begin without any shape."""
        self._patches: list[Patch] = []

    def place(self, other: Mesh, at: Vector, yaw: float = 0.0) -> None:
        """Add the shapes of another mesh, turned by ``yaw`` [rad] and shifted to ``at``."""
        at = np.array((*at, 0.0)[:3], float)
        rotation = turn(yaw)
        self._patches.extend(patch.moved(rotation, at) for patch in other._patches)

    def quad(self, corner: Vector, along_u: Vector, along_v: Vector, material: Material) -> None:
        """Add a parallelogram; it faces the side from which u turns to v counterclockwise."""
        o, u, v = (np.asarray(x, float) for x in (corner, along_u, along_v))
        corners = np.array([[o, o + u, o + u + v], [o, o + u + v, o + v]])
        self._add_flat(corners, u, v, o, material)

    def triangle(self, a: Vector, b: Vector, c: Vector, material: Material) -> None:
        """Add a triangle, its u from ``a`` to ``b``."""
        a, b, c = (np.asarray(x, float) for x in (a, b, c))
        u = b - a
        v = np.cross(np.cross(u, c - a), u)
        self._add_flat(np.array([[a, b, c]]), u, v, a, material)

    def soup(self, corners: np.ndarray, material: Material) -> None:
        """Add single triangles (n, 3, 3), such as leaves; the texture of each has its own axes."""
        u = corners[:, 1] - corners[:, 0]
        normal = np.cross(u, corners[:, 2] - corners[:, 0])
        axes = np.stack([u, np.cross(normal, u)], axis=1)
        axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        self._patches.append(Patch(
            corners, np.repeat(normal[:, None], 3, axis=1), axes,
            np.zeros((len(corners), 2)), material))

    def _add_flat(self, corners: np.ndarray, u: np.ndarray, v: np.ndarray, origin: np.ndarray,
                  material: Material) -> None:
        normal = np.cross(u, v)
        normal /= np.linalg.norm(normal)
        axes = np.array([u / np.linalg.norm(u), v / np.linalg.norm(v)])
        n = len(corners)
        self._patches.append(Patch(
            corners, np.broadcast_to(normal, (n, 3, 3)), np.broadcast_to(axes, (n, 2, 3)),
            np.broadcast_to(-axes @ origin, (n, 2)), material))

    def box(self, low: Vector, high: Vector, material: Material,
            top: Material | None = None) -> None:
        """Add a box between two corners; its texture runs along x and y, upright on the sides."""
        self.hexahedron(_corners(low, high), material, top)

    def hexahedron(self, corners: np.ndarray, material: Material,
                   top: Material | None = None) -> None:
        """Add six quads: ``corners`` (2, 2, 2, 3) by z, y, x, each 0 for low and 1 for high."""
        c = corners
        for a, b, e, d in ((c[0, 0, 0], c[0, 0, 1], c[1, 0, 1], c[1, 0, 0]),    # towards -y
                           (c[0, 1, 1], c[0, 1, 0], c[1, 1, 0], c[1, 1, 1]),    # back
                           (c[0, 1, 0], c[0, 0, 0], c[1, 0, 0], c[1, 1, 0]),    # left
                           (c[0, 0, 1], c[0, 1, 1], c[1, 1, 1], c[1, 0, 1]),    # right
                           (c[0, 1, 0], c[0, 1, 1], c[0, 0, 1], c[0, 0, 0])):   # below
            self._add_face(a, b, e, d, material)
        self._add_face(c[1, 0, 0], c[1, 0, 1], c[1, 1, 1], c[1, 1, 0], top or material)

    def _add_face(self, a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray,
                  material: Material) -> None:
        """Add a flat quadrilateral; its u runs along its lower side, from ``a`` to ``b``."""
        u = b - a if np.linalg.norm(b - a) > 1e-6 else c - d
        across = (d - a) + (c - b)
        v = across - u * (across @ u) / (u @ u)
        if np.linalg.norm(np.cross(u, v)) > 1e-12:
            self._add_flat(np.array([[a, b, c], [a, c, d]]), u, v, a, material)

    def frustum(self, low: Vector, high: Vector, inset: Vector, material: Material,
                top: Material | None = None) -> None:
        """Add a box whose upper face is smaller by ``inset`` (low x, high x, low y, high y)."""
        corners = _corners(low, high)
        corners[1, :, 0, 0] += inset[0]
        corners[1, :, 1, 0] -= inset[1]
        corners[1, 0, :, 1] += inset[2]
        corners[1, 1, :, 1] -= inset[3]
        self.hexahedron(corners, material, top)

    def cylinder(self, base: Vector, height: float, radius: float, material: Material,
                 upper_radius: float | None = None) -> None:
        """Add an upright cylinder, or a cone, with its lids."""
        upper = radius if upper_radius is None else upper_radius
        self.revolve(base, [(0, 0), (radius, 0), (upper, height), (0, height)], material,
                     smooth=False)

    def ellipsoid(self, center: Vector, radii: Vector, material: Material) -> None:
        """Add an upright ellipsoid with radii of x, y and z."""
        radii = np.asarray(radii, float)
        ball = _ball()
        normals = ball.normals / radii
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        self._patches.append(Patch(ball.corners * radii + np.asarray(center, float), normals,
                                   ball.axes, ball.origin, material))

    def revolve(self, base: Vector, profile: list[tuple[float, float]], material: Material,
                smooth: bool) -> None:
        """Add the solid of revolution of a profile (radius, height), upright on ``base``."""
        base = np.asarray(base, float)
        angles = np.linspace(0, 2 * np.pi, _SIDES + 1)
        ring = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=-1)
        up = np.array([0.0, 0.0, 1.0])
        for (r0, h0), (r1, h1) in pairwise(profile):
            low, high = base + r0 * ring + h0 * up, base + r1 * ring + h1 * up
            quads = np.stack([low[:-1], low[1:], high[1:], high[:-1]], axis=1)
            slope = np.array([h1 - h0, r0 - r1]) / np.hypot(h1 - h0, r0 - r1)
            normals = ring * slope[0] + up * slope[1]
            if smooth:      # of a unit sphere
                around = [low - base, low - base, high - base, high - base]
                corner_normals = np.stack([around[0][:-1], around[1][1:], around[2][1:],
                                           around[3][:-1]], axis=1)
            else:
                corner_normals = np.stack([normals[:-1], normals[1:]] * 2, axis=1)[:, [0, 1, 3, 2]]
            for corners in ((0, 1, 2), (0, 2, 3)):
                pick = list(corners)
                tangents = np.stack([-ring[:-1, 1], ring[:-1, 0], 0 * ring[:-1, 0]], axis=-1)
                axes = np.stack([tangents, np.broadcast_to(up, tangents.shape)], axis=1)
                self._patches.append(Patch(
                    quads[:, pick], corner_normals[:, pick], axes,
                    -np.einsum('nij,j->ni', axes, base), material))

    @cached_property
    def arrays(self) -> MeshArrays:
        """Return all shapes as arrays; nothing may be added afterwards."""
        materials = list({id(p.material): p.material for p in self._patches}.values())
        numbers = {id(material): i for i, material in enumerate(materials)}
        patches = self._patches
        corners = np.concatenate([p.corners for p in patches])
        sides = corners[:, 1:] - corners[:, :1]
        area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=-1)
        keep = area > 1e-9      # drops the poles of round shapes
        return MeshArrays(
            corners=corners[keep].astype(np.float32),
            normals=np.concatenate([p.normals for p in patches])[keep].astype(np.float32),
            axes=np.concatenate([p.axes for p in patches])[keep].astype(np.float32),
            origin=np.concatenate([p.origin for p in patches])[keep].astype(np.float32),
            material=np.repeat([numbers[id(p.material)] for p in patches],
                               [len(p.corners) for p in patches])[keep],
            materials=materials)


@cache
def _ball() -> Patch:
    """Return the unit sphere, cached: a tree has dozens, which took most of a street's time."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, _RINGS + 1)
    mesh, material = Mesh(), paint((0.5, 0.5, 0.5))
    mesh.revolve((0, 0, 0), list(zip(np.cos(angles), np.sin(angles))), material, smooth=True)
    corners, normals, axes, origin = (
        np.concatenate([getattr(patch, name) for patch in mesh._patches])
        for name in ('corners', 'normals', 'axes', 'origin'))
    return Patch(corners, normals, axes, origin, material)


@dataclass(frozen=True, eq=False)
class MeshArrays:
    """A mesh for the renderer: as :class:`Patch`, with the number of each triangle's material."""

    corners: np.ndarray     # (n, 3, 3)
    normals: np.ndarray     # (n, 3, 3)
    axes: np.ndarray        # (n, 2, 3)
    origin: np.ndarray      # (n, 2)
    material: np.ndarray    # (n,)
    materials: list[Material]


def _corners(low: Vector, high: Vector) -> np.ndarray:
    """Return the corners of a box, (2, 2, 2, 3) by z, y, x."""
    ends = np.array([low, high], float)
    z, y, x = np.meshgrid(ends[:, 2], ends[:, 1], ends[:, 0], indexing='ij')
    return np.stack([x, y, z], axis=-1)
