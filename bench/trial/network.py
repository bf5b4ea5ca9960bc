"""Steps about the estimator: is it right, how fast is it, and what does it hold."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import time

from bench.trial import models
from bench.trial.record import Trial
import numpy as np
import torch

from zoe_ros import DepthEstimator
from zoe_ros.inference.transfer import to_device

# (height, width) [px] of cameras; each differs from the others at the network.
SHAPES = [(480, 640), (360, 640), (720, 1280), (376, 1242), (512, 512), (640, 480), (600, 800),
          (480, 848), (1024, 512), (400, 1000), (300, 900), (240, 960), (900, 300), (960, 240),
          (480, 720), (720, 480), (800, 600), (848, 480), (512, 640), (640, 512)]


def smoke(trial: Trial) -> None:
    """Run the shipped model in each precision, and compare it with the CPU."""
    image = models.photo()
    host = DepthEstimator.load('mobile', device='cpu', precision='fp32').predict(image)
    for precision in models.PRECISIONS:
        with trial.attempt(f'mobile {precision}'):
            start = time.perf_counter()
            est = DepthEstimator.load('mobile', device=str(trial.device), precision=precision)
            est.warm_up()
            ready = time.perf_counter() - start
            found = est.predict(image)
            error = np.abs(found.depth - host.depth) / host.depth
            trial.fact(f'mobile {precision}', load_and_warm_s=round(ready, 2),
                       graphs=models.graphs(est), same_head=found.head == host.head,
                       median_off=_short(np.nanmedian(error)),
                       p99_off=_short(np.nanquantile(error, 0.99)),
                       nan=_short(np.isnan(found.depth).mean()),
                       **trial.timed(lambda est=est: est.predict(image)))


def parity(trial: Trial) -> None:
    """Compare with the depth of the official code, and graphs with single kernels."""
    for precision in models.PRECISIONS:
        with trial.attempt(f'golden {precision}'):
            est = models.estimator(trial, precision, aspect='keep')
            for name in models.PHOTOS:
                _compare(trial, f'golden {precision}', est, name, models.reference(trial, name))
            if trial.cuda:
                trial.fact(f'memory {precision}', **trial.memory())
            del est
    for precision in models.PRECISIONS:
        with trial.attempt(f'graph against eager {precision}'):
            est = models.estimator(trial, precision)
            images = [models.photo(), models.photo()[:, ::-1]]
            replayed = est.infer(images, deviation=True)
            with models.without_graphs(est):
                eager = est.infer(images, deviation=True)
            for name in ('depth', 'deviation'):
                a, b = (torch.stack([getattr(net, name) for net in nets])
                        for nets in (replayed, eager))
                trial.fact(f'graph against eager {precision}', of=name,
                           l2=_short((a - b).norm() / b.norm()),
                           worst=_short((a - b).abs().max() / b.mean()))
            del est


def anything(trial: Trial) -> None:
    """Compare Depth Anything's indoor model with its official code, and time it."""
    path = models.depth_anything(trial)
    for precision in models.PRECISIONS:
        with trial.attempt(f'da-n {precision}'):
            est = models.estimator(trial, precision, path, aspect='keep')
            _compare(trial, f'da-n {precision}', est, 'da-n_coffee',
                     models.reference(trial, 'da-n_coffee', path))
            image = models.photo()
            trial.fact(f'da-n predict {precision}', **trial.memory(),
                       **trial.timed(lambda est=est, image=image: est.predict(image)))
            del est


def _compare(trial: Trial, title: str, est: DepthEstimator, name: str, want: np.ndarray) -> None:
    """Compare the depth of a photo with that of the official code."""
    found = est.predict(models.photo(name)).depth[::2, ::2]
    known = np.isfinite(found) & (want > 1e-3)
    off = np.abs(found - want)[known]
    trial.fact(title, photo=name, graphs=models.graphs(est),
               l2=_short(np.linalg.norm(off) / np.linalg.norm(want[known])),
               median_off=_short(np.median(off / want[known])),
               over_1e4=_short((off / want[known] > 1e-4).mean()),
               unknown=_short(1 - known.mean()))


@torch.inference_mode()
def race(trial: Trial) -> None:
    """Time whole calls at several batches, and the parts of the network alone."""
    for precision, batches in (('bf16', (1, 2, 4, 8, 16)), ('fp16', (1, 8)), ('fp32', (1,))):
        with trial.attempt(f'race {precision}'):
            est = models.estimator(trial, precision)
            for batch in batches[:2] if trial.tiny else batches:
                _calls(trial, est, precision, batch)
                if batch in (1, 8) and precision == 'bf16':
                    _parts(trial, est, batch)
            del est


def _calls(trial: Trial, est: DepthEstimator, precision: str, batch: int) -> None:
    """Time from bytes to metres on the host, and from bytes to the network's depth on the GPU."""
    if trial.cuda:
        torch.cuda.reset_peak_memory_stats()
    image = models.photo()
    there = to_device(image, trial.device)
    est.predict_batch([image] * batch)
    if trial.cuda:
        torch.cuda.reset_peak_memory_stats()
    times = trial.timed(lambda: est.predict_batch([image] * batch))
    trial.fact(f'predict {precision}', batch=batch,
               images_s=round(1e3 * batch / times['p50_ms'], 1), **times, **trial.memory())
    trial.fact(f'infer {precision}', batch=batch,
               **trial.timed(lambda: est.infer([there] * batch)))


def _parts(trial: Trial, est: DepthEstimator, batch: int) -> None:
    image = to_device(models.photo(), trial.device)
    with models.convolutions(est):
        for name, work in models.parts(est, image, batch).items():
            with trial.attempt(f'{name}, batch {batch}'):
                eager = trial.timed(work)['p50_ms']
                trial.fact(f'parts, batch {batch}', part=name, eager_ms=round(eager, 3),
                           graph_ms=round(trial.device_ms(trial.captured(work)), 4))


def shapes(trial: Trial) -> None:
    """Show cameras of many sizes: the first frame of each, the next, and the memory."""
    with trial.attempt('shapes'):
        est = models.estimator(trial, 'bf16', aspect='keep')
        photo = models.photo()
        for height, width in SHAPES[:3] if trial.tiny else SHAPES:
            image = np.ascontiguousarray(np.resize(photo, (height, width, 3)))
            start = time.perf_counter()
            est.predict(image)
            first = time.perf_counter() - start
            trial.fact('shapes', size=f'{width}x{height}', first_s=round(first, 3),
                       next_ms=trial.timed(lambda image=image: est.predict(image))['min_ms'],
                       graphs=models.graphs(est), **trial.memory())
        del est
    with trial.attempt('threads'):
        est = models.estimator(trial, 'bf16')
        images = [models.photo(), models.photo()[:, ::-1].copy()]
        want = [est.predict(image).depth for image in images]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda i: est.predict(images[i % 2]).depth,
                                  range(8 if trial.tiny else 40)))
        worst = max(float(np.nanmax(np.abs(depth - want[i % 2]) / want[i % 2]))
                    for i, depth in enumerate(found))
        trial.fact('threads', worst_off=_short(worst), graphs=models.graphs(est))


def _short(value: float) -> float:
    return float(f'{float(value):.2e}')
