"""Ray casting on the CPU (Embree): images like those of a camera, and exact depth along z."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoe_ros.camera import Camera
from zoe_ros.datasets.world import RANGES
from zoe_ros.extras import require
from zoe_ros.world.mesh import MeshArrays, turn
from zoe_ros.world.panorama import sky_map
from zoe_ros.world.photos import Photo
from zoe_ros.world.textures import albedo, Color, noise

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
_LIFT = 2e-3            # start of a shadow ray above the surface [m]


@dataclass(frozen=True)
class Pose:
    """
    Where a camera is and looks, in a world whose z points up.

    :param position: [m].
    :param yaw: [rad], 0 looks along y, counterclockwise.
    :param pitch: [rad], positive looks up.
    :param roll: [rad].
    """

    position: tuple[float, float, float]
    yaw: float
    pitch: float = 0.0
    roll: float = 0.0

    @property
    def rotation(self) -> np.ndarray:
        """Return the (3, 3) matrix from the optical frame (x right, y down) to the world."""
        c, s = np.cos(self.roll), np.sin(self.roll)
        roll = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        c, s = np.cos(self.pitch), np.sin(self.pitch)
        pitch = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        level = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
        return turn(self.yaw) @ pitch @ level @ roll


@dataclass(frozen=True, eq=False)
class Light:
    """
    A light source with an area.

    :param position: centre [m]; for the sun, the direction towards the sun.
    :param spread: (2, 3) half extents [m]; for the sun, in units of the direction.
    :param color: its power.
    :param normal: of a window, which emits light on one side only; None: all directions.
    """

    position: np.ndarray
    spread: np.ndarray
    color: Color
    normal: np.ndarray | None = None
    sun: bool = False


@dataclass(frozen=True, eq=False)
class Scene:
    """
    Shapes and lights, and poses from which a camera sees them.

    :param ambient: light from all directions; outdoors, the light of the sky.
    :param haze: fraction of light that the air absorbs [1/m].
    :param sky: colours at the horizon and above, or None indoors.
    :param walk: poses along a plausible path of the camera.
    :param clearance: of a camera from the nearest object in front [m].
    :param glare: brightness of the sky around the sun, which is the first light.
    :param panorama: takes the place of the sky; its width is a whole turn [rad].
    """

    domain: str
    mesh: MeshArrays
    lights: list[Light]
    ambient: Color
    walk: list[Pose]
    haze: float = 0.0
    sky: tuple[Color, Color] | None = None
    clouds: float = 0.0
    panorama: Photo | None = None
    clearance: float = 0.45
    glare: float = 0.0


@dataclass(frozen=True)
class Response:
    """How a camera turns light into pixels: exposure of the median, gains of red and blue, etc."""

    exposure: float = 0.18
    red: float = 1.0
    blue: float = 1.0
    noise: float = 0.01
    blur: float = 0.3               # standard deviation [px]
    vignette: float = 0.1

    @staticmethod
    def draw(rng: np.random.Generator) -> Response:
        """Return a random camera."""
        return Response(
            exposure=float(0.17 * np.exp(rng.normal(0, 0.22))), red=float(rng.uniform(0.9, 1.12)),
            blue=float(rng.uniform(0.88, 1.12)), noise=float(rng.uniform(0.003, 0.02)),
            blur=float(rng.uniform(0, 0.6)), vignette=float(rng.uniform(0, 0.25)))

    @staticmethod
    def draw_any(rng: np.random.Generator, dark: bool) -> Response:
        """Return a random camera of a wider range; ``dark``: with the noise of little light."""
        return Response(
            exposure=float((0.1 if dark else 0.17) * np.exp(rng.normal(0, 0.35))),
            red=float(rng.uniform(0.8, 1.25)), blue=float(rng.uniform(0.75, 1.25)),
            noise=float(rng.uniform(0.015, 0.05) if dark else rng.uniform(0.002, 0.03)),
            blur=float(rng.uniform(0, 0.9)), vignette=float(rng.uniform(0, 0.5)))


@dataclass(frozen=True, eq=False)
class Hits:
    """Where rays meet a scene; ``at`` are the numbers of the rays that do, (n,)."""

    at: np.ndarray
    depth: np.ndarray       # (n,) along z, for rays with z = 1
    triangle: np.ndarray
    normal: np.ndarray      # (n, 3), towards the camera
    points: np.ndarray      # (n, 3)
    facing: np.ndarray      # (n,) cosine between normal and ray
    scale: np.ndarray = field(repr=False)   # (n,) length of the ray for each metre of depth


class Renderer:
    """A scene, ready for rendering."""

    def __init__(self, scene: Scene) -> None:
        """
        Build the tree of triangles.

        :raises ValueError: the library is not installed.
        """
        self.scene = scene
        self._tracer = _tracer(scene.mesh.corners)

    def clear(self, pose: Pose, camera: Camera) -> bool:
        """Tell whether no object right in front of the camera blocks the view."""
        nearest = self.scene.clearance
        step = max(1, camera.height // 12)
        hits = self._cast(pose, camera.rays[step // 4::step, step // 4::step].reshape(-1, 2))
        return len(hits.depth) > 20 and float(hits.depth.min()) > nearest and (
            float(np.quantile(hits.depth, 0.85)) > 3 * nearest)

    def depth(self, pose: Pose, camera: Camera) -> np.ndarray:
        """Return exact depth at the centres of pixels, (h, w) float32 [m], NaN out of range."""
        hits = self._cast(pose, camera.rays.reshape(-1, 2))
        return self._in_range(hits, camera)

    def frame(self, pose: Pose, camera: Camera, response: Response,
              rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """
        Return an image (h, w, 3) uint8 and its depth (h, w) float32 [m], NaN out of range.

        Each pixel averages its centre and its corners, which it shares with its neighbours.
        """
        h, w = camera.height, camera.width
        corners = Camera(w + 1, h + 1, camera.fx, camera.fy, camera.cx + 0.5, camera.cy + 0.5)
        rays = np.concatenate([camera.rays.reshape(-1, 2), corners.rays.reshape(-1, 2)])
        hits = self._cast(pose, rays)
        light = self._sky(pose, rays, camera.fx)
        light[hits.at] = self._shade(hits, camera, rng, light[hits.at])
        center, corner = light[:h * w].reshape(h, w, 3), light[h * w:].reshape(h + 1, w + 1, 3)
        light = center / 2 + (corner[:-1, :-1] + corner[1:, :-1] + corner[:-1, 1:]
                              + corner[1:, 1:]) / 8
        return expose(light, response, rng), self._in_range(hits, camera)

    def sky(self, pose: Pose, camera: Camera) -> np.ndarray:
        """
        Return where the centres of pixels see the sky, (h, w) bool.

        Pixels without sky and without depth show trees or houses of the panorama, or surfaces out
        of range.
        """
        rays = camera.rays.reshape(-1, 2)
        seen = np.full(len(rays), self.scene.sky is not None)
        seen[self._cast(pose, rays).at] = False
        if self.scene.panorama is not None:
            seen &= sky_map(self.scene.panorama).color(
                *_angles(_ways(pose, rays)), np.zeros(len(rays)))[:, 0] > 0.5
        return seen.reshape(camera.height, camera.width)

    def _in_range(self, hits: Hits, camera: Camera) -> np.ndarray:
        near, far = RANGES[self.scene.domain]
        depth = np.full(camera.height * camera.width, np.nan, np.float32)
        centers = hits.at < depth.size
        depth[hits.at[centers]] = hits.depth[centers]
        depth[(depth < near) | (depth > far)] = np.nan
        return depth.reshape(camera.height, camera.width)

    def _cast(self, pose: Pose, rays: np.ndarray) -> Hits:
        mesh = self.scene.mesh
        directions = _directions(pose, rays)
        origin = np.asarray(pose.position, np.float32)
        found = self._tracer.run(np.broadcast_to(origin, directions.shape).copy(), directions,
                                 output=1)
        at = np.flatnonzero(found['primID'] >= 0)
        triangle, depth = found['primID'][at], found['tfar'][at]
        directions = directions[at]
        u, v = found['u'][at, None], found['v'][at, None]
        normals = mesh.normals[triangle]
        normal = normals[:, 0] * (1 - u - v) + normals[:, 1] * u + normals[:, 2] * v
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        scale = np.linalg.norm(directions, axis=-1)
        cosine = -np.einsum('ni,ni->n', normal, directions) / scale
        normal *= np.where(cosine < 0, np.float32(-1), np.float32(1))[:, None]
        return Hits(at, depth, triangle, normal, origin + directions * depth[:, None],
                    np.abs(cosine), scale)

    def _shade(self, hits: Hits, camera: Camera, rng: np.random.Generator,
               behind: np.ndarray) -> np.ndarray:
        """Return the light that comes from the points, (n, 3)."""
        scene, mesh = self.scene, self.scene.mesh
        axes = mesh.axes[hits.triangle]
        u, v = (np.einsum('nj,nj->n', axes[:, k], hits.points) + mesh.origin[hits.triangle, k]
                for k in range(2))
        footprint = hits.depth * hits.scale / camera.fx / np.sqrt(np.maximum(hits.facing, 0.05))
        number = mesh.material[hits.triangle]
        color = albedo(mesh.materials, number, u, v, footprint)
        glow = np.array([m.glow for m in mesh.materials], np.float32)[number]
        up = hits.normal[:, 2:]
        light = np.asarray(scene.ambient, np.float32) * (0.75 + 0.25 * up)
        light *= self._openness(hits, rng)[:, None]
        for source in scene.lights:
            light = light + self._direct(source, hits, rng)
        shaded = color * (light + glow[:, None])
        if scene.haze:
            lost = 1 - np.exp(-scene.haze * hits.depth * hits.scale)[:, None]
            shaded += (behind - shaded) * lost
        return shaded

    def _openness(self, hits: Hits, rng: np.random.Generator) -> np.ndarray:
        """Return how much ambient light reaches the points, (n,): less in corners."""
        reach = 0.7 if self.scene.sky is None else 2.5
        n = len(hits.at)
        z = rng.uniform(-1, 1, n).astype(np.float32)
        angle = rng.uniform(0, 2 * np.pi, n).astype(np.float32)
        r = np.sqrt(1 - z * z)
        way = hits.normal * 1.02 + np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=-1)
        way /= np.linalg.norm(way, axis=-1, keepdims=True)
        return 1 - 0.6 * self._blocked(hits, way, np.full(n, reach, np.float32))

    def _direct(self, source: Light, hits: Hits, rng: np.random.Generator) -> np.ndarray:
        """Return the light of one source, (n, 3), from a random place on the source per point."""
        place = rng.uniform(-1, 1, (len(hits.at), 2)).astype(np.float32) @ source.spread
        way = source.position + place
        way = way.astype(np.float32) if source.sun else (way - hits.points).astype(np.float32)
        distance = np.linalg.norm(way, axis=-1)
        way /= distance[:, None]
        power = np.einsum('ni,ni->n', way, hits.normal).clip(0)
        if not source.sun:
            power = power / (distance ** 2 + 0.3)
        if source.normal is not None:
            power = power * (-(way @ source.normal)).clip(0)
        lit = np.flatnonzero(power > 1e-4)
        reach = np.full(len(lit), 1e3, np.float32) if source.sun else distance[lit] - 0.02
        some = Hits(lit, hits.depth[lit], hits.triangle[lit], hits.normal[lit], hits.points[lit],
                    hits.facing[lit], hits.scale[lit])
        power[lit] *= 1 - self._blocked(some, way[lit], reach)
        return power[:, None] * np.asarray(source.color, np.float32)

    def _blocked(self, hits: Hits, way: np.ndarray, reach: np.ndarray) -> np.ndarray:
        """Return 1 where an object blocks the ray from a point, else 0; (n,) float32."""
        start = hits.points + hits.normal * (_LIFT + 2e-4 * hits.depth[:, None])
        found = self._tracer.run(start.astype(np.float32), way.astype(np.float32), dists=reach,
                                 query='OCCLUDED')
        return (found >= 0).astype(np.float32)

    def _sky(self, pose: Pose, rays: np.ndarray, focal: float) -> np.ndarray:
        """Return the light of the sky along each ray, (n, 3); black indoors."""
        if self.scene.sky is None:
            return np.zeros((len(rays), 3), np.float32)
        way = _ways(pose, rays)
        if self.scene.panorama is not None:
            sky = self.scene.panorama.color(*_angles(way), np.full(len(way), 1 / focal))
            return sky + self._glare(way)
        height = way[:, 2].clip(0.0)
        low, high = (np.asarray(c, np.float32) for c in self.scene.sky)
        color = low + (high - low) * (1 - np.exp(-4 * height))[:, None]
        plane = way[:, :2] / (height[:, None] + 0.15)
        fine = np.full(len(way), 2e-3, np.float32)
        cloud = noise(plane[:, 0], plane[:, 1], 9.0, fine, int(1000 * self.scene.clouds))
        cover = ((cloud + 2 * self.scene.clouds - 1) * 0.7).clip(0, 1)[:, None]
        white = np.float32(1.15) * low.max() * (1 - 0.25 * cover)
        return color + (white - color) * cover * np.minimum(1, 6 * height)[:, None] + (
            self._glare(way))

    def _glare(self, way: np.ndarray) -> np.ndarray | float:
        """Return the light around the sun along unit vectors, (n, 3)."""
        if not self.scene.glare:
            return 0.0
        sun = self.scene.lights[0]
        cosine = (way @ (sun.position / np.linalg.norm(sun.position))).clip(0)
        halo = self.scene.glare * (cosine ** 12 + 8 * cosine ** 600)
        return halo[:, None].astype(np.float32) * np.asarray(sun.color, np.float32)


def expose(light: np.ndarray, response: Response, rng: np.random.Generator) -> np.ndarray:
    """Return the camera's image of linear light: (h, w, 3) uint8."""
    h, w = light.shape[:2]
    y, x = np.mgrid[-1:1:h * 1j, -1:1:w * 1j].astype(np.float32)
    light = light * (1 - response.vignette * (x * x + y * y) / 2)[..., None]
    median = np.median(light @ _LUMINANCE)
    light = light * (response.exposure / max(float(median), 1e-4))
    light *= np.array([response.red, 1, response.blue], np.float32)
    if response.blur > 0.15:
        light = _blur(light, response.blur)
    light = light * (1 + 0.2 * light) / (1 + light)       # soft clipping
    light = light + rng.normal(size=light.shape).astype(np.float32) * response.noise * np.sqrt(
        light + 0.02)
    light = light.clip(0, 1)
    srgb = np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * srgb).astype(np.uint8)


def _blur(light: np.ndarray, deviation: float) -> np.ndarray:
    """Blur by a Gaussian of three pixels."""
    side = np.exp(-0.5 / deviation ** 2)
    weights = np.array([side, 1, side], np.float32) / (1 + 2 * side)
    for axis in (0, 1):
        padded = np.pad(light, [(1, 1) if a == axis else (0, 0) for a in range(3)], 'edge')
        n = light.shape[axis]
        light = sum(weights[k] * np.take(padded, range(k, k + n), axis) for k in range(3))
    return light


def _directions(pose: Pose, rays: np.ndarray) -> np.ndarray:
    """Return rays (x, y, 1) of the optical frame in the world, (n, 3) float32."""
    full = np.concatenate([rays, np.ones((len(rays), 1), rays.dtype)], axis=1)
    return (full @ pose.rotation.T).astype(np.float32)


def _ways(pose: Pose, rays: np.ndarray) -> np.ndarray:
    """Return the directions of rays in the world, (n, 3) float32 of length 1."""
    way = _directions(pose, rays)
    return way / np.linalg.norm(way, axis=-1, keepdims=True)


def _angles(way: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return azimuth and elevation of directions [rad], which are places on a panorama."""
    return np.arctan2(way[:, 0], way[:, 1]), np.arcsin(way[:, 2])


def require_packages() -> None:
    """
    Check what the base installation lacks.

    :raises ValueError: a package is not installed.
    """
    require('the synthetic world', 'train', 'embreex', 'scipy',
            note=' (embreex has wheels for x86-64 and for Apple silicon)')


def _tracer(corners: np.ndarray) -> Any:
    """Return Embree's scene of triangles (n, 3, 3)."""
    require_packages()
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    tracer = EmbreeScene()
    TriangleMesh(tracer, corners)
    return tracer
