"""
Train ZoeD-Mobile-NK from random weights, and store the model in the package.

Renders three synthetic worlds: many scenes at half size, fewer at full size, and many more with
few frames. Trains relative depth, then metric depth at half and at full size, averages the weights
of the last two models, and evaluates the mean on the held-out scenes. An interrupted run continues
where it stopped.
"""
from __future__ import annotations

import argparse
import os
from pathlib import Path
import subprocess
import sys

import torch

from zoe_ros.model.hub import SHIPPED
from zoe_ros.model.weights import load_model, open_checkpoint, save_model

# Folder -> options. No training scene is held out in another world: seeds depend on the split.
WORLDS = {
    'world-small': ('--scenes', '1000', '--held-out', '40', '--frames', '8',
                    '--height', '96', '--width', '128'),
    'world': ('--scenes', '320', '--held-out', '40', '--frames', '8'),
    'world-more': ('--scenes', '1600', '--held-out', '1', '--frames', '3', '--seed', '1'),
    'world-most': ('--scenes', '1800', '--held-out', '1', '--frames', '3', '--seed', '2'),
}
COMMON = ('--variant', 'mobile', '--precision', 'bf16', '--workers', '1')
# Folder -> worlds, the first of which is also used for evaluation; options. Each stage starts from
# the model of the previous stage.
STAGES = {
    '1-relative': (['world-small'], (
        '--stage', 'relative', '--size', '96x128', '--steps', '1500', '--checkpoint-steps', '500',
        '--batch', '24', '--learning-rate', '1e-3', '--warm-share', '0.6')),
    '2-metric-small': (['world-small'], (
        '--size', '96x128', '--steps', '2250', '--checkpoint-steps', '750', '--batch', '24',
        '--learning-rate', '1e-3', '--warm-share', '0.99')),
    '3-metric-small': (['world-small'], (
        '--size', '96x128', '--steps', '6000', '--checkpoint-steps', '1500', '--batch', '16',
        '--learning-rate', '5e-4', '--warm-share', '0.1', '--seed', '44')),
    '4-metric': (['world'], (
        '--steps', '1050', '--checkpoint-steps', '350', '--batch', '16', '--learning-rate', '3e-4',
        '--warm-share', '0.2', '--seed', '45')),
    '5-metric': (['world', 'world-more'], (
        '--steps', '5000', '--checkpoint-steps', '1250', '--batch', '16',
        '--learning-rate', '5e-4', '--warm-share', '0.05', '--seed', '46')),
    '6-metric': (['world', 'world-more', 'world-most'], (
        '--steps', '4000', '--checkpoint-steps', '1000', '--batch', '16',
        '--learning-rate', '5e-4', '--warm-share', '0.05', '--seed', '47')),
    '7-metric': (['world', 'world-more', 'world-most'], (
        '--steps', '360', '--checkpoint-steps', '360', '--batch', '16', '--learning-rate', '2e-4',
        '--warm-share', '0.05', '--seed', '48')),
}
# The mean of these models is shipped, because it is more accurate than both.
AVERAGED = ('6-metric', '7-metric')


def main() -> None:
    """Run all steps that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='for the worlds and the runs (8 GB)')
    parser.add_argument('--processes', type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    for name, size in WORLDS.items():
        zoe(['world', str(options.folder / name), *size, '--workers', str(options.processes)])
    start: list[str] = []
    for name, (worlds, stage) in STAGES.items():
        run, data = options.folder / name, [str(options.folder / world) for world in worlds]
        zoe(['train', '--data', *data, '--held-out', data[0], *COMMON, *stage, *start,
             '--output', str(run)], options.processes)
        start = ['--from', str(run / 'model.safetensors')]
    shipped = ship([options.folder / name / 'model.safetensors' for name in AVERAGED])
    zoe(['eval', str(options.folder / 'world'), '--weights', str(shipped), '--precision', 'fp32',
         '--output', str(options.folder / 'evaluation')])


def zoe(arguments: list[str], processes: int = 1) -> None:
    """Run a command of zoe in several processes, which divide the batches."""
    launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(processes)]
    subprocess.run([sys.executable, *(launcher if processes > 1 else []), '-m', 'zoe_ros.cli',
                    *arguments], check=True, env={'OMP_NUM_THREADS': '1', **os.environ})


def ship(paths: list[Path]) -> Path:
    """Write the mean of trained models into the package, matrices in float16; return the file."""
    config = open_checkpoint(paths[0]).config
    assert config is not None
    models = [load_model(config, path) for path in paths]
    for mean, *values in zip(*(model.state_dict().values() for model in models)):
        mean.copy_(torch.stack([mean, *values]).double().mean(dim=0))
    target = SHIPPED / f'{config.variant}.safetensors'
    target.parent.mkdir(exist_ok=True)
    save_model(models[0], target, half=True)
    return target


if __name__ == '__main__':
    main()
