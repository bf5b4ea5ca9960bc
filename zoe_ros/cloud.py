"""Converts depth to points, on the device of the depth."""
from __future__ import annotations

from dataclasses import dataclass

import torch

from zoe_ros.camera import Camera


@dataclass(frozen=True, eq=False)
class Unprojection:
    """
    The rays of pixels of a camera, computed once per camera and kept on a device.

    :param rays: (3, rows, columns) x/z, y/z and 1 of every n-th pixel, NaN where no ray is known.
    :param stride: n.
    """

    rays: torch.Tensor
    stride: int = 1

    @staticmethod
    def from_camera(camera: Camera, stride: int = 1,
                    device: torch.device | str = 'cpu') -> Unprojection:
        """Copy every n-th row and column of the rays of a camera to a device."""
        rays = torch.from_numpy(camera.rays[::stride, ::stride].copy()).permute(2, 0, 1)
        return Unprojection(torch.cat([rays, torch.ones_like(rays[:1])]).to(device), stride)

    def __call__(self, depth: torch.Tensor, max_range: float = torch.inf) -> torch.Tensor:
        """
        Turn depth into points.

        :param depth: (height, width) [m] along the optical axis, of all pixels of the camera.
        :param max_range: points farther along the optical axis are left out [m].
        :return: (rows, columns, 3) [m] in the optical frame (REP 103): x right, y down, z
            forward; NaN where depth or ray is, or where a coordinate is infinite.
        """
        z = depth[::self.stride, ::self.stride]
        points = self.rays * torch.where(z <= max_range, z, torch.nan)
        # Infinite points become NaN (far_value is finite and stays, for costmaps). An absurd focal
        # length can make x or y infinite. Infinity times 0 is NaN, and the sum spreads one NaN to
        # all three coordinates.
        return (points + (points * 0).sum(dim=0)).permute(1, 2, 0)
