"""Initial weights of a training run: a previous stage, a released model, or a relative one."""
from __future__ import annotations

from contextlib import suppress
import logging
from pathlib import Path

import torch
from torch import nn

from zoe_ros.inference.choices import two_models
from zoe_ros.model.config import PAIRS, VARIANTS, ZoeConfig
from zoe_ros.model.hub import find_weights
from zoe_ros.model.identity import weights_by_name, weights_identity
from zoe_ros.model.weights import open_checkpoint, WeightsError
from zoe_ros.model.zoedepth import ZoeDepth
from zoe_ros.training.encoder import find_encoder_weights, load_encoder
from zoe_ros.training.recipe import TrainSettings

log = logging.getLogger(__name__)


def starting_model(config: ZoeConfig, settings: TrainSettings) -> ZoeDepth:
    """
    Return the model before the first step of a run.

    :raises WeightsError, FileNotFoundError: the weights that the settings name cannot be used.
    """
    torch.manual_seed(settings.seed)
    model = ZoeDepth(config)
    if settings.start:
        begin_with(model, settings.start)
    if settings.encoder_weights:
        load_encoder(model, settings.encoder_weights)
    if not settings.start and settings.stage == 'relative':
        # For half of all seeds the last ReLU of a random network has zero output and gradient.
        nn.init.ones_(model.decoder.relative.conv3.get_parameter('bias'))
    return model


def start_identity(start: str, encoder_weights: str) -> str | None:
    """
    Return the SHA-256 of the initial weights.

    :param start, encoder_weights: see :class:`TrainSettings`.
    :return: None if they are random, or not on this machine.
    """
    paths = weights_by_name(start)
    if encoder_weights:
        with suppress(FileNotFoundError, WeightsError):
            paths = (*paths, find_encoder_weights(encoder_weights))
    return weights_identity(paths)['weights'] or None


def begin_with(model: ZoeDepth, start: str) -> None:
    """
    Copy the weights of ``start`` into a model, in place.

    ``start`` must contain the whole encoder and decoder. Heads and router that are missing or have
    another shape keep their random weights, and a log line names them.

    :param start: a file (ours, a released ZoeDepth or Depth Anything, or a MiDaS checkpoint), or
        the name of a variant, whose weights are in the package or downloaded.
    :raises WeightsError, FileNotFoundError: the file cannot be used.
    """
    if start in PAIRS:
        raise WeightsError(two_models(start))
    path = find_weights(start) if start in VARIANTS else Path(start)
    checkpoint = open_checkpoint(path)
    own = model.state_dict()
    heads = len(model.config.metric.heads)
    new, missing = [], []
    with torch.no_grad():
        for name, target in own.items():
            sources = checkpoint.layout.sources(name, heads)
            parts = [checkpoint.tensor(s) for s in sources if s in checkpoint.shapes]
            tensor = torch.cat(parts) if len(parts) > 1 else parts[0] if parts else None
            if tensor is not None and len(parts) == len(sources) and tensor.shape == target.shape:
                target.copy_(tensor)
            elif name.startswith(('metric.', 'router.')):
                new.append(name.split('.')[0])
            else:
                missing.append(name)
    if missing:
        raise WeightsError(
            f'{path} has another encoder or decoder than {model.config.title}: '
            f'{", ".join(missing[:3])} and {max(0, len(missing) - 3)} more are missing or have '
            'another shape')
    if new:
        log.info('%s has no matching %s: random weights are used', path,
                 ' and '.join(sorted(set(new))))
