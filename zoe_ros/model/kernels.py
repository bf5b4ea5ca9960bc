"""The operations that take most of the network's time, in the fastest form for this machine."""
from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros.model import cuda
from zoe_ros.model import fused as fused_kernels

# Attention logits per step: 8 MB in bfloat16, which fits into caches.
_LOGITS_AT_A_TIME = 1 << 22
# Activations of a convolution: oneDNN's names and numbers.
_ONEDNN_ACTIVATIONS: dict[str, tuple[str, list[float]]] = {
    'none': ('none', []), 'relu': ('relu', []), 'relu6': ('hardtanh', [0.0, 6.0])}


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None,
           after: str = 'none') -> torch.Tensor:
    """
    Return x W^T + b, with an activation if given.

    :param x: (..., i); :param bias: (o,).
    :param weight: (o, i), plain or from :func:`pack_linear`.
    :param after: 'none', 'relu' or 'gelu' (exact).
    """
    if weight.is_mkldnn or _calls_onednn(x):
        # The same product as F.linear, but 10 % faster than MKL on AMD processors, and the
        # activation is applied in registers. oneDNN would process operands with gaps by its
        # reference code, a hundred times slower.
        weight = weight if weight.is_mkldnn else weight.contiguous()
        return torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, after, [], 'none')
    if (after != 'none' and bias is not None and x.is_cuda and not torch.is_grad_enabled()
            and cuda.activates_products(x, after)):
        # Here, too, the activation is applied in registers.
        rows = torch._addmm_activation(
            bias, x.reshape(-1, x.shape[-1]), weight.T, use_gelu=after == 'gelu')
        return rows.unflatten(0, x.shape[:-1])
    return _activate(F.linear(x, weight, bias), after)


def add_norm(tokens: torch.Tensor, update: torch.Tensor | None, scale: torch.Tensor | None,
             norm: nn.LayerNorm, dtype: torch.dtype,
             fused: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Return tokens + scale * update, and the layer norm of this sum in ``dtype``.

    :param tokens: (b, n, c); :param update: the same, or None; :param scale: (c,), or None.
    :param fused: use one kernel, see :mod:`zoe_ros.model.fused`.
    """
    if fused:
        # Without a scale this is a post-norm transformer, which needs only the norm.
        keep = update is not None and scale is not None
        total, normed = fused_kernels.add_norm(
            tokens, update, scale, norm.weight, norm.bias, norm.eps, dtype, keep)
        return total if keep else tokens, normed
    if update is not None:
        tokens = tokens + update if scale is None else torch.addcmul(tokens, scale, update)
    return tokens, norm(tokens).to(dtype)


def pack_linear(layer: nn.Linear) -> None:
    """
    Convert a weight to oneDNN's internal layout once, which saves 5 % of each product.

    Only :func:`linear` accepts such a weight, which cannot be saved, trained or converted.
    Without oneDNN the weight is unchanged.
    """
    weight = layer.weight.detach()
    if weight.device.type == 'cpu' and _onednn_works(weight.dtype, packed=True):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        layer.weight = nn.Parameter(packed, requires_grad=False)


def pointwise(x: torch.Tensor, weight: torch.Tensor,
              bias: torch.Tensor | None = None, after: str = 'none') -> torch.Tensor:
    """
    Return a 1 x 1 convolution, by :func:`linear` if x has channels last.

    :param x: (b, c, h, w); :param weight: (o, c, 1, 1); :param bias: (o,).
    :param after: see :func:`linear`.
    """
    if not (_calls_onednn(x) and x.is_contiguous(memory_format=torch.channels_last)):
        return _activate(F.conv2d(x, weight, bias), after)
    return linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias, after).permute(0, 3, 1, 2)


class PackedConv(nn.Module):
    """
    A convolution for inference on a CPU, with the weight in oneDNN's internal layout.

    The layout depends on the size of the map. The first map decides the layout; maps of other
    sizes are as slow as with a plain convolution.
    """

    def __init__(self, layer: nn.Conv2d, after: str = 'none') -> None:
        """
        Take the weights of a layer.

        :param after: always applied to the result: 'none', 'relu' or 'relu6'.
        """
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach(), requires_grad=False)
        self.bias = layer.bias
        self.after = after
        self._geometry = (
            list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups)

    def forward(self, x: torch.Tensor, relu: bool = False) -> torch.Tensor:
        """See :func:`convolution`."""
        x, weight = self._laid_out(x)
        after, scalars = _ONEDNN_ACTIVATIONS['relu' if relu else self.after]
        return torch.ops.mkldnn._convolution_pointwise(
            x, weight, self.bias, *self._geometry, after, scalars, '')

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """See :func:`convolution_plus`."""
        x, weight = self._laid_out(x)
        other = other.contiguous(memory_format=torch.channels_last)
        return torch.ops.mkldnn._convolution_pointwise.binary(
            x, other, weight, self.bias, *self._geometry, 'add', 1.0, None, [], '')

    def _laid_out(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weight = self.weight
        if not weight.is_mkldnn:
            weight = torch.ops.mkldnn._reorder_convolution_weight(
                weight, *self._geometry, list(x.shape))
            self.weight = nn.Parameter(weight, requires_grad=False)
        return x.contiguous(memory_format=torch.channels_last), weight


def convolution(x: torch.Tensor, layer: nn.Module, relu: bool = False) -> torch.Tensor:
    """
    Return a convolution, with ReLU if ``relu``.

    :param x: (b, c, h, w).
    """
    if isinstance(layer, PackedConv):
        return layer(x, relu)
    return _activate(layer(x), 'relu' if relu else 'none')


def convolution_plus(x: torch.Tensor, layer: nn.Module, other: torch.Tensor) -> torch.Tensor:
    """
    Return the sum of a convolution and another map.

    :param x: (b, c, h, w); :param other: of the size of the result.
    """
    return layer.plus(x, other) if isinstance(layer, PackedConv) else layer(x).add_(other)


def pack_convs(module: nn.Module) -> None:
    """
    Replace the convolutions of a module by faster ones for its device, for inference only.

    On a CPU these are :class:`PackedConv`; on a GPU the weights are laid out channels last.
    """
    for parent in list(module.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Conv2d):
                setattr(parent, name, pack_conv(layer))


def pack_conv(layer: nn.Conv2d, after: str = 'none') -> nn.Module:
    """
    Return the faster form of a convolution, see :func:`pack_convs`.

    :param after: applied to the result: 'none', 'relu' or 'relu6'.
    """
    weight = layer.weight
    # Some layers of timm compute their padding at each call.
    plain = (type(layer) is nn.Conv2d and not isinstance(layer.padding, str)
             and layer.padding_mode == 'zeros')
    if plain and weight.device.type == 'cpu' and _onednn_convolves(weight.dtype):
        return PackedConv(layer, after)
    layer.to(memory_format=torch.channels_last)
    if after == 'none':
        return layer
    return nn.Sequential(layer, nn.ReLU6(True) if after == 'relu6' else nn.ReLU(True))


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
              bias: torch.Tensor | None) -> torch.Tensor:
    """
    Return softmax(q k^T / sqrt(d) + bias) v.

    :param q, k, v: (b, heads, n, d).
    :param bias: (1, heads, n, n) of the same type; None for zero.
    :return: (b, heads, n, d).
    """
    if q.is_cuda and not torch.is_grad_enabled():
        return cuda.attention(q, k, v, bias)
    if not _prefers_products(q):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    b, heads, n, d = q.shape
    q, k, v = (x.contiguous() for x in (q * d ** -0.5, k, v))
    out = torch.empty_like(q)
    step = min(heads, max(1, _LOGITS_AT_A_TIME // (n * n)))
    logits = q.new_empty(step, n, n)
    for image in range(b):
        for first in range(0, heads, step):
            chunk = slice(first, min(first + step, heads))
            part = logits[:chunk.stop - first]
            keys = k[image, chunk].transpose(1, 2)
            if bias is None:
                torch.bmm(q[image, chunk], keys, out=part)
            else:
                # baddbmm adds the bias before rounding the product.
                part.copy_(bias[0, chunk])
                torch.baddbmm(part, q[image, chunk], keys, out=part)
            torch.bmm(part.softmax(dim=-1), v[image, chunk], out=out[image, chunk])
    return out


def _activate(x: torch.Tensor, after: str) -> torch.Tensor:
    if after == 'gelu':
        return F.gelu(x)
    return F.relu(x, inplace=True) if after == 'relu' else x


def _calls_onednn(x: torch.Tensor) -> bool:
    return x.device.type == 'cpu' and not torch.is_grad_enabled() and _onednn_works(x.dtype)


def _prefers_products(q: torch.Tensor) -> bool:
    """
    Tell whether plain products beat torch's fused attention: bfloat16 on a CPU without AMX.

    On such CPUs the fused kernel is as slow as in float32.
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
    """Try oneDNN's fused product once, because torch has no public name for this operator."""
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


@functools.cache
@torch.inference_mode()
@torch.autocast('cpu', enabled=False)
def _onednn_convolves(dtype: torch.dtype) -> bool:
    """Try oneDNN's fused convolution once, see :func:`_onednn_works`."""
    layer = nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False)
    layer.weight.copy_(torch.linspace(-1, 1, layer.weight.numel()).view_as(layer.weight))
    layer.to(dtype)
    x = torch.linspace(-1, 1, 4 * 6 * 10).view(1, 4, 6, 10).to(dtype)
    expected = F.conv2d(x.float(), layer.weight.float(), stride=2, padding=1)
    try:
        fused = PackedConv(layer)
        y, z = fused(x, relu=True), fused.plus(x, expected.to(dtype))
        clipped = PackedConv(layer, 'relu6')(x)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return all(torch.allclose(found.float(), wanted, rtol=4 * torch.finfo(dtype).eps, atol=1e-5)
               for found, wanted in ((y, F.relu(expected)), (z, 2 * expected),
                                     (clipped, F.relu6(expected))))
