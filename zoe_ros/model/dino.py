"""The encoder of Depth Anything: DINOv2 with positions that are added to the tokens."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat

import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros.model.config import BackboneConfig
from zoe_ros.model.kernels import add_norm
from zoe_ros.model.transformer import EPSILON, STD, TransformerBackbone

# Statistics of ImageNet, by which the pixels were standardised in training: RGB in [0, 1].
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
# The positions are resampled as if the grid were this much larger.
_OFFSET = 0.1


class DinoBackbone(TransformerBackbone):
    """
    The DINOv2 encoder as Depth Anything V1 uses it, see docs/depth_anything.md.

    The final norm is applied to the output of each tap. The class token acts only inside of the
    encoder.
    """

    def __init__(self, config: BackboneConfig) -> None:
        """Build the encoder with random weights and positions."""
        super().__init__(config, key_bias=True, readout=False)
        width = config.embed_dim
        self.positions = nn.Parameter(torch.empty(1, 1 + config.table_grid ** 2, width))
        nn.init.trunc_normal_(self.positions, std=STD)
        self.norm = nn.LayerNorm(width, eps=EPSILON)

    def standardise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Bring pixels in [-1, 1] to mean 0 and deviation 1 over ImageNet, channel by channel."""
        # Plain numbers, because a graph must not wait for constants from the host.
        return torch.cat([(channel - (2 * mean - 1)) / (2 * deviation) for channel, mean, deviation
                          in zip(pixels.split(1, dim=1), _MEAN, _DEVIATION)], dim=1)

    def add_positions(self, tokens: torch.Tensor, grid: tuple[int, int],
                      biases: Sequence[torch.Tensor]) -> torch.Tensor:
        """Add the positions to the tokens (b, 1+n, c)."""
        return tokens + (biases[0] if biases else
                         resampled_positions(self.positions, self.table_grid, grid))

    def attention_biases(self, grid: tuple[int, int],
                         biases: Sequence[torch.Tensor]) -> Iterable[None]:
        """Return no biases: the tokens carry the positions."""
        return repeat(None)

    @torch.inference_mode()
    def position_biases(self, grid: tuple[int, int], room: int) -> list[torch.Tensor]:
        """Compute the positions of all tokens, if they fit into ``room`` [bytes]."""
        tokens = 1 + grid[0] * grid[1]
        if tokens * self.positions.shape[2] * self.positions.element_size() > room:
            return []
        return [resampled_positions(self.positions, self.table_grid, grid)]

    def tapped(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the normed tokens."""
        return add_norm(tokens, None, None, self.norm, self.cls_token.dtype, self.fused)[1]

    def widen_sums(self) -> None:
        """Set also the positions and the final norm to float32."""
        super().widen_sums()
        self.positions.data = self.positions.data.float()
        self.norm.float()


def resampled_positions(table: torch.Tensor, table_grid: int,
                        grid: tuple[int, int]) -> torch.Tensor:
    """
    Return the positions (1, 1 + rows*cols, c) of a grid of tokens, the class token first.

    The rule is that of the official code. The scale factor of an axis with n tokens is
    (n + 0.1) / table_grid, and the factor instead of the number of tokens determines where the
    table is sampled, without antialiasing. At the size of the table nothing is resampled. The
    rules of timm and of transformers give other tokens.

    :param table: (1, 1 + g^2, c), trained on a g x g grid.
    """
    if grid == (table_grid, table_grid):
        return table
    square = table[:, 1:].unflatten(1, (table_grid, table_grid)).permute(0, 3, 1, 2)
    resized = F.interpolate(
        square, scale_factor=tuple((side + _OFFSET) / table_grid for side in grid), mode='bicubic')
    return torch.cat([table[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)
