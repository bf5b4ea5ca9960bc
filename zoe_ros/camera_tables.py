"""What is computed once for a camera and used for each of its frames."""
from __future__ import annotations

import torch

from zoe_ros.camera import Camera
from zoe_ros.cloud import Unprojection
from zoe_ros.model.config import ZoeConfig
from zoe_ros.training_camera import TrainingCamera


class CameraTables:
    """
    The views of the training cameras and the rays of one camera, made when first asked for.

    :ivar camera: whose tables these are.
    """

    def __init__(self, camera: Camera, config: ZoeConfig, device: torch.device) -> None:
        """
        Keep the parts.

        :param config: of the model, which names the training camera of each head.
        :param device: where the tables are used.
        """
        self.camera = camera
        self._config = config
        self._device = device
        self._views: dict[str, TrainingCamera] = {}
        self._unprojection: Unprojection | None = None

    def view(self, head: str) -> TrainingCamera:
        """Return the view of the training camera of a head."""
        if head not in self._views:
            self._views[head] = TrainingCamera.between(
                self.camera, self._config.head(head), self._config.image_size, self._device)
        return self._views[head]

    def unprojection(self, stride: int) -> Unprojection:
        """Return the rays of every ``stride``-th pixel; those of the last stride are kept."""
        if self._unprojection is None or self._unprojection.stride != stride:
            self._unprojection = Unprojection.from_camera(self.camera, stride, self._device)
        return self._unprojection
