"""Render frames of the synthetic world, by seed, into arrays on disk."""
from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
import io
import json
from pathlib import Path
import shutil
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from zoe_ros.camera import Camera
from zoe_ros.datasets import DatasetError, DOMAINS
from zoe_ros.datasets.world import DESCRIPTION, read_description, SPLITS, VERSION
from zoe_ros.settings import WorldSettings
from zoe_ros.world.render import Renderer, Response
from zoe_ros.world.rooms import corridor, room
from zoe_ros.world.streets import street

# Horizontal field of view [degrees], similar to the cameras of NYU and KITTI.
FIELDS = {'indoor': (60.0, 66.0), 'outdoor': (74.0, 84.0)}
_CANDIDATES = 3     # candidate poses for each frame


def make_world(settings: WorldSettings) -> Path:
    """
    Render both splits of both domains; keep existing parts. Return the folder.

    No scene is in both splits, because the seed of a scene contains the name of the split. The
    same settings give the same bytes, with any number of workers.

    :raises DatasetError: the folder holds a world made with other settings, or Embree is missing.
    :raises OSError: the folder cannot be written.
    """
    folder = Path(settings.folder).expanduser()
    parts = [(split, domain) for split in SPLITS for domain in DOMAINS]
    for split, domain in parts:
        part = folder / split / domain
        description = _describe(settings, split, domain)
        if part.is_dir():
            found = read_description(part)
            if found != description:
                raise DatasetError(f'{part} was made with other settings ({found}): choose '
                                   'another folder or remove it')
            continue
        _make_part(part, description, settings)
    return folder


def _describe(settings: WorldSettings, split: str, domain: str) -> dict[str, object]:
    scenes = settings.scenes if split == 'train' else settings.held_out
    return {'version': VERSION, 'split': split, 'domain': domain, 'scenes': scenes,
            'frames': settings.frames, 'height': settings.height, 'width': settings.width,
            'seed': settings.seed}


def _make_part(part: Path, description: dict[str, object], settings: WorldSettings) -> None:
    unfinished = part.with_name(part.name + '.part')
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        _fill_part(unfinished, description, settings)
        unfinished.replace(part)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise OSError(f'{part} cannot be written: {error.strerror or error}') from None


def _fill_part(folder: Path, description: dict[str, object], settings: WorldSettings) -> None:
    split, domain = description['split'], description['domain']
    scenes = int(str(description['scenes']))
    shape = (scenes * settings.frames, settings.height, settings.width)
    cameras = np.empty((shape[0], 4), np.float64)
    jobs = [(settings, split, domain, scene) for scene in range(scenes)]
    # Not memory-mapped: without room on the disk, a write to memory would end the process.
    with (folder / 'images.npy').open('wb') as images, \
            (folder / 'depths.npy').open('wb') as depths, \
            ProcessPoolExecutor(settings.workers) as pool:
        _begin_array(images, np.uint8, (*shape, 3))
        _begin_array(depths, np.float16, shape)
        for scene, (image, depth, camera) in enumerate(tqdm(
                pool.map(_render_scene, jobs), total=scenes, desc=f'{split} {domain}',
                unit='scene')):
            images.write(image.tobytes())
            depths.write(depth.tobytes())
            cameras[scene * settings.frames:(scene + 1) * settings.frames] = camera
    array = io.BytesIO()    # numpy itself does not tell why a file cannot be written
    np.save(array, cameras)
    (folder / 'cameras.npy').write_bytes(array.getbuffer())
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + '\n')


def _begin_array(file: BinaryIO, kind: type, shape: tuple[int, ...]) -> None:
    """Write the header of an .npy file."""
    np.lib.format.write_array_header_1_0(file, {
        'descr': np.lib.format.dtype_to_descr(np.dtype(kind)), 'fortran_order': False,
        'shape': shape})


def build_scene(rng: np.random.Generator, domain: str, poses: int, size: tuple[int, int]
                ) -> tuple[Renderer, Camera, Response]:
    """Return a random scene with ``poses`` poses, and a camera of ``size`` (height, width)."""
    build = street if domain == 'outdoor' else room if rng.random() < 0.65 else corridor
    renderer = Renderer(build(rng, poses))
    height, width = size
    focal = float(width / 2 / np.tan(np.radians(rng.uniform(*FIELDS[domain])) / 2))
    camera = Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
    return renderer, camera, Response.draw(rng)


def _render_scene(job: tuple[WorldSettings, str, str, int]
                  ) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float, float]]:
    """Return images (n, h, w, 3), depths (n, h, w) and the camera (fx, fy, cx, cy) of a scene."""
    settings, split, domain, scene = job
    for attempt in range(100):
        rng = np.random.default_rng((settings.seed, SPLITS.index(split), DOMAINS.index(domain),
                                     scene, attempt))
        renderer, camera, response = build_scene(rng, domain, _CANDIDATES * settings.frames,
                                                 (settings.height, settings.width))
        poses = [pose for pose in renderer.scene.walk if renderer.clear(pose, camera)]
        if len(poses) < settings.frames:
            continue    # too many poses are close to an obstacle
        chosen = np.linspace(0, len(poses) - 1, settings.frames).astype(int)
        frames = [renderer.frame(poses[i], camera, response, rng) for i in chosen]
        return (np.stack([image for image, _ in frames]),
                np.stack([depth for _, depth in frames]).astype(np.float16),
                (camera.fx, camera.fy, camera.cx, camera.cy))
    raise DatasetError(f'scene {scene} of {split} {domain} has no {settings.frames} free places')
