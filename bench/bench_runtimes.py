#!/usr/bin/env python3
"""
Time an exported graph in ONNX Runtime and OpenVINO in turns with the estimator, network only.

The estimator runs the router and the chosen head. Packages: '.[export]' and openvino.

    zoe export --variant mobile-lite out
    python bench/bench_runtimes.py out/mobile-lite.onnx --threads 1
"""
from __future__ import annotations

import argparse
from importlib import metadata
import json
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import onnxruntime
import openvino
import torch

from zoe_ros.export import made_up_pixels
from zoe_ros.inference.engine import DepthEstimator

_WARM_UP = 3


def main() -> None:
    """Print medians for each engine, and how far its depth is from the estimator's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('graph', type=Path)
    parser.add_argument('--weights', help='of the graph; empty: those of the package')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--frames', type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    facts = json.loads(options.graph.with_suffix('.json').read_text())
    estimator = DepthEstimator.load('' if options.weights else facts['variant'], options.weights,
                                    device='cpu', precision='fp32')
    pixels = made_up_pixels((facts['height'], facts['width']))
    head = facts['heads'][0]

    chosen = [head] if len(facts['heads']) == 1 else []
    choices = onnxruntime.SessionOptions()
    choices.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(options.graph, choices, ['CPUExecutionProvider'])
    compiled = openvino.Core().compile_model(options.graph, 'CPU', {
        'INFERENCE_NUM_THREADS': options.threads, 'INFERENCE_PRECISION_HINT': 'f32'})
    array = pixels.numpy()
    engines = {
        f'zoe_ros, torch {torch.__version__}':
            lambda: estimator.runner(pixels, lambda logits: [head], heads=chosen)[0].numpy(),
        f'ONNX Runtime {onnxruntime.__version__}':
            lambda: session.run([f'depth_{head}'], {'pixels': array})[0],
        f'OpenVINO {metadata.version("openvino")}': lambda: compiled(array)[f'depth_{head}']}

    wall: dict[str, list[float]] = {name: [] for name in engines}
    used: dict[str, list[float]] = {name: [] for name in engines}
    depth: dict[str, np.ndarray] = {}
    for _ in range(_WARM_UP + options.frames):
        for name, run in engines.items():
            start, cpu = perf_counter(), process_time()
            depth[name] = run()
            wall[name].append(perf_counter() - start)
            used[name].append(process_time() - cpu)
    ours = next(iter(depth.values()))
    print(f'{options.graph}, heads {" and ".join(facts["heads"])}, {options.threads} threads')
    for name in engines:
        off = np.linalg.norm(depth[name] - ours) / np.linalg.norm(ours)
        times = [1e3 * float(np.median(values[name][_WARM_UP:])) for values in (wall, used)]
        print(f'  {name:<28} {times[0]:8.1f} ms, {times[1]:8.1f} ms of processors, '
              f'difference {off:.1e}')


if __name__ == '__main__':
    main()
