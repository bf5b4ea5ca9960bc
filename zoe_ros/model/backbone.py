"""The encoder of ZoeDepth: BEiT with resolution-free relative positions."""
from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros.model.config import BackboneConfig
from zoe_ros.model.transformer import TransformerBackbone

# The fused attention of GPUs needs bias rows aligned to this many elements.
_ROW = 8


class BeitBackbone(TransformerBackbone):
    """
    The BEiT encoder as MiDaS v3.1 uses it, with its reassembly (specification, section 1).

    The position tables are resized by the rule that the released weights were trained with
    (trap T12).
    """

    def __init__(self, config: BackboneConfig) -> None:
        """Build the encoder with random weights; the position tables start at zero."""
        super().__init__(config, key_bias=False, readout=True)
        rows = (2 * config.table_grid - 1) ** 2 + 3
        self.position_tables = nn.ParameterList(
            nn.Parameter(torch.zeros(rows, config.heads)) for _ in range(config.depth))

    def attention_biases(self, grid: tuple[int, int],
                         biases: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Return the given biases of the first blocks, then those of the others."""
        yield from biases
        if len(biases) < self.used_blocks:
            index = relative_position_index(*grid, device=self.cls_token.device)
            for block in range(len(biases), self.used_blocks):
                yield self.position_bias(block, grid, index)

    @torch.inference_mode()
    def position_biases(self, grid: tuple[int, int], room: int) -> list[torch.Tensor]:
        """Compute the biases of as many blocks as fit into ``room`` [bytes], the first ones."""
        index = relative_position_index(*grid, device=self.cls_token.device)
        count = min(self.used_blocks, room // self.bias_bytes(grid))
        return [self.position_bias(block, grid, index) for block in range(count)]

    def position_bias(self, block: int, grid: tuple[int, int],
                      index: torch.Tensor) -> torch.Tensor:
        """Return the bias of a block, see :func:`relative_position_bias`."""
        return relative_position_bias(self.position_tables[block], self.table_grid, grid, index)

    def bias_bytes(self, grid: tuple[int, int]) -> int:
        """Return the size of a bias from :meth:`position_bias`, padding included."""
        tokens = 1 + grid[0] * grid[1]
        table = self.position_tables[0]
        return table.shape[1] * tokens * (tokens + -tokens % _ROW) * table.element_size()


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
