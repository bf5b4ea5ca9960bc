"""Backbones with a native feature pyramid: SwinV2 and light convolutional networks."""
from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import timm
from timm.layers import Conv2dSame, Format
from timm.models.efficientnet import EfficientNetFeatures
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval

from zoe_ros.model.config import PyramidConfig
from zoe_ros.model.kernels import pack_conv, pack_convs

_ACTIVATIONS = {nn.ReLU: 'relu', nn.ReLU6: 'relu6'}


class PyramidBackbone(nn.Module):
    """A network of timm whose maps at strides 4, 8, 16 and 32 go to the decoder unchanged."""

    def __init__(self, config: PyramidConfig, image_size: tuple[int, int]) -> None:
        """Build the network with timm's initialisation, for ``image_size`` [px] if sized."""
        super().__init__()
        self._made_of = (config, image_size)
        self.network_name = config.name
        self.network = _create(config, image_size)
        self.narrow: _Narrow | None = None
        if isinstance(self.network, EfficientNetFeatures):
            stages: Any = self.network.blocks
            self.narrow = _Narrow()
            stages[0].append(self.narrow)
        # Some networks also return a map at stride 2.
        info: Any = self.network.feature_info
        self.levels: list[int] = [info.reduction().index(stride) for stride in (4, 8, 16, 32)]
        widths = tuple(info.channels()[level] for level in self.levels)
        if widths != config.channels:
            raise ValueError(f'{config.name} has maps of {widths} channels, not {config.channels}')

    def published_shapes(self) -> dict[str, tuple[int, ...]]:
        """
        Return the shapes of timm's whole network, by name and in order, with its classifier.

        Files of pretrained weights hold the tensors of this network.
        """
        config, image_size = self._made_of
        with torch.device('meta'):
            whole = _create(config, image_size, features_only=False)
        return {name: tuple(tensor.shape) for name, tensor in whole.state_dict().items()}

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

    def set_precision(self, dtype: torch.dtype) -> None:
        """
        Convert a network in float32 to ``dtype``, but EfficientNet only from stride 4 on.

        Its first depthwise convolution takes small differences of large values. With weights and
        input of this layer in bfloat16 the finest map is off by 6 %, otherwise by 2 %.
        """
        if self.narrow is None:
            self.to(dtype)
            return
        stages: Any = self.network.blocks
        stages[1:].to(dtype)
        self.narrow.dtype = dtype

    def pack(self) -> None:
        """
        Make the backbone faster, for inference only; saves 20 % of a frame of the mobile model.

        Batch normalisations, and ReLU where oneDNN applies it, are merged into the convolutions.
        """
        for module in list(self.modules()):
            _merge_norms(module)
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


class _Narrow(nn.Module):
    """Converts a map to a narrower precision; in float32 the map stays as autocast left it."""

    dtype = torch.float32

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the map in ``dtype``."""
        return x if self.dtype == torch.float32 else x.to(self.dtype)


def _merge_norms(parent: nn.Module) -> None:
    """
    Merge the batch normalisations of a module into its convolutions, in place.

    The modules of timm list their layers in the order of computation, so that a normalisation
    directly after a convolution belongs to it.
    """
    layers = list(parent.named_children())
    for (name, conv), (norm_name, norm) in pairwise(layers):
        if not (isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
            continue
        dtype = conv.weight.dtype
        merged = fuse_conv_bn_eval(conv.float(), norm.float()).to(dtype)
        activation = getattr(norm, 'act', nn.Identity())
        after = _ACTIVATIONS.get(type(activation), 'none')
        setattr(parent, name, pack_conv(_padded_evenly(merged), after))
        setattr(parent, norm_name, activation if after == 'none' else nn.Identity())


def _padded_evenly(conv: nn.Conv2d) -> nn.Conv2d:
    """
    Return a convolution with equal padding on all sides, which oneDNN computes.

    At stride 2 TensorFlow's padding of a map of even size has one row and column more after the
    map than before it. Here both sides get the larger padding, and the kernel a row and a column
    of zeros in front.
    """
    rows, columns = conv.kernel_size
    if not isinstance(conv, Conv2dSame) or conv.stride != (2, 2) or conv.dilation != (1, 1):
        return conv
    even = nn.Conv2d(
        conv.in_channels, conv.out_channels, (rows + 1, columns + 1), 2,
        (rows // 2, columns // 2), groups=conv.groups, device='meta')
    even.weight = nn.Parameter(F.pad(conv.weight.detach(), (1, 0, 1, 0)))
    even.bias = conv.bias
    return even


def _create(config: PyramidConfig, image_size: tuple[int, int],
            features_only: bool = True) -> nn.Module:
    """
    Build a network of timm.

    :param features_only: its output are maps of several strides, and it has no classifier.
    """
    size: dict[str, Any] = {'img_size': image_size} if config.sized else {}
    build = partial(timm.create_model, config.name, features_only=features_only,
                    pretrained=False, **size)
    try:
        return build()
    except NotImplementedError:
        # Some versions of timm compute widths by operations that torch does not support on
        # 'meta' (torch 2.11 with timm 1.0.29).
        with torch.device('cpu'):
            return build().to('meta')
