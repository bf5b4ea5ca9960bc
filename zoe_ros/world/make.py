"""Render frames of the synthetic world, by seed, into arrays on disk."""
from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import cache
import io
import json
from pathlib import Path
import shutil
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from zoe_ros.camera import Camera
from zoe_ros.command_settings import WorldSettings
from zoe_ros.datasets import DatasetError, DOMAINS
from zoe_ros.datasets.world import (
    DESCRIPTION,
    KINDS_FILE,
    read_description,
    SKIES_FILE,
    SPLITS,
    VERSION,
)
from zoe_ros.world.dress import dress
from zoe_ros.world.kinds import draw_scene
from zoe_ros.world.photos import Photos
from zoe_ros.world.render import Renderer, Response

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
    about: dict[str, object] = {
        'version': VERSION, 'split': split, 'domain': domain, 'scenes': scenes,
        'frames': settings.frames, 'height': settings.height, 'width': settings.width,
        'seed': settings.seed}
    # A plain world without textures keeps the description that it always had.
    if settings.recipe != 'plain':
        about['recipe'] = settings.recipe
    if settings.textures:
        about['textures'] = _photos(settings.textures).fingerprint
    return about


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
    kinds: list[str] = []
    jobs = [(settings, split, domain, scene) for scene in range(scenes)]
    # Not memory-mapped: without room on the disk, a write to memory would end the process.
    with (folder / 'images.npy').open('wb') as images, \
            (folder / 'depths.npy').open('wb') as depths, \
            (folder / SKIES_FILE).open('wb') as skies, \
            ProcessPoolExecutor(settings.workers) as pool:
        _begin_array(images, np.uint8, (*shape, 3))
        _begin_array(depths, np.float16, shape)
        _begin_array(skies, np.uint8, (*shape[:2], -(-shape[2] // 8)))
        for scene, (kind, image, depth, sky, camera) in enumerate(tqdm(
                pool.map(_render_scene, jobs), total=scenes, desc=f'{split} {domain}',
                unit='scene', disable=None)):
            images.write(image.tobytes())
            depths.write(depth.tobytes())
            skies.write(np.packbits(sky, axis=-1).tobytes())
            cameras[scene * settings.frames:(scene + 1) * settings.frames] = camera
            kinds.append(kind)
    array = io.BytesIO()    # numpy itself does not tell why a file cannot be written
    np.save(array, cameras)
    (folder / 'cameras.npy').write_bytes(array.getbuffer())
    (folder / KINDS_FILE).write_text('\n'.join(kinds) + '\n')
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + '\n')


def _begin_array(file: BinaryIO, kind: type, shape: tuple[int, ...]) -> None:
    """Write the header of an .npy file."""
    np.lib.format.write_array_header_1_0(file, {
        'descr': np.lib.format.dtype_to_descr(np.dtype(kind)), 'fortran_order': False,
        'shape': shape})


def build_scene(rng: np.random.Generator, settings: WorldSettings, domain: str, poses: int
                ) -> tuple[str, Renderer, Camera, Response]:
    """Return the kind of a random scene, the scene with ``poses`` poses, and a camera."""
    kind, scene, camera, response = draw_scene(
        rng, settings.recipe, domain, poses, (settings.height, settings.width))
    if settings.textures:
        # A generator of its own, so that textures change no other draw.
        scene = dress(scene, _photos(settings.textures), rng.spawn(1)[0])
    return kind, Renderer(scene), camera, response


@cache
def _photos(folder: str) -> Photos:
    """Return the images of a folder, listed once in each process."""
    return Photos(folder)


def _render_scene(job: tuple[WorldSettings, str, str, int]
                  ) -> tuple[str, np.ndarray, np.ndarray, np.ndarray,
                             tuple[float, float, float, float]]:
    """Return kind, images (n, h, w, 3), depths and skies (n, h, w), fx, fy, cx, cy of a scene."""
    settings, split, domain, scene = job
    for attempt in range(100):
        rng = np.random.default_rng((settings.seed, SPLITS.index(split), DOMAINS.index(domain),
                                     scene, attempt))
        kind, renderer, camera, response = build_scene(
            rng, settings, domain, _CANDIDATES * settings.frames)
        poses = [pose for pose in renderer.scene.walk if renderer.clear(pose, camera)]
        if len(poses) < settings.frames:
            continue    # too many poses are close to an obstacle
        chosen = np.linspace(0, len(poses) - 1, settings.frames).astype(int)
        frames = [renderer.frame(poses[i], camera, response, rng) for i in chosen]
        return (kind, np.stack([image for image, _ in frames]),
                np.stack([depth for _, depth in frames]).astype(np.float16),
                np.stack([renderer.sky(poses[i], camera) for i in chosen]),
                (camera.fx, camera.fy, camera.cx, camera.cy))
    raise DatasetError(f'scene {scene} of {split} {domain} has no {settings.frames} free places')
