"""Converts network depth to depth for mapping: scale, filters, size and range."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from zoe_ros.anchor.correction import Correction
from zoe_ros.settings import FrameSettings

# A larger relative difference of neighbouring network pixels is a depth edge, across which depth
# is not interpolated.
_EDGE = 0.05


def refine(depth: torch.Tensor, deviation: torch.Tensor | None, settings: FrameSettings,
           correction: Correction) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Correct depth and remove unreliable pixels, at the size of the network.

    :param depth: (H, W) [m]; :param deviation: (H, W) [m], or None.
    :param correction: of both.
    :return: both, NaN where removed.
    """
    depth, deviation = correction.apply(depth, deviation)
    # An absurd focal length can scale depth to 0. Such pixels become NaN by arithmetic (infinity
    # times 0 is NaN), because booleans are four times as slow in torch.
    depth = F.threshold(depth, 0.0, torch.nan)
    depth += depth * 0
    if deviation is not None and (
            isinstance(correction.doubt, torch.Tensor) or correction.doubt):
        deviation = torch.hypot(correction.left * deviation, correction.doubt * depth)
    if deviation is not None and settings.max_relative_uncertainty:
        trusted = deviation <= settings.max_relative_uncertainty * depth
        depth = torch.where(trusted, depth, torch.nan)
    if settings.edge_threshold:
        # Removes pixels on both sides of the jump.
        depth = torch.where(_jump(depth) > settings.edge_threshold, torch.nan, depth)
    return depth, deviation


def resize(values: torch.Tensor, depth: torch.Tensor, size: tuple[int, int],
           interpolation: str) -> torch.Tensor:
    """
    Resize depth, or values at the same pixels, to the size of the image, corners aligned.

    :param values: (H, W) to resize.
    :param depth: (H, W), whose edges 'edges' preserves.
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
    # Nonzero in cells of four network pixels that span an edge or contain a NaN. Floats, because
    # torch indexes them five times faster than booleans.
    cells = torch.sub(_extreme(depth, 2, torch.maximum), _extreme(depth, 2, torch.minimum),
                      alpha=1 + _EDGE).clamp_(min=0)
    edges = _take(cells, rows.clamp(max=cells.shape[0] - 1),
                  columns.clamp(max=cells.shape[1] - 1))
    # In these cells the value of the nearest pixel is used.
    if edges.is_cuda:
        # Counting the edge pixels would wait for the device; computing all pixels is cheap.
        return torch.where(edges != 0, _take(values, rows.round(), columns.round()), linear)
    edge = edges.nonzero(as_tuple=True)         # only a few pixels
    linear[edge] = values[rows.round().long()[edge[0]], columns.round().long()[edge[1]]]
    return linear


def _take(values: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return the values at all combinations of rows and columns, rounded down."""
    # Columns first: selecting columns is slower, and there are fewer rows before the resize.
    return values.index_select(1, columns.long()).index_select(0, rows.long())


def _jump(depth: torch.Tensor) -> torch.Tensor:
    """Return the relative jump of depth around each pixel, ignoring NaN."""
    near = _extreme(depth.nan_to_num(torch.inf), 3, torch.minimum)
    far = _extreme(depth.nan_to_num(-torch.inf), 3, torch.maximum)
    return far / near - 1


def _extreme(values: torch.Tensor, window: int, pick: Callable[..., torch.Tensor]) -> torch.Tensor:
    """
    Return the largest or smallest value of each window; NaN if the window contains NaN.

    :param window: 2 for each cell of four pixels, (H-1, W-1); 3 around each pixel, (H, W).
    """
    # Shifted views, one axis at a time, are several times faster than a pooling layer.
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
    """Replace depth out of range by the values of REP 117; NaN stays NaN."""
    if settings.min_depth:
        depth = _replace_below(settings.min_depth, depth, -torch.inf)
    return _replace_below(-settings.max_depth, -depth, -(settings.far_value or torch.inf)).neg_()


def _replace_below(bound: float, values: torch.Tensor, other: float) -> torch.Tensor:
    """Replace values less than a bound by another value, without slow boolean masks."""
    # threshold() also replaces values equal to its bound.
    last = np.nextafter(np.float32(bound), np.float32(-np.inf))
    return F.threshold(values, float(last), other)
