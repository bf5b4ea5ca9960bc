"""A step that trains: on a rendered world, the small model; and a batch of the full one."""
from __future__ import annotations

from functools import partial
from importlib.util import find_spec
import os
from pathlib import Path
from tempfile import TemporaryDirectory
import time

from bench.trial import models
from bench.trial.record import Trial
import torch

from zoe_ros.command_settings import DataSettings, WorldSettings
from zoe_ros.datasets import Dataset
from zoe_ros.datasets.open import open_datasets
from zoe_ros.model.config import VARIANTS
from zoe_ros.model.weights import load_model
from zoe_ros.model.zoedepth import ZoeDepth
from zoe_ros.training.batches import Batch, Batches, load
from zoe_ros.training.objective import Objective
from zoe_ros.training.recipe import TrainSettings
from zoe_ros.training.trainer import run_training

# Of the loss of a batch to that on the CPU, relative. Convolutions of a GPU round to TF32.
_TOLERANCE = 1e-2


def train(trial: Trial) -> None:
    """Measure steps of a training, alone and with data; compare losses with the CPU."""
    if find_spec('embreex') is None:
        trial.fact('train', result='embreex is not on this machine')
        return
    with TemporaryDirectory() as folder:
        world = Path(folder) / 'world'
        processes = min(16, len(os.sched_getaffinity(0)))
        start = time.perf_counter()
        _render(world, 2 if trial.tiny else 60, processes)
        trial.fact('world', frames=8 if trial.tiny else 240, processes=processes,
                   s=round(time.perf_counter() - start, 1))
        datasets = open_datasets((str(world),), 'train', DataSettings())
        name = 'nano' if trial.tiny else 'mobile-lite'
        batch = _data(trial, datasets, name, 2 if trial.tiny else 16, processes)
        with trial.attempt('one batch'):
            _one_batch(trial, name, ZoeDepth(VARIANTS[name]), batch)
        with trial.attempt('whole run'):
            _whole_run(trial, world, name, processes)
        if not trial.tiny and trial.cuda:
            with trial.attempt('nk'):
                _one_batch(trial, 'nk', load_model(VARIANTS['nk'], models.weights_file(trial)),
                           _data(trial, datasets, 'nk', 4, processes))


def _render(folder: Path, scenes: int, processes: int) -> None:
    from zoe_ros.world.make import make_world  # needs embreex

    make_world(WorldSettings(folder=str(folder), scenes=scenes, held_out=1, frames=2,
                             recipe='varied', workers=processes))


def _data(trial: Trial, datasets: list[Dataset], variant: str, size: int, workers: int) -> Batch:
    """Measure the loading of batches alone; return the first one."""
    config = VARIANTS[variant]
    batches = Batches(datasets, config.image_size, size, 43, mixed=True, faults=0.6,
                      canonical=config if config.canonical_focal else None)
    steps = 3 if trial.tiny else 60
    loader = load(batches, 0, steps, workers, pinned=trial.cuda)
    first = next(loader)
    start = time.perf_counter()
    for _ in loader:
        pass
    seconds = (time.perf_counter() - start) / (steps - 1)
    trial.fact('data', of=variant, batch=size, ms=round(1e3 * seconds, 1), processes=workers)
    return first


def _one_batch(trial: Trial, name: str, model: ZoeDepth, batch: Batch) -> None:
    """Compare the loss of a batch with the CPU; measure steps on this batch alone."""
    model.requires_grad_(True).eval()       # without dropout, so that the losses are comparable
    with torch.no_grad():
        host = float(Objective(model, 'metric', 'trained', 1.0, 'fp32')(batch)['loss'])
    model.to(trial.device).to(memory_format=torch.channels_last)
    moved = batch.to(trial.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)

    def step(objective: Objective) -> dict[str, torch.Tensor]:
        optimizer.zero_grad(set_to_none=True)
        parts: dict[str, torch.Tensor] = objective(moved)
        parts['loss'].backward()
        optimizer.step()
        return parts

    for precision in ('fp32', 'bf16'):
        objective = Objective(model, 'metric', 'trained', 1.0, precision, shape_weight=0.5)
        parts = step(objective)
        loss = float(parts['loss'] - 0.5 * parts['shape'])
        times = trial.timed(partial(step, objective))
        trial.fact(f'{name} {precision}', batch=len(batch.pixels), loss=round(loss, 4),
                   on_cpu=round(host, 4), **times, **trial.memory())
        if precision == 'fp32' and abs(loss / host - 1) > _TOLERANCE:
            raise RuntimeError(f'the loss is {loss}, on a CPU {host}')


def _whole_run(trial: Trial, world: Path, variant: str, workers: int) -> None:
    """Measure a run with its data; continue it when it is done, which reads its state."""
    def run(name: str, steps: int) -> float:
        start = time.perf_counter()
        run_training(TrainSettings(
            data=(str(world),), held_out=(str(world),), variant=variant, steps=steps,
            batch=2 if trial.tiny else 16, precision='bf16', device=str(trial.device),
            faults=0.6, shape_weight=0.5, mean_decay=0.9, workers=workers,
            checkpoint_steps=steps, output=str(world.parent / name)))
        return time.perf_counter() - start

    few, many = (1, 3) if trial.tiny else (20, 220)
    first, short, long = run('first', few), run('short', few), run('long', many)
    trial.fact('whole run', of=variant, first_s=round(first, 1), short_s=round(short, 1),
               ms_a_step=round(1e3 * (long - short) / (many - few), 1))
    run('long', many)       # only reads the state
