"""The outputs of a frame: their names, and their messages from depth and points."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np

from zoe_ros.camera_depth import CameraDepth
from zoe_ros.camera_info import info_of_image
from zoe_ros.colormap import colorize
from zoe_ros.inference.preprocess import SizePlan
from zoe_ros.messages import (
    camera_info_message,
    cloud_message,
    color_message,
    compressed_depth_message,
    depth_message,
    MessageTypes,
    millimetre_message,
)
from zoe_ros.settings import FrameSettings

DEPTH, CAMERA_INFO, POINTS = 'depth/image', 'depth/camera_info', 'depth/points'
MILLIMETRES, COLORED, UNCERTAINTY = (
    'depth/image_raw', 'depth/image_colored', 'depth/uncertainty')
SCALE, HEAD = 'depth/scale', 'depth/head'
# Where image_transport looks for depth in PNG.
COMPRESSED = f'{DEPTH}/compressedDepth'
_ALL = {DEPTH, CAMERA_INFO, POINTS, MILLIMETRES, COLORED, UNCERTAINTY, SCALE, HEAD, COMPRESSED}
# Drivers have the other names, too.
_OURS_ALONE = {COLORED, UNCERTAINTY, SCALE, HEAD}


def own_topics(topics: Collection[str]) -> set[str]:
    """
    Return the topics that a node of this package published: a name that no driver has is beside.

    :param topics: all topics of a bag.
    """
    return {topic for topic, beside in _beside(topics).items() if beside & _OURS_ALONE}


def perhaps_own_topics(topics: Collection[str]) -> set[str]:
    """
    Return the topics of depth that may be ours, beside another of our outputs.

    Drivers have these names, too, for example those of OpenNI.

    :param topics: all topics of a bag.
    """
    return {topic for topic, beside in _beside(topics).items()
            if topic.endswith((f'/{DEPTH}', f'/{COMPRESSED}'))
            and DEPTH in beside and len(beside) > 1}


def _beside(topics: Collection[str]) -> dict[str, set[str]]:
    """Return the topics with names of our outputs -> these names under the same prefix."""
    beside: defaultdict[str, set[str]] = defaultdict(set)
    prefixes = {topic: topic.removesuffix(name) for topic in topics
                for name in _ALL if topic.endswith(f'/{name}')}
    for topic, prefix in prefixes.items():
        beside[prefix].add(topic.removeprefix(prefix))
    return {topic: beside[prefix] for topic, prefix in prefixes.items()}


def image_outputs(types: MessageTypes, header: Any, found: CameraDepth, plan: SizePlan,
                  info: Any | None, settings: FrameSettings,
                  wanted: Collection[str]) -> dict[str, Any]:
    """
    Return the wanted depth images and their CameraInfo, at the size that the settings ask for.

    :param header: of the image.
    :param plan: the sizes of the image on its way through the network.
    :param info: the CameraInfo of the image, or None.
    :return: name of the output -> message; of ``COMPRESSED`` a function that returns it, for a
        time when nothing waits.
    """
    grid = _output_grid(found.depth.shape, plan, settings)
    depth = found.depth[grid]
    messages: dict[str, Any] = {}
    if DEPTH in wanted:
        messages[DEPTH] = depth_message(types, header, depth)
    if MILLIMETRES in wanted:
        messages[MILLIMETRES] = millimetre_message(types, header, depth)
    if COMPRESSED in wanted:
        messages[COMPRESSED] = partial(compressed_depth_message, types, header, depth)
    if COLORED in wanted:
        colors = colorize(depth, settings.color_min_depth, settings.color_max_depth)
        messages[COLORED] = color_message(types, header, colors)
    if UNCERTAINTY in wanted and found.deviation is not None:
        messages[UNCERTAINTY] = depth_message(types, header, found.deviation[grid])
    if CAMERA_INFO in wanted and info is not None:
        # One of another size than the image is passed on unchanged.
        own = info_of_image(info, (found.depth.shape[0], found.depth.shape[1]))
        size = None if own is None else (depth.shape[0], depth.shape[1])
        stride = settings.output_decimation
        scale = (1 / stride, 1 / stride) if settings.output_size == 'camera' else None
        messages[CAMERA_INFO] = camera_info_message(
            types, header, info if own is None else own, size, scale)
    return messages


def cloud_output(types: MessageTypes, header: Any, points: np.ndarray, image: np.ndarray,
                 settings: FrameSettings) -> Any:
    """
    Return the cloud, in the colours of the image if the settings ask for them.

    :param points: (rows, columns, 3) float32 [m]; :param image: (h, w, 3) uint8 RGB.
    """
    stride = settings.point_cloud_downsample
    colors = image[::stride, ::stride] if settings.point_cloud_color else None
    return cloud_message(types, header, points, colors)


def _output_grid(size: tuple[int, ...], plan: SizePlan, settings: FrameSettings) -> Any:
    """Return the index of the rows and columns of the image that the depth images keep."""
    stride = settings.output_decimation
    if settings.output_size == 'camera':
        return slice(None, None, stride), slice(None, None, stride)
    # Row i of the network is row i * h / H of the image, as CameraInfo will say.
    return np.ix_(*((np.arange(net) * have / net).round().astype(int).clip(max=have - 1)
                    for net, have in zip(plan.net, size)))
