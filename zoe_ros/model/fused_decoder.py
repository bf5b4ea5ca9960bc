"""The DPT decoder for inference on a GPU: biases, sums and ReLUs in few kernels."""
from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros.model import fused
from zoe_ros.model.decoder import doubled, DptDecoder, Fusion, RelativeHead, ResidualUnit
from zoe_ros.model.fused import first, last


class FusedDecoder(DptDecoder):
    """A decoder of fused blocks with the weights of a plain one; channels last in memory."""

    def __init__(self, decoder: DptDecoder, relative: bool) -> None:
        """
        Take the weights of a decoder.

        :param relative: compute relative depth, too.
        """
        nn.Module.__init__(self)        # all parts come from ``decoder``
        self.project = decoder.project
        blocks: Any = decoder.fusion
        self.fusion = nn.ModuleList(FusedFusion(block) for block in blocks)
        self.relative: Any = FusedRelativeHead(decoder.relative, relative)
        self.to(memory_format=torch.channels_last)


class FusedFusion(nn.Module):
    """See :class:`Fusion`."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, fusion: Fusion) -> None:
        """Take the weights of a block."""
        super().__init__()
        self.skip_unit = fusion.skip_unit
        self.out_unit = fusion.out_unit
        layer: Any = fusion.out_conv
        self.register_buffer('weight', layer.weight.detach().flatten(1).contiguous())
        self.register_buffer('bias', layer.bias.detach())

    def forward(self, skip: torch.Tensor, path: torch.Tensor | None,
                size: tuple[int, int] | None) -> torch.Tensor:
        """Return the refined map at ``size`` (h, w), or at twice the size of ``skip``."""
        activated = F.relu(skip)
        if self.skip_unit is not None and path is not None:
            skip, activated = _refine(self.skip_unit, skip, activated, path)
        refined, _ = _refine(self.out_unit, skip, activated)
        out = F.linear(last(refined), self.weight, self.bias)
        return first(fused.upsample(out, *(size or doubled(skip)), None))


def _refine(unit: ResidualUnit, x: torch.Tensor, activated: torch.Tensor,
            path: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Run a residual unit on x, whose relu is given, and add the path to the result.

    :return: the sum, and (if there is a path) the relu of the sum.
    """
    hidden = fused.conv_relu(activated, unit.conv1.weight, unit.conv1.bias, 1)
    convolved = F.conv2d(hidden, unit.conv2.weight, None, padding=1)
    total, activated = fused.add_residual(
        last(convolved), unit.conv2.bias, last(x), None if path is None else last(path),
        path is not None)
    return first(total), first(activated) if path is not None else activated


class FusedRelativeHead(nn.Module):
    """See :class:`RelativeHead`."""

    def __init__(self, head: RelativeHead, relative: bool) -> None:
        """Take the weights of a head; without ``relative`` there is no last layer."""
        super().__init__()
        self.size = head.size
        self.conv1, self.conv2 = head.conv1, head.conv2
        self.conv3 = head.conv3 if relative else None

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the last features (b, c, H, W) and the relative depth (b, 1, H, W) or None."""
        x = F.conv2d(x, self.conv1.weight, None, padding=1)
        # The weights of the upsampling sum to one, so the upsampling kernel can add the bias.
        wide = fused.upsample(last(x), *self.size(x.shape[2], x.shape[3]), self.conv1.bias)
        fine = fused.conv_relu(first(wide), self.conv2.weight, self.conv2.bias, 1)
        if self.conv3 is None:
            return fine, None
        weight, bias = self.conv3.weight.flatten(1), self.conv3.bias
        return fine, first(F.relu(F.linear(last(fine).to(weight.dtype), weight, bias)))
