"""The metric bins module for inference on a GPU: same results with a tenth of the kernels."""
from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros.model import fused
from zoe_ros.model.decoder import Features
from zoe_ros.model.distributions import log_binomial_coefficients, MAX_TEMPERATURE, MIN_TEMPERATURE
from zoe_ros.model.fused import first, last
from zoe_ros.model.metric import (
    ATTRACTOR_ALPHA,
    AttractorHead,
    Embeddings,
    MetricBins,
    middles,
    shares,
)


class FusedMetric(nn.Module):
    """
    Replaces a :class:`MetricBins`, except for :meth:`~MetricBins.forward`.

    Attractor heads are fused, heads of other kinds are unchanged. The bins of a full-size map are
    never in memory: one kernel computes bins in registers and reduces them to depth and deviation.
    """

    def __init__(self, metric: MetricBins, tf32: bool = False) -> None:
        """
        Take the weights of a module.

        :param tf32: products may round their factors to 10 bits, which is enough for features
            of a backbone in half precision.
        """
        super().__init__()
        self.tf32 = tf32
        self.plain = metric
        self.bottleneck = _Pointwise(metric.bottleneck)
        self.seed_embedding = PixelMlp(metric.seed_embedding, tf32)
        self.embeddings = nn.ModuleList(PixelMlp(net, tf32) for net in metric.embeddings)
        self.heads = nn.ModuleDict({
            name: FusedHead(head, tf32) for name, head in metric.heads.items()
            if isinstance(head, AttractorHead)})

    def project(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """Do what :meth:`MetricBins.project` does."""
        return first(self.bottleneck(last(bottleneck).to(self.bottleneck.weight.dtype)))

    def embed(self, features: Features, bottleneck: torch.Tensor) -> Embeddings:
        """Do what :meth:`MetricBins.embed` does."""
        return Embeddings(
            bottleneck, first(self.seed_embedding(last(bottleneck))),
            tuple(first(net(last(x))) for net, x in zip(self.embeddings, features.pyramid)))

    def mean_and_deviation(self, head: str, features: Features, embeddings: Embeddings,
                           deviation: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Do what :meth:`MetricBins.mean_and_deviation` does."""
        chosen: Any = self.heads[head] if head in self.heads else self.plain.heads[head]
        return chosen.mean_and_deviation(features, embeddings, deviation)


class FusedHead(nn.Module):
    """An attractor head with either distribution, see :class:`AttractorHead`."""

    weight_share: torch.Tensor

    def __init__(self, head: AttractorHead, tf32: bool) -> None:
        """Take the weights of a head; ``tf32`` as in :class:`FusedMetric`."""
        super().__init__()
        self.tf32 = tf32
        self.bounded = head.bounded
        self.span = [head.min_depth, head.max_depth]
        self.exponential, self.mean = head.attraction == 'exponential', head.reduction == 'mean'
        self.seed_bins = PixelMlp(head.seed_bins, tf32)
        # In a bounded layer only the first channel of each pair has an effect (trap T4).
        self.attractors = nn.ModuleList(
            PixelMlp(net, tf32, stride=2 if head.bounded else 1) for net in head.attractors)
        distribution: Any = head.distribution()
        layer1, layer2 = distribution.mlp[0], distribution.mlp[2]
        embedding: Any = head.attractors[0]
        dim = embedding[0].in_channels
        weight = layer1.weight.detach().flatten(1)                      # hidden, f (+1) + c
        fine = weight.shape[1] - dim - int(head.relative_input)
        self.register_buffer('weight1', _factor(weight[:, :fine].T, tf32))
        self.register_buffer(
            'weight_relative', weight[:, fine].contiguous() if head.relative_input else None)
        self.register_buffer('weight_share', weight[:, -dim:].contiguous())
        self.register_buffer('bias1', layer1.bias.detach())
        # The four outputs of the log-binomial are float32 sums, not products of matrix units.
        self.register_buffer('weight2', _factor(
            layer2.weight.detach().flatten(1), tf32 and not hasattr(distribution, 'bins')))
        self.register_buffer('bias2', layer2.bias.detach())
        bins = getattr(distribution, 'bins', None)
        self.register_buffer('coefficients', None if bins is None else log_binomial_coefficients(
            bins, weight.device, weight.dtype).flatten())

    def mean_and_deviation(self, features: Features, embeddings: Embeddings,
                           deviation: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Do what :meth:`MetricBins.mean_and_deviation` does, by this head."""
        levels = [last(x) for x in embeddings.levels]
        bins = self._seed(last(embeddings.bottleneck))
        previous = last(embeddings.seed)
        for level, (net, embedding) in enumerate(zip(self.attractors, levels)):
            sorts = self.bounded and level == len(levels) - 1
            bins = fused.attract_level(
                embedding, previous, bins, net.weight1, net.bias1, net.weight2, net.bias2,
                self.bounded, self.exponential, self.mean, self.span if sorts else [],
                ATTRACTOR_ALPHA, self.tf32)
            previous = embedding
        found = fused.bin_moments(
            last(features.fine), F.linear(levels[-1], self.weight_share), bins,
            None if self.weight_relative is None else features.relative, self.weight1,
            self.weight_relative, self.bias1, self.weight2, self.bias2, self.coefficients,
            [MIN_TEMPERATURE, MAX_TEMPERATURE], deviation, self.tf32)
        return found[0], found[1] if deviation else None

    def _seed(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """Return the seed bins (b, h, w, k), in the unit of :meth:`AttractorHead._seed`."""
        raw = self.seed_bins(bottleneck)
        return last(middles(shares(first(raw)))) if self.bounded else F.softplus(raw)


class PixelMlp(nn.Module):
    """Two 1 x 1 convolutions with a ReLU between them, as one kernel."""

    def __init__(self, net: nn.Module, tf32: bool = False, stride: int = 1) -> None:
        """Take a :class:`.distributions.PixelMlp`; keep every ``stride``-th output."""
        super().__init__()
        self.tf32 = tf32
        layers: Any = net
        for name, layer, step in (('1', layers[0], 1), ('2', layers[2], stride)):
            weight = layer.weight.detach().flatten(1)[::step]
            self.register_buffer(f'weight{name}', _factor(weight.T, tf32))
            self.register_buffer(f'bias{name}', layer.bias.detach()[::step].contiguous())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (b, h, w, o) float32 for (b, h, w, i) of any precision."""
        return fused.pixel_mlp(x, self.weight1, self.bias1, self.weight2, self.bias2,
                               self.tf32)


def _factor(weight: torch.Tensor, tf32: bool) -> torch.Tensor:
    """Return a matrix in the layout that the kernels load."""
    return fused.round_tf32(weight) if tf32 else weight.contiguous()


class _Pointwise(nn.Module):
    """One 1 x 1 convolution as a product that also adds the bias."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer('weight', layer.weight.detach().flatten(1).contiguous())
        self.register_buffer('bias', None if layer.bias is None else layer.bias.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)
