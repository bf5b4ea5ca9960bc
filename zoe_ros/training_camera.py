"""The image as the training camera of a head would see it, and the way back for its depth."""
from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np
import torch
from torch.nn import functional as F

from zoe_ros.camera import Camera
from zoe_ros.inference.preprocess import SizePlan
from zoe_ros.inference.transfer import to_device
from zoe_ros.model.config import HeadConfig


@dataclass(frozen=True, eq=False)
class TrainingCamera:
    """
    The map between a camera and a training camera in the same place, in both directions.

    Both have the same optical axis, so depth along it is the same; only pixels move.

    :param to_network: (H, W, 2) position of each network pixel in the image, -1 ... 1.
    :param to_image: (h, w, 2) position of each pixel of the image in the network's image; NaN
        outside of the training camera's view.
    """

    to_network: torch.Tensor
    to_image: torch.Tensor

    @staticmethod
    def between(camera: Camera, head: HeadConfig, size: tuple[int, int],
                device: torch.device) -> TrainingCamera:
        """
        Compute both tables.

        :param size: (height, width) of the network's image.
        """
        height, width = size
        fx, fy, cx, cy = np.array(head.training_camera) * (width, height, width, height)
        x, y = np.meshgrid((np.arange(width) - cx) / fx, (np.arange(height) - cy) / fy)
        u, v = camera.project(x, y)
        to_network = np.stack([_normal(u, camera.width), _normal(v, camera.height)], axis=-1)
        rays = camera.rays.astype(np.float64)
        back = np.stack([_normal(rays[..., 0] * fx + cx, width),
                         _normal(rays[..., 1] * fy + cy, height)], axis=-1)
        back[~(np.abs(back) <= 1).all(axis=-1)] = np.nan
        as_tensor = (torch.from_numpy(np.nan_to_num(to_network, nan=1.0)).float().to(device),
                     torch.from_numpy(back).float().to(device))
        return TrainingCamera(*as_tensor)

    def warp(self, image: np.ndarray) -> torch.Tensor:
        """
        Return the training camera's image; the image is mirrored where the camera sees nothing.

        A black border, which no training image has, is worse for the rest of the image, too: on
        photographs with a wider training camera it raised REL by a tenth to seven tenths.

        :param image: (h, w, 3) uint8 RGB.
        :return: (H, W, 3) uint8 RGB on the device of the tables.
        """
        pixels = to_device(image, self.to_network.device)
        seen = F.grid_sample(pixels.permute(2, 0, 1)[None].float(), self.to_network[None],
                             mode='bilinear', padding_mode='reflection', align_corners=True)
        return seen[0].permute(1, 2, 0).round().to(torch.uint8)

    def unwarp(self, values: torch.Tensor, linear: bool) -> torch.Tensor:
        """
        Bring network values (H, W) to the image (h, w); NaN outside of the training camera's view.

        :param linear: interpolate; else take the nearest value, which invents none at edges.
        """
        unseen = self.to_image.isnan().any(dim=-1)
        brought = F.grid_sample(
            values[None, None], self.to_image.nan_to_num(0)[None],
            mode='bilinear' if linear else 'nearest', align_corners=True)[0, 0]
        return torch.where(unseen, torch.nan, brought)


def focal_factor(camera: Camera | None, plan: SizePlan, head: HeadConfig,
                 training_size: tuple[int, int]) -> float:
    """
    Return the factor on depth for a lens that the head was not trained with.

    Without a camera it is that of the lens that the head takes for granted, usually 1.

    An object of size s at depth z covers s * f / z network pixels. The head, trained with the
    focal length f', takes this size for the depth z' = z * f' / f; so z = z' * f / f'. Both f are
    at the size of the network, the geometric mean of the two axes. The factor holds for objects
    whose size the network knows, but not for cues from perspective; and with strong distortion
    the focal length differs from place to place.
    """
    if camera is None:
        fx, fy = head.usual_focal
        return math.sqrt(fx * fy / (head.training_camera[0] * head.training_camera[1]))
    of_camera = (camera.fx * plan.net[1] / plan.padded[1]) * (
        camera.fy * plan.net[0] / plan.padded[0])
    of_training = (head.training_camera[0] * training_size[1]) * (
        head.training_camera[1] * training_size[0])
    return math.sqrt(of_camera / of_training)


def _normal(pixels: np.ndarray, size: int) -> np.ndarray:
    """Return pixel coordinates on the scale of grid_sample: the first is -1, the last 1."""
    return 2 * pixels / max(size - 1, 1) - 1
