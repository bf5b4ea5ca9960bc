"""The student of a distillation: its configuration, its training, and its errors."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoe_ros.datasets import Dataset
from zoe_ros.distill.recipe import DistillSettings
from zoe_ros.evaluate import evaluate
from zoe_ros.inference.choices import find_precision, resolve_device, two_models
from zoe_ros.inference.defaults import describe
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.model.config import PAIRS, RELEASED, VARIANTS, ZoeConfig
from zoe_ros.model.hub import SHIPPED_LIMITS
from zoe_ros.model.weights import open_checkpoint, WeightsError
from zoe_ros.model.zoedepth import ZoeDepth
from zoe_ros.training.recipe import TrainSettings

# Learning rates, and that of a trained encoder as a fraction.
_FROM_WEIGHTS, _FROM_NOTHING = 3e-4, 1e-3
_ENCODER = 0.3
# Beside parts that start from random weights. A faster encoder soon gives all images the same
# features, from which a router can learn only how often each head occurs.
_ENCODER_ALONE = 0.1
_CHECKPOINTS = 10       # of a run


def student_config(start: str) -> ZoeConfig:
    """
    Return the configuration of the student that ``--from`` names.

    :raises WeightsError, FileNotFoundError: the file cannot be used.
    """
    if start in VARIANTS:
        return VARIANTS[start]
    if start in PAIRS:
        raise WeightsError(two_models(start))
    config = open_checkpoint(start).config
    if config is None:
        raise WeightsError(f'{start} does not tell which model it holds: give a file that zoe '
                           'train or zoe distill wrote, or the name of a variant')
    return config


def train_settings(settings: DistillSettings, config: ZoeConfig, folder: Path) -> TrainSettings:
    """Return the settings of the training of a student, in a folder of its own."""
    fresh = (settings.start in VARIANTS and settings.start not in RELEASED
             and settings.start not in SHIPPED_LIMITS)
    encoder = _ENCODER if not fresh else _ENCODER_ALONE if settings.encoder_weights else 0.0
    precision = find_precision(settings.precision, describe(resolve_device(settings.device)))
    return TrainSettings(
        variant=config.variant, start='' if fresh else settings.start,
        encoder_weights=settings.encoder_weights, steps=settings.steps, batch=settings.batch,
        # The images of one robot are too much alike to give the statistics of all images.
        encoder_norms='auto' if fresh else 'frozen', encoder_factor=encoder,
        learning_rate=settings.learning_rate or (_FROM_NOTHING if fresh else _FROM_WEIGHTS),
        warm_share=0.3, clip=1.0, mean_decay=0.98, faults=0.5, precision=precision,
        device=settings.device, workers=settings.workers, seed=settings.seed,
        checkpoint_steps=max(1, settings.steps // _CHECKPOINTS), output=str(folder),
        labelled=1 - settings.world_share)


def mean_error(model: ZoeDepth, datasets: Sequence[Dataset]) -> float:
    """Return the mean REL of a model over the images of datasets."""
    estimator = DepthEstimator(model)
    rows = [row for dataset in datasets for row in evaluate(estimator, dataset).rows]
    return float(np.mean([row['REL'] for row in rows]))
