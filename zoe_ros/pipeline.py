"""One frame, from image message to output messages: the same for live topics and for bags."""
from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
import math
import re
from time import perf_counter
from typing import Any

import numpy as np
import torch

from zoe_ros.camera import Camera
from zoe_ros.cloud import Unprojection
from zoe_ros.colormap import colorize
from zoe_ros.inference.engine import DepthEstimator, NetworkDepth
from zoe_ros.inference.preprocess import SizePlan
from zoe_ros.inference.routing import Chooser, HeadTracker, known_head, TrackedHead
from zoe_ros.inference.transfer import as_arrays, start_to_host, to_host
from zoe_ros.messages import (
    camera_from_info,
    camera_info_message,
    CameraInfoBuffer,
    cloud_message,
    color_message,
    decode_image,
    depth_message,
    MessageError,
    MessageTypes,
    millimetre_message,
    nanoseconds,
    pinhole_info,
)
from zoe_ros.model.config import HeadConfig, ZoeConfig
from zoe_ros.refine import limit, refine, resize
from zoe_ros.settings import FrameSettings
from zoe_ros.training_camera import TrainingCamera

DEPTH, CAMERA_INFO, POINTS = 'depth/image', 'depth/camera_info', 'depth/points'
MILLIMETRES, COLORED, UNCERTAINTY = (
    'depth/image_raw', 'depth/image_colored', 'depth/uncertainty')


@dataclass(frozen=True, eq=False)
class Frame:
    """
    What comes of one image.

    :param image: (height, width, 3) uint8 RGB, as the network saw it.
    :param depth: (height, width) float32 [m] at the size of the image.
    :param messages: name of the output -> message.
    :param no_cloud: why there is none, or empty.
    :param seconds: stage -> time it took: decode, network, images, and cloud where there is one.
    """

    image: np.ndarray
    depth: np.ndarray
    head: str
    head_probabilities: dict[str, float]
    messages: dict[str, Any]
    no_cloud: str
    seconds: dict[str, float]


@dataclass(frozen=True, eq=False)
class Prepared:
    """
    An image on its way into the network.

    :param seen: what the network shall see: the image, or the training camera's view of it.
    :param choose: picks the head from the router's logits.
    :param deviation: the standard deviation of depth is needed, too.
    """

    header: Any
    image: np.ndarray
    seen: np.ndarray | torch.Tensor
    view: TrainingCamera | None
    settings: FrameSettings
    choose: Chooser
    deviation: bool
    seconds: float


class Pipeline:
    """
    Turns the images of one camera into depth images, camera infos and clouds.

    :meth:`prepare` before the network and :meth:`finish` after it, so that the images of several
    cameras can go through the network together; :meth:`process` does all for one.

    :ivar settings: may be replaced at any time; a frame uses one set of them throughout.
    """

    def __init__(self, estimator: DepthEstimator, types: MessageTypes, settings: FrameSettings,
                 rectified: bool) -> None:
        """
        Keep the parts; nothing is computed before the first frame.

        :param rectified: the images are rectified, see :func:`is_rectified`.
        """
        self.settings = settings
        self._estimator = estimator
        self._types = types
        self._rectified = rectified
        self._tracker = HeadTracker()
        self._head = estimator.model.config.head_names[0]
        self._camera: Camera | None = None
        self._views: dict[str, TrainingCamera] = {}
        self._unprojection: Unprojection | None = None

    def process(self, message: Any, infos: CameraInfoBuffer, wanted: Collection[str]) -> Frame:
        """
        Process one image.

        :param message: sensor_msgs Image or CompressedImage.
        :param infos: where its CameraInfo is looked up. Without one there is depth but no cloud.
        :param wanted: names of the outputs to make.
        :raises MessageError: the image cannot be used.
        """
        prepared = self.prepare(message, infos, wanted)
        start = perf_counter()
        net = infer_together(self._estimator, [prepared])[0]
        return self.finish(prepared, net, infos, wanted, perf_counter() - start)

    def prepare(self, message: Any, infos: CameraInfoBuffer, wanted: Collection[str]) -> Prepared:
        """
        Decode an image; see :meth:`process`.

        :raises MessageError: it cannot be used.
        """
        start = perf_counter()
        image = decode_image(message)
        camera, _ = self._find_camera(infos.find(message.header), image)
        return self._prepare(message.header, image, camera, self.settings,
                             nanoseconds(message.header.stamp) / 1e9, UNCERTAINTY in wanted, start)

    def finish(self, prepared: Prepared, net: NetworkDepth, infos: CameraInfoBuffer,
               wanted: Collection[str], network_seconds: float) -> Frame:
        """
        Make the messages of an image that has been through the network; see :meth:`process`.

        CameraInfo is looked up again: a live one may arrive a little later than its image.
        """
        start = perf_counter()
        header, settings, image = prepared.header, prepared.settings, prepared.image
        self._head = net.head
        info = infos.find(header)
        camera, no_cloud = self._find_camera(info, image)
        scale = self._scale(net, camera, prepared.view, settings)
        unprojection = (None if camera is None or POINTS not in wanted
                        else self._current_unprojection(camera, settings))
        depth, deviation, points, unprojecting = self._to_host(
            net, scale, prepared.view, unprojection, settings)
        messages = self._depth_images(header, depth, deviation, net, info, settings, wanted)
        made = perf_counter()
        seconds = {'decode': prepared.seconds, 'network': network_seconds,
                   'images': made - start - unprojecting}
        if points is not None:
            messages[POINTS] = self._cloud(header, image, points, settings)
            seconds['cloud'] = unprojecting + perf_counter() - made
        return Frame(image, depth, net.head, net.head_probabilities, messages, no_cloud, seconds)

    def predict_image(self, image: np.ndarray) -> tuple[np.ndarray, str]:
        """
        Measure a photograph that belongs to no video.

        :param image: (height, width, 3) uint8 RGB.
        :return: (height, width) depth [m], and the head.
        :raises MessageError: the image cannot be used.
        """
        self._tracker = HeadTracker()
        prepared = self._prepare(None, image, None, self.settings, 0.0, False, perf_counter())
        net = infer_together(self._estimator, [prepared])[0]
        scale = self._scale(net, None, None, self.settings)
        return self._to_host(net, scale, None, None, self.settings)[0], net.head

    def _prepare(self, header: Any, image: np.ndarray, camera: Camera | None,
                 settings: FrameSettings, stamp: float, deviation: bool,
                 start: float) -> Prepared:
        names = self._estimator.model.config.head_names
        choose: Chooser = known_head(settings.router, names) or TrackedHead(
            self._tracker, names, stamp, settings.router_time_constant)
        view = None
        if settings.camera_view == 'training' and camera is not None:
            view = self._view(camera, self._head if settings.router == 'auto' else settings.router)
        return Prepared(
            header, image, image if view is None else view.warp(image), view, settings, choose,
            deviation or settings.max_relative_uncertainty > 0, perf_counter() - start)

    def _view(self, camera: Camera, head: str) -> TrainingCamera:
        """Return the training view for the head of the last frame, which the next one will use."""
        if head not in self._views:
            config = self._estimator.model.config
            self._views[head] = TrainingCamera.between(
                camera, head_config(config, head), config.image_size, self._estimator.device)
        return self._views[head]

    def _find_camera(self, info: Any | None, image: np.ndarray) -> tuple[Camera | None, str]:
        """Return the camera, or None and the reason; keep it for the sake of its rays."""
        if info is None:
            return None, 'there is no CameraInfo'
        try:
            camera = camera_from_info(info, image.shape[:2], self._rectified)
        except ValueError as error:
            return None, str(error)
        if camera != self._camera:
            self._camera, self._views, self._unprojection = camera, {}, None
        return self._camera, ''

    def _scale(self, net: NetworkDepth, camera: Camera | None, view: TrainingCamera | None,
               settings: FrameSettings) -> float:
        """Return the factor on the network's depth."""
        scale = settings.depth_scale
        # The training camera's view has the training camera's focal length.
        if settings.focal_correction and camera is not None and view is None:
            config = self._estimator.model.config
            scale *= focal_factor(camera, net.plan, head_config(config, net.head),
                                  config.image_size)
        return scale

    @torch.inference_mode()
    def _to_host(self, net: NetworkDepth, scale: float, view: TrainingCamera | None,
                 unprojection: Unprojection | None, settings: FrameSettings) -> tuple[
                     np.ndarray, np.ndarray | None, np.ndarray | None, float]:
        """
        Bring depth to the image and into space, and all of it to the host.

        :return: depth, deviation and points, and the seconds that the points took; 0 where a GPU
            makes them with the rest.
        """
        graphs = self._estimator.network.graphs
        if graphs is not None:
            inputs = [torch.tensor(scale, dtype=torch.float32).pin_memory(), net.depth]
            arrays = as_arrays(graphs.run(
                ('frame', net.plan, view, unprojection, settings),
                partial(_on_device, plan=net.plan, view=view, unprojection=unprojection,
                        settings=settings),
                inputs if net.deviation is None else [*inputs, net.deviation],
                lambda found: start_to_host(*found)), self._estimator.device)
            return arrays[0], arrays[1], arrays[2], 0.0
        values, deviations = _to_image(scale, net.depth, net.deviation, net.plan, view, settings)
        start = perf_counter()
        points = (None if unprojection is None
                  else unprojection(values, settings.point_cloud_max_range))
        seconds = perf_counter() - start
        depth, deviation, cloud = to_host(values, deviations, points)
        return depth, deviation, cloud, seconds

    def _depth_images(self, header: Any, depth: np.ndarray, deviation: np.ndarray | None,
                      net: NetworkDepth, info: Any | None, settings: FrameSettings,
                      wanted: Collection[str]) -> dict[str, Any]:
        """Make the depth images and their CameraInfo, at the size that is asked for."""
        grid = _output_grid(depth.shape, net.plan, settings)
        fits = info is not None and (info.height, info.width) == depth.shape
        depth = depth[grid]
        types = self._types
        messages = {}
        if DEPTH in wanted:
            messages[DEPTH] = depth_message(types, header, depth)
        if MILLIMETRES in wanted:
            messages[MILLIMETRES] = millimetre_message(types, header, depth)
        if COLORED in wanted:
            colors = colorize(depth, settings.color_min_depth, settings.color_max_depth)
            messages[COLORED] = color_message(types, header, colors)
        if UNCERTAINTY in wanted and deviation is not None:
            messages[UNCERTAINTY] = depth_message(types, header, deviation[grid])
        if CAMERA_INFO in wanted and info is not None:
            # One that is not of this image is handed on as it is.
            size = (depth.shape[0], depth.shape[1]) if fits else None
            stride = settings.output_decimation
            scale = (1 / stride, 1 / stride) if settings.output_size == 'camera' else None
            shown = pinhole_info(types, info) if self._rectified else info
            messages[CAMERA_INFO] = camera_info_message(types, header, shown, size, scale)
        return messages

    def _current_unprojection(self, camera: Camera, settings: FrameSettings) -> Unprojection:
        stride = settings.point_cloud_downsample
        if self._unprojection is None or self._unprojection.stride != stride:
            self._unprojection = Unprojection.from_camera(camera, stride, self._estimator.device)
        return self._unprojection

    def _cloud(self, header: Any, image: np.ndarray, points: np.ndarray,
               settings: FrameSettings) -> Any:
        stride = settings.point_cloud_downsample
        colors = image[::stride, ::stride] if settings.point_cloud_color else None
        return cloud_message(self._types, header, points, colors)


def _to_image(scale: float | torch.Tensor, depth: torch.Tensor, deviation: torch.Tensor | None,
              plan: SizePlan, view: TrainingCamera | None,
              settings: FrameSettings) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Bring network depth and deviation to the image, with the user's choices applied."""
    depth, deviation = refine(depth, deviation, settings, scale)
    values = [v for v in (depth, deviation) if v is not None]
    values = [_uncrop(v, depth, plan, settings.interpolation) for v in values]
    if view is not None:
        values = [view.unwarp(v, settings.interpolation == 'linear') for v in values]
    full = limit(values[0], settings)
    if deviation is None:
        return full, None
    return full, torch.where(full.isfinite(), values[1], torch.nan)


def _on_device(scale: torch.Tensor, depth: torch.Tensor, deviation: torch.Tensor | None = None, *,
               plan: SizePlan, view: TrainingCamera | None, unprojection: Unprojection | None,
               settings: FrameSettings) -> tuple[torch.Tensor | None, ...]:
    """Return what a GPU makes of a frame: depth, deviation and points, those that are wanted."""
    values, deviations = _to_image(scale, depth, deviation, plan, view, settings)
    return values, deviations, None if unprojection is None else unprojection(
        values, settings.point_cloud_max_range)


def infer_together(estimator: DepthEstimator, prepared: Sequence[Prepared]) -> list[NetworkDepth]:
    """
    Send images through the network as one batch.

    :raises MessageError: an image is too small for the border that padding mirrors.
    """
    try:
        results = estimator.infer([p.seen for p in prepared], [p.choose for p in prepared],
                                  any(p.deviation for p in prepared))
    except ValueError as error:
        raise MessageError('size', str(error)) from None
    if estimator.device.type == 'cuda':
        # What fails on the device, and the time it takes, belongs to the network.
        torch.cuda.current_stream(estimator.device).synchronize()
    return results


def infer_each(estimator: DepthEstimator,
               prepared: Sequence[Prepared]) -> list[NetworkDepth | Exception]:
    """
    Send images through the network as one batch; should that fail, each of them alone.

    :return: for each image its depth, or why it has none: a bad one costs no other camera a frame.
    """
    try:
        return list(infer_together(estimator, prepared))
    except Exception as error:
        if len(prepared) < 2:
            # Without its traceback, which holds on to all that the network had in memory.
            return [error.with_traceback(None)] * len(prepared)
    return [infer_each(estimator, [item])[0] for item in prepared]


def head_config(config: ZoeConfig, name: str) -> HeadConfig:
    """Return the description of a head by its name."""
    return next(head for head in config.metric.heads if head.name == name)


def focal_factor(camera: Camera, plan: SizePlan, head: HeadConfig,
                 training_size: tuple[int, int]) -> float:
    """
    Return the factor on depth for a lens that the head was not trained with.

    A thing of size s at depth z covers s * f / z network pixels. The head, which learnt with the
    focal length f', takes that for depth z' = z * f' / f; so z = z' * f / f'. Both f are taken at
    the size of the network, as the geometric mean of the two axes. It holds for things whose size
    the network knows; perspective lines do not follow it, and a camera that looks through
    distortion has no one focal length.
    """
    of_camera = (camera.fx * plan.net[1] / plan.padded[1]) * (
        camera.fy * plan.net[0] / plan.padded[0])
    of_training = (head.training_camera[0] * training_size[1]) * (
        head.training_camera[1] * training_size[0])
    return math.sqrt(of_camera / of_training)


def _uncrop(values: torch.Tensor, depth: torch.Tensor, plan: SizePlan,
            interpolation: str) -> torch.Tensor:
    """Bring (H, W) values to the image, without the border that was mirrored."""
    rows, columns = plan.pad
    height, width = plan.image
    full = resize(values, depth, plan.padded, interpolation)
    return full[rows:rows + height, columns:columns + width]


def _output_grid(size: tuple[int, ...], plan: SizePlan, settings: FrameSettings) -> Any:
    """Return the index of the rows and columns of the image that the depth images keep."""
    stride = settings.output_decimation
    if settings.output_size == 'camera':
        return slice(None, None, stride), slice(None, None, stride)
    # Row i of the network is row i * h / H of the image, as CameraInfo will say.
    return np.ix_(*((np.arange(net) * have / net).round().astype(int).clip(max=have - 1)
                    for net, have in zip(plan.net, size)))


def is_rectified(topic: str) -> bool:
    """Tell from its name whether a topic carries rectified images (image_proc's convention)."""
    return re.search(r'(?:^|[/_])rect(?:ified)?(?:[/_]|$)', topic) is not None
