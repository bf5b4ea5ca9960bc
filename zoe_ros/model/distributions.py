"""Probabilities over the bins of each pixel: the log-binomial, and a softmax for comparison."""
from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from zoe_ros.model.kernels import pointwise

# Temperature of the log-binomial (section 3.5).
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.0212, 50.0


class BinDistribution(NamedTuple):
    """Per pixel: ``centers`` (b, k, H, W) [m] and ``probabilities`` (b, k, H, W)."""

    centers: torch.Tensor
    probabilities: torch.Tensor

    def mean(self) -> torch.Tensor:
        """Return the depth (b, H, W) [m]: the expectation over the bins (paper, section 3.2)."""
        return (self.probabilities * self.centers).sum(dim=1)

    def deviation(self) -> torch.Tensor:
        """Return the standard deviation of depth over the bins (b, H, W) [m]."""
        offsets = self.centers - self.mean()[:, None]
        return (self.probabilities * offsets.square()).sum(dim=1).sqrt()


class Distribution(nn.Module):
    """
    Probabilities over the bins of each pixel, by two layers over a fine and a coarser map.

    Pixelwise linear layers commute with upsampling. So the first layer is applied to the coarser
    map before upsampling, where the map has a quarter of the pixels.
    """

    mlp: PixelMlp

    def share(self, coarse: torch.Tensor) -> torch.Tensor:
        """Return the contribution of ``coarse`` (b, c, h, w) to the first layer, not upsampled."""
        first: Any = self.mlp[0]
        return pointwise(coarse, first.weight[:, -coarse.shape[1]:])

    def forward(self, fine: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """Return (b, bins, H, W) for a map (b, f, H, W) and the upsampled contribution."""
        return self.probabilities(self._raw(fine, share))

    def _raw(self, fine: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        first: Any = self.mlp[0]
        hidden = pointwise(fine, first.weight[:, :fine.shape[1]], first.bias).add_(share)
        return self.mlp(hidden, first=1).contiguous()

    def probabilities(self, raw: torch.Tensor) -> torch.Tensor:
        """Return (b, bins, H, W) from the output of the two layers."""
        raise NotImplementedError


class LogBinomial(Distribution):
    """
    The conditional log-binomial (paper section 3.2; specification section 3.5).

    A mode and a temperature per pixel give a unimodal distribution over ordered bins.
    """

    def __init__(self, channels: int, bottleneck_factor: int, bins: int) -> None:
        """Build the two-layer network over ``channels`` inputs and the constants of the bins."""
        super().__init__()
        self.bins = bins
        self.mlp = PixelMlp(
            nn.Conv2d(channels, channels // bottleneck_factor, 1), nn.GELU(),
            nn.Conv2d(channels // bottleneck_factor, 4, 1), nn.Softplus())
        # Initialises the temperature to about one. Random weights would give 25, where all
        # modes look alike, so that the bins would learn depth and the modes would not.
        self.mlp[2].get_parameter('bias').data.copy_(torch.tensor([0.0, 0.0, -3.0, 2.0]))

    def probabilities(self, raw: torch.Tensor) -> torch.Tensor:
        """Return (b, bins, H, W), from two outputs each for mode and temperature."""
        p = raw + 1e-4
        mode = p[:, 0:1] / (p[:, 0:1] + p[:, 1:2])
        temperature = p[:, 2:3] / (p[:, 2:3] + p[:, 3:4])
        temperature = MIN_TEMPERATURE + (MAX_TEMPERATURE - MIN_TEMPERATURE) * temperature
        # ln C(n, k) + k ln q + (n - k) ln(1 - q), without n ln(1 - q), equal for all bins.
        odds = mode.clamp(1e-4, 1.0).log() - (1 - mode).clamp(1e-4, 1.0).log()
        k = torch.arange(self.bins, device=raw.device, dtype=raw.dtype).view(1, -1, 1, 1)
        coefficients = log_binomial_coefficients(self.bins, raw.device, raw.dtype)
        return torch.softmax(torch.addcmul(coefficients, k, odds).div_(temperature), dim=1)


class SoftmaxBins(Distribution):
    """A free distribution over the bins, the alternative in the paper's section 4.4."""

    def __init__(self, channels: int, bottleneck_factor: int, bins: int) -> None:
        """Build the two-layer network over ``channels`` inputs."""
        super().__init__()
        self.mlp = PixelMlp(
            nn.Conv2d(channels, channels // bottleneck_factor, 1), nn.GELU(),
            nn.Conv2d(channels // bottleneck_factor, bins, 1))

    def probabilities(self, raw: torch.Tensor) -> torch.Tensor:
        """Return (b, bins, H, W), from one output for each bin."""
        return torch.softmax(raw, dim=1)


def log_binomial_coefficients(bins: int, device: torch.device,
                              dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """
    Return ln C(bins-1, k) for k = 0 ... bins-1, shape (1, bins, 1, 1).

    By Stirling's formula without the square root term, as all released weights were trained
    (section 3.5); the error is up to 2.3.
    """
    eps = 1e-7
    n = torch.full((), float(bins - 1), device=device, dtype=dtype) + eps
    k = torch.arange(bins, device=device, dtype=dtype).view(1, -1, 1, 1) + eps
    return n * n.log() - k * k.log() - (n - k) * (n - k + eps).log()


def mlp(channels: int, hidden: int, out: int) -> nn.Sequential:
    """Build two 1 x 1 convolutions with an activation between them."""
    return PixelMlp(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, out, 1))


class PixelMlp(nn.Sequential):
    """Pixelwise layers: 1 x 1 convolutions and activations."""

    def forward(self, x: torch.Tensor, first: int = 0) -> torch.Tensor:
        """Apply the layers from ``first`` on to (b, c, h, w); return the output of the last."""
        layers = list(self)[first:]
        for layer, following in zip(layers, [*layers[1:], None]):
            if isinstance(layer, nn.Conv2d):
                after = 'relu' if isinstance(following, nn.ReLU) else 'none'
                x = pointwise(x, layer.weight, layer.bias, after)
            elif not isinstance(layer, nn.ReLU):
                x = layer(x)
        return x
