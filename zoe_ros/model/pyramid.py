"""Backbones with a native feature pyramid: SwinV2 and light convolutional networks."""
from __future__ import annotations

from functools import partial
from typing import Any

import timm
from timm.layers import ConvNormAct, Format
import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from zoe_ros.model.config import PyramidConfig
from zoe_ros.model.kernels import pack_conv, pack_convs


class PyramidBackbone(nn.Module):
    """A network of timm whose maps at strides 4, 8, 16 and 32 go to the decoder unchanged."""

    def __init__(self, config: PyramidConfig, image_size: tuple[int, int]) -> None:
        """Build the network with timm's initialisation, for ``image_size`` [px] if sized."""
        super().__init__()
        self._made_of = (config, image_size)
        size: dict[str, Any] = {'img_size': image_size} if config.sized else {}
        self.network = _create(config.name, **size)
        # Some networks also return a map at stride 2.
        info: Any = self.network.feature_info
        self.levels: list[int] = [info.reduction().index(stride) for stride in (4, 8, 16, 32)]
        widths = tuple(info.channels()[level] for level in self.levels)
        if widths != config.channels:
            raise ValueError(f'{config.name} has maps of {widths} channels, not {config.channels}')

    def restore_buffers(self) -> None:
        """Create the buffers that no checkpoint contains, after building on 'meta'."""
        if not any(buffer.is_meta for buffer in self.buffers()):
            return
        device = next(self.parameters()).device
        fresh = dict(PyramidBackbone(*self._made_of).named_buffers())
        for name, buffer in list(self.named_buffers()):
            if buffer.is_meta:
                owner, _, leaf = name.rpartition('.')
                setattr(self.get_submodule(owner), leaf, fresh[name].to(device, buffer.dtype))

    def pack(self) -> None:
        """
        Make the backbone faster, for inference only; saves 20 % of a frame of the mobile model.

        Normalisations, and ReLU where oneDNN applies it, are merged into the convolutions.
        """
        blocks: list[Any] = [m for m in self.modules() if isinstance(m, ConvNormAct)
                             and isinstance(m.bn, nn.BatchNorm2d)]
        for block in blocks:
            dtype = block.conv.weight.dtype
            conv = fuse_conv_bn_eval(block.conv.float(), block.bn.float()).to(dtype)
            relu = isinstance(block.bn.act, nn.ReLU)
            block.conv = pack_conv(conv, relu)
            block.bn = nn.Sequential(block.bn.drop, nn.Identity() if relu else block.bn.act)
        pack_convs(self)

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """
        Encode an image.

        :param pixels: (b, 3, H, W) in [-1, 1], H and W multiples of 32.
        :return: four maps (b, C_k, H/s, W/s), s = 4, 8, 16, 32.
        """
        maps = self.network(pixels)
        chosen = [maps[level] for level in self.levels]
        if getattr(self.network, 'output_fmt', Format.NCHW) == Format.NHWC:
            chosen = [m.permute(0, 3, 1, 2).contiguous() for m in chosen]
        return chosen


def _create(name: str, **options: Any) -> nn.Module:
    """Build a network of timm with maps of several strides as its output."""
    build = partial(timm.create_model, name, features_only=True, pretrained=False, **options)
    try:
        return build()
    except NotImplementedError:
        # Some versions of timm compute widths by operations that torch does not support on
        # 'meta' (torch 2.11 with timm 1.0.29).
        with torch.device('cpu'):
            return build().to('meta')
