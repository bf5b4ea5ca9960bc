"""BEiT encoder with resolution-free relative positions, reassembled into four feature maps."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models.beit import Beit
import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros.model.config import BackboneConfig
from zoe_ros.model.kernels import add_norm, attention, linear, pack_conv, pack_linear

# The fused attention of GPUs reads rows of a bias that start at multiples of so many numbers.
_ROW = 8


class BeitBackbone(nn.Module):
    """
    The BEiT encoder as MiDaS v3.1 uses it, with its reassembly (specification, section 1).

    timm gives the transformer blocks. The relative position tables are ours: timm resizes them by
    another rule than the one that the released weights were trained with (trap T12), so the blocks
    are built without tables and each gets its bias as an argument. Their parameters are computed
    with by :func:`attend` and :func:`transform`.

    :ivar fused: a GPU runs it, see :meth:`.zoedepth.ZoeDepth.fuse`.
    """

    fused = False

    def __init__(self, config: BackboneConfig) -> None:
        """Build the encoder with timm's initialisation and position tables of zeros."""
        super().__init__()
        beit = Beit(
            img_size=config.patch * config.table_grid, patch_size=config.patch, num_classes=0,
            embed_dim=config.embed_dim, depth=config.depth, num_heads=config.heads,
            init_values=1e-5, use_abs_pos_emb=False, use_rel_pos_bias=False)
        self.patch = config.patch
        self.table_grid = config.table_grid
        self.taps = config.taps
        self.patch_embed: Any = beit.patch_embed.proj
        self.cls_token = beit.cls_token
        self.blocks: Any = beit.blocks        # timm's Blocks, which mypy would take for Modules
        rows = (2 * config.table_grid - 1) ** 2 + 3
        self.position_tables = nn.ParameterList(
            nn.Parameter(torch.zeros(rows, config.heads)) for _ in range(config.depth))
        self.reassemble = nn.ModuleList(
            Reassemble(config.embed_dim, channels, level)
            for level, channels in enumerate(config.channels))

    def restore_buffers(self) -> None:
        """Make the one buffer of timm that no checkpoint holds, after building on 'meta'."""
        for name, bias in list(self.blocks.named_parameters()):
            if name.endswith('attn.q_bias'):
                # BEiT has no bias on the keys; timm keeps zeros in its place.
                attention = self.blocks.get_submodule(name.removesuffix('.q_bias'))
                attention.k_bias = torch.zeros_like(bias)

    def patch_grid(self, pixels: torch.Tensor) -> tuple[int, int]:
        """Return the rows and columns of tokens of an image (b, 3, H, W)."""
        return pixels.shape[-2] // self.patch, pixels.shape[-1] // self.patch

    def forward(self, pixels: torch.Tensor,
                biases: Sequence[torch.Tensor] = ()) -> list[torch.Tensor]:
        """
        Encode an image.

        :param pixels: (b, 3, H, W) in [-1, 1], H and W multiples of 32.
        :param biases: of the first blocks, from :meth:`position_bias` at this grid; those of the
            others are computed here.
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
            # The sum that runs through all blocks, its norms and scales are float32 in any
            # precision: it would be rounded to bfloat16 48 times otherwise, and depth with it.
            tokens, normed = add_norm(tokens, attend(block, normed, bias), block.gamma_1,
                                      block.norm2, half, self.fused)
            update = transform(block, normed)
            if i + 1 < len(blocks):
                tokens, normed = add_norm(tokens, update, block.gamma_2, blocks[i + 1].norm1, half,
                                          self.fused)
            else:
                tokens = torch.addcmul(tokens, block.gamma_2, update)
            if i in self.taps:
                maps.append(self.reassemble[len(maps)](tokens, grid))
        return maps

    def widen_sums(self) -> None:
        """Bring to float32 what :func:`encode` keeps in it, whatever the precision."""
        for block in self.blocks:
            block.norm1.float()
            block.norm2.float()
            block.gamma_1.data = block.gamma_1.data.float()
            block.gamma_2.data = block.gamma_2.data.float()

    def pack(self) -> None:
        """Make the blocks faster, for inference alone, see :func:`.kernels.pack_linear`."""
        for block in self.blocks[:self.used_blocks]:
            attn = block.attn
            bias = torch.cat([attn.q_bias, attn.k_bias, attn.v_bias]).detach()
            attn.qkv.bias = nn.Parameter(bias, requires_grad=False)
            for layer in (attn.qkv, attn.proj, block.mlp.fc1, block.mlp.fc2):
                pack_linear(layer)
        self.patch_embed = pack_conv(self.patch_embed)
        for stage in self.reassemble:
            if isinstance(stage.resize, nn.Conv2d):
                stage.resize = pack_conv(stage.resize)

    @property
    def used_blocks(self) -> int:
        """Return how many blocks are computed: none after the last one whose output is used."""
        return max(self.taps) + 1

    def position_bias(self, block: int, grid: tuple[int, int],
                      index: torch.Tensor) -> torch.Tensor:
        """Return the bias of a block, see :func:`relative_position_bias`."""
        return relative_position_bias(self.position_tables[block], self.table_grid, grid, index)

    def bias_bytes(self, grid: tuple[int, int]) -> int:
        """Return the size of a bias that :meth:`position_bias` makes, its padding included."""
        tokens = 1 + grid[0] * grid[1]
        table = self.position_tables[0]
        return table.shape[1] * tokens * (tokens + -tokens % _ROW) * table.element_size()


def attend(block: Any, tokens: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """
    Return what a block of BEiT adds to the tokens by attention, before its scale (section 1.2).

    :param block: of timm; :param tokens: (b, n, c), normed.
    :param bias: (1, heads, n, n) on the logits.
    """
    attn = block.attn
    shift = attn.qkv.bias
    if shift is None:
        shift = torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
    qkv = linear(tokens, attn.qkv.weight, shift)
    q, k, v = qkv.unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)    # b heads n d
    mixed = attention(q, k, v, bias).transpose(1, 2).flatten(2)
    return linear(mixed, attn.proj.weight, attn.proj.bias)


def transform(block: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return what the MLP of a block adds to the tokens (b, n, c), normed, before its scale."""
    mlp = block.mlp
    hidden = linear(tokens, mlp.fc1.weight, mlp.fc1.bias, 'gelu')
    return linear(hidden, mlp.fc2.weight, mlp.fc2.bias)


class Reassemble(nn.Module):
    """Tokens of one block to a feature map at stride 4, 8, 16 or 32 (readout 'project')."""

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
        """Mix the class token into each patch token, then lay them out as a map."""
        tokens = tokens.to(self.readout.weight.dtype)
        of_patch, of_cls = self.readout.weight.chunk(2, dim=1)
        # The class token's half of the product is the same for all patches: once is enough.
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
    Return the transposed convolution of a map: no kernel overlaps another, so it is one product.

    :param tokens: (b, rows*cols, c) of ``grid``.
    :param layer: of stride s = its kernel.
    :return: (b, o, s*rows, s*cols), its channels last in memory, as all maps of the decoder.
    """
    s = layer.stride[0]
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)         # s*s*o c
    bias = None if layer.bias is None else layer.bias.repeat(s * s)
    cells = linear(tokens, weight, bias).unflatten(2, (s, s, -1)).unflatten(1, grid)
    return cells.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def relative_position_index(rows: int, cols: int, device: torch.device) -> torch.Tensor:
    """
    Row of the bias table for each pair of tokens of a grid (section 1.3).

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
    Attention bias at any token grid, by the rule of MiDaS (section 1.3, trap T12).

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
