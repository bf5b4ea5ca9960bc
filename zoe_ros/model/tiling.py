"""Wide maps computed a few rows at a time, so that what lies between stays in the caches."""
from __future__ import annotations

from collections.abc import Callable

import torch

from zoe_ros.model.decoder import upsample

# Numbers of the widest map within a strip: 2 MB in float32 for the caches of a CPU. A GPU wants
# large maps: there it is the memory that is bounded, by 64 MB, and one image of the published size
# is not cut.
_NUMBERS = {'cpu': 1 << 19, 'cuda': 1 << 24}


def map_row_tiles(compute: Callable[[slice], torch.Tensor], size: tuple[int, int], channels: int,
                  device: torch.device) -> torch.Tensor:
    """
    Return (b, c, H, W) of a function that gives some of its rows; all at once for gradients.

    :param compute: rows -> (b, c, rows, W), planar in memory.
    :param size: (H, W).
    :param channels: of the widest map that ``compute`` makes, times the batch.
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
    Return some of the rows of :func:`zoe_ros.model.decoder.upsample`.

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
