"""BEiT encoder with resolution-free relative positions, reassembled into four feature maps."""
from __future__ import annotations

from timm.models.beit import Beit
import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros.model.config import BackboneConfig


class BeitBackbone(nn.Module):
    """
    The BEiT encoder as MiDaS v3.1 uses it, with its reassembly (specification, section 1).

    timm gives the transformer blocks. The relative position tables are ours: timm resizes them by
    another rule than the one that the released weights were trained with (trap T12), so the blocks
    are built without tables and each gets its bias as an argument.
    """

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
        self.patch_embed = beit.patch_embed.proj
        self.cls_token = beit.cls_token
        self.blocks = beit.blocks
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

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """
        Encode an image.

        :param pixels: (b, 3, H, W) in [-1, 1], H and W multiples of 32.
        :return: four maps (b, C_k, H/s, W/s), s = 4, 8, 16, 32.
        """
        patches = self.patch_embed(pixels)                          # b c gh gw
        grid = (patches.shape[2], patches.shape[3])
        tokens = patches.flatten(2).transpose(1, 2)                 # b n c
        cls = self.cls_token.expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([cls, tokens], dim=1)                    # b 1+n c
        index = relative_position_index(*grid, device=pixels.device)
        maps: list[torch.Tensor] = []
        last = max(self.taps)
        for i, (block, table) in enumerate(zip(self.blocks, self.position_tables)):
            bias = relative_position_bias(table, self.table_grid, grid, index)
            tokens = block(tokens, shared_rel_pos_bias=bias)
            if i in self.taps:
                maps.append(self.reassemble[len(maps)](tokens, grid))
            if i == last:
                break
        return maps


class Reassemble(nn.Module):
    """Tokens of one block to a feature map at stride 4, 8, 16 or 32 (readout 'project')."""

    def __init__(self, embed_dim: int, channels: int, level: int) -> None:
        """Build the stage for ``level`` 0 (finest) to 3."""
        super().__init__()
        self.readout = nn.Linear(2 * embed_dim, embed_dim)
        self.project = nn.Conv2d(embed_dim, channels, 1)
        self.resize: nn.Module = (
            nn.ConvTranspose2d(channels, channels, 4, stride=4),
            nn.ConvTranspose2d(channels, channels, 2, stride=2),
            nn.Identity(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1))[level]

    def forward(self, tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Mix the class token into each patch token, then lay them out as a map."""
        patches = tokens[:, 1:]
        cls = tokens[:, :1].expand_as(patches)
        patches = F.gelu(self.readout(torch.cat([patches, cls], dim=-1)))
        features = patches.transpose(1, 2).unflatten(2, grid)       # b c gh gw
        return self.resize(self.project(features))


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
    return full[:, index].unsqueeze(0)
