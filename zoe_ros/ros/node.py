"""The live node: images and CameraInfo in, metric depth and point clouds out."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
import gc
import logging
from time import monotonic, perf_counter
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
import torch

from zoe_ros.errors import first_line
from zoe_ros.files import file_sha256
from zoe_ros.headers import nanoseconds
from zoe_ros.images import MessageError
from zoe_ros.inference.engine import DepthEstimator, NetworkDepth
from zoe_ros.inference.malloc import trim_freed_memory
from zoe_ros.outputs import HEAD
from zoe_ros.pipeline import Frame, infer_each, Pipeline, Prepared
from zoe_ros.range_anchor import RangeAnchor
from zoe_ros.ros.anchor_inputs import TransformInput
from zoe_ros.ros.bond import make_bond
from zoe_ros.ros.camera_stream import CameraStream
from zoe_ros.ros.diagnostics import FrameStats
from zoe_ros.ros.parameters import as_declared, declare
from zoe_ros.ros.silence import explain_clock, explain_silence
from zoe_ros.ros.worker import Worker

_SAY_AGAIN = 10.0       # [s] before a drop of the same cause is logged again
_SENTENCES = 100        # limit of remembered remarks, so that bad input cannot fill memory
_STOP_PATIENCE = 1.0    # [s] to wait for the current frame when the node stops
_FRAME_PATIENCE = 60.0  # [s] to wait for it when another model is to be loaded
_SILENCE = 5.0          # [s] without an image after which the node logs the reason


class DepthNode(LifecycleNode):
    """
    A managed node around a :class:`DepthEstimator`, for one camera or several.

    Configure loads the model, activate subscribes, deactivate keeps the model, cleanup frees it.
    One thread spins, another runs the network. Only subscribed outputs are computed; without
    subscribers the network does not run.

    :ivar configuring: True while a model is being loaded, which takes seconds.
    :raises ValueError: a parameter is not accepted.
    """

    def __init__(self, name: str = 'depth_node') -> None:
        """Declare and check the parameters, without loading a model."""
        # All overrides are declared automatically, so that misspelled names can be found.
        super().__init__(name, automatically_declare_parameters_from_overrides=True)
        self.parameters = declare(self)
        self.configuring = False
        # Humble has no callback before values are set: there 10 stays an integer.
        if hasattr(self, 'add_pre_set_parameters_callback'):
            self.add_pre_set_parameters_callback(as_declared)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._estimator: DepthEstimator | None = None
        self._streams: dict[str, CameraStream] = {}
        self._transforms: TransformInput | None = None
        # For all the life of the node: one thread never runs two frames at once.
        self._worker = Worker(self._process, self._wake)
        self._stats = FrameStats()
        self._facts: dict[str, str] = {}
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._periodic: list[Any] = []
        self._bond: Any = None
        self._said: set[str] = set()
        self._said_at: dict[str, float] = {}
        core = logging.getLogger('zoe_ros')
        core.handlers, core.propagate = [_ToRosLog(self.get_logger())], False
        core.setLevel(logging.INFO)

    # --- lifecycle --------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers."""
        chosen = self.parameters
        self.configuring = True
        try:
            if not self._worker.rest(_FRAME_PATIENCE):
                raise RuntimeError('the last frame is still in the network after '
                                   f'{_FRAME_PATIENCE:g} s: restart the node')
            transforms = TransformInput(self, chosen)
            anchors = {name: RangeAnchor(chosen, transforms.frames) if chosen.anchors() else None
                       for name in chosen.cameras}
            estimator = DepthEstimator.load(
                chosen.variant, chosen.weights or None, chosen.device, chosen.precision,
                aspect=chosen.aspect)
            estimator.check_router(chosen.router)
            # Here, so that the first frame is not delayed.
            estimator.warm_up(batches=len(chosen.cameras), router=chosen.router)
            estimator.record_in_background()
        except (ValueError, OSError, RuntimeError) as error:
            self.get_logger().error(f'cannot configure: {error}')
            return TransitionCallbackReturn.FAILURE
        finally:
            self.configuring = False
        self._estimator = estimator
        self._streams = {name: CameraStream(self, name, chosen, anchor, transforms.frames)
                         for name, anchor in anchors.items()}
        self._transforms = transforms
        device, title = _device_name(estimator.device), estimator.model.config.title
        self._facts = {'device': device, 'model': f'{title} in {estimator.precision}'}
        if estimator.weights:
            self._facts['weights SHA-256'] = ', '.join(map(file_sha256, estimator.weights))
        if estimator.licence:
            self._facts['weights licence'] = estimator.licence
        self.get_logger().info(f'{title} in {estimator.precision} on {device}')
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start processing."""
        assert self._estimator is not None and self._transforms is not None
        super().on_activate(state)      # activates the publishers
        self._worker.start()
        self._transforms.subscribe()
        for name, stream in self._streams.items():
            stream.activate(self._estimator, self.parameters, self._on_image,
                            partial(self._worker.has_room, name), self._expect)
        # Steady, because simulated time stands still until somebody publishes /clock.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._periodic = [
            self.create_timer(self.parameters.diagnostics_period, self._diagnose, clock=steady),
            self.create_timer(_SILENCE, self._explain_silence, clock=steady)]
        self._said.clear()
        self._stats.restart()
        # Without a lifecycle manager nobody answers a bond.
        self._bond = None if self.parameters.autostart else make_bond(self)
        topics = ', '.join(' or '.join(stream.topics.values())
                           for stream in self._streams.values())
        self.get_logger().info(f'waiting for images on {topics}')
        anchors = [topic for stream in self._streams.values() for topic in stream.anchor_topics]
        if anchors:
            self.get_logger().info(
                f'depth gets its scale from {", ".join(dict.fromkeys(anchors))}')
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop processing and keep the model."""
        self.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        self._release()
        gc.collect()
        trim_freed_memory()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop from any state."""
        self.stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def start(self) -> bool:
        """Configure and activate; return whether both succeeded."""
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def stop(self, for_good: bool = False) -> None:
        """
        Stop processing. A slow frame goes on, but its outputs are not published.

        :param for_good: the process ends, so a slow frame is abandoned.
        """
        for timer in self._periodic:
            self.destroy_timer(timer)
        self._periodic = []
        bond, self._bond = self._bond, None
        if bond is not None:
            bond.shutdown()
        for stream in self._streams.values():
            stream.deactivate()
        if self._transforms is not None:
            self._transforms.destroy()
        if not for_good:
            self._worker.rest(_STOP_PATIENCE)
        elif not self._worker.stop(_STOP_PATIENCE):
            self._worker.abandon(_STOP_PATIENCE)

    def _release(self) -> None:
        for stream in self._streams.values():
            stream.destroy()
        self._streams, self._estimator, self._transforms = {}, None, None
        # After a device error this call fails, too.
        with suppress(RuntimeError):
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    # --- in the executor's thread -----------------------------------------------------------

    def _on_image(self, stream: CameraStream, message: Any) -> None:
        self._stats.received(stream.name)
        if stream.wanted() and self._worker.put(stream.name, (stream.pipeline, message)):
            self._stats.dropped('newer')

    def _expect(self, size: tuple[int, int]) -> None:
        """Prepare the device for a camera's images (height, width) before they arrive."""
        if self._estimator is not None:
            self._estimator.expect(size, len(self._streams), self.parameters.router)

    def _on_parameters(self, parameters: list[Any]) -> SetParametersResult:
        """Accept all changes or none."""
        try:
            changed = self.parameters.changed({p.name: p.value for p in parameters},
                                              configured=self._estimator is not None)
            if self._estimator is not None:
                self._estimator.check_router(changed.router)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.parameters = changed
        for stream in self._streams.values():
            stream.change(changed)
        return SetParametersResult(successful=True)

    def _diagnose(self) -> None:
        facts = dict(self._facts)
        if self._estimator is not None and self._estimator.device.type == 'cuda':
            used = torch.cuda.memory_allocated(self._estimator.device)
            facts['device memory [MB]'] = f'{used / 1e6:.0f}'
        listening = [name for name, stream in self._streams.items() if stream.wanted()]
        self._diagnostics.publish(self._stats.report(
            self.get_clock().now().to_msg(), self.get_fully_qualified_name(),
            self.parameters.diagnostics_period, facts, listening))

    def _explain_silence(self) -> None:
        """Log once why time stands still, and why a camera has sent no image yet."""
        if clock := explain_clock(self):
            self._say_once(clock)
        for stream in self._streams.values():
            if not stream.images:
                self._say_once(explain_silence(self, stream.topics, self._is_own))

    def _is_own(self, topic: str) -> bool:
        return any(stream.publishes(topic) for stream in self._streams.values())

    # --- in the worker's thread -------------------------------------------------------------

    def _wake(self) -> None:
        """Wake the executor, because a gate may have opened."""
        if self.executor is not None:
            self.executor.wake()

    def _process(self, images: dict[str, tuple[Pipeline, Any]]) -> None:
        """
        Process the waiting images, at most one of each camera, as one batch.

        An image belongs to the pipeline that it came for, which ends when the node is deactivated.
        """
        estimator = self._estimator
        batch: list[tuple[CameraStream, Pipeline, Prepared]] = []
        for name, (pipeline, message) in images.items():
            stream = self._streams.get(name)
            if stream is None or stream.pipeline is not pipeline:
                continue
            with self._losing_no_more_than_a_frame():
                wanted = stream.due(message)
                if wanted is not None:
                    batch.append((stream, pipeline, pipeline.prepare(message, wanted)))
        if not batch or estimator is None:
            return
        start = perf_counter()
        results = infer_each(estimator, [prepared for _, _, prepared in batch])
        seconds = perf_counter() - start
        for (stream, pipeline, prepared), result in zip(batch, results):
            with self._losing_no_more_than_a_frame():
                self._finish(stream, pipeline, prepared, result, seconds)

    def _finish(self, stream: CameraStream, pipeline: Pipeline, prepared: Prepared,
                result: NetworkDepth | Exception, seconds: float) -> None:
        """Publish the outputs of an image."""
        if isinstance(result, Exception):
            raise result
        if stream.pipeline is not pipeline:
            return
        frame = pipeline.finish(prepared, result, seconds)
        begin = perf_counter()
        if not stream.publish(frame, pipeline):
            return
        publishing = perf_counter() - begin
        of = f'{stream.name}: ' if stream.name else ''
        for remark in frame.remarks:
            self._say_once(of + remark)
        if frame.no_cloud:
            # While the node is deactivated, the camera has no topic any more.
            where = f' ({stream.info_topic})' if stream.info_topic else ''
            self._say_once(f'{of}no cloud: {frame.no_cloud}{where}')
        if frame.scale_news:
            self._tell_scale(frame, of)
        missing = [name for name in prepared.wanted if name not in frame.messages and name != HEAD]
        self._stats.published(
            stream.name, self._age(prepared.header), {**frame.seconds, 'publish': publishing},
            frame.head, frame.head_probabilities[frame.head],
            f'{", ".join(missing)} ({frame.no_cloud})' if missing else '', frame.scale,
            frame.alternating)

    def _age(self, header: Any) -> float | None:
        """Return the time since the stamp of an image [s]; None where simulated time has none."""
        now = self.get_clock().now().nanoseconds
        age = (now - nanoseconds(header.stamp)) / 1e9 if now else None
        # A bag that starts again sets its clock back while frames of its end are in the network.
        # In real time a negative age tells that the clock of a camera is wrong.
        simulated = self.get_parameter('use_sim_time').value
        return None if simulated and age is not None and age < 0 else age

    @contextmanager
    def _losing_no_more_than_a_frame(self) -> Iterator[None]:
        """Catch and log all errors of a frame: the frame is lost, the node continues."""
        try:
            yield
        except MessageError as error:
            if self._drop(error.cause):
                self.get_logger().warning(f'dropped an image: {error}')
        except Exception as error:
            # While the node shuts down, ROS calls fail; such errors are not logged.
            if rclpy.ok() and self._drop('error'):
                self.get_logger().error(
                    f'lost a frame: {type(error).__name__}: {first_line(error)}{_advice(error)}')

    def _drop(self, cause: str) -> bool:
        """Count a dropped image; return whether to log its cause again."""
        self._stats.dropped(cause)
        now, before = monotonic(), self._said_at.get(cause, -_SAY_AGAIN)
        if now - before >= _SAY_AGAIN:
            self._said_at[cause] = now
            return True
        return False

    def _tell_scale(self, frame: Frame, of: str) -> None:
        if frame.scale is not None and frame.scale.reason:
            self._say_once(of + frame.scale_news)
        else:
            self.get_logger().info(of + frame.scale_news)

    def _say_once(self, text: str) -> None:
        if text not in self._said and len(self._said) < _SENTENCES:
            self._said.add(text)
            self.get_logger().warning(text)


def _advice(error: Exception) -> str:
    """Return advice for a known error, else nothing."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return ' (a smaller model, precision fp16 or fewer cameras need less memory)'
    # Exists since torch 2.8.
    if isinstance(error, getattr(torch, 'AcceleratorError', ())):
        return ' (a device does not recover within a process: restart the node)'
    return ''


class _ToRosLog(logging.Handler):
    """Forwards the log of the core to the node's logger."""

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        # Three calls, because rclpy allows only one severity per line of code.
        if record.levelno >= logging.ERROR:
            self._logger.error(record.getMessage())
        elif record.levelno >= logging.WARNING:
            self._logger.warning(record.getMessage())
        else:
            self._logger.info(record.getMessage())


def _device_name(device: torch.device) -> str:
    if device.type == 'cuda':
        return f'{device} ({torch.cuda.get_device_name(device)})'
    return f'{device} ({torch.get_num_threads()} threads)'
