"""Transformer encoders of image patches, reassembled into four feature maps."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros.model.config import BackboneConfig
from zoe_ros.model.kernels import add_norm, attention, linear, pack_conv, pack_linear

# Values of BEiT-L and of DINOv2: epsilon of the layer norms, initial weights, initial layer
# scales.
EPSILON = 1e-6
STD = 0.02
_LAYER_SCALE = 1e-5


class TransformerBackbone(nn.Module, ABC):
    """
    An encoder of patches and the class token; subclasses know about positions.

    :ivar fused: a GPU computes each sum and the norm after it in one kernel, see
        :func:`.fuse.fuse`.
    """

    fused = False

    def __init__(self, config: BackboneConfig, key_bias: bool, readout: bool) -> None:
        """
        Build the encoder with random weights, see :meth:`initialise`.

        :param key_bias: the keys of the attention have a bias, too.
        :param readout: the class token is mixed into the patch tokens before the reassembly.
        """
        super().__init__()
        width = config.embed_dim
        self.patch = config.patch
        self.table_grid = config.table_grid
        self.taps = config.taps
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        # Any, because pack() replaces layers and mypy would see the blocks as plain modules.
        self.patch_embed: Any = nn.Conv2d(3, width, config.patch, stride=config.patch)
        self.blocks: Any = nn.ModuleList(
            Block(width, config.heads, key_bias) for _ in range(config.depth))
        self.reassemble = nn.ModuleList(
            Reassemble(width, channels, level, readout)
            for level, channels in enumerate(config.channels))
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """
        Initialise the weights as in BEiT.

        The output layers of block i (from 1) are divided by sqrt(2 i), so that the residual sum
        does not grow with the number of blocks.
        """
        nn.init.trunc_normal_(self.cls_token, std=STD)
        for number, block in enumerate(self.blocks, start=1):
            for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
                nn.init.trunc_normal_(layer.weight, std=STD)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            for layer in (block.attn.proj, block.mlp.fc2):
                layer.weight.div_(math.sqrt(2 * number))

    def patch_grid(self, pixels: torch.Tensor) -> tuple[int, int]:
        """Return the numbers of token rows and columns for an image (b, 3, H, W)."""
        return pixels.shape[-2] // self.patch, pixels.shape[-1] // self.patch

    def forward(self, pixels: torch.Tensor,
                biases: Sequence[torch.Tensor] = ()) -> list[torch.Tensor]:
        """
        Encode an image.

        :param pixels: (b, 3, H, W) in [-1, 1], H and W multiples of ``size_multiple``, see
            :class:`BackboneConfig`.
        :param biases: from :meth:`position_biases` at this grid, or the first of these; the others
            are computed here.
        :return: four maps (b, C_k, ., .) at strides p/4, p/2, p and 2p for patches of p pixels;
            the size of the last is rounded up.
        """
        grid = self.patch_grid(pixels)
        half = self.cls_token.dtype
        tokens = self.patch_embed(self.standardise(pixels).to(half))
        tokens = tokens.flatten(2).transpose(1, 2)                      # b n c
        cls = self.cls_token.expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([cls, tokens], dim=1)                        # b 1+n c
        tokens = self.add_positions(tokens.to(self.blocks[0].gamma_1.dtype), grid, biases)
        maps: list[torch.Tensor] = []
        blocks = self.blocks[:self.used_blocks]
        tokens, normed = add_norm(tokens, None, None, blocks[0].norm1, half, self.fused)
        for i, (block, bias) in enumerate(zip(blocks, self.attention_biases(grid, biases))):
            # The residual sum, its norms and scales are float32 in any precision: bfloat16 would
            # round the sum 48 times and make depth inaccurate.
            tokens, normed = add_norm(tokens, block.attn(normed, bias), block.gamma_1,
                                      block.norm2, half, self.fused)
            update = block.mlp(normed)
            if i + 1 < len(blocks):
                tokens, normed = add_norm(tokens, update, block.gamma_2, blocks[i + 1].norm1, half,
                                          self.fused)
            else:
                tokens = torch.addcmul(tokens, block.gamma_2, update)
            if i in self.taps:
                maps.append(self.reassemble[len(maps)](self.tapped(tokens), grid))
        return maps

    def standardise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Bring pixels in [-1, 1] to the range that the encoder was trained with."""
        return pixels

    def add_positions(self, tokens: torch.Tensor, grid: tuple[int, int],
                      biases: Sequence[torch.Tensor]) -> torch.Tensor:
        """Add the positions, where tokens (b, 1+n, c) carry them; see :meth:`forward`."""
        return tokens

    @abstractmethod
    def attention_biases(self, grid: tuple[int, int], biases: Sequence[torch.Tensor]
                         ) -> Iterable[torch.Tensor | None]:
        """Return what each block adds to the logits of its attention; see :meth:`forward`."""

    @abstractmethod
    def position_biases(self, grid: tuple[int, int], room: int) -> list[torch.Tensor]:
        """
        Compute what depends on weights and grid alone.

        :param room: the most that the tensors may take, padding included [bytes].
        """

    def tapped(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the output of the encoder for the residual sum (b, 1+n, c) after a tap."""
        return tokens

    def widen_sums(self) -> None:
        """Set the norms and scales to float32, the precision of the sum in :meth:`forward`."""
        for block in self.blocks:
            block.norm1.float()
            block.norm2.float()
            block.gamma_1.data = block.gamma_1.data.float()
            block.gamma_2.data = block.gamma_2.data.float()

    def pack(self) -> None:
        """Make the blocks faster, for inference only, see :func:`.kernels.pack_linear`."""
        for block in self.blocks[:self.used_blocks]:
            attn = block.attn
            attn.qkv.bias = nn.Parameter(attn.qkv_bias().detach(), requires_grad=False)
            for layer in (attn.qkv, attn.proj, block.mlp.fc1, block.mlp.fc2):
                pack_linear(layer)
        self.patch_embed = pack_conv(self.patch_embed)
        for stage in self.reassemble:
            if isinstance(stage.resize, nn.Conv2d):
                stage.resize = pack_conv(stage.resize)

    @property
    def used_blocks(self) -> int:
        """Return the number of blocks to compute, up to the last one whose output is used."""
        return max(self.taps) + 1


class Block(nn.Module):
    """
    The parameters of one transformer block (section 1.2), with the names of timm.

    :meth:`TransformerBackbone.forward` runs the block: it computes each sum together with the norm
    after the sum, and the norm after the last sum belongs to the next block.

    :ivar gamma_1, gamma_2: scale of the outputs of attention and MLP, (c,).
    """

    def __init__(self, width: int, heads: int, key_bias: bool) -> None:
        """Build the block for tokens of ``width`` channels; see :class:`Attention`."""
        super().__init__()
        self.gamma_1 = nn.Parameter(torch.full((width,), _LAYER_SCALE))
        self.gamma_2 = nn.Parameter(torch.full((width,), _LAYER_SCALE))
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attn = Attention(width, heads, key_bias)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = Mlp(width)


class Attention(nn.Module):
    """Multi-head self-attention, with or without a bias for each pair of tokens (section 1.2)."""

    def __init__(self, width: int, heads: int, key_bias: bool) -> None:
        """
        Build the layers for tokens of ``width`` channels.

        :param key_bias: one bias for queries, keys and values, as in DINOv2, and not one for
            queries and one for values, as in BEiT.
        """
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=key_bias)
        if not key_bias:
            self.q_bias = nn.Parameter(torch.zeros(width))
            self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def qkv_bias(self) -> torch.Tensor:
        """Return the bias of queries, keys and values, (3 c,)."""
        if self.qkv.bias is not None:       # in DINOv2, and in packed layers
            return self.qkv.bias
        return torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])

    def forward(self, tokens: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """
        Return self-attention of normed tokens (b, n, c).

        :param bias: (1, heads, n, n), added to the logits; from the positions.
        """
        qkv = linear(tokens, self.qkv.weight, self.qkv_bias())
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # b heads n d
        mixed = attention(q, k, v, bias).transpose(1, 2).flatten(2)             # b n c
        return linear(mixed, self.proj.weight, self.proj.bias)


class Mlp(nn.Module):
    """The two-layer MLP, applied to each token separately (section 1.2)."""

    def __init__(self, width: int) -> None:
        """Build the layers for tokens of ``width`` channels."""
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Transform normed tokens (b, n, c)."""
        hidden = linear(tokens, self.fc1.weight, self.fc1.bias, 'gelu')
        return linear(hidden, self.fc2.weight, self.fc2.bias)


class Reassemble(nn.Module):
    """Converts tokens of one block to a map at a quarter, half, one or two times the patch."""

    def __init__(self, embed_dim: int, channels: int, level: int, readout: bool) -> None:
        """
        Build the stage for ``level`` 0 (finest) to 3.

        :param readout: the class token is used (readout 'project'); else it is dropped.
        """
        super().__init__()
        self.readout = nn.Linear(2 * embed_dim, embed_dim) if readout else None
        self.project = nn.Conv2d(embed_dim, channels, 1)
        self.resize: Any = (
            nn.ConvTranspose2d(channels, channels, 4, stride=4),
            nn.ConvTranspose2d(channels, channels, 2, stride=2),
            nn.Identity(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1))[level]

    def forward(self, tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Arrange the patch tokens of (b, 1+n, c) as a map (b, channels, ., .)."""
        project: Any = self.project
        tokens = tokens.to(project.weight.dtype)
        patches = tokens[:, 1:]
        if self.readout is not None:
            of_patch, of_cls = self.readout.weight.chunk(2, dim=1)
            # The class token's part of the product is equal for all patches: computed once.
            shared = F.linear(tokens[:, :1], of_cls, self.readout.bias)
            patches = F.gelu(linear(patches, of_patch).add_(shared))
        patches = linear(patches, project.weight.flatten(1), project.bias)
        if isinstance(self.resize, nn.ConvTranspose2d):
            return patch_transposed_conv(patches, grid, self.resize)
        return self.resize(patches.transpose(1, 2).unflatten(2, grid))


def patch_transposed_conv(tokens: torch.Tensor, grid: tuple[int, int],
                          layer: nn.ConvTranspose2d) -> torch.Tensor:
    """
    Return the transposed convolution of a map as one product, because kernels do not overlap.

    :param tokens: (b, rows*cols, c) of ``grid``.
    :param layer: with stride s equal to the kernel size.
    :return: (b, o, s*rows, s*cols), channels last in memory, like all maps of the decoder.
    """
    s = layer.stride[0]
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)         # s*s*o c
    bias = None if layer.bias is None else layer.bias.repeat(s * s)
    cells = linear(tokens, weight, bias).unflatten(2, (s, s, -1)).unflatten(1, grid)
    return cells.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
