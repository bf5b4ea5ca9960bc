#!/usr/bin/env python3
"""
Time an exported graph in ONNX Runtime and OpenVINO in turns with the estimator, network only.

The estimator runs the router and the chosen head. Packages: '.[export]' and openvino.

    zoe export --variant mobile-lite out
    python bench/bench_runtimes.py out/mobile-lite.onnx --threads 1
    python bench/bench_runtimes.py out/mobile-lite.onnx --engine openvino   # its memory
"""
from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import metadata
import json
from pathlib import Path
import resource
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch

from zoe_ros.export import made_up_pixels

Run = Callable[[], np.ndarray]      # the depth of the first head of the graph
_WARM_UP = 3


def main() -> None:
    """Print medians for each engine, and how far its depth is from that of the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('graph', type=Path)
    parser.add_argument('--weights', help='of the graph; empty: those of the package')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--frames', type=int, default=40)
    parser.add_argument('--engine', choices=ENGINES, help='this one alone; empty: all in turns')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    facts = json.loads(options.graph.with_suffix('.json').read_text())
    pixels = made_up_pixels((facts['height'], facts['width']))
    engines = dict(ENGINES[name](options, facts, pixels)
                   for name in ([options.engine] if options.engine else ENGINES))
    print(f'{options.graph}, heads {" and ".join(facts["heads"])}, {options.threads} threads')
    for line in measure(engines, options.frames):
        print(f'  {line}')
    # Of Linux in KiB.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20
    print(f'  at most {peak:.1f} GiB in memory')


def measure(engines: dict[str, Run], frames: int) -> Iterator[str]:
    """Run the engines in turns; give a line for each."""
    wall, used = ({name: [] for name in engines} for _ in range(2))
    depth: dict[str, np.ndarray] = {}
    for _ in range(_WARM_UP + frames):
        for name, run in engines.items():
            start, cpu = perf_counter(), process_time()
            depth[name] = run()
            wall[name].append(perf_counter() - start)
            used[name].append(process_time() - cpu)
    first = next(iter(engines))
    for name in engines:
        off = np.linalg.norm(depth[name] - depth[first]) / np.linalg.norm(depth[first])
        yield (f'{name:<28} {compared(wall, name, first)}; of processors '
               f'{compared(used, name, first)}; difference {off:.1e}')


def compared(times: dict[str, list[float]], name: str, first: str) -> str:
    """Return the median time of an engine, and the median of its ratios to the first, in turns."""
    own, other = (np.array(times[each][_WARM_UP:]) for each in (name, first))
    return f'{1e3 * np.median(own):8.1f} ms ({np.median(own / other):.2f})'


def torch_engine(options: Any, facts: dict[str, Any], pixels: torch.Tensor) -> tuple[str, Run]:
    """Return the estimator."""
    from zoe_ros.inference.engine import DepthEstimator

    estimator = DepthEstimator.load(facts['variant'], options.weights or None,
                                    device='cpu', precision='fp32')
    heads: Sequence[str] = facts['heads']
    chosen = heads[:1] if len(heads) == 1 else []
    return f'zoe_ros, torch {torch.__version__}', lambda: estimator.runner(
        pixels, lambda logits: [heads[0]], heads=chosen)[0].numpy()


def onnxruntime_engine(options: Any, facts: dict[str, Any],
                       pixels: torch.Tensor) -> tuple[str, Run]:
    """Return the graph in ONNX Runtime."""
    import onnxruntime

    choices = onnxruntime.SessionOptions()
    choices.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(options.graph, choices, ['CPUExecutionProvider'])
    wanted, inputs = [f'depth_{facts["heads"][0]}'], {'pixels': pixels.numpy()}
    return (f'ONNX Runtime {onnxruntime.__version__}',
            lambda: session.run(wanted, inputs)[0])


def openvino_engine(options: Any, facts: dict[str, Any], pixels: torch.Tensor,
                    precision: str = 'f32') -> tuple[str, Run]:
    """Return the graph in OpenVINO; with 'bf16' as it is without a hint on a CPU that has it."""
    import openvino

    compiled = openvino.Core().compile_model(options.graph, 'CPU', {
        'INFERENCE_NUM_THREADS': options.threads, 'INFERENCE_PRECISION_HINT': precision})
    wanted, array = f'depth_{facts["heads"][0]}', pixels.numpy()
    return (f'OpenVINO {metadata.version("openvino")} {precision}',
            lambda: compiled(array)[wanted])


ENGINES = {'torch': torch_engine, 'onnxruntime': onnxruntime_engine, 'openvino': openvino_engine,
           'openvino-bf16': partial(openvino_engine, precision='bf16')}


if __name__ == '__main__':
    main()
