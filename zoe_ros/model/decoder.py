"""The DPT decoder: from four feature maps to relative depth and the inputs of metric heads."""
from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros.model.config import DecoderConfig
from zoe_ros.model.kernels import convolution, convolution_plus, pack_convs


class Features(NamedTuple):
    """
    The outputs of the decoder for the router and the metric heads (section 2).

    :param bottleneck: (b, f, ., .), the projected coarsest map, at stride 2 p; p is the stride of
        the third map of the backbone, 16 in ZoeDepth.
    :param pyramid: four maps (b, f, ., .) at strides p, p/2, p/4 and p/8, coarse to fine.
    :param fine: (b, r, H/s, W/s), the last features of the relative head; s is ``fine_stride``.
    :param relative: (b, 1, H/s, W/s), relative inverse depth, not negative, without a scale; None
        in a model for inference whose heads do not read relative depth.
    """

    bottleneck: torch.Tensor
    pyramid: tuple[torch.Tensor, ...]
    fine: torch.Tensor
    relative: torch.Tensor | None


class DptDecoder(nn.Module):
    """Fuse the maps coarse to fine, then predict relative inverse depth (section 2)."""

    def __init__(self, channels: tuple[int, ...], config: DecoderConfig,
                 stride: int = 16) -> None:
        """
        Build a decoder over four maps of ``channels``.

        :param stride: of the third map [px]; the others are at a quarter, half and two times this
            stride.
        """
        super().__init__()
        width = config.features
        self.project = nn.ModuleList(
            nn.Conv2d(c, width, 3, padding=1, bias=False) for c in channels)
        self.fusion = nn.ModuleList(
            Fusion(width, skip=level < len(channels) - 1) for level in range(len(channels)))
        self.relative = RelativeHead(
            width, config.relative_channels, Fraction(stride, 8 * config.fine_stride))

    def pack(self) -> None:
        """Make the decoder faster, for inference only, see :func:`.kernels.pack_convs`."""
        pack_convs(self)

    def forward(self, maps: list[torch.Tensor]) -> Features:
        """Decode the four maps of a backbone, finest first."""
        return self.fuse(self.skips(maps))

    def skips(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Project the maps to one width; the last is the bottleneck."""
        return [convolution(m, project) for project, m in zip(self.project, maps)]

    def fuse(self, skips: list[torch.Tensor]) -> Features:
        """Do the part of :meth:`forward` after :meth:`project`."""
        path: torch.Tensor | None = None
        pyramid = []
        for level in reversed(range(len(skips))):
            size = (skips[level - 1].shape[2], skips[level - 1].shape[3]) if level else None
            path = self.fusion[level](skips[level], path, size)
            pyramid.append(path)
        # The relative head stays in the precision of its own weights: MiDaS's values overflow
        # float16 (section 8, 'fp16 rules of thumb').
        fine, relative = self.relative(pyramid[-1].to(self.relative.conv1.weight.dtype))
        return Features(skips[-1], tuple(pyramid), fine, relative)


class Fusion(nn.Module):
    """One RefineNet block: add the skip to the path, refine, bring to the next size."""

    def __init__(self, width: int, skip: bool) -> None:
        """Build the block; the coarsest block has no path below and so no ``skip`` unit."""
        super().__init__()
        self.skip_unit = ResidualUnit(width) if skip else None
        self.out_unit = ResidualUnit(width)
        self.out_conv = nn.Conv2d(width, width, 1)

    def forward(self, skip: torch.Tensor, path: torch.Tensor | None,
                size: tuple[int, int] | None) -> torch.Tensor:
        """Return the refined map at ``size`` (h, w), or at twice the size of ``skip``."""
        if self.skip_unit is not None and path is not None:
            skip = path + self.skip_unit(skip)
        # Bilinear weights sum to one, so this 1 x 1 convolution commutes with the upsampling.
        # Before the upsampling it costs a quarter of the original.
        refined = convolution(self.out_unit(skip), self.out_conv)
        return upsample(refined, size=size or doubled(skip))


class ResidualUnit(nn.Module):
    """Two activated 3 x 3 convolutions with a shortcut."""

    def __init__(self, width: int) -> None:
        """Build a unit of ``width`` channels."""
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x + conv(relu(conv(relu(x))))."""
        hidden = convolution(F.relu(x), self.conv1, relu=True)
        return convolution_plus(hidden, self.conv2, x)


class RelativeHead(nn.Module):
    """The output convolutions of DPT: relative inverse depth at the fine stride."""

    def __init__(self, width: int, channels: int, scale: Fraction) -> None:
        """
        Build the head from ``width`` channels over width/2 to ``channels``.

        :param scale: rows (and columns) of its maps / those of its input.
        """
        super().__init__()
        self.scale = scale
        self.conv1 = nn.Conv2d(width, width // 2, 3, padding=1)
        self.conv2 = nn.Conv2d(width // 2, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(channels, 1, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the last features (b, c, H, W) and the relative depth (b, 1, H, W)."""
        wide = upsample(convolution(x, self.conv1), size=self.size(x.shape[2], x.shape[3]))
        fine = convolution(wide, self.conv2, relu=True)
        return fine, convolution(fine.to(self.conv3.weight.dtype), self.conv3, relu=True)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of the maps for an input of this size."""
        return int(self.scale * height), int(self.scale * width)


def doubled(x: torch.Tensor) -> tuple[int, int]:
    """Return twice the height and width of a map (b, c, h, w)."""
    return 2 * x.shape[2], 2 * x.shape[3]


def upsample(x: torch.Tensor, *, scale: int | None = None,
             size: tuple[int, int] | None = None) -> torch.Tensor:
    """Resize as every part of ZoeDepth does: bilinear with aligned corners."""
    if scale == 1 or (size is not None and tuple(x.shape[-2:]) == size):
        return x
    return F.interpolate(x, size=size, scale_factor=scale, mode='bilinear', align_corners=True)
