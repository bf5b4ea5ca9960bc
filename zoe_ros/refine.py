"""Network depth to depth that mapping can use: scale, filters, size and range."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from zoe_ros.settings import FrameSettings

# Neighbouring network pixels that differ by more are an edge, across which nothing is
# interpolated.
_EDGE = 0.05


def refine(depth: torch.Tensor, deviation: torch.Tensor | None, settings: FrameSettings,
           scale: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Scale depth and remove what is not trusted, at the size of the network.

    :param depth: (H, W) [m]; :param deviation: (H, W) [m], or None.
    :param scale: factor on both, a number or a tensor of one.
    :return: both, NaN where removed.
    """
    # An absurd focal length may leave 0, a point at the camera. Arithmetic, because truth values
    # cost torch four times as much: nothing of what is not positive, and infinity times 0 is NaN.
    depth = F.threshold(depth * scale, 0.0, torch.nan)
    depth += depth * 0
    if deviation is not None:
        deviation = deviation * scale
        if settings.max_relative_uncertainty:
            trusted = deviation <= settings.max_relative_uncertainty * depth
            depth = torch.where(trusted, depth, torch.nan)
    if settings.edge_threshold:
        # Every pixel of a 3 x 3 neighbourhood that spans the jump: both of its sides.
        depth = torch.where(_jump(depth) > settings.edge_threshold, torch.nan, depth)
    return depth, deviation


def resize(values: torch.Tensor, depth: torch.Tensor, size: tuple[int, int],
           interpolation: str) -> torch.Tensor:
    """
    Bring depth, or what belongs to it, to the size of the image, corners aligned.

    :param values: (H, W) to resize.
    :param depth: (H, W) whose edges are kept by 'edges'.
    :param size: (h, w).
    :param interpolation: 'edges', 'linear' or 'nearest', see :class:`FrameSettings`.
    """
    if tuple(values.shape) == size:
        return values
    rows, columns = (torch.linspace(0, n - 1, m, device=values.device, dtype=torch.float64)
                     for n, m in zip(values.shape, size))
    if interpolation == 'nearest':
        return _take(values, rows.round(), columns.round())
    linear = F.interpolate(values[None, None], size, mode='bilinear', align_corners=True)[0, 0]
    if interpolation == 'linear':
        return linear
    # Not 0 in the cells of four network pixels that span an edge, or of which one has no value.
    # Numbers: torch takes these five times faster than truth values.
    cells = torch.sub(_extreme(depth, 2, torch.maximum), _extreme(depth, 2, torch.minimum),
                      alpha=1 + _EDGE).clamp_(min=0)
    edges = _take(cells, rows.clamp(max=cells.shape[0] - 1),
                  columns.clamp(max=cells.shape[1] - 1))
    # There the nearest pixel counts.
    if edges.is_cuda:
        # To ask for their number would wait for the device; to compute all costs it nothing.
        return torch.where(edges != 0, _take(values, rows.round(), columns.round()), linear)
    edge = edges.nonzero(as_tuple=True)         # they are few
    linear[edge] = values[rows.round().long()[edge[0]], columns.round().long()[edge[1]]]
    return linear


def _take(values: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return the values at all crossings of rows and columns, rounded down."""
    # Columns first: they are the slow ones, and there are fewer rows yet.
    return values.index_select(1, columns.long()).index_select(0, rows.long())


def _jump(depth: torch.Tensor) -> torch.Tensor:
    """Return the relative jump of depth around each pixel; those without a value do not count."""
    near = _extreme(depth.nan_to_num(torch.inf), 3, torch.minimum)
    far = _extreme(depth.nan_to_num(-torch.inf), 3, torch.maximum)
    return far / near - 1


def _extreme(values: torch.Tensor, window: int, pick: Callable[..., torch.Tensor]) -> torch.Tensor:
    """
    Pick the largest or smallest value of each window; NaN where one is.

    :param window: 2 for each cell of four pixels, (H-1, W-1); 3 around each pixel, (H, W).
    """
    # Shifted views, one axis after the other: several times faster than a pooling layer.
    for axis in (0, 1):
        count = values.shape[axis] - 1
        pairs = pick(values.narrow(axis, 0, count), values.narrow(axis, 1, count))
        if window == 3 and count:
            inner = pick(pairs.narrow(axis, 0, count - 1), pairs.narrow(axis, 1, count - 1))
            pairs = torch.cat(
                [pairs.narrow(axis, 0, 1), inner, pairs.narrow(axis, count - 1, 1)], dim=axis)
        values = pairs if count else values
    return values


def limit(depth: torch.Tensor, settings: FrameSettings) -> torch.Tensor:
    """Put REP 117's values where depth is out of range; NaN stays NaN."""
    if settings.min_depth:
        depth = _replace_below(settings.min_depth, depth, -torch.inf)
    return _replace_below(-settings.max_depth, -depth, -(settings.far_value or torch.inf)).neg_()


def _replace_below(bound: float, values: torch.Tensor, other: float) -> torch.Tensor:
    """Put another value where values are less than a bound, without truth values."""
    # threshold() replaces what equals its bound, too.
    last = np.nextafter(np.float32(bound), np.float32(-np.inf))
    return F.threshold(values, float(last), other)
