"""The live node: images and CameraInfo in, metric depth and point clouds out."""
from __future__ import annotations

import logging
from time import perf_counter
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
import rclpy
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
import torch

from zoe_ros.engine import DepthEstimator
from zoe_ros.messages import MessageError, nanoseconds
from zoe_ros.model.weights import sha256_of
from zoe_ros.pipeline import infer_together, Pipeline, Prepared
from zoe_ros.ros.channel import Channel
from zoe_ros.ros.diagnostics import Journal
from zoe_ros.ros.parameters import declare
from zoe_ros.ros.worker import Worker

_SAY_AGAIN = 10.0       # [s] before the same complaint is logged again
_STOP_PATIENCE = 1.0    # [s] to wait for the frame at hand when the node stops
_SILENCE = 5.0          # [s] without an image after which the node says why


class DepthNode(LifecycleNode):
    """
    A managed node around a :class:`DepthEstimator`, for one camera or several.

    Configure loads the model, activate subscribes, deactivate keeps the model, cleanup frees it.
    One thread spins, one other runs the network. An output is made only while somebody
    subscribes it; while nobody does, nothing is computed.

    :raises ValueError: a parameter is not accepted.
    """

    def __init__(self, name: str = 'depth_node') -> None:
        """Declare and check the parameters; nothing is loaded yet."""
        super().__init__(name)
        self.parameters = declare(self)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._estimator: DepthEstimator | None = None
        self._channels: dict[str, Channel] = {}
        self._worker: Worker | None = None
        self._journal = Journal()
        self._facts: dict[str, str] = {}
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._periodic: list[Any] = []
        self._said: set[str] = set()
        core = logging.getLogger('zoe_ros')
        core.handlers, core.propagate = [_ToRosLog(self.get_logger())], False
        core.setLevel(logging.INFO)

    # --- lifecycle --------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers."""
        chosen = self.parameters
        try:
            estimator = DepthEstimator.load(
                chosen.variant, chosen.weights or None, chosen.device, chosen.precision,
                aspect=chosen.aspect)
            estimator.check_router(chosen.router)
        except (ValueError, OSError, RuntimeError) as error:
            self.get_logger().error(f'cannot configure: {error}')
            return TransitionCallbackReturn.FAILURE
        self._estimator = estimator
        self._channels = {name: Channel(self, name, chosen) for name in chosen.cameras}
        device, title = _device_name(estimator.device), estimator.model.config.title
        self._facts = {'device': device, 'model': f'{title} in {chosen.precision}'}
        if estimator.weights is not None:
            self._facts['weights SHA-256'] = sha256_of(estimator.weights)
        self.get_logger().info(f'{title} in {chosen.precision} on {device}')
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start to work."""
        assert self._estimator is not None
        super().on_activate(state)      # the publishers
        self._worker = Worker(self._process, self.parameters.policy == 'every')
        self._worker.start()
        for channel in self._channels.values():
            channel.activate(self._estimator, self.parameters, self._on_image)
        self._periodic = [
            self.create_timer(self.parameters.diagnostics_period, self._diagnose),
            self.create_timer(_SILENCE, self._explain_silence)]
        topics = ', '.join(channel.topic for channel in self._channels.values())
        self.get_logger().info(f'waiting for images on {topics}')
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
        for timer in self._periodic:
            self.destroy_timer(timer)
        self._periodic = []
        for channel in self._channels.values():
            channel.deactivate()
        worker, self._worker = self._worker, None
        return worker is None or worker.stop(_STOP_PATIENCE)

    def _release(self) -> None:
        for channel in self._channels.values():
            channel.destroy()
        self._channels, self._estimator = {}, None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    # --- in the executor's thread -----------------------------------------------------------

    def _on_image(self, channel: Channel, message: Any) -> None:
        self._journal.received()
        if self._worker is not None and channel.wanted() and self._worker.put(
                channel.name, message, rclpy.ok):
            self._journal.dropped('newer')

    def _on_parameters(self, parameters: list[Any]) -> SetParametersResult:
        """Take a set of changes as a whole, or none of them."""
        try:
            changed = self.parameters.changed({p.name: p.value for p in parameters})
            if self._estimator is not None:
                self._estimator.check_router(changed.router)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.parameters = changed
        for channel in self._channels.values():
            channel.change(changed)
        return SetParametersResult(successful=True)

    def _diagnose(self) -> None:
        facts = dict(self._facts)
        if self._estimator is not None and self._estimator.device.type == 'cuda':
            used = torch.cuda.memory_allocated(self._estimator.device)
            facts['device memory [MB]'] = f'{used / 1e6:.0f}'
        listening = any(channel.wanted() for channel in self._channels.values())
        self._diagnostics.publish(self._journal.report(
            self.get_clock().now().to_msg(), self.get_fully_qualified_name(),
            self.parameters.diagnostics_period, facts, listening))

    def _explain_silence(self) -> None:
        """Say once, for each camera, why no image has come since the node was activated."""
        for channel in self._channels.values():
            if channel.images:
                continue
            if self.count_publishers(channel.topic):
                self._say_once(f'{channel.topic} has a publisher but no image arrives from it')
                continue
            kind = f'sensor_msgs/msg/{channel.kind.__name__}'
            others = sorted(
                topic for topic, kinds in self.get_topic_names_and_types()
                if kind in kinds and self.count_publishers(topic)
                and not any(c.publishes(topic) for c in self._channels.values()))
            hint = f'; there are images on {", ".join(others)}' if others else ''
            self._say_once(f'nobody publishes {channel.topic}{hint}')

    # --- in the worker's thread -------------------------------------------------------------

    def _process(self, messages: dict[str, Any]) -> None:
        """Process what waits, at most one image of each camera, as one batch."""
        batch: list[tuple[Channel, Pipeline, list[str], Prepared]] = []
        for name, message in messages.items():
            channel = self._channels.get(name)
            pipeline = channel.pipeline if channel else None
            if channel is None or pipeline is None:
                continue    # deactivated meanwhile
            with _Guard(self):
                wanted = channel.due(message)
                prepared = pipeline.prepare(message, channel.infos, wanted)
                batch.append((channel, pipeline, wanted, prepared))
        if not batch:
            return
        start = perf_counter()
        results = None
        with _Guard(self, len(batch)):
            estimator = self._estimator
            assert estimator is not None
            results = infer_together(estimator, [item[3] for item in batch])
        if results is None:
            return
        seconds = perf_counter() - start
        for (channel, pipeline, wanted, prepared), result in zip(batch, results):
            with _Guard(self):
                frame = pipeline.finish(prepared, result, channel.infos, wanted, seconds)
                begin = perf_counter()
                channel.publish(frame)
                publishing = perf_counter() - begin
                if frame.no_cloud:
                    self._say_once(f'no cloud: {frame.no_cloud}')
                now = self.get_clock().now().nanoseconds
                self._journal.published(
                    (now - nanoseconds(prepared.header.stamp)) / 1e9,
                    {**frame.seconds, 'publish': publishing}, frame.head,
                    frame.head_probabilities[frame.head])

    def drop(self, cause: str, text: str, count: int) -> None:
        """Count images that are lost, and say so from time to time."""
        self._journal.dropped(cause, count)
        self.get_logger().warning(f'dropped an image: {text}', throttle_duration_sec=_SAY_AGAIN)

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.get_logger().warning(text)


class _Guard:
    """Lets no error of a frame end the node: the frame is lost, the next may work."""

    def __init__(self, node: DepthNode, images: int = 1) -> None:
        self._node, self._images = node, images

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if isinstance(error, MessageError):
            self._node.drop(error.cause, str(error), self._images)
            return True
        if isinstance(error, Exception):
            if rclpy.ok():
                self._node.drop('error', f'{type(error).__name__}: {error}', self._images)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return True
        return False


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
