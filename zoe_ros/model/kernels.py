"""The products in which the network spends its time, as this machine computes them best."""
from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn import functional as F

# Logits of attention that are worked on at a time: 8 MB in bfloat16, which caches hold.
_LOGITS_AT_A_TIME = 1 << 22


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None,
           gelu: bool = False) -> torch.Tensor:
    """
    Return x W^T + b, through an exact GELU if asked.

    :param x: (..., i); :param weight: (o, i), as it is or by :func:`pack`; :param bias: (o,).
    """
    if weight.is_mkldnn or _calls_onednn(x):
        # The same product as F.linear, a tenth faster than MKL's on AMD processors, and the
        # activation is applied before the result leaves the registers. Operands with gaps would
        # go through its reference code, a hundred times slower.
        after: tuple[str, list[float], str] = ('gelu', [], 'none') if gelu else ('none', [], '')
        weight = weight if weight.is_mkldnn else weight.contiguous()
        return torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, *after)
    y = F.linear(x, weight, bias)
    return F.gelu(y) if gelu else y


def pack(layer: nn.Linear) -> None:
    """
    Lay out a weight as oneDNN multiplies by it, which takes it a twentieth of each product.

    For :func:`linear` alone: such a weight can neither be saved, nor learn, nor change its type.
    Where oneDNN is not used nothing happens.
    """
    weight = layer.weight.detach()
    if weight.device.type == 'cpu' and _onednn_works(weight.dtype, packed=True):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        layer.weight = nn.Parameter(packed, requires_grad=False)


def pointwise(x: torch.Tensor, layer: nn.Conv2d) -> torch.Tensor:
    """
    Return a 1 x 1 convolution with a bias, by :func:`linear` where x has its channels last.

    :param x: (b, c, h, w).
    """
    if not (_calls_onednn(x) and x.is_contiguous(memory_format=torch.channels_last)):
        return layer(x)
    return linear(x.permute(0, 2, 3, 1), layer.weight.flatten(1), layer.bias).permute(0, 3, 1, 2)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
              bias: torch.Tensor) -> torch.Tensor:
    """
    Return softmax(q k^T / sqrt(d) + bias) v.

    :param q, k, v: (b, heads, n, d); :param bias: (1, heads, n, n) of the same type.
    :return: (b, heads, n, d).
    """
    if not _prefers_products(q):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    b, heads, n, d = q.shape
    q, k, v = (x.contiguous() for x in (q * d ** -0.5, k, v))
    out = torch.empty_like(q)
    step = min(heads, max(1, _LOGITS_AT_A_TIME // (n * n)))
    logits = q.new_empty(step, n, n)
    for image in range(b):
        for first in range(0, heads, step):
            some = slice(first, min(first + step, heads))
            part = logits[:some.stop - first]
            # The product is added to the bias before it is rounded.
            part.copy_(bias[0, some])
            torch.baddbmm(part, q[image, some], k[image, some].transpose(1, 2), out=part)
            torch.bmm(part.softmax(dim=-1), v[image, some], out=out[image, some])
    return out


def _calls_onednn(x: torch.Tensor) -> bool:
    return x.device.type == 'cpu' and not torch.is_grad_enabled() and _onednn_works(x.dtype)


def _prefers_products(q: torch.Tensor) -> bool:
    """
    Tell whether plain products beat torch's fused attention: bfloat16 on a CPU without AMX.

    There the fused kernel of the CPU computes its blocks as slowly as in float32.
    """
    return (q.dtype == torch.bfloat16 and q.device.type == 'cpu' and not torch.is_grad_enabled()
            and _onednn_works(q.dtype) and not _has_amx())


@functools.cache
def _has_amx() -> bool:
    probe = getattr(torch.cpu, '_is_amx_tile_supported', None)
    return bool(probe and probe())


@functools.cache
@torch.inference_mode()
@torch.autocast('cpu', enabled=False)
def _onednn_works(dtype: torch.dtype, packed: bool = False) -> bool:
    """Try oneDNN's fused product once: it is torch's own, but no public name of it."""
    x = torch.linspace(-1, 1, 64).reshape(2, 32).to(dtype)
    weight, bias = torch.linspace(-1, 1, 256).reshape(8, 32).to(dtype), x[0, :8].clone()
    expected = F.gelu(F.linear(x.float(), weight.float(), bias.float()))
    try:
        if packed:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight)
        y = torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'gelu', [], 'none')
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return torch.allclose(y.float(), expected, rtol=4 * torch.finfo(dtype).eps, atol=1e-6)
