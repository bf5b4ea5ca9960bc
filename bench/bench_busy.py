#!/usr/bin/env python3
"""
Measure the latency of frames beside busy processes, as on a robot whose cores are shared.

From 0 to 2 N busy processes run endless loops on the N cores. Meanwhile the estimator processes
640 x 480 images one by one, alternating with the ZoeDepth of transformers if requested. With B
busy processes, the scheduler's fair share for a process of N threads is N / (N + B) of the
machine, so a frame should take (N + B) / N times as long as on the idle machine.

    python bench/bench_busy.py [--variant mobile] [--precision fp32] [--against transformers]
"""
from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
import os
import subprocess
import sys
from time import perf_counter, sleep

import numpy as np
import torch

from zoe_ros import DepthEstimator
from zoe_ros.benchmark import IMAGE, made_up_image, made_up_model
from zoe_ros.hugging_face import transformers_model
from zoe_ros.inference.choices import DTYPES
from zoe_ros.inference.preprocess import plan_sizes, to_pixels
from zoe_ros.model.config import VARIANTS

_SETTLE = 2.0       # [s] for the busy processes to start, and for the number of threads to adapt


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Run ``count`` processes that each use a whole core if available."""
    processes = [subprocess.Popen([sys.executable, '-c', 'while True: pass'])
                 for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def latencies(call: Callable[[], object], seconds: float, frames: int) -> np.ndarray:
    """Return the times of calls [s], at least ``frames`` calls during at least ``seconds``."""
    start, found = perf_counter(), []
    while len(found) < frames or perf_counter() - start < seconds:
        begin = perf_counter()
        call()
        found.append(perf_counter() - begin)
    return np.array(found)


@torch.inference_mode()
def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--variant', default='mobile')
    parser.add_argument('--precision', default='fp32', choices=tuple(DTYPES))
    parser.add_argument('--seconds', type=float, default=10, help='of each measurement')
    parser.add_argument('--frames', type=int, default=10, help='of each measurement, at least')
    parser.add_argument('--against', default='', choices=('', 'transformers'))
    options = parser.parse_args()
    config, dtype = VARIANTS[options.variant], DTYPES[options.precision]
    model = made_up_model(config).set_precision(dtype)
    calls: dict[str, Callable[[], object]] = {}
    if options.against:
        theirs = transformers_model(model, dtype)
        plan = plan_sizes(IMAGE, config.image_size, 'stretch', pad=False)
        pixels = to_pixels(torch.from_numpy(made_up_image())[None], plan).to(dtype)
        calls['transformers'] = lambda: theirs(pixel_values=pixels)
    estimator, image = DepthEstimator(model.pack()), made_up_image()
    calls = {'zoe_ros': lambda: estimator.predict(image), **calls}
    cores, idle = len(os.sched_getaffinity(0)), dict[str, float]()
    print(f'{options.variant}, {options.precision}, {cores} cores, torch {torch.__version__}\n\n'
          '| busy processes | network | median [ms] | 95 % [ms] | of idle | of the fair share |\n'
          '|---|---|---|---|---|---|')
    for count in range(2 * cores + 1):
        with busy(count):
            sleep(_SETTLE)
            for name, call in calls.items():
                latencies(call, _SETTLE, 1)
                found = 1e3 * latencies(call, options.seconds, options.frames)
                median, high = np.percentile(found, (50, 95))
                ratio = median / idle.setdefault(name, float(median))
                print(f'| {count} | {name} | {median:.0f} | {high:.0f} | {ratio:.2f} | '
                      f'{ratio * cores / (cores + count):.2f} |', flush=True)


if __name__ == '__main__':
    main()
