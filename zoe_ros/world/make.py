"""Frames of the synthetic world as arrays on disk: made once, by seed, read as datasets."""
from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
import json
from pathlib import Path
import shutil

import numpy as np
from tqdm import tqdm

from zoe_ros.camera import Camera
from zoe_ros.datasets import DatasetError, DOMAINS, EvalProtocol, Sample
from zoe_ros.settings import WorldSettings
from zoe_ros.world.render import RANGES, Renderer, Response
from zoe_ros.world.rooms import corridor, room
from zoe_ros.world.streets import street

# Grows whenever the same seed gives other frames.
VERSION = 1
SPLITS = ('train', 'test')
# Horizontal field of view [degrees], about those of NYU's and KITTI's cameras.
FIELDS = {'indoor': (60.0, 66.0), 'outdoor': (74.0, 84.0)}
ABOUT = 'world.json'
_CANDIDATES = 3     # poses looked at for each frame that is wanted


def make_world(settings: WorldSettings) -> Path:
    """
    Render both splits of both domains; what is already there is kept. Return the folder.

    No scene is in both splits: a scene's seed holds the name of its split. The same settings
    give the same bytes, with any number of workers.

    :raises DatasetError: the folder holds a world of other settings, or Embree is missing.
    :raises OSError: the folder cannot be written.
    """
    folder = Path(settings.folder).expanduser()
    parts = [(split, domain) for split in SPLITS for domain in DOMAINS]
    for split, domain in parts:
        part = folder / split / domain
        about = _about(settings, split, domain)
        if part.is_dir():
            if _read_about(part) != about:
                raise DatasetError(f'{part} was made with other settings '
                                   f'({_read_about(part)}): choose another folder or remove it')
            continue
        _make_part(part, about, settings)
    return folder


def _about(settings: WorldSettings, split: str, domain: str) -> dict[str, object]:
    scenes = settings.scenes if split == 'train' else settings.held_out
    return {'version': VERSION, 'split': split, 'domain': domain, 'scenes': scenes,
            'frames': settings.frames, 'height': settings.height, 'width': settings.width,
            'seed': settings.seed}


def _make_part(part: Path, about: dict[str, object], settings: WorldSettings) -> None:
    unfinished = part.with_name(part.name + '.part')
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    split, domain, scenes = about['split'], about['domain'], int(str(about['scenes']))
    shape = (scenes * settings.frames, settings.height, settings.width)
    images = np.lib.format.open_memmap(
        unfinished / 'images.npy', 'w+', np.uint8, (*shape, 3))
    depths = np.lib.format.open_memmap(
        unfinished / 'depths.npy', 'w+', np.float16, shape)
    cameras = np.empty((len(images), 4), np.float64)
    jobs = [(settings, split, domain, scene) for scene in range(scenes)]
    with ProcessPoolExecutor(settings.workers) as pool:
        for scene, (image, depth, camera) in enumerate(tqdm(
                pool.map(_render_scene, jobs), total=scenes, desc=f'{split} {domain}',
                unit='scene')):
            rows = slice(scene * settings.frames, (scene + 1) * settings.frames)
            images[rows], depths[rows], cameras[rows] = image, depth, camera
    images.flush()
    depths.flush()
    np.save(unfinished / 'cameras.npy', cameras)
    (unfinished / ABOUT).write_text(json.dumps(about, indent=1) + '\n')
    unfinished.replace(part)


def _render_scene(job: tuple[WorldSettings, str, str, int]
                  ) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float, float]]:
    """Return images (n, h, w, 3), depths (n, h, w) and the camera (fx, fy, cx, cy) of a scene."""
    settings, split, domain, scene = job
    for attempt in range(100):
        rng = np.random.default_rng((settings.seed, SPLITS.index(split), DOMAINS.index(domain),
                                     scene, attempt))
        candidates = _CANDIDATES * settings.frames
        build = street if domain == 'outdoor' else room if rng.random() < 0.65 else corridor
        renderer = Renderer(build(rng, candidates))
        half = np.radians(rng.uniform(*FIELDS[domain])) / 2
        focal = float(settings.width / 2 / np.tan(half))
        camera = Camera(settings.width, settings.height, focal, focal,
                        (settings.width - 1) / 2, (settings.height - 1) / 2)
        response = Response.draw(rng)
        poses = [pose for pose in renderer.scene.walk if renderer.clear(pose, camera)]
        if len(poses) < settings.frames:
            continue    # boxed in
        chosen = np.linspace(0, len(poses) - 1, settings.frames).astype(int)
        frames = [renderer.frame(poses[i], camera, response, rng) for i in chosen]
        return (np.stack([image for image, _ in frames]),
                np.stack([depth for _, depth in frames]).astype(np.float16),
                (camera.fx, camera.fy, camera.cx, camera.cy))
    raise DatasetError(f'scene {scene} of {split} {domain} has no {settings.frames} free places')


class WorldDataset:
    """One split of one domain of a made world."""

    def __init__(self, folder: str | Path, split: str, domain: str) -> None:
        """
        Map the arrays; nothing is read yet.

        :raises DatasetError: they are not there, not complete, or of another version.
        """
        part = Path(folder).expanduser() / split / domain
        about = _read_about(part)
        if about['version'] != VERSION:
            raise DatasetError(f'{part} was made by another version of zoe world: make it anew')
        self.name = f'world-{domain}'
        self.domain = domain
        self.protocol = EvalProtocol(*RANGES[domain])
        try:
            self._images = np.load(part / 'images.npy', mmap_mode='r')
            self._depths = np.load(part / 'depths.npy', mmap_mode='r')
            self._cameras = np.load(part / 'cameras.npy')
        except (OSError, ValueError) as error:
            raise DatasetError(f'{part} is damaged ({error}): remove it and make it anew'
                               ) from None
        self._frames = about['frames']

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        """Return a frame, named by scene and number."""
        height, width = self._depths.shape[1:]
        scene, frame = divmod(range(len(self))[index], self._frames)
        return Sample(
            np.array(self._images[index]), self._depths[index].astype(np.float32),
            Camera(width, height, *self._cameras[index]), self.domain, f'{scene:04}-{frame:02}')


def is_world(folder: Path) -> bool:
    """Tell whether a folder holds a made world, or a part of one."""
    return any((folder / split / domain / ABOUT).is_file()
               for split in SPLITS for domain in DOMAINS)


def _read_about(part: Path) -> dict[str, int]:
    try:
        return dict(json.loads((part / ABOUT).read_text()))
    except (OSError, ValueError):
        raise DatasetError(f'{part} holds no frames: make them with "zoe world '
                           f'{part.parent.parent}"') from None
