"""Steps about the device itself: what it is, what it can do, and how it computes attention."""
from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
import os
import platform
import shutil
import subprocess
import sys
from typing import Any

from bench.trial import models
from bench.trial.record import Trial
import made_up
import torch
from torch.nn import functional as F
from torch.nn.attention import sdpa_kernel, SDPBackend

from zoe_ros.inference.transfer import to_device, to_host

PACKAGES = ('torch', 'triton', 'timm', 'transformers', 'numpy', 'safetensors', 'rosbags',
            'ros-rclpy')
# Tokens of one image, of 7 whole tiles of 128 rows, and of 8 images; and the linear layers of
# the encoder as (inputs, outputs).
ROWS = (769, 776, 896, 6152)
LAYERS = ((1024, 3072), (1024, 1024), (1024, 4096), (4096, 1024))
MEMCHECK = """
import sys
from bench.trial import models
from zoe_ros import DepthEstimator
est = DepthEstimator.load('', sys.argv[1], device='cuda', precision='bf16')
print(est.predict(models.photo()).depth.mean())
"""


def env(trial: Trial) -> None:
    """Name the machine, and measure the ceilings that later figures are held against."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = 'missing'
    trial.fact('versions', python=platform.python_version(), cores=os.cpu_count(), **found)
    if trial.cuda:
        subprocess.run(['nvidia-smi'], check=False)
        card = torch.cuda.get_device_properties(trial.device)
        trial.fact('card', card=card.name, multiprocessors=card.multi_processor_count,
                   memory_mb=card.total_memory >> 20, cudnn=torch.backends.cudnn.version(),
                   capability=f'{card.major}.{card.minor}')
    with trial.attempt('copy'):
        _copy(trial)
    side = 256 if trial.tiny else 8192
    for dtype in (torch.bfloat16, torch.float32):
        with trial.attempt('product'):
            x, y = (torch.randn(side, side, device=trial.device, dtype=dtype) for _ in range(2))
            ms = trial.device_ms(lambda x=x, y=y: x @ y)
            trial.fact('product', of=str(dtype), tflops=round(2e-9 * side ** 3 / ms, 1))
    with trial.attempt('transfers'):
        image = models.photo()
        depth = torch.rand(480, 640, device=trial.device)
        trial.fact('image to device', **trial.timed(lambda: to_device(image, trial.device)))
        trial.fact('depth to host', **trial.timed(lambda: to_host(depth)))


def _copy(trial: Trial) -> None:
    a = torch.empty(1 << (16 if trial.tiny else 29), device=trial.device).normal_()
    b = torch.empty_like(a)
    ms = trial.device_ms(lambda: b.copy_(a))
    trial.fact('copy', tb_s=round(8e-9 * a.numel() / ms, 3))


@torch.inference_mode()
def micro(trial: Trial) -> None:
    """Time the linear layers of the encoder, and the small operations between them."""
    for rows in ROWS[:1] if trial.tiny else ROWS:
        for inputs, outputs in ((32, 96),) if trial.tiny else LAYERS:
            with trial.attempt('linear'):
                _linear(trial, rows, inputs, outputs)
    for rows in (769,) if trial.tiny else (769, 6152):
        _between(trial, rows, 32 if trial.tiny else 1024)


def _linear(trial: Trial, rows: int, inputs: int, outputs: int) -> None:
    x, w, c = (_random(trial, *shape) for shape in ((rows, inputs), (outputs, inputs), (outputs,)))
    us = _microseconds(trial, lambda: F.linear(x, w, c))
    trial.fact(f'linear {inputs} to {outputs}', rows=rows, us=us,
               tflops=round(2e-6 * rows * inputs * outputs / us, 1))


def _between(trial: Trial, rows: int, width: int) -> None:
    x, w, c = (_random(trial, *shape)
               for shape in ((rows, width), (4 * width, width), (4 * width,)))
    total, scale = (_random(trial, *shape).float() for shape in ((rows, width), (width,)))
    for name, work in {
            'linear, gelu': lambda: F.gelu(F.linear(x, w, c)),
            'linear with gelu': lambda: torch._addmm_activation(c, x, w.t(), use_gelu=True),
            'norm, cast': lambda: F.layer_norm(total, (width,), scale, scale).bfloat16(),
            'addcmul': lambda: torch.addcmul(total, scale, x)}.items():
        with trial.attempt(name):
            trial.fact(name, rows=rows, us=_microseconds(trial, work))


def _random(trial: Trial, *shape: int) -> torch.Tensor:
    return torch.randn(shape, device=trial.device).bfloat16()


def _microseconds(trial: Trial, work: Callable[[], Any]) -> float:
    """Return the time of one call within a graph of ten [us]."""
    replay = trial.captured(lambda: [work() for _ in range(10)])
    return round(1e3 * trial.device_ms(replay, 10), 2)


def attention(trial: Trial) -> None:
    """Find which fused attention takes the position biases, is right, and how fast it is."""
    shapes = [(1, 769, 16, 64), (8, 769, 16, 64), (1, 1153, 16, 64)]
    for shape in [(3, 25, 2, 16)] if trial.tiny else shapes:
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            with torch.inference_mode():
                _attention(trial, shape, dtype)


def _attention(trial: Trial, shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    """:param shape: images, tokens, heads, numbers of a head."""
    b, n, heads, d = shape
    name = f'{b} x {n} {str(dtype).removeprefix("torch.")}'
    qkv = torch.randn(b, n, 3 * heads * d, device=trial.device, dtype=dtype)
    q, k, v = qkv.unflatten(2, (3, heads, d)).permute(2, 0, 3, 1, 4)
    row = -(-n // 8) * 8        # as position biases are kept: rows start at multiples of eight
    bias = torch.randn(1, heads, n, row, device=trial.device, dtype=dtype)[..., :n]
    want = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), bias.double())

    def race(way: str, work: Callable[[], torch.Tensor], expected: torch.Tensor = want) -> None:
        with trial.attempt(f'{name}, {way}'):
            error = float((work().double() - expected).norm() / expected.norm())
            trial.fact(name, by=way, us=_microseconds(trial, work), l2=float(f'{error:.1e}'))

    def by(backend: SDPBackend, mask: torch.Tensor | None) -> torch.Tensor:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v, mask)

    with trial.attempt(f'{name}, choice'):
        choice = torch._fused_sdp_choice(q, k, v, bias, 0.0, False)
        trial.fact(name, by="torch's choice", backend=SDPBackend(choice).name)
    race('default', lambda: F.scaled_dot_product_attention(q, k, v, bias))
    dense = bias.contiguous()
    race('rows not padded', lambda: F.scaled_dot_product_attention(q, k, v, dense))
    race('math', lambda: by(SDPBackend.MATH, bias))
    if not trial.cuda:
        return
    race('efficient', lambda: by(SDPBackend.EFFICIENT_ATTENTION, bias))
    if dtype != torch.float32:
        race('cudnn', lambda: by(SDPBackend.CUDNN_ATTENTION, bias))
    if dtype == torch.bfloat16:
        bare = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
        race('flash without bias', lambda: by(SDPBackend.FLASH_ATTENTION, None), bare)


def sanitizer(trial: Trial) -> None:
    """Look for wrong accesses to memory in one frame of the tiny model."""
    command = shutil.which('compute-sanitizer') or shutil.which(
        'compute-sanitizer', path='/usr/local/cuda/bin')
    if command is None:
        trial.fact('memcheck', result='compute-sanitizer is not on this machine')
        return
    path = made_up.write_tiny(trial.out / 'tiny.safetensors')
    with trial.attempt('memcheck'):
        done = subprocess.run(
            [command, '--tool', 'memcheck', '--error-exitcode', '9', sys.executable, '-c',
             MEMCHECK, str(path)],
            capture_output=True, text=True, timeout=trial.left, check=False)
        print(done.stdout, done.stderr, flush=True)
        trial.fact('memcheck', code=done.returncode, tail=done.stdout[-300:])
        if done.returncode:
            raise RuntimeError(f'memcheck ended with {done.returncode}: see log.txt')
    path.unlink()
