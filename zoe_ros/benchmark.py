"""Speed of the estimator on this machine, compared with a matrix product."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib import metadata
import json
import platform
import resource
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from zoe_ros.command_settings import BenchSettings
from zoe_ros.hugging_face import transformers_model
from zoe_ros.inference.choices import (
    DTYPES,
    find_config,
    find_precision,
    input_size,
    resolve_device,
)
from zoe_ros.inference.defaults import describe
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.inference.preprocess import plan_sizes, to_depth, to_pixels
from zoe_ros.inference.runner import Choose, ModelRunner
from zoe_ros.inference.transfer import to_device, to_host
from zoe_ros.model.config import ZoeConfig
from zoe_ros.model.weights import load_model
from zoe_ros.model.zoedepth import SharedFeatures, ZoeDepth

IMAGE = (480, 640)              # (height, width) [px] of the generated camera image
# Size of the square matrices of the product: on a GPU, small ones take less time than the launch.
_SIDES = {'cpu': 2048, 'cuda': 8192}
_WARM_UP = 2


def bench(settings: BenchSettings) -> list[str]:
    """
    Run the benchmark.

    :return: lines of a table for people; the last line is JSON.
    :raises ValueError: a setting is not accepted.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = resolve_device(settings.device)
    hardware = describe(device)
    config = find_config(settings.variant, settings.weights or None, hardware)
    config = replace(config, image_size=input_size(settings.size, config))
    settings = replace(settings, precision=find_precision(settings.precision, hardware))
    dtype = DTYPES[settings.precision]
    model = (load_model(config, settings.weights, device, dtype) if settings.weights
             else made_up_model(config).to(device).set_precision(dtype))
    if settings.against:
        result = _compare(settings, config, model)
    else:
        result = _measure(settings, config, model)
    facts = {**asdict(settings), 'device': _name(device), 'torch': torch.__version__,
             'threads': torch.get_num_threads(), 'size': list(config.image_size),
             'made_up_weights': not settings.weights, **result}
    return [*_table(facts), json.dumps(facts)]


def made_up_model(config: ZoeConfig) -> ZoeDepth:
    """Build a model with reproducible random weights in all parts."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = ZoeDepth(config)
        for name, parameter in model.named_parameters():
            # By default each block adds almost nothing, and positions have no effect.
            if name.rpartition('.')[2] in ('gamma_1', 'gamma_2'):
                parameter.fill_(0.1)
            elif 'position_tables' in name or name == 'backbone.positions':
                parameter.normal_(std=0.3)
    return model.requires_grad_(False).eval()


def network_flops(config: ZoeConfig, batch: int) -> int:
    """Count the FLOPs of one pass of our model, two for each multiply-add."""
    with torch.device('meta'):
        model = ZoeDepth(config).eval()
        pixels = torch.empty(batch, 3, *config.image_size)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.predict_depth(model.forward_features(pixels), [config.head_names[0]] * batch)
    return counter.get_total_flops()


def product_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOP/s of one product of two square matrices."""
    side = _SIDES[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    a @ b
    return 2 * side ** 3 / min(_seconds(lambda: a @ b, device) for _ in range(2))


@torch.inference_mode()
def _measure(settings: BenchSettings, config: ZoeConfig, model: ZoeDepth) -> dict[str, Any]:
    """Measure whole calls of the estimator, and each stage separately."""
    estimator = DepthEstimator(model.pack())
    device, dtype = estimator.device, DTYPES[settings.precision]
    images = [made_up_image()] * settings.batch
    start = perf_counter()
    estimator.predict_batch(images)
    first = perf_counter() - start
    for _ in range(_WARM_UP - 1):
        estimator.predict_batch(images)
    # Before measurements that need memory of their own.
    memory = _memory(device)
    stages = _Stages(estimator, images)
    frames, peaks = [], []
    times: dict[str, list[float]] = {}
    for _ in range(settings.frames):
        frames.append(_seconds(lambda: estimator.predict_batch(images), device))
        peaks.append(product_speed(device, dtype))
        for name, seconds in stages.run().items():
            times.setdefault(name, []).append(seconds)
    flops, peak = network_flops(config, settings.batch), float(np.median(peaks))
    median = float(np.median(frames))
    # A GPU runs the network as one graph; the separately timed stages take longer.
    parts = ('network',) if 'network' in times else ('backbone', 'decoder', 'head')
    network = sum(float(np.median(times[name])) for name in parts)
    return {
        'first_ms': _ms([first]), 'p50_ms': _ms(frames),
        'p95_ms': round(1e3 * float(np.percentile(frames, 95)), 2),
        'frames_per_s': round(settings.batch / median, 3),
        'stages_ms': {name: _ms(values) for name, values in times.items()},
        'gflop': round(flops / 1e9, 1), 'gflop_per_s': round(flops / network / 1e9, 1),
        'peak_gflop_per_s': round(peak / 1e9, 1),
        'share_of_peak': round(float(np.median(
            [flops / sum(seconds) / top for *seconds, top in zip(
                *(times[name] for name in parts), peaks)])), 3),
        'memory_mb': memory}


class _Stages:
    """The stages of a frame in the estimator, timed separately."""

    def __init__(self, estimator: DepthEstimator, images: Sequence[np.ndarray]) -> None:
        model, runner = estimator.model, estimator.runner
        assert isinstance(model, ZoeDepth) and isinstance(runner, ModelRunner)    # not a pair
        self._model, self._runner = model, runner
        self._plan = plan_sizes(IMAGE, self._model.config.image_size, 'stretch', pad=False)
        self._device = estimator.device
        self._images = images

    def run(self) -> dict[str, float]:
        """Return the time of each stage [s], without overlap."""
        model, seconds = self._model, {}

        def timed(name: str, work: Callable[[], Any]) -> Any:
            found: list[Any] = []
            seconds[name] = _seconds(lambda: found.append(work()), self._device)
            return found[0]

        pixels = timed('preprocess', lambda: torch.cat([
            to_pixels(to_device(image, self._device)[None], self._plan)
            for image in self._images]))
        if self._device.type == 'cuda':
            choose = _by_router(model, len(self._images))
            timed('network', lambda: self._runner(pixels, choose)[0])
        biases = self._runner.biases.get(pixels)
        with self._runner.convolutions():
            maps = timed('backbone', lambda: model.encode(pixels, biases))
            features = timed('decoder', lambda: model.decoder(maps))
            depth = timed('head', lambda: self._measured(model.embed(features)))
        timed('back to the image', lambda: to_host(to_depth(depth, self._plan)))
        return seconds

    def _measured(self, shared: SharedFeatures) -> torch.Tensor:
        model = self._model
        return model.predict_depth(shared, model.choose(shared.logits, len(self._images)))[0]


@torch.inference_mode()
def _compare(settings: BenchSettings, config: ZoeConfig, model: ZoeDepth) -> dict[str, Any]:
    """Measure the network of transformers with the same weights, alternating with ours."""
    device, dtype = next(model.parameters()).device, DTYPES[settings.precision]
    theirs = transformers_model(model, dtype)
    estimator = DepthEstimator(model.pack())
    plan = plan_sizes(IMAGE, config.image_size, 'stretch', pad=False)
    pixels = to_pixels(torch.from_numpy(made_up_image()).to(device)[None], plan)
    pixels = pixels.expand(settings.batch, -1, -1, -1).contiguous()
    head = config.head_names[0]

    def ours() -> torch.Tensor:
        return estimator.runner(pixels, _by_router(model, len(pixels)))[0]

    def other() -> torch.Tensor:
        return theirs(pixel_values=pixels.to(dtype)).predicted_depth

    a, b = ours().float(), other().float()
    for _ in range(_WARM_UP - 1):
        ours(), other()
    mine, others, peaks = [], [], []
    for _ in range(settings.frames):
        mine.append(_seconds(ours, device))
        others.append(_seconds(other, device))
        peaks.append(product_speed(device, dtype))
    difference = ((a - b).abs() / b.abs().clamp(min=1e-6)).flatten().double()
    flops = network_flops(config, settings.batch)
    shares = [[flops / seconds / top for seconds, top in zip(times, peaks)]
              for times in (mine, others)]
    return {
        'transformers': metadata.version('transformers'),
        'ours_ms': _ms(mine), 'theirs_ms': _ms(others),
        'times_faster': round(float(np.median(np.divide(others, mine))), 3),
        'share_of_peak': round(float(np.median(shares[0])), 3),
        'their_share_of_peak': round(float(np.median(shares[1])), 3),
        'peak_gflop_per_s': round(float(np.median(peaks)) / 1e9, 1),
        'gflop': round(flops / 1e9, 1), 'head': head,
        'difference_median': float(difference.median()),
        'difference_p99': float(np.quantile(difference.cpu().numpy(), 0.99))}


def _by_router(model: ZoeDepth, count: int) -> Choose:
    return lambda logits: model.choose(
        None if logits is None else torch.from_numpy(logits), count)


def made_up_image() -> np.ndarray:
    """Return a reproducible image of soft blobs, (480, 640, 3) uint8."""
    coarse = np.random.default_rng(0).uniform(0, 255, (8, 10, 3))
    return np.kron(coarse, np.ones((60, 64, 1))).astype(np.uint8)


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    start = perf_counter()
    work()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return perf_counter() - start


def _ms(seconds: Sequence[float]) -> float:
    return round(1e3 * float(np.median(seconds)), 2)


def _memory(device: torch.device) -> dict[str, float]:
    """
    Return the memory of this process [MB]: peak on the host, and current use on the device.

    Memory on the device is all that torch has reserved, graphs included.
    """
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found: dict[str, float] = {'host': round(host)}
    if device.type == 'cuda':
        found['device'] = round(torch.cuda.memory_reserved(device) / 2 ** 20)
    return found


def _name(device: torch.device) -> str:
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            return next(line.partition(':')[2].strip() for line in file if 'model name' in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _table(facts: dict[str, Any]) -> list[str]:
    height, width = facts['size']
    lines = [f'{facts["variant"]} {facts["precision"]}, {facts["batch"]} x {width} x {height}, '
             f'{facts["device"]}, {facts["threads"]} threads, torch {facts["torch"]}']
    if facts['made_up_weights']:
        lines.append('  the weights are random: times are valid, depths are not')
    hidden = {'variant', 'precision', 'batch', 'size', 'device', 'threads', 'torch', 'weights',
              'made_up_weights', 'against'}
    for name, value in facts.items():
        if name in hidden:
            continue
        rows = value if isinstance(value, dict) else {'': value}
        lines += [f'  {f"{name} {row}".strip():<28} {found}' for row, found in rows.items()]
    return lines
