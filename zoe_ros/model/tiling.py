"""Wide maps computed a few rows at a time, so that intermediate results fit the caches."""
from __future__ import annotations

from collections.abc import Callable

import torch

from zoe_ros.model.decoder import upsample

# Elements of the widest map in a tile: 2 MB in float32 for the caches of a CPU. A GPU is faster
# with large maps, so its limit of 64 MB only bounds memory; one image of the published size is a
# single tile.
_NUMBERS = {'cpu': 1 << 19, 'cuda': 1 << 24}


def map_row_tiles(compute: Callable[[slice], torch.Tensor], size: tuple[int, int], channels: int,
                  device: torch.device) -> torch.Tensor:
    """
    Return (b, c, H, W) from a function that computes some rows; one tile when training.

    :param compute: rows -> (b, c, rows, W), planar in memory.
    :param size: (H, W).
    :param channels: of the widest map inside ``compute``, times the batch size.
    """
    step = max(1, _NUMBERS.get(device.type, 1 << 19) // (channels * size[1]))
    if torch.is_grad_enabled() or step >= size[0]:
        return compute(slice(0, size[0]))
    first = compute(slice(0, step))
    out = first.new_empty(*first.shape[:2], *size)
    out[:, :, :step] = first
    for start in range(step, size[0], step):
        rows = slice(start, min(start + step, size[0]))
        out[:, :, rows] = compute(rows)
    return out


def upsample_rows(x: torch.Tensor, size: tuple[int, int], rows: slice) -> torch.Tensor:
    """
    Return some rows of the result of :func:`zoe_ros.model.decoder.upsample`.

    :param x: (b, c, h, w); :param size: (H, W) of the whole; :param rows: of 0 ... H-1.
    """
    count = rows.stop - rows.start
    if count == size[0]:
        return upsample(x, size=size)
    if tuple(x.shape[-2:]) == size:
        return x[:, :, rows]
    last = x.shape[2] - 1
    at = torch.arange(rows.start, rows.stop, device=x.device, dtype=torch.float32)
    at = at * (last / (size[0] - 1))
    above = at.long().clamp(max=last)
    below = (above + 1).clamp(max=last)
    weight = (at - above)[:, None]
    if x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)                                   # b h w c
        band = torch.lerp(x[:, above], x[:, below], weight[:, :, None]).permute(0, 3, 1, 2)
    else:
        band = torch.lerp(x[:, :, above], x[:, :, below], weight)
    return upsample(band, size=(count, size[1]))
