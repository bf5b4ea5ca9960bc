"""The router: which metric head fits an image, from the bottleneck features alone."""
from __future__ import annotations

import math

import torch
from torch import nn

from zoe_ros.model.config import RouterConfig


class Router(nn.Module):
    """
    A small post-norm transformer with an empty class token (specification, section 3.8).

    It decides for each image of a batch on its own. The released code sums the logits of a whole
    batch and so sends all of it to one head (trap T6); at batch size one the two agree.
    """

    def __init__(self, config: RouterConfig, channels: int, choices: int) -> None:
        """Build a router over ``channels`` features between ``choices`` heads."""
        super().__init__()
        self.embed = nn.Conv2d(channels, config.dim, 1)
        layer = nn.TransformerEncoderLayer(
            config.dim, config.heads, config.feedforward, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.classifier = nn.Sequential(
            nn.Linear(config.dim, config.dim), nn.ReLU(), nn.Linear(config.dim, choices))

    def forward(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """Return logits (b, choices) for bottleneck features (b, channels, h, w)."""
        tokens = self.embed(bottleneck).flatten(2).transpose(1, 2)      # b n d
        tokens = nn.functional.pad(tokens, (0, 0, 1, 0))                # a class token of zeros
        tokens = tokens + sinusoid(tokens.shape[1], tokens.shape[2], tokens.device, tokens.dtype)
        return self.classifier(self.encoder(tokens)[:, 0])


def sinusoid(length: int, dim: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return fixed positions (length, dim): all sines, then all cosines, not interleaved."""
    position = torch.arange(length, device=device, dtype=torch.float32)[:, None]
    step = torch.arange(0, dim, 2, device=device, dtype=torch.float32)
    angle = position * torch.exp(-math.log(10000.0) / dim * step)
    return torch.cat([angle.sin(), angle.cos()], dim=1).to(dtype)
