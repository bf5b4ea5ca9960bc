"""Images to network pixels and network depth back to images: the sizes in between."""
from __future__ import annotations

from dataclasses import dataclass
import math

import torch
from torch.nn import functional as F

from zoe_ros.inference.threads import torch_threads

MULTIPLE = 32       # of ZoeDepth


@dataclass(frozen=True)
class SizePlan:
    """
    The sizes that an image takes on its way through the network, all (height, width) [px].

    :param pad: rows and columns mirrored onto each side before the resize.
    :param upsampling: the resize of depth: 'bilinear' with aligned corners, as the published
        evaluation does, or 'bicubic', as the published inference does (sections 4.1 and 6.3).
    """

    image: tuple[int, int]
    pad: tuple[int, int]
    net: tuple[int, int]
    upsampling: str

    @property
    def padded(self) -> tuple[int, int]:
        """Return the size of the image with its border."""
        return self.image[0] + 2 * self.pad[0], self.image[1] + 2 * self.pad[1]

    def crop(self, values: torch.Tensor) -> torch.Tensor:
        """Take the border off values (..., padded height, padded width)."""
        rows, columns = self.pad
        height, width = self.image
        return values[..., rows:rows + height, columns:columns + width]


def plan_sizes(image: tuple[int, int], training: tuple[int, int], aspect: str,
               pad: bool, multiple: int = MULTIPLE) -> SizePlan:
    """
    Plan the sizes for an image (section 1.1).

    'stretch' brings every image to exactly the training resolution: the authors advise it for
    metric accuracy, and the cost is the same for every camera. 'keep' scales both axes by one
    factor, the one nearer to 1, and rounds to multiples; the cost depends on the image.

    :param image: (height, width) [px], at least 1.
    :param training: (height, width) [px] of the model.
    :param multiple: of which the sides are multiples with 'keep': ``size_multiple`` of the model's
        encoder [px].
    :raises ValueError: the image is too small for its border to be mirrored.
    """
    height, width = image
    border = (0, 0)
    if pad:
        border = (int(math.sqrt(height / 2) * 3), int(math.sqrt(width / 2) * 3))
        if border[0] >= height or border[1] >= width:
            raise ValueError(f'a {width} x {height} image is too small to be padded: '
                             'use pad=False or a larger image')
    if aspect == 'stretch':
        return SizePlan(image, border, training, 'bilinear')
    padded = (height + 2 * border[0], width + 2 * border[1])
    by_height, by_width = training[0] / padded[0], training[1] / padded[1]
    scale = by_width if abs(1 - by_width) < abs(1 - by_height) else by_height
    # Python rounds half to even, as the original's numpy does. A very
    # narrow image would round to 0: it gets one multiple.
    rows, columns = (max(1, round(scale * side / multiple)) * multiple for side in padded)
    return SizePlan(image, border, (rows, columns), 'bicubic')


def to_pixels(images: torch.Tensor, plan: SizePlan) -> torch.Tensor:
    """
    Bring images to the network.

    :param images: (b, h, w, 3) uint8 RGB of size ``plan.image``.
    :return: (b, 3, H, W) float32 in [-1, 1] of size ``plan.net``.
    """
    pixels = images.permute(0, 3, 1, 2).float()
    if any(plan.pad):
        pixels = F.pad(pixels, (plan.pad[1], plan.pad[1], plan.pad[0], plan.pad[0]), 'reflect')
    # On a CPU this rounds differently on one thread than on several, which gain little here.
    with torch_threads(1):
        pixels = F.interpolate(pixels, plan.net, mode='bilinear', align_corners=True)
    pixels = pixels.contiguous()
    return pixels.mul_(2 / 255).sub_(1)


def to_depth(depth: torch.Tensor, plan: SizePlan) -> torch.Tensor:
    """
    Bring depth back to the image.

    :param depth: (b, H, W) of size ``plan.net``.
    :return: (b, h, w) of size ``plan.image``; a bicubic resize can overshoot at edges.
    """
    if plan.padded != plan.net:
        depth = F.interpolate(depth[:, None], plan.padded, mode=plan.upsampling,
                              align_corners=plan.upsampling == 'bilinear')[:, 0]
    return plan.crop(depth)
