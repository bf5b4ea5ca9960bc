"""Finds the sky in an outdoor image, by a rule: the networks give the sky a finite depth."""
from __future__ import annotations

import math

import torch
from torch.nn import functional as F

# A logistic regression on streets and parks of zoe world, with the depth of mobile-lite; made by
# experiments/sky_rule.py. docs/answers.md has the figures.
BIAS = -9.6
WEIGHTS = (
    1.22,       # logarithm of depth in metres
    9.07,       # brighter than the lower half of the image
    -0.96,      # logarithm of the local variation of light
    -6.97,      # 0 at the upper edge, 1 at the lower
    13.18)      # blue minus red
_NEAREST = 5.0          # [m]: nearer, it is a white wall; costs at most 0.2 % of the sky
_LEAST = 1e-2           # [m], of the logarithm
_SMOOTHEST = 3e-3       # of the logarithm


def find_sky(pixels: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """
    Return a map that is positive in the sky, at half the size of the network.

    The sky is far, smooth, bluish, high in the image, and brighter than the ground. Dark skies at
    night are not found.

    :param pixels: (3, H, W) in [-1, 1]; :param depth: (H, W) [m].
    :return: (H/2, W/2), the logarithm of the odds.
    """
    values = terms(pixels, depth)
    odds = sum((weight * term for weight, term in zip(WEIGHTS, values)),
               torch.full((), BIAS, device=depth.device))
    return torch.where(values[0] < math.log(_NEAREST), -torch.inf, odds)


def terms(pixels: torch.Tensor, depth: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return what ``WEIGHTS`` are of, each (H/2, W/2); see :func:`find_sky`."""
    # Half the size takes a quarter of the time, and evens out noise.
    red, green, blue, far = F.avg_pool2d(
        torch.cat([(pixels + 1) / 2, depth[None].clamp(min=_LEAST)])[None], 2)[0]
    light = (red + green + blue) / 3
    height = light.shape[0]
    smooth = _blur(light)
    contrast = smooth - light[height // 2:].mean()
    roughness = (_blur((light - smooth).abs()) + _SMOOTHEST).log()
    row = torch.linspace(0, 1, height, device=light.device)[:, None].expand_as(light)
    return far.log(), contrast, roughness, row, blue - red


def _blur(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of the 3 x 3 neighbourhood of each pixel."""
    return F.avg_pool2d(values[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
