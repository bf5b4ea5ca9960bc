"""The router: chooses the metric head for an image from the bottleneck features."""
from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros.model.config import RouterConfig
from zoe_ros.model.kernels import add_norm, linear, pointwise

# Number of precomputed positions: the tokens of a 2048 x 2048 image at stride 32.
_POSITIONS = 4097


class Router(nn.Module):
    """
    A small post-norm transformer with an empty class token (specification, section 3.8).

    The router decides for each image of a batch separately. The released code sums the logits of
    the batch and sends all images to one head (trap T6); both agree at batch size one.

    :ivar fused: use GPU kernels, see :meth:`.zoedepth.ZoeDepth.fuse`.
    """

    fused = False
    positions: torch.Tensor

    def __init__(self, config: RouterConfig, channels: int, choices: int) -> None:
        """Build a router over ``channels`` features between ``choices`` heads."""
        super().__init__()
        self.embed = nn.Conv2d(channels, config.dim, 1)
        layer = nn.TransformerEncoderLayer(
            config.dim, config.heads, config.feedforward, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.classifier = nn.Sequential(
            nn.Linear(config.dim, config.dim), nn.ReLU(), nn.Linear(config.dim, choices))

    def fuse(self) -> None:
        """Use few kernels for inference on a GPU, and precompute image-independent values."""
        weight = self.embed.weight
        self.register_buffer('positions', sinusoid(
            _POSITIONS, weight.shape[0], weight.device, weight.dtype), persistent=False)
        self.fused = True

    def forward(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """Return logits (b, choices) for bottleneck features (b, channels, h, w)."""
        if self.fused:
            return self._forward_fused(bottleneck)
        tokens = pointwise(bottleneck, self.embed.weight, self.embed.bias)
        tokens = tokens.flatten(2).transpose(1, 2)                      # b n d
        tokens = F.pad(tokens, (0, 0, 1, 0))                            # class token of zeros
        tokens = tokens + sinusoid(tokens.shape[1], tokens.shape[2], tokens.device, tokens.dtype)
        return self.classifier(self.encoder(tokens)[:, 0])

    def _forward_fused(self, bottleneck: torch.Tensor) -> torch.Tensor:
        tokens = bottleneck.flatten(2).transpose(1, 2)                  # b n c
        tokens = linear(tokens, self.embed.weight.flatten(1), self.embed.bias)
        tokens = F.pad(tokens, (0, 0, 1, 0))
        count = tokens.shape[1]
        tokens = tokens + (self.positions[:count] if count <= _POSITIONS else sinusoid(
            count, tokens.shape[2], tokens.device, tokens.dtype))
        for layer in self.encoder.layers:
            tokens = _encode(layer, tokens)
        return self.classifier(tokens[:, 0])


def _encode(layer: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Run a layer of torch's post-norm transformer on (b, n, d), for inference."""
    attn = layer.self_attn
    qkv = linear(tokens, attn.in_proj_weight, attn.in_proj_bias)
    q, k, v = qkv.unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    mixed = linear(mixed, attn.out_proj.weight, attn.out_proj.bias)
    tokens = add_norm(tokens, mixed, None, layer.norm1, tokens.dtype, fused=True)[1]
    hidden = linear(tokens, layer.linear1.weight, layer.linear1.bias, 'relu')
    hidden = linear(hidden, layer.linear2.weight, layer.linear2.bias)
    return add_norm(tokens, hidden, None, layer.norm2, tokens.dtype, fused=True)[1]


def sinusoid(length: int, dim: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return fixed positions (length, dim): all sines, then all cosines, not interleaved."""
    position = torch.arange(length, device=device, dtype=torch.float32)[:, None]
    step = torch.arange(0, dim, 2, device=device, dtype=torch.float32)
    angle = position * torch.exp(-math.log(10000.0) / dim * step)
    return torch.cat([angle.sin(), angle.cos()], dim=1).to(dtype)
