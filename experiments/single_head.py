"""
The single-head baseline of ZoeD-Mobile-NK: stage 6 of make_mobile.py again, with one head.

Same data, order, learning rates, number of steps and initial model, but the indoor head learns
both domains. Run ``python experiments/single_head.py work/`` after make_mobile.py, or with
several processes by torchrun; then
``zoe eval work/world --weights work/6-single/model.safetensors``.
"""
from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ablations import one_head

from zoe_ros.datasets.open import open_datasets
from zoe_ros.model.config import VARIANTS
from zoe_ros.training.recipe import TrainSettings
from zoe_ros.training.trainer import train


def main() -> None:
    """Train the baseline, or continue the training."""
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='of make_mobile.py')
    folder = parser.parse_args().folder
    worlds = [str(folder / name) for name in ('world', 'world-more', 'world-most')]
    settings = TrainSettings(
        start=str(folder / '5-metric/model.safetensors'), precision='bf16', steps=4000,
        checkpoint_steps=2000, learning_rate=5e-4, warm_share=0.05, seed=47,
        output=str(folder / '6-single'))
    train(settings, open_datasets(worlds, 'train'), open_datasets(worlds[:1], 'test'),
          config=one_head(VARIANTS['mobile']))


if __name__ == '__main__':
    main()
