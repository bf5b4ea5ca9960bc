"""
The fastest operations of this machine's GPU, driver and libraries, found by trials.

The trials run when a model is loaded or a new shape is recorded. torch's fake tensors may name a
CUDA device that does not exist, so no trial is possible: everything is assumed to work.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
import functools
from threading import Lock
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

_Attention = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
_aten = torch.ops.aten
# Called directly: torch's own choice among them is a setting of the process, which another thread
# may change at the same time.
_ATTENTIONS: dict[str, _Attention] = {
    'cudnn': lambda q, k, v, bias: _aten._scaled_dot_product_cudnn_attention(
        q, k, v, bias, False)[0],
    'efficient': lambda q, k, v, bias: _aten._scaled_dot_product_efficient_attention(
        q, k, v, bias, False)[0],
    'torch': lambda q, k, v, bias: F.scaled_dot_product_attention(q, k, v, attn_mask=bias),
    'math': lambda q, k, v, bias: _aten._scaled_dot_product_attention_math(q, k, v, bias)[0]}
_REPEATS = 5


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
              bias: torch.Tensor | None) -> torch.Tensor:
    """Return softmax(q k^T / sqrt(d) + bias) v by the fastest kernel, see kernels.attention."""
    name = 'efficient' if isinstance(q, FakeTensor) else attention_backend(
        q.device, q.dtype, tuple(q.shape), 0 if bias is None else bias.stride(-2))
    return _ATTENTIONS[name](q, k, v, bias)


@functools.cache
@torch.inference_mode()
def attention_backend(device: torch.device, dtype: torch.dtype, shape: tuple[int, ...],
                      row: int) -> str:
    """
    Return the name of the fastest attention kernel with correct results on this device.

    :param shape: of q (b, heads, n, d).
    :param row: elements from one row of the bias to the next; 0 for no bias.
    """
    batch, heads, tokens, dim = shape
    generator = torch.Generator(device).manual_seed(0)
    q, k, v = torch.randn(batch, tokens, 3, heads, dim, device=device, generator=generator).to(
        dtype).permute(2, 0, 3, 1, 4)
    bias = torch.randn(1, heads, tokens, row, device=device, generator=generator).to(
        dtype)[..., :tokens] if row else None
    expected = _ATTENTIONS['math'](
        q.float(), k.float(), v.float(), None if bias is None else bias.float())
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    times: dict[str, float] = {}
    for name, candidate in _ATTENTIONS.items():
        try:
            found = candidate(q, k, v, bias)
            off = (found.float() - expected).norm() / expected.norm()
            if float(off) < tolerance:
                times[name] = _milliseconds(functools.partial(candidate, q, k, v, bias), device)
        except RuntimeError:
            continue
    return min(times, key=times.__getitem__) if times else 'torch'


def _milliseconds(work: Callable[[], Any], device: torch.device) -> float:
    """Return the shortest of several times."""
    with torch.cuda.device(device):
        times = []
        for _ in range(_REPEATS):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
        return min(times)


def activates_products(x: torch.Tensor, after: str) -> bool:
    """
    Tell whether a product of x may apply 'relu' or 'gelu' in the same kernel.

    The library's GELU is the tanh approximation. In half precision the approximation has a smaller
    error than a second rounding of the product (measured, L2: 0.0017 and 0.0024); in float32 the
    error is too large.
    """
    if after == 'gelu' and x.dtype == torch.float32:
        return False
    return isinstance(x, FakeTensor) or _activates_products(x.device, x.dtype, after)


@functools.cache
@torch.inference_mode()
def _activates_products(device: torch.device, dtype: torch.dtype, after: str) -> bool:
    """Try the product with an activation once."""
    x = torch.linspace(-1, 1, 64 * 32, device=device).view(64, 32).to(dtype)
    weight = torch.linspace(-1, 1, 48 * 32, device=device).view(48, 32).to(dtype)
    bias = torch.linspace(-1, 1, 48, device=device).to(dtype)
    product = F.linear(x.double(), weight.double(), bias.double())
    expected = F.gelu(product) if after == 'gelu' else F.relu(product)
    try:
        found = torch._addmm_activation(bias, x, weight.T, use_gelu=after == 'gelu')
    except (AttributeError, RuntimeError):
        return False
    off = (found.double() - expected).norm() / expected.norm()
    return bool(off < 4 * torch.finfo(dtype).eps)


class _Rounding:
    """The rounding of float32 in cuDNN: a setting of the process, shared by our threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._before: Any = None

    @contextmanager
    def __call__(self, tf32: bool) -> Iterator[None]:
        cudnn: Any = torch.backends.cudnn
        # torch 2.9 has a second name for this setting, and rejects the first name in a process
        # that has used the second.
        owner, name, wanted = (
            (cudnn.conv, 'fp32_precision', 'tf32' if tf32 else 'ieee')
            if hasattr(getattr(cudnn, 'conv', None), 'fp32_precision')
            else (cudnn, 'allow_tf32', tf32))
        with self._lock:
            if not self._users:
                self._before = getattr(owner, name)
            self._users += 1
            setattr(owner, name, wanted)
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    setattr(owner, name, self._before)


_rounding = _Rounding()


def convolutions(tf32: bool) -> AbstractContextManager[None]:
    """
    Choose the rounding of the factors of float32 convolutions in cuDNN.

    By default torch lets cuDNN round to 10 bits (TF32). That is enough beside half precision, but
    not for a model in float32.
    """
    return _rounding(tf32)
