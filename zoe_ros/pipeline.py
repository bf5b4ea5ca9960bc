"""The way of a frame, from image message to output messages: one for live topics and for bags."""
from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch

from zoe_ros.anchor.anchor import Scale
from zoe_ros.anchor.correction import Correction, NOTHING
from zoe_ros.anchor.steady import SteadyScale, UNKNOWN_MOTION
from zoe_ros.camera import Camera
from zoe_ros.camera_depth import CameraDepth, for_anchor, for_steadying, to_camera
from zoe_ros.camera_info import camera_from_info, CameraInfoBuffer
from zoe_ros.camera_tables import CameraTables
from zoe_ros.clock import Clock
from zoe_ros.cloud import Unprojection
from zoe_ros.headers import frame_name, nanoseconds
from zoe_ros.images import decode_image, MessageError
from zoe_ros.inference.engine import DepthEstimator, NetworkDepth
from zoe_ros.inference.routing import Chooser, HeadTracker, known_choice
from zoe_ros.messages import MessageTypes, pinhole_info, scale_message
from zoe_ros.outputs import CAMERA_INFO, cloud_output, image_outputs, POINTS, SCALE, UNCERTAINTY
from zoe_ros.range_anchor import RangeAnchor, ScaleNews
from zoe_ros.remarks import Remarks, Views
from zoe_ros.settings import FrameSettings
from zoe_ros.stereo_pair import flaw_of
from zoe_ros.training_camera import focal_factor, TrainingCamera


@dataclass(frozen=True, eq=False)
class Frame:
    """
    Everything computed from one image.

    :param image: (height, width, 3) uint8 RGB, as decoded.
    :param depth: (height, width) float32 [m] at the size of the image.
    :param head_probabilities: head -> probability, as it was when the head was chosen.
    :param messages: name of the output -> message, see :func:`.outputs.image_outputs`.
    :param camera: that took the image; None where it is not known.
    :param no_cloud: why a cloud cannot be made, or empty.
    :param remarks: what the user should know, each once in the life of a pipeline.
    :param alternating: what is wrong with the views of the last frames, see :class:`.Views`.
    :param steadying: factor that steadies depth from frame to frame; 1 where that is off.
    :param scale: by the anchor, beyond that factor; None without an anchor.
    :param scale_news: what the scale tells for the first time, or empty.
    :param seconds: stage -> time that it took: decode, network, images, and cloud where there is
        one.
    """

    image: np.ndarray
    depth: np.ndarray
    head: str
    head_probabilities: dict[str, float]
    messages: dict[str, Any]
    camera: Camera | None
    no_cloud: str
    remarks: tuple[str, ...]
    alternating: str
    steadying: float
    scale: Scale | None
    scale_news: str
    seconds: dict[str, float]


@dataclass(frozen=True, eq=False)
class Prepared:
    """
    An image on its way into the network.

    :param view: the view of a training camera, or None.
    :param seen: (h, w, 3) uint8 RGB, the network's input: the image, or its view.
    :param choose: picks the head.
    :param settings: of this frame, throughout.
    :param wanted: names of the outputs to make.
    :param clock: times the stages of this frame.
    """

    header: Any
    image: np.ndarray
    view: TrainingCamera | None
    seen: np.ndarray | torch.Tensor
    choose: Chooser
    settings: FrameSettings
    wanted: Collection[str]
    clock: Clock

    @property
    def deviation(self) -> bool:
        """Tell whether the standard deviation of depth is needed."""
        return UNCERTAINTY in self.wanted or self.settings.max_relative_uncertainty > 0


class Pipeline:
    """
    Turns the images of one camera into depth images, CameraInfo and clouds.

    :meth:`process` does all of it. :meth:`prepare` is the part before the network and
    :meth:`finish` the part after it, so that one batch can hold images of several cameras.

    :ivar settings: may be replaced at any time; the next frame uses the new ones.
    """

    def __init__(self, estimator: DepthEstimator, types: MessageTypes, settings: FrameSettings,
                 infos: CameraInfoBuffer, rectified: bool,
                 anchor: RangeAnchor | None = None, steady: SteadyScale | None = None,
                 tracker: HeadTracker | None = None) -> None:
        """
        Keep the parts; nothing is computed before the first frame.

        :param types: the classes of the output messages.
        :param infos: holds the CameraInfo of the images. Without one there is depth but no cloud.
        :param rectified: the images are rectified, see :func:`.topic_names.is_rectified`.
        :param anchor: gives depth the scale of the robot's sensors.
        :param steady: steadies the scale from frame to frame, before the anchor.
        :param tracker: chooses the heads; by default a new one.
        """
        self.settings = settings
        self._estimator = estimator
        self._config = estimator.model.config
        self._types = types
        self._infos = infos
        self._rectified = rectified
        self._anchor, self._steady = anchor, steady
        self._remarks, self._views, self._scale_news = Remarks(), Views(), ScaleNews()
        self._tracker = tracker or HeadTracker()
        self._head = self._config.head_names[0]         # of the last frame
        self._tables: CameraTables | None = None
        # Settings of the last frame.
        self._scaling: tuple[Any, ...] | None = None if anchor is None else anchor.scaling

    def process(self, message: Any, wanted: Collection[str]) -> Frame:
        """
        Process one image.

        :param message: sensor_msgs Image or CompressedImage.
        :param wanted: names of the outputs to make.
        :raises MessageError: the image cannot be used.
        """
        prepared = self.prepare(message, wanted)
        start = perf_counter()
        net = infer_together(self._estimator, [prepared])[0]
        return self.finish(prepared, net, perf_counter() - start)

    def route(self, message: Any) -> None:
        """
        Show an image to the router alone, which may remember it; see :meth:`process`.

        :raises MessageError: the image cannot be used.
        """
        infer_together(self._estimator, [self.prepare(message, ())])

    def prepare(self, message: Any, wanted: Collection[str]) -> Prepared:
        """
        Decode an image and choose how the network shall see it; see :meth:`process`.

        :raises MessageError: the image cannot be used.
        """
        clock, settings = Clock(), self.settings
        with clock('decode'):
            header, image = message.header, decode_image(message)
            if self._anchor is not None and self._anchor.pair is not None:
                self._anchor.pair.expect(header)
            tables, _ = self._find_tables(self._infos.find(header), image)
            view = self._view(tables, settings)
            seen = image if view is None else view.warp(image)
            choose = self._chooser(nanoseconds(header.stamp) / 1e9, settings)
        return Prepared(header, image, view, seen, choose, settings, wanted, clock)

    def finish(self, prepared: Prepared, net: NetworkDepth, seconds: float) -> Frame:
        """
        Make the messages of an image that has been through the network.

        CameraInfo is looked up again: a live one may arrive a little later than its image.

        :param seconds: that the network took.
        """
        header, image, clock = prepared.header, prepared.image, prepared.clock
        settings, wanted = prepared.settings, prepared.wanted
        clock.seconds['network'] = seconds
        self._head = net.head
        with clock('images'):
            info = self._infos.find(header)
            tables, no_cloud = self._find_tables(info, image)
            camera = None if tables is None else tables.camera
            factor = self._focal_factor(prepared, net, camera)
            alternating = self._views.of(camera)
            remarks = self._remarks.about(
                header, image, info, camera, no_cloud, factor, settings, self._config,
                0 if self._steady is None else self._steady.counts[UNKNOWN_MOTION], alternating)
            scale = self._scale(factor, settings)
            self._notice_scaling(settings)
            steadying = self._steady_factor(prepared, net, scale, tables)
            # Before the anchor, whose filter then sees a steady scale and brings it to metres.
            scale *= steadying
            anchored = self._measure(prepared, net, scale, tables, info)
            correction = (Correction(scale) if anchored is None
                          else self._with_doubt(anchored, net.head).after(scale))
            unprojection = (None if tables is None or POINTS not in wanted
                            else tables.unprojection(settings.point_cloud_downsample))
        found = self._to_camera(prepared, net, correction, unprojection)
        with clock('images'):
            if self._rectified and info is not None and CAMERA_INFO in wanted:
                info = pinhole_info(self._types, info)
            messages = image_outputs(
                self._types, header, found, net.plan, info, settings, wanted)
            if anchored is not None and SCALE in wanted:
                messages[SCALE] = scale_message(
                    self._types, header, anchored.value, anchored.deviation)
        if found.points is not None:
            with clock('cloud'):
                messages[POINTS] = cloud_output(
                    self._types, header, found.points, image, settings)
        return Frame(image, found.depth, net.head, net.head_probabilities, messages, camera,
                     no_cloud, remarks, alternating, steadying, anchored,
                     '' if anchored is None else self._scale_news.of(anchored), clock.seconds)

    def predict_image(self, image: np.ndarray,
                      camera: Camera | None = None) -> tuple[np.ndarray, str]:
        """
        Estimate the depth of an image that belongs to no video.

        :param image: (height, width, 3) uint8 RGB.
        :param camera: for the correction by its focal length; None if unknown.
        :return: (height, width) depth [m], and the head.
        :raises MessageError: the image cannot be used.
        """
        settings = self.settings
        self._tracker = HeadTracker()
        prepared = Prepared(
            None, image, None, image, self._chooser(0.0, settings), settings, (), Clock())
        net = infer_together(self._estimator, [prepared])[0]
        scale = self._scale(self._focal_factor(prepared, net, camera), settings)
        return self._to_camera(prepared, net, Correction(scale), None).depth, net.head

    def _to_camera(self, prepared: Prepared, net: NetworkDepth, correction: Correction,
                   unprojection: Unprojection | None) -> CameraDepth:
        """Bring depth to the image and into space, see :func:`.camera_depth.to_camera`."""
        with self._estimator.threads.frame():
            return to_camera(net, correction, prepared.view, unprojection, prepared.settings,
                             self._estimator.runner.graphs, prepared.clock)

    def _find_tables(self, info: Any | None,
                     image: np.ndarray) -> tuple[CameraTables | None, str]:
        """Return the tables of the camera that took an image, or None and the reason."""
        if info is None:
            return None, 'there is no CameraInfo'
        try:
            camera = camera_from_info(info, image.shape[:2], self._rectified)
        except ValueError as error:
            return None, str(error)
        if self._tables is None or self._tables.camera != camera:
            self._tables = CameraTables(camera, self._config, self._estimator.device)
        return self._tables, ''

    def _view(self, tables: CameraTables | None, settings: FrameSettings) -> TrainingCamera | None:
        """Return the view of the training camera, if the settings ask for it."""
        if settings.camera_view != 'training' or tables is None:
            return None
        # The head is chosen after the view; most frames go to the head of the frame before.
        return tables.view(self._head if settings.router == 'auto' else settings.router)

    def _chooser(self, stamp: float, settings: FrameSettings) -> Chooser:
        """Return what picks the head of an image of this stamp [s]."""
        names = self._config.head_names
        return known_choice(settings.router, names) or partial(
            self._tracker.choose, names=names, stamp=stamp,
            time_constant=settings.router_time_constant)

    def _notice_scaling(self, settings: FrameSettings) -> None:
        """Let filters of the scale start again when a user has changed the scale itself."""
        scaling = settings.depth_scale, settings.focal_correction, settings.camera_view
        if self._scaling not in (None, scaling):
            for scales in (self._anchor, self._steady):
                if scales is not None:
                    scales.forget()
        self._scaling = scaling
        if self._anchor is not None:
            self._anchor.scaling = scaling

    def _steady_factor(self, prepared: Prepared, net: NetworkDepth, scale: float,
                       tables: CameraTables | None) -> float:
        """Return the factor that steadies the depth of a frame, beyond the factor ``scale``."""
        if self._steady is None:
            return 1.0
        return self._steady.factor(
            for_steadying(net, scale, prepared.view), prepared.image,
            None if tables is None else tables.camera, net.head,
            nanoseconds(prepared.header.stamp) / 1e9, frame_name(prepared.header))

    def _measure(self, prepared: Prepared, net: NetworkDepth, scale: float,
                 tables: CameraTables | None, info: Any | None) -> Scale | None:
        """Return the scale of a frame by the anchor, beyond the factor ``scale``."""
        if self._anchor is None:
            return None
        flaw = '' if self._anchor.pair is None else flaw_of(info, self._rectified)
        return self._anchor.measure(for_anchor(net, scale, prepared.view), net.head,
                                    prepared.header, None if tables is None else tables.camera,
                                    prepared.image, flaw)

    def _with_doubt(self, anchored: Scale, head: str) -> Correction:
        """
        Return the correction by a scale, also of the deviation.

        The deviation of the network includes its doubt about the scale. That of the anchor takes
        its place, where the calibration tells how much of the deviation is left.
        """
        calibration, correction = self._estimator.calibration(head), anchored.correction
        left = None if calibration is None else calibration.left_at(anchored.coverage)
        if left is None or correction == NOTHING:
            return correction
        return correction._replace(left=left, doubt=anchored.deviation / anchored.value)

    def _focal_factor(self, prepared: Prepared, net: NetworkDepth,
                      camera: Camera | None) -> float:
        """Return the factor on depth for the lens of the camera, see :func:`focal_factor`."""
        # The view of the training camera has the training camera's focal length.
        if prepared.view is not None:
            return 1.0
        return focal_factor(
            camera, net.plan, self._config.head(net.head), self._config.image_size)

    def _scale(self, factor: float, settings: FrameSettings) -> float:
        """Return the factor on depth of the network, of which ``factor`` is that of the lens."""
        corrected = settings.focal_correction or self._config.canonical_focal
        return settings.depth_scale * (factor if corrected else 1.0)


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
        # Errors and time of the device belong to the network, not to the next stage.
        torch.cuda.current_stream(estimator.device).synchronize()
    return results


def infer_each(estimator: DepthEstimator,
               prepared: Sequence[Prepared]) -> list[NetworkDepth | Exception]:
    """
    Send images through the network as one batch or, if the batch fails, one by one.

    :return: for each image its depth, or the error: a bad image of one camera costs the other
        cameras no frame.
    """
    try:
        return list(infer_together(estimator, prepared))
    except Exception as error:
        if len(prepared) < 2:
            # Without the traceback, which keeps the tensors of the network in memory.
            return [error.with_traceback(None)] * len(prepared)
    return [infer_each(estimator, [item])[0] for item in prepared]
