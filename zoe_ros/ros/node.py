"""The live node: image and CameraInfo in, metric depth and point clouds out."""
from __future__ import annotations

from collections import Counter
import logging
from typing import Any

import rclpy
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
import torch

from zoe_ros.engine import DepthEstimator
from zoe_ros.messages import CameraInfoBuffer, MessageError, MessageTypes, pack_array
from zoe_ros.pipeline import is_rectified, Pipeline
from zoe_ros.ros.parameters import declare
from zoe_ros.ros.subscription import MatchedSubscription
from zoe_ros.ros.worker import NewestWorker

ROS_TYPES = MessageTypes(
    image=Image, camera_info=CameraInfo, point_cloud=PointCloud2, point_field=PointField,
    pack=pack_array)

# Reliable outputs serve reliable and best-effort subscribers alike.
_OUTPUT_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
_SAY_AGAIN = 10.0       # [s] before the same complaint is logged again
_STOP_PATIENCE = 1.0    # [s] to wait for the frame at hand when the node stops


class DepthNode(LifecycleNode):
    """
    A managed node around a :class:`DepthEstimator`.

    Subscribes ``image_raw`` (or ``image_raw/compressed``) and ``camera_info``; publishes
    ``depth/image`` (32FC1 [m]), ``depth/camera_info`` and ``points``, each with the stamp and the
    frame of its image. Configure loads the model, activate subscribes, deactivate keeps the
    model, cleanup frees it. One thread spins, one other runs the network on the newest frame.

    :raises ValueError: a parameter is not accepted.
    """

    def __init__(self, name: str = 'depth_node') -> None:
        """Declare and check the parameters; nothing is loaded yet."""
        super().__init__(name)
        self.parameters = declare(self)
        self.dropped: Counter[str] = Counter()
        self._estimator: DepthEstimator | None = None
        self._worker: NewestWorker | None = None
        self._inputs: list[MatchedSubscription] = []
        self._outputs: dict[str, Any] = {}
        self._infos = CameraInfoBuffer()
        self._said: set[str] = set()
        handler = _ToRosLog(self.get_logger())
        core = logging.getLogger('zoe_ros')
        core.handlers, core.propagate = [handler], False
        core.setLevel(logging.INFO)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers."""
        chosen = self.parameters
        try:
            self._estimator = DepthEstimator.load(
                chosen.variant, chosen.weights or None, chosen.device, chosen.precision,
                aspect=chosen.aspect, router=chosen.router)
        except (ValueError, OSError, RuntimeError) as error:
            self.get_logger().error(f'cannot configure: {error}')
            return TransitionCallbackReturn.FAILURE
        self._outputs = {
            'depth/image': self.create_lifecycle_publisher(Image, 'depth/image', _OUTPUT_QOS),
            'depth/camera_info': self.create_lifecycle_publisher(
                CameraInfo, 'depth/camera_info', _OUTPUT_QOS),
            'points': self.create_lifecycle_publisher(PointCloud2, 'points', _OUTPUT_QOS)}
        self.get_logger().info(
            f'{self._estimator.model.config.title} in {chosen.precision} on '
            f'{_device_name(self._estimator.device)}')
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start to work."""
        assert self._estimator is not None
        super().on_activate(state)      # the publishers
        topic = self.resolve_topic_name('image_raw')
        kind = Image
        rectified = {'auto': is_rectified(topic), 'yes': True, 'no': False}
        if self.parameters.image_transport == 'compressed':
            topic, kind = f'{topic}/compressed', CompressedImage
        pipeline = Pipeline(
            self._estimator, ROS_TYPES, downsample=self.parameters.point_cloud_downsample,
            rectified=rectified[self.parameters.rectified])
        self._infos = CameraInfoBuffer()
        worker = NewestWorker(lambda message: self._process(pipeline, message))
        worker.start()
        self._worker = worker
        self._inputs = [
            MatchedSubscription(self, CameraInfo, 'camera_info', self._infos.add, depth=10),
            MatchedSubscription(self, kind, topic, worker.put, depth=2)]
        self.get_logger().info(f'waiting for images on {topic}')
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop to work; the model stays."""
        self.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, from whatever state."""
        self.stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def start(self) -> bool:
        """Configure and activate; return whether that worked."""
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def stop(self) -> bool:
        """Stop to work; return whether the frame at hand was finished, too."""
        for subscription in self._inputs:
            subscription.destroy()
        self._inputs = []
        worker, self._worker = self._worker, None
        return worker is None or worker.stop(_STOP_PATIENCE)

    def _release(self) -> None:
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)
        self._outputs = {}
        self._estimator = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _process(self, pipeline: Pipeline, message: Any) -> None:
        """Process one image, in the worker's thread; no error of a frame ends the node."""
        try:
            frame = pipeline.process(message, self._infos)
            outputs = {'depth/image': frame.depth, 'depth/camera_info': frame.camera_info,
                       'points': frame.points}
            for name, output in outputs.items():
                if output is not None:
                    self._outputs[name].publish(output)
        except MessageError as error:
            self._drop(error.cause, f'dropped an image: {error}')
        except Exception as error:  # of the device, say: this frame is lost, the next may work
            if not rclpy.ok():
                return
            self._drop('error', f'dropped an image: {type(error).__name__}: {error}')
        else:
            if frame.no_cloud and frame.no_cloud not in self._said:
                self._said.add(frame.no_cloud)
                self.get_logger().warning(f'no cloud: {frame.no_cloud}')

    def _drop(self, cause: str, text: str) -> None:
        self.dropped[cause] += 1
        self.get_logger().warning(text, throttle_duration_sec=_SAY_AGAIN)


class _ToRosLog(logging.Handler):
    """Hands the log of the core to the node's logger."""

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        level = ('error' if record.levelno >= logging.ERROR
                 else 'warning' if record.levelno >= logging.WARNING else 'info')
        getattr(self._logger, level)(record.getMessage())


def _device_name(device: torch.device) -> str:
    if device.type == 'cuda':
        return f'{device} ({torch.cuda.get_device_name(device)})'
    return f'{device} ({torch.get_num_threads()} threads)'
