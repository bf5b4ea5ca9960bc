"""BEiT encoder with resolution-free relative positions, reassembled into four feature maps."""
from __future__ import annotations

from collections.abc import Sequence
import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros.model.config import BackboneConfig
from zoe_ros.model.kernels import add_norm, attention, linear, pack_conv, pack_linear

# The fused attention of GPUs needs bias rows aligned to this many elements.
_ROW = 8
# Values of BEiT-L: epsilon of the layer norms, initial weights, initial layer scales.
_EPSILON = 1e-6
_STD = 0.02
_LAYER_SCALE = 1e-5


class BeitBackbone(nn.Module):
    """
    The BEiT encoder as MiDaS v3.1 uses it, with its reassembly (specification, section 1).

    The position tables are resized by the rule that the released weights were trained with
    (trap T12).

    :ivar fused: a GPU computes each sum and the norm after it in one kernel, see
        :func:`.fuse.fuse`.
    """

    fused = False

    def __init__(self, config: BackboneConfig) -> None:
        """Build the encoder with random weights, see :meth:`initialise`."""
        super().__init__()
        width = config.embed_dim
        self.patch = config.patch
        self.table_grid = config.table_grid
        self.taps = config.taps
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        # Any, because pack() replaces layers and mypy would see the blocks as plain modules.
        self.patch_embed: Any = nn.Conv2d(3, width, config.patch, stride=config.patch)
        self.blocks: Any = nn.ModuleList(
            Block(width, config.heads) for _ in range(config.depth))
        rows = (2 * config.table_grid - 1) ** 2 + 3
        self.position_tables = nn.ParameterList(
            nn.Parameter(torch.zeros(rows, config.heads)) for _ in range(config.depth))
        self.reassemble = nn.ModuleList(
            Reassemble(config.embed_dim, channels, level)
            for level, channels in enumerate(config.channels))
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """
        Initialise the weights as in BEiT.

        The output layers of block i (from 1) are divided by sqrt(2 i), so that the residual sum
        does not grow with the number of blocks. The position tables start at zero.
        """
        nn.init.trunc_normal_(self.cls_token, std=_STD)
        for number, block in enumerate(self.blocks, start=1):
            for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
                nn.init.trunc_normal_(layer.weight, std=_STD)
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

        :param pixels: (b, 3, H, W) in [-1, 1], H and W multiples of 32.
        :param biases: of the first blocks, from :meth:`position_bias` at this grid; the biases
            of the other blocks are computed here.
        :return: four maps (b, C_k, H/s, W/s), s = 4, 8, 16, 32.
        """
        grid = self.patch_grid(pixels)
        tokens = self.patch_embed(pixels).flatten(2).transpose(1, 2)    # b n c
        cls = self.cls_token.expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([cls, tokens], dim=1)                        # b 1+n c
        tokens = tokens.to(self.blocks[0].gamma_1.dtype)
        index = None
        maps: list[torch.Tensor] = []
        blocks = self.blocks[:self.used_blocks]
        half = self.position_tables[0].dtype
        tokens, normed = add_norm(tokens, None, None, blocks[0].norm1, half, self.fused)
        for i, block in enumerate(blocks):
            if i < len(biases):
                bias = biases[i]
            else:
                if index is None:
                    index = relative_position_index(*grid, device=pixels.device)
                bias = self.position_bias(i, grid, index)
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
                maps.append(self.reassemble[len(maps)](tokens, grid))
        return maps

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

    def position_bias(self, block: int, grid: tuple[int, int],
                      index: torch.Tensor) -> torch.Tensor:
        """Return the bias of a block, see :func:`relative_position_bias`."""
        return relative_position_bias(self.position_tables[block], self.table_grid, grid, index)

    def bias_bytes(self, grid: tuple[int, int]) -> int:
        """Return the size of a bias from :meth:`position_bias`, padding included."""
        tokens = 1 + grid[0] * grid[1]
        table = self.position_tables[0]
        return table.shape[1] * tokens * (tokens + -tokens % _ROW) * table.element_size()


class Block(nn.Module):
    """
    The parameters of one transformer block (section 1.2), with the names of timm.

    :meth:`BeitBackbone.forward` runs the block: it computes each sum together with the norm after
    the sum, and the norm after the last sum belongs to the next block.

    :ivar gamma_1, gamma_2: scale of the outputs of attention and MLP, (c,).
    """

    def __init__(self, width: int, heads: int) -> None:
        """Build the block for tokens of ``width`` channels."""
        super().__init__()
        self.gamma_1 = nn.Parameter(torch.full((width,), _LAYER_SCALE))
        self.gamma_2 = nn.Parameter(torch.full((width,), _LAYER_SCALE))
        self.norm1 = nn.LayerNorm(width, eps=_EPSILON)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=_EPSILON)
        self.mlp = Mlp(width)


class Attention(nn.Module):
    """Multi-head self-attention with a bias for each pair of tokens (section 1.2)."""

    def __init__(self, width: int, heads: int) -> None:
        """Build the layers for tokens of ``width`` channels."""
        super().__init__()
        self.heads = heads
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def qkv_bias(self) -> torch.Tensor:
        """Return the bias of queries, keys and values, (3 c,); zero for the keys."""
        return torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])

    def forward(self, tokens: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """
        Return self-attention of normed tokens (b, n, c).

        :param bias: (1, heads, n, n), added to the logits; from the positions.
        """
        # Packed layers store the whole bias.
        qkv_bias = self.qkv_bias() if self.qkv.bias is None else self.qkv.bias
        qkv = linear(tokens, self.qkv.weight, qkv_bias)
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
    """Converts tokens of one block to a map at stride 4, 8, 16 or 32 (readout 'project')."""

    def __init__(self, embed_dim: int, channels: int, level: int) -> None:
        """Build the stage for ``level`` 0 (finest) to 3."""
        super().__init__()
        self.readout = nn.Linear(2 * embed_dim, embed_dim)
        self.project = nn.Conv2d(embed_dim, channels, 1)
        self.resize: Any = (
            nn.ConvTranspose2d(channels, channels, 4, stride=4),
            nn.ConvTranspose2d(channels, channels, 2, stride=2),
            nn.Identity(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1))[level]

    def forward(self, tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Mix the class token into each patch token, then arrange the tokens as a map."""
        tokens = tokens.to(self.readout.weight.dtype)
        of_patch, of_cls = self.readout.weight.chunk(2, dim=1)
        # The class token's part of the product is equal for all patches: computed once.
        shared = F.linear(tokens[:, :1], of_cls, self.readout.bias)
        patches = F.gelu(linear(tokens[:, 1:], of_patch).add_(shared))
        project: Any = self.project
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


def relative_position_index(rows: int, cols: int, device: torch.device) -> torch.Tensor:
    """
    Return the row of the bias table for each pair of tokens of a grid (section 1.3).

    :return: (1 + rows*cols, 1 + rows*cols) int64; token 0 is the class token.
    """
    y = torch.arange(rows, device=device).repeat_interleave(cols)
    x = torch.arange(cols, device=device).repeat(rows)
    dy = y[:, None] - y[None, :] + rows - 1
    dx = x[:, None] - x[None, :] + cols - 1
    size = (2 * rows - 1) * (2 * cols - 1) + 3
    index = F.pad(dy * (2 * cols - 1) + dx, (1, 0, 1, 0))
    index[0, :] = size - 3                                          # class token to patch
    index[:, 0] = size - 2                                          # patch to class token
    index[0, 0] = size - 1                                          # class token to itself
    return index


def relative_position_bias(table: torch.Tensor, table_grid: int, grid: tuple[int, int],
                           index: torch.Tensor) -> torch.Tensor:
    """
    Return the attention bias at any token grid, by the rule of MiDaS (section 1.3, trap T12).

    :param table: ((2g-1)^2 + 3, heads), trained on a g x g grid.
    :param index: from :func:`relative_position_index` for ``grid``.
    :return: (1, heads, n, n), n = 1 + rows*cols.
    """
    side = 2 * table_grid - 1
    rows, cols = 2 * grid[0] - 1, 2 * grid[1] - 1
    square = table[:-3].T.reshape(1, -1, side, side)                # 1 heads dy dx
    resized = F.interpolate(square.float(), size=(rows, cols), mode='bilinear')
    resized = resized.flatten(2)[0].to(table.dtype)                 # heads rows*cols
    full = torch.cat([resized, table[-3:].T], dim=1)
    count = index.shape[1]
    padded = F.pad(index, (0, -count % _ROW))
    return full[:, padded].unsqueeze(0)[..., :count]
