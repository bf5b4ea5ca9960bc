"""The training loop: steps, checkpoints that survive a kill, progress, and curves."""
from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
import json
import logging
import math
import os
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm
import yaml

from zoe_ros.datasets import Dataset
from zoe_ros.datasets.open import open_datasets, require_bag_for_topics
from zoe_ros.evaluate import evaluate
from zoe_ros.extras import require
from zoe_ros.files import whole_file
from zoe_ros.inference.choices import input_size, resolve_device
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.inference.threads import TrainingThreads
from zoe_ros.model.config import VARIANTS, ZoeConfig
from zoe_ros.model.weights import save_model
from zoe_ros.model.zoedepth import ZoeDepth
from zoe_ros.provenance import changed_inputs, other_settings
from zoe_ros.results import check_output
from zoe_ros.settings import check_choice
from zoe_ros.training.batches import Batch, Batches, load
from zoe_ros.training.curves import draw_curves
from zoe_ros.training.mixture import check_router_teaches, Mixture
from zoe_ros.training.objective import Objective
from zoe_ros.training.recipe import make_recipe, Recipe, TrainSettings
from zoe_ros.training.start import start_identity, starting_model

MODEL, STATE, SETTINGS, LOG, CURVES = (
    'model.safetensors', 'state.pt', 'settings.yaml', 'log.jsonl', 'curves.png')
# Settings that may change when a run is continued, because they do not change the result.
_FREE = ('device', 'workers', 'output', 'data', 'held_out')
# Beside the settings: SHA-256 of the initial weights.
_START = 'start_sha256'
_SMOOTHING = 0.98       # of the displayed loss
# Metrics of the held-out data.
_MEASURED = ('REL', 'delta1', 'router accuracy')

log = logging.getLogger(__name__)


class TrainingError(ValueError):
    """A run that cannot start or continue; the text says why."""


def run_training(settings: TrainSettings) -> Path:
    """
    Train as the settings say; return the file of the model.

    :raises ValueError, OSError: the data, the weights or a setting cannot be used.
    """
    check_output(Path(settings.output))
    require_bag_for_topics([*settings.data, *settings.held_out], settings)
    return train(settings, open_datasets(settings.data, 'train', settings),
                 open_datasets(settings.held_out, 'test', settings))


def train(settings: TrainSettings, datasets: Sequence[Dataset],
          held_out: Sequence[Dataset] = (), config: ZoeConfig | None = None) -> Path:
    """
    Train a model; continue the run if the folder holds one.

    Under torchrun every process calls this function and trains on a share of each batch.

    :param config: of a model that is not one of ``VARIANTS``.
    :return: the file of the trained model.
    :raises TrainingError: the folder holds another run, or the loss is not finite.
    :raises ValueError: a package is not installed.
    """
    require('a training', 'train', 'matplotlib')
    with _processes(settings) as (rank, world, device):
        return _Run(settings, datasets, held_out, config, rank, world, device).go()


class _Run:
    """A run, as one process sees it."""

    def __init__(self, settings: TrainSettings, datasets: Sequence[Dataset],
                 held_out: Sequence[Dataset], config: ZoeConfig | None, rank: int, world: int,
                 device: torch.device) -> None:
        """Build model, data and optimizer; restore the state in the folder if there is one."""
        if config is None:
            check_choice('variant', settings.variant, tuple(VARIANTS))
            config = VARIANTS[settings.variant]
        config = replace(config, image_size=input_size(settings.size, config))
        self.settings, self.held_out, self.device = settings, held_out, device
        self.first = rank == 0
        self.folder = Path(settings.output)
        self.model = starting_model(config, settings)
        # Convolutions of small maps are 10 % faster with channels last.
        self.model.to(device).to(memory_format=torch.channels_last)
        recipe = make_recipe(config.variant, settings)
        freeze_parts(self.model, settings.parts)
        check_parts_learn(settings, datasets, config)
        # Batch normalisation needs batches of mixed domains: alternating domains would make its
        # statistics swing.
        normalised = any(map(is_normalisation, self.model.modules()))
        mixed = settings.stage == 'relative' or normalised
        check_router_teaches(datasets, config, settings)
        mixture = Mixture.parse(settings.repeat, settings.up_to_scale, datasets)
        self.batches = Batches(datasets, config.image_size, settings.batch, settings.seed,
                               mixed=mixed, rank=rank, world=world,
                               mixture=mixture, faults=settings.faults,
                               canonical=config if config.canonical_focal else None,
                               labelled=settings.labelled or None)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, recipe), weight_decay=settings.weight_decay,
            fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, [group['lr'] for group in self.optimizer.param_groups],
            total_steps=settings.steps, pct_start=settings.warm_share, div_factor=1,
            final_div_factor=1e4, base_momentum=0.85, max_momentum=0.95)
        objective: nn.Module = Objective(self.model, settings.stage, settings.routing,
                                         recipe.routing_weight, settings.precision,
                                         settings.shape_weight, settings.labelled > 0)
        if world > 1:
            if device.type == 'cuda':
                objective = nn.SyncBatchNorm.convert_sync_batchnorm(objective)
            # In each step the head of the other domain is unused.
            objective = DistributedDataParallel(objective, find_unused_parameters=True)
        self.objective = objective
        self.mean = AveragedModel(
            self.model, multi_avg_fn=get_ema_multi_avg_fn(settings.mean_decay)
        ) if settings.mean_decay else None
        domains = {dataset.domain for dataset in datasets}
        self.still = still_modules(self.model, settings.parts, freezes_norms(settings, domains))
        self.rank = rank
        self.step = 0
        self.history: list[dict[str, Any]] = []
        # Only now, so that a refused start leaves no folder behind.
        if self.first:
            self._claim_folder()
        self._restore()

    def go(self) -> Path:
        """Run the remaining steps; return the file of the model."""
        settings = self.settings
        threads = TrainingThreads()
        shown: float | None = None
        steps = tqdm(load(self.batches, self.step, settings.steps, settings.workers,
                          pinned=self.device.type == 'cuda'),
                     total=settings.steps, initial=self.step, unit='step', mininterval=1.0,
                     disable=None if self.first else True)
        for batch in steps:
            parts = self._learn(batch.to(self.device))
            threads.follow()
            self.step += 1
            shown = parts['loss'] if shown is None else (
                _SMOOTHING * shown + (1 - _SMOOTHING) * parts['loss'])
            steps.set_postfix_str(f'loss {shown:.4f}', refresh=False)
            self.history.append({'step': self.step, **parts})
            if self.step % settings.checkpoint_steps == 0 or self.step == settings.steps:
                self._record()
        return self.folder / MODEL

    def _learn(self, batch: Batch) -> dict[str, float]:
        """Do one step; return the parts of its loss."""
        # Dropout depends on the step only, like the batch: a resumed run gives the same result.
        torch.manual_seed(self.settings.seed * 1_000_003 + self.step * 1009 + self.rank)
        self.objective.train()
        for module in self.still:
            module.eval()
        self.optimizer.zero_grad(set_to_none=True)
        parts = self.objective(batch)
        # Together: each copy from a GPU waits for the GPU.
        values = dict(zip(parts, torch.stack(
            [part.detach().float() for part in parts.values()]).tolist()))
        if not math.isfinite(values['loss']):
            raise TrainingError(
                f'the loss of step {self.step + 1} is {values["loss"]}, with the batch '
                f'{", ".join(batch.names)}; the state of the last checkpoint is kept in '
                f'{self.folder}: check these samples, or choose a lower learning rate')
        parts['loss'].backward()
        trained = [p for group in self.optimizer.param_groups for p in group['params']]
        nn.utils.clip_grad_norm_(trained, self.settings.clip)
        self.optimizer.step()
        self.schedule.step()
        if self.mean is not None:
            self.mean.update_parameters(self.model)
        return values

    @property
    def result(self) -> ZoeDepth:
        """Return the model that the run makes: the mean of the weights, or the weights."""
        return self.model if self.mean is None else cast(ZoeDepth, self.mean.module)

    # --- the folder -------------------------------------------------------------------------

    def _claim_folder(self) -> None:
        """Write the settings into the folder, or compare them with the run in the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        start = start_identity(self.settings.start, self.settings.encoder_weights)
        path = self.folder / SETTINGS
        if path.is_file():
            self._require_same(path, start)
        elif any(item.name != f'{SETTINGS}.part' for item in self.folder.iterdir()):
            raise TrainingError(f'{self.folder} holds something else than a training run: choose '
                                'another folder')
        else:
            mine = {**json.loads(json.dumps(asdict(self.settings))), _START: start}
            with _advice_to_make_room(), whole_file(path) as part:
                part.write_text(yaml.safe_dump(mine, sort_keys=False))

    def _require_same(self, path: Path, start: str | None) -> None:
        """
        Compare the run in the folder with this one.

        :param path: of its settings; :param start: identity of the initial weights.
        :raises TrainingError: it has other settings or other initial weights.
        """
        theirs = yaml.safe_load(path.read_text()) or {}
        other = other_settings(self.folder, self.settings, theirs, _FREE, (_START,))
        if other:
            then = ', '.join(f'{name}: {theirs.get(name, "the default")}' for name in other)
            raise TrainingError(
                f'{self.folder} holds a run with another {" and ".join(other)} ({then}): choose '
                'another folder, or the same settings to continue it')
        if changed_inputs(theirs, {_START: start}):
            raise TrainingError(
                f'{self.settings.start or self.settings.encoder_weights} has changed since the '
                f'run in {self.folder} began with it: choose another folder')

    def _record(self) -> None:
        """Evaluate the held-out data; write state, model, log and curves."""
        self.history[-1].update(self._measure())
        if not self.first:
            return
        with tqdm.external_write_mode():    # the progress bar may be on the same terminal
            log.info('step %d: %s', self.step, ', '.join(
                f'{name} {value:.4f}' for name, value in self.history[-1].items()
                if name in ('loss', *_MEASURED)))
        state = {'step': self.step, 'history': self.history, 'model': self.model.state_dict(),
                 'optimizer': self.optimizer.state_dict(),
                 'schedule': self.schedule.state_dict(),
                 'mean': None if self.mean is None else self.mean.state_dict()}
        with _advice_to_make_room():
            save_model(self.result, self.folder / MODEL)
            with whole_file(self.folder / LOG) as part:
                part.write_text(''.join(json.dumps(row) + '\n' for row in self.history))
            with whole_file(self.folder / CURVES) as part:
                draw_curves(self.history, part)
            # The last: a process that is killed before continues from the previous state, and
            # writes the other files again. Of a full disk torch tells by a RuntimeError.
            with whole_file(self.folder / STATE, also=(RuntimeError,)) as part:
                torch.save(state, part)

    def _measure(self) -> dict[str, float]:
        """Return the main metrics of the held-out data, averaged over the datasets."""
        if not (self.first and self.held_out and self.settings.stage == 'metric'):
            return {}
        estimator = DepthEstimator(self.result)
        results = [evaluate(estimator, dataset) for dataset in self.held_out]
        return {name: sum(result.figures[name] for result in results) / len(results)
                for name in _MEASURED if all(name in result.figures for result in results)}

    def _restore(self) -> None:
        path = self.folder / STATE
        if not path.is_file():
            return
        state = torch.load(path, map_location='cpu', weights_only=True)
        self.model.load_state_dict(state['model'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.schedule.load_state_dict(state['schedule'])
        if self.mean is not None:
            self.mean.load_state_dict(state['mean'])
        self.step, self.history = state['step'], state['history']
        if self.first:
            log.info('continuing %s at step %d of %d', self.folder, self.step,
                     self.settings.steps)


def parameter_groups(model: ZoeDepth, recipe: Recipe) -> list[dict[str, Any]]:
    """Return the trained parameters with the learning rates of their parts (section 6.2)."""
    rate = recipe.learning_rate
    groups: list[tuple[nn.Module, float]] = [
        (model.backbone, rate * recipe.encoder_factor),
        (model.decoder, rate * recipe.decoder_factor), (model.metric, rate)]
    if model.router is not None:
        groups.append((model.router, rate))
    chosen = [([p for p in part.parameters() if p.requires_grad], own) for part, own in groups]
    return [{'params': parameters, 'lr': own} for parameters, own in chosen if parameters]


def check_parts_learn(settings: TrainSettings, datasets: Sequence[Dataset],
                      config: ZoeConfig) -> None:
    """
    Check that each batch trains the parts that are to be trained.

    :raises TrainingError: the stage or the domain of some data trains others.
    """
    parts = settings.parts
    if parts != 'all' and settings.stage == 'relative':
        raise TrainingError(f'the relative stage trains encoder and decoder, not --parts {parts}: '
                            'leave --parts or --stage out')
    others = [dataset.domain for dataset in datasets if config.head_for(dataset.domain) != parts]
    if parts in config.head_names and settings.routing != 'auto' and others:
        raise TrainingError(f'{others[0]} images do not train --parts {parts}: leave them out by '
                            f'--domain {parts}')


def freeze_parts(model: ZoeDepth, parts: str) -> None:
    """
    Freeze all parts but the named one, see :class:`TrainSettings`.

    :raises TrainingError: the model has no such head.
    """
    if parts == 'all':
        return
    trained: list[nn.Module] = [model.metric] + ([model.router] if model.router else [])
    if parts != 'heads':
        if parts not in model.config.head_names:
            raise TrainingError(f'{model.config.title} has no {parts} head to train, only '
                                f'{" and ".join(model.config.head_names)}')
        trained = [model.metric.heads[parts]]
    model.requires_grad_(False)
    for module in trained:
        module.requires_grad_(True)


def still_modules(model: ZoeDepth, parts: str, normalisations: bool) -> list[nn.Module]:
    """Return the modules that stay in inference mode during training."""
    if parts != 'all':
        return [model.backbone, model.decoder]
    return [module for module in model.modules() if normalisations and is_normalisation(module)]


def freezes_norms(settings: TrainSettings, domains: Collection[str]) -> bool:
    """
    Tell whether batch normalisations keep the statistics of the initial weights.

    Batches would replace the statistics of pretrained weights by those of synthetic scenes, or of
    a single domain, and by noisy ones if the batches are small. With frozen statistics the network
    also computes the same in training and at inference.

    :param domains: of the training data.
    """
    if settings.encoder_norms != 'auto':
        return settings.encoder_norms == 'frozen'
    return bool(settings.encoder_weights or (settings.start and len(domains) == 1))


def is_normalisation(module: nn.Module) -> bool:
    """Tell whether a module normalises by the statistics of batches."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


@contextmanager
def _advice_to_make_room() -> Iterator[None]:
    """
    Add to an error of :func:`.whole_file` what to do.

    :raises TrainingError: there is no room, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise TrainingError(f'{error}: make room; the previous file is still complete') from None


@contextmanager
def _processes(settings: TrainSettings) -> Iterator[tuple[int, int, torch.device]]:
    """Join the other processes of torchrun; yield rank, number of processes, and device."""
    world = int(os.environ.get('WORLD_SIZE', '1'))
    device = resolve_device(settings.device)
    if world == 1:
        yield 0, 1, device
        return
    if device.type == 'cuda':
        device = torch.device('cuda', int(os.environ['LOCAL_RANK']))
        torch.cuda.set_device(device)
    torch.distributed.init_process_group('nccl' if device.type == 'cuda' else 'gloo')
    try:
        yield torch.distributed.get_rank(), world, device
    finally:
        torch.distributed.destroy_process_group()
