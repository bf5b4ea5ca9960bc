"""One frame, from image message to output messages: the same for live topics and for bags."""
from __future__ import annotations

from dataclasses import dataclass
import re
from typing import Any

import numpy as np

from zoe_ros.camera import Camera
from zoe_ros.engine import DepthEstimator, DepthPrediction
from zoe_ros.messages import (
    camera_info_message,
    camera_of,
    CameraInfoBuffer,
    cloud_message,
    decode_image,
    depth_message,
    MessageError,
    MessageTypes,
)


@dataclass(frozen=True, eq=False)
class Frame:
    """
    What comes of one image.

    :param image: (height, width, 3) uint8 RGB, as the network saw it.
    :param camera_info: None where no CameraInfo was given.
    :param points: None where there is no usable camera; ``no_cloud`` then says why.
    """

    image: np.ndarray
    prediction: DepthPrediction
    depth: Any
    camera_info: Any | None
    points: Any | None
    no_cloud: str


class Pipeline:
    """
    Turns image messages into depth images, camera infos and clouds.

    :param downsample: the cloud takes every n-th row and column.
    :param rectified: the images are rectified, see :func:`is_rectified`.
    """

    def __init__(self, estimator: DepthEstimator, types: MessageTypes, *, downsample: int,
                 rectified: bool) -> None:
        """Keep the parts; nothing is computed before the first frame."""
        self._estimator = estimator
        self._types = types
        self._downsample = downsample
        self._rectified = rectified
        self._camera: Camera | None = None

    def process(self, message: Any, infos: CameraInfoBuffer) -> Frame:
        """
        Process one image.

        :param message: sensor_msgs Image or CompressedImage.
        :param infos: where its CameraInfo is looked up, after the network has run: a live one may
            arrive a little later than the image. Without one there is depth but no cloud.
        :raises MessageError: the image cannot be used.
        """
        image = decode_image(message)
        try:
            prediction = self._estimator.predict(image)
        except ValueError as error:     # too small for the border that padding mirrors
            raise MessageError('size', str(error)) from None
        header = message.header
        info = infos.find(header)
        depth = depth_message(self._types, header, prediction.depth)
        if info is None:
            return Frame(image, prediction, depth, None, None, 'there is no CameraInfo')
        info_out = camera_info_message(self._types, header, info)
        try:
            camera = self._same_camera(camera_of(info, image.shape[:2], self._rectified))
        except ValueError as error:
            return Frame(image, prediction, depth, info_out, None, str(error))
        every = self._downsample
        points = camera.unproject(prediction.depth, every)
        cloud = cloud_message(self._types, header, points, image[::every, ::every])
        return Frame(image, prediction, depth, info_out, cloud, '')

    def _same_camera(self, camera: Camera) -> Camera:
        """Return the last camera if it equals this one: its table of rays is already made."""
        if camera != self._camera:
            self._camera = camera
        assert self._camera is not None
        return self._camera


def is_rectified(topic: str) -> bool:
    """Tell from its name whether a topic carries rectified images (image_proc's convention)."""
    return re.search(r'(?:^|[/_])rect(?:ified)?(?:[/_]|$)', topic) is not None
