"""Training losses, computed in float32 for any precision of the network."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

EPSILON = 1e-7
# Section 6.2: the weight of the mean, and the overall factor. The paper subtracts 0.85 times the
# squared mean from the second moment, which is equivalent.
SILOG_MEAN, SILOG_SCALE = 0.15, 10.0
TRIMMED = 0.2           # fraction of the largest residuals that the relative loss ignores
GRADIENT_SCALES = 4
GRADIENT_WEIGHT = 0.5
SCALE_WEIGHT = 0.05
# Loss on the labels of a teacher: fraction of the pixels of an image, those with the largest
# error, that are left out, and the weights beside SILog.
WORST = 0.1
ABSOLUTE_WEIGHT = 5.0
EDGE_WEIGHT = 1.0


def silog(depths: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> torch.Tensor:
    """
    Scale-invariant logarithmic loss of a batch (section 6.2).

    Each image counts alike, however many valid pixels it has, so that a lidar's sparse depth
    teaches as much as dense depth. With equally many pixels this is the published loss.

    :param depths: of each image, (n,) or of any shape, positive [m].
    :param targets: of the same shapes [m], all valid.
    :return: 10 sqrt(var(g) + 0.15 mean(g)^2), g the difference of the logarithms.
    """
    differences = [(depth.float() + EPSILON).log() - (target.float() + EPSILON).log()
                   for depth, target in zip(depths, targets, strict=True)]
    mean = torch.stack([difference.mean() for difference in differences]).mean()
    variance = torch.stack([(difference - mean).square().mean()
                            for difference in differences]).mean()
    return SILOG_SCALE * (variance + SILOG_MEAN * mean.square()).sqrt()


def imitation_loss(depths: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]
                   ) -> dict[str, torch.Tensor]:
    """
    Return the parts of the loss on a teacher's depth, and their weighted sum as 'loss'.

    SILog, the absolute difference of the logarithms and its gradients at four scales. Nothing is
    normalised, because the student shall learn the teacher's metres.

    :param depths: of each image, (h, w), positive [m].
    :param targets: of the same shapes [m], NaN where there is none; no image is empty.
    """
    kept, absolute, edges = [], [], []
    for depth, target in zip(depths, targets, strict=True):
        mask = torch.isfinite(target)
        difference = (depth.float() + EPSILON).log() - (
            torch.where(mask, target.float(), 1.0) + EPSILON).log()
        mask = mask & _without_worst(difference.detach().abs(), mask)
        kept.append((depth[mask], target[mask]))
        absolute.append(difference[mask].abs().mean())
        edges.append(_gradients(torch.where(mask, difference, 0.0), mask))
    parts = {'silog': silog(*zip(*kept)), 'absolute': torch.stack(absolute).mean(),
             'edges': torch.stack(edges).mean()}
    parts['loss'] = (parts['silog'] + ABSOLUTE_WEIGHT * parts['absolute']
                     + EDGE_WEIGHT * parts['edges'])
    return parts


def _without_worst(errors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the pixels (h, w) whose error is not among the largest of the mask."""
    values = errors[mask].sort().values
    return errors <= values[max(1, round(len(values) * (1 - WORST))) - 1]


def relative_loss(relative: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """
    Scale-and-shift-invariant loss in disparity with its gradient term (MiDaS, equations 5 to 11).

    Prediction and true disparity are brought to a common scale and shift by median and mean
    absolute deviation; the largest fifth of the residuals is ignored.

    :param relative: (b, H, W), inverse depth up to scale and shift.
    :param depth: (b, H, W) [m], NaN where there is none.
    """
    valid = torch.isfinite(depth)
    disparity = torch.where(valid, depth, 1.0).reciprocal()
    losses = []
    for predicted, true, mask in zip(relative.float(), disparity, valid):
        if mask.sum() < 2:
            continue
        difference = torch.where(mask, _standard(predicted, mask) - _standard(true, mask), 0.0)
        residuals = difference[mask].abs().sort().values
        kept = residuals[:max(1, round(len(residuals) * (1 - TRIMMED)))]
        data = kept.sum() / (2 * len(residuals))
        losses.append(data + GRADIENT_WEIGHT * _gradients(difference, mask))
    if not losses:
        return relative.float().sum() * 0.0
    return torch.stack(losses).mean()


def scale_loss(relative: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """
    Return the squared logarithm of the scale of relative depth.

    MiDaS has no such loss and leaves the scale free. A free scale grows a thousandfold in a
    thousand steps, and the features grow too: metric heads on such features saturate and do not
    learn.

    :param relative, depth: see :func:`relative_loss`.
    """
    scales = [_location(predicted[torch.isfinite(true)])[1]
              for predicted, true in zip(relative.float(), depth)]
    return torch.stack(scales).log().square().mean()


def routing_loss(logits: torch.Tensor, heads: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the router's ``logits`` (b, heads) against probabilities (b, heads)."""
    return F.cross_entropy(logits.float(), heads)


def _standard(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Bring the masked values to median 0 and mean absolute deviation 1."""
    shift, scale = _location(values[mask])
    return (values - shift) / scale


def _location(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the median and the mean absolute deviation from it."""
    shift = values.median()
    return shift, (values - shift).abs().mean().clamp(min=1e-6)


def _gradients(difference: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute gradient of an image of differences, summed over four scales."""
    total = difference.new_zeros(())
    for scale in range(GRADIENT_SCALES):
        step = 2 ** scale
        part, seen = difference[::step, ::step], mask[::step, ::step]
        across = seen[:, 1:] & seen[:, :-1]
        down = seen[1:] & seen[:-1]
        steps = ((part[:, 1:] - part[:, :-1]).abs() * across).sum() + (
            (part[1:] - part[:-1]).abs() * down).sum()
        total = total + steps / seen.sum().clamp(min=1)
    return total
