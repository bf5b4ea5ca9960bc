"""One camera of the node: its topics, and its pipeline while the node is active."""
from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from time import monotonic_ns, sleep
from typing import Any

from geometry_msgs import msg as geometry
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import String

from zoe_ros.anchor.frames import Frames
from zoe_ros.anchor.steady import SteadyScale
from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.errors import first_line
from zoe_ros.headers import nanoseconds
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.messages import MessageTypes, pack_array, POSES, PoseTypes
from zoe_ros.outputs import (
    CAMERA_INFO,
    COLORED,
    COMPRESSED,
    DEPTH,
    HEAD,
    MILLIMETRES,
    POINTS,
    SCALE,
    UNCERTAINTY,
)
from zoe_ros.pipeline import Frame, Pipeline
from zoe_ros.range_anchor import RangeAnchor
from zoe_ros.ros.anchor_inputs import AnchorInputs
from zoe_ros.ros.image_input import image_source, ImageInput
from zoe_ros.ros.parameters import DepthParameters
from zoe_ros.ros.subscription import FollowingGate, Gate, MatchedSubscription
from zoe_ros.topic_names import is_rectified

ROS_TYPES = MessageTypes(
    image=Image, compressed_image=CompressedImage, camera_info=CameraInfo,
    point_cloud=PointCloud2, point_field=PointField,
    pose=PoseTypes(*(getattr(geometry, name) for name in POSES)),
    pack=pack_array)
OUTPUTS = {
    DEPTH: Image, MILLIMETRES: Image, COLORED: Image, UNCERTAINTY: Image, CAMERA_INFO: CameraInfo,
    POINTS: PointCloud2, HEAD: String, COMPRESSED: CompressedImage}
# With an anchor only.
ANCHORED = {SCALE: ROS_TYPES.pose.stamped}

# Reliable publishers serve both reliable and best-effort subscribers.
_LATEST = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
_EVERY = QoSProfile(history=HistoryPolicy.KEEP_ALL, reliability=ReliabilityPolicy.RELIABLE)
_FOLLOW_PERIOD = 0.5    # [s] between checks of the publishers
_SAY_AGAIN = 10.0       # [s] before the same text is logged again
_TRY_AGAIN = 0.01       # [s] to wait when the history is full, so that other threads run


class CameraStream:
    """
    Publishers from configure to cleanup, subscriptions and pipeline from activate to deactivate.

    :ivar name: of the camera, the prefix of its topics; may be empty.
    :ivar images: number of images received since the node was activated.
    :ivar pipeline: of the images since then; None while the node is not active.
    """

    def __init__(self, node: LifecycleNode, name: str, parameters: DepthParameters,
                 anchor: RangeAnchor | None, frames: Frames) -> None:
        """
        Create the publishers.

        :param anchor: gives depth its scale, or None.
        :param frames: of the robot, by TF.
        """
        self.name = name
        self._node = node
        self._parameters = parameters
        self._prefix = f'{name}/' if name else ''
        self._every = parameters.policy == 'every'
        qos = _EVERY if self._every else _LATEST
        self._outputs = {
            output: node.create_lifecycle_publisher(
                kind, self._prefix + output, qos,
                qos_overriding_options=QoSOverridingOptions.with_default_policies())
            for output, kind in (OUTPUTS | (ANCHORED if parameters.anchors() else {})).items()}
        base, _ = image_source(node, f'{self._prefix}image_raw', parameters.image_transport)
        info = f'{self._prefix}camera_info'
        remapped = node.resolve_topic_name(info) != node.resolve_topic_name(info, only_expand=True)
        # Where to look if nobody publishes camera_info: beside the images, as image_transport.
        self._beside = '' if remapped else f'{base.rpartition("/")[0]}/camera_info'
        self._rectified = {'auto': is_rectified(base), 'yes': True, 'no': False}[
            parameters.rectified]
        self._anchor, self._frames = anchor, frames
        # From every image, also from those without an output.
        self._learns = anchor is not None or parameters.scale_time_constant > 0
        self.pipeline: Pipeline | None = None
        # Held while a message is published, and to end the pipeline whose outputs may be.
        self._publishing = Lock()
        self.images = 0
        self._image_input: ImageInput | None = None
        self._info_input: MatchedSubscription | None = None
        self._subscribe_info: Callable[[str], MatchedSubscription]
        self._anchor_inputs: AnchorInputs | None = None
        self._timer: Any = None
        self._last_cloud: int | None = None
        self._announced = (0, 0)

    def activate(self, estimator: DepthEstimator, parameters: DepthParameters,
                 on_image: Callable[[CameraStream, Any], None], has_room: Callable[[], bool],
                 on_size: Callable[[tuple[int, int]], None]) -> None:
        """
        Subscribe.

        :param on_image: called with each image, in the executor's thread.
        :param has_room: with policy 'every', must return True before an image is taken.
        :param on_size: called with (height, width) [px] when CameraInfo announces a new size.
        """
        infos = CameraInfoBuffer(tolerance=parameters.camera_info_tolerance)
        self.pipeline = Pipeline(
            estimator, ROS_TYPES, parameters, infos, self._rectified, self._anchor,
            SteadyScale.of(parameters.scale_time_constant, self._frames))
        self._parameters, self._last_cloud, self.images = parameters, None, 0

        def add_info(info: Any) -> None:
            infos.add(info)
            size = (info.height, info.width)
            if size != self._announced and all(size):
                self._announced = size
                on_size(size)

        def count(message: Any) -> None:
            self.images += 1
            if self.images == 1:
                self._tell_first(message)
            if self._anchor is not None and self._anchor.pair is not None:
                self._anchor.pair.heard_left(message.header)
            for following in gates:
                following.pace.image(nanoseconds(message.header.stamp))
            on_image(self, message)

        gates: list[FollowingGate] = []

        def follow_images() -> FollowingGate | None:
            if not self._every:
                return None
            gates.append(FollowingGate(has_room))
            return gates[-1]

        # CameraInfo must not be taken long before its image, nor after it.
        info_gate = follow_images()
        self._subscribe_info = lambda topic: MatchedSubscription(
            self._node, CameraInfo, topic, add_info, 10, info_gate)
        self._info_input = self._subscribe_info(f'{self._prefix}camera_info')
        self._image_input = ImageInput(
            self._node, f'{self._prefix}image_raw', parameters.image_transport, count,
            Gate(has_room) if self._every else None)
        if self._anchor is not None:
            self._anchor_inputs = AnchorInputs(
                self._node, self._prefix, self._anchor, parameters, follow_images)
        # Steady, because simulated time stands still until somebody publishes /clock.
        self._timer = self._node.create_timer(
            _FOLLOW_PERIOD, self._follow, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def deactivate(self) -> None:
        """Unsubscribe."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        for source in self._inputs():
            source.destroy()
        self._timer = self._image_input = self._info_input = self._anchor_inputs = None
        with self._publishing:
            self.pipeline = None

    def _follow(self) -> None:
        """Adapt the subscriptions to the publishers."""
        self._follow_info()
        for source in self._inputs():
            source.follow()

    def _follow_info(self) -> None:
        """Take CameraInfo from beside the images if nobody publishes it where it should be."""
        published = self._node.count_publishers
        if (self._info_input is None or self._info_input.topic == self._beside
                or not self._beside or published(self._info_input.topic)
                or not published(self._beside)):
            return
        self._info_input.destroy()
        self._info_input = self._subscribe_info(self._beside)
        self._node.get_logger().info(f'taking CameraInfo from {self._beside}, beside the images')

    def _inputs(self) -> list[Any]:
        return [source for source in (self._image_input, self._info_input, self._anchor_inputs)
                if source is not None]

    def _tell_first(self, image: Any) -> None:
        topic = ' or '.join(self.topics.values())
        kind = (image.format if hasattr(image, 'format')
                else f'{image.width} x {image.height}, {image.encoding}')
        # The launch file reads the frame from this line.
        self._node.get_logger().info(
            f"first image of {topic}: {kind}, frame '{image.header.frame_id}'")

    @property
    def anchor_topics(self) -> list[str]:
        """Return the topics of the sensors that depth gets its scale from."""
        return [] if self._anchor_inputs is None else self._anchor_inputs.topics

    @property
    def info_topic(self) -> str:
        """Return the subscribed topic of CameraInfo."""
        return '' if self._info_input is None else self._info_input.topic

    @property
    def topics(self) -> dict[str, str]:
        """Return the subscribed transports, each with its image topic."""
        return {} if self._image_input is None else self._image_input.topics

    def destroy(self) -> None:
        """Destroy the publishers."""
        for publisher in self._outputs.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._outputs = {}

    def change(self, parameters: DepthParameters) -> None:
        """Use new parameters from the next frame on."""
        self._parameters = parameters
        if self.pipeline is not None:
            self.pipeline.settings = parameters

    def wanted(self) -> list[str]:
        """Return the outputs that have a subscriber."""
        return [name for name, publisher in list(self._outputs.items())
                if publisher.get_subscription_count()]

    def due(self, message: Any) -> list[str] | None:
        """
        Return the subscribed outputs of an image; the cloud at its maximum rate only.

        :return: None if the image is of no use.
        """
        wanted = self.wanted()
        rate, now = self._parameters.point_cloud_max_rate, _time_of(message.header)
        too_soon = (rate and self._last_cloud is not None
                    and 0 <= now - self._last_cloud < 1e9 / rate)
        if POINTS in wanted and too_soon:
            wanted.remove(POINTS)
        return wanted if wanted or self._learns else None

    def publish(self, frame: Frame, pipeline: Pipeline) -> bool:
        """Publish the outputs of a frame until its pipeline ends; return whether all are."""
        probability = frame.head_probabilities[frame.head]
        if POINTS in frame.messages:
            with self._publishing:
                if self.pipeline is pipeline:
                    self._last_cloud = _time_of(frame.messages[POINTS].header)
        outputs = {**frame.messages, HEAD: String(data=f'{frame.head} {probability:.3f}')}
        # Compressing takes milliseconds, which no other output shall wait for.
        for name in sorted(outputs, key=COMPRESSED.__eq__):
            publisher, message = self._outputs.get(name), outputs[name]
            if publisher is not None and publisher.get_subscription_count() and not self._send(
                    publisher, message() if name == COMPRESSED else message, pipeline):
                return False
        return True

    def _send(self, publisher: Any, message: Any, pipeline: Pipeline) -> bool:
        """
        Publish; with policy 'every', wait for slow reliable subscribers.

        :return: False if the pipeline has ended or the node stops.
        """
        while True:
            try:
                with self._publishing:
                    if self.pipeline is not pipeline:
                        return False
                    publisher.publish(message)
                return True
            except RuntimeError as error:
                # The history is full because a subscriber is slow, or there is another error,
                # which the log line contains.
                if not self._every:
                    raise
                if not self._node.context.ok():
                    return False
                self._node.get_logger().warning(
                    f'waiting for a slow subscriber of {publisher.topic_name} '
                    f'({first_line(error)})', throttle_duration_sec=_SAY_AGAIN)
                sleep(_TRY_AGAIN)

    def publishes(self, topic: str) -> bool:
        """Tell whether a topic is an output of this camera."""
        return topic in {publisher.topic_name for publisher in self._outputs.values()}


def _time_of(header: Any) -> int:
    """Return the stamp of a header, or the time where the driver left it at 0 [ns]."""
    return nanoseconds(header.stamp) or monotonic_ns()
