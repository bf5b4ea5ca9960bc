"""Training of the tiny model for a few steps: its data, its settings, and the losses it logs."""
import json

import made_up
from scenes import Planes

from zoe_ros.training.recipe import TrainSettings
from zoe_ros.training.trainer import LOG

DATA = [Planes('indoor', 12), Planes('outdoor', 20)]
CONFIG = made_up.tiny_config()


def settings(folder, **changes):
    """Return settings of a short run."""
    return TrainSettings(**{
        'variant': 'tiny', 'steps': 10, 'batch': 4, 'checkpoint_steps': 100, 'workers': 0,
        'clip': 1.0,
        'learning_rate': 2e-3, 'device': 'cpu', 'output': str(folder), **changes})


def losses(folder):
    """Return the loss of each step."""
    return [json.loads(line)['loss'] for line in (folder / LOG).read_text().splitlines()]
