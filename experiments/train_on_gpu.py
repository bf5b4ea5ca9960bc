"""
Train mobile-lite further on a machine with a GPU, as many steps as fit into the given minutes.

Renders the varied world with all processors, measures the time of a step, and trains from the
shipped weights, or from those of --from. The model is written every 500 steps, so a run that is
cut off can be taken up elsewhere. At the end work/mobile-lite.safetensors is the model in float16.

    python experiments/train_on_gpu.py work/ real/ --textures textures/ --minutes 9

`real/` holds RGB-D folders and `textures/` what experiments/fetch_textures.py has fetched; both
can be carried to a machine without internet. Nothing is shipped: see make_mobile_lite.py.
"""
from __future__ import annotations

import argparse
import os
from pathlib import Path
import shutil
import time

from make_mobile import zoe
from make_mobile_lite import COMMON, real_images, WORLD

from zoe_ros.model.config import VARIANTS
from zoe_ros.model.weights import load_model, save_model

# Other scenes than those that the shipped weights have learnt, see experiments/known_scenes.py.
SEED = '8'
SHORT, LONG = 30, 230   # steps of the two runs that are timed
LAST = 45               # for the start of the run and the evaluation [s]


def main() -> None:
    """Render, measure, train, evaluate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='for world and runs; new or empty')
    parser.add_argument('real', type=Path, help='folder of RGB-D folders')
    parser.add_argument('--textures', type=Path, required=True)
    parser.add_argument('--minutes', type=float, default=9)
    parser.add_argument('--scenes', type=int, default=1400,
                        help='of each domain, each of three frames')
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--learning-rate', default='5e-4')
    parser.add_argument('--from', dest='start', default='mobile-lite')
    parser.add_argument('--device', default='cuda')
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    processors = len(os.sched_getaffinity(0))
    world = options.folder / 'world'
    # Here and below the last of equal options counts.
    zoe(['world', str(world), *WORLD, '--seed', SEED, '--scenes', str(options.scenes),
         '--held-out', str(-(-options.scenes // 20)), '--textures', str(options.textures),
         '--workers', str(processors)])
    print(f'rendered, {end - time.monotonic():.0f} s left', flush=True)
    arguments = ['train', '--data', str(world), *real_images(options.real), *COMMON,
                 '--from', options.start, '--batch', str(options.batch), '--workers',
                 str(processors), '--device', options.device, '--warm-share', '0.1',
                 '--learning-rate', options.learning_rate, '--mean-decay', '0.998']
    seconds = []
    for steps in (SHORT, SHORT, LONG):      # the first one also starts the device
        begin = time.monotonic()
        _train(arguments, steps, options.folder / 'timed')
        seconds.append(time.monotonic() - begin)
        shutil.rmtree(options.folder / 'timed')
    a_step = (seconds[2] - seconds[1]) / (LONG - SHORT)
    steps = steps_in(end - time.monotonic() - seconds[1] - LAST, a_step)
    print(f'{1e3 * a_step:.0f} ms a step: {steps} steps', flush=True)
    if steps < LONG:
        parser.exit(1, f'only {steps} steps fit: say more --minutes or fewer --scenes\n')
    _train(arguments, steps, options.folder / 'run')
    model = options.folder / 'mobile-lite.safetensors'
    save_model(load_model(VARIANTS['mobile-lite'], options.folder / 'run' / 'model.safetensors'),
               model, half=True)
    zoe(['eval', str(world), '--weights', str(model), '--precision', 'fp32', '--no-flip',
         '--device', options.device, '--output', str(options.folder / 'evaluation')])


def steps_in(seconds: float, a_step: float) -> int:
    """Return how many steps of ``a_step`` [s] fit; noise can make that 0 or less."""
    return int(seconds / max(a_step, 1e-3))


def _train(arguments: list[str], steps: int, output: Path) -> None:
    zoe([*arguments, '--steps', str(steps), '--checkpoint-steps', '500', '--output', str(output)])


if __name__ == '__main__':
    main()
