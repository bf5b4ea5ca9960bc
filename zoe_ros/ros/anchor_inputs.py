"""Subscribes to the sensors that depth gets its scale from, and to TF."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile
from sensor_msgs.msg import CameraInfo, LaserScan, PointCloud2

from zoe_ros.anchor.frames import Frames
from zoe_ros.range_anchor import RangeAnchor
from zoe_ros.range_messages import add_odometry, add_transforms
from zoe_ros.ros.image_input import DepthInput, ImageInput
from zoe_ros.ros.parameters import DepthParameters
from zoe_ros.ros.subscription import Gate, MatchedSubscription
from zoe_ros.settings import ODOMETRY, REGISTERED, SENSORS, STEREO
from zoe_ros.stereo_pair import StereoPair
from zoe_ros.topic_names import is_rectified

try:
    from tf2_msgs.msg import TFMessage
except ImportError:     # without a ROS distribution; anchor_transform takes its place
    TFMessage = None

try:
    from nav_msgs.msg import Odometry
except ImportError:     # without a ROS distribution; TF takes its place
    Odometry = None

_TYPES = {'scan': LaserScan, 'points': PointCloud2}
_HISTORY = 5
# With policy 'every' images wait for the network so long, which TF does not [s].
_WAITING = 300.0
# That of tf2.
_TF = QoSProfile(depth=100)
_TF_STATIC = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class AnchorInputs:
    """Subscriptions of the anchor of one camera."""

    def __init__(self, node: Node, prefix: str, anchor: RangeAnchor, parameters: DepthParameters,
                 follow_images: Callable[[], Gate | None]) -> None:
        """
        Subscribe.

        :param prefix: of the topics of the camera.
        :param follow_images: returns a gate that holds the messages of one sensor back until their
            image is taken, or None.
        """
        self._right = None if anchor.pair is None else RightInput(
            node, prefix, anchor.pair, parameters, follow_images())
        self._depth = None if REGISTERED not in parameters.sensors() else DepthInput(
            node, prefix + SENSORS[REGISTERED], partial(anchor.hear, REGISTERED),
            follow_images())
        # The other sensors of a robot serve all of its cameras.
        self._subscriptions = [
            MatchedSubscription(node, _TYPES[kind], SENSORS[kind], partial(anchor.hear, kind),
                                _HISTORY, follow_images())
            for kind in parameters.sensors() if kind in _TYPES]

    @property
    def topics(self) -> list[str]:
        """Return the subscribed topics."""
        own = [subscription.topic for subscription in self._subscriptions]
        return own + [' or '.join(source.topics.values()) for source in self._cameras()]

    def follow(self) -> None:
        """Adapt to the publishers; call this periodically."""
        for source in self._sources():
            source.follow()

    def destroy(self) -> None:
        """Unsubscribe."""
        for source in self._sources():
            source.destroy()

    def _sources(self) -> list[Any]:
        return [*self._subscriptions, *self._cameras()]

    def _cameras(self) -> list[ImageInput]:
        return [source for source in (self._depth, self._right) if source is not None]


class RightInput(ImageInput):
    """Subscribes to images and CameraInfo of the right camera of a pair."""

    def __init__(self, node: Node, prefix: str, pair: StereoPair, parameters: DepthParameters,
                 info_gate: Gate | None) -> None:
        """
        Subscribe.

        :param info_gate: holds CameraInfo back until its left image is taken. With it, no right
            image may be lost, and none is taken long before its left one.
        """
        gate = None if info_gate is None else Gate(pair.is_behind)
        topic = prefix + SENSORS[STEREO]
        super().__init__(node, topic, parameters.image_transport, pair.hear, gate)
        rectified = {'auto': is_rectified(self.base), 'yes': True, 'no': False}[
            parameters.rectified]
        self._info = MatchedSubscription(
            node, CameraInfo, f'{topic.rpartition("/")[0]}/camera_info',
            partial(pair.hear_info, rectified=rectified), _HISTORY, info_gate)

    def follow(self) -> None:
        """Adapt to the publishers; call this periodically."""
        super().follow()
        self._info.follow()

    def destroy(self) -> None:
        """Unsubscribe."""
        super().destroy()
        self._info.destroy()


class TransformInput:
    """
    The frames of the robot by TF and odometry, for all cameras.

    :ivar frames: filled while the node is active.
    """

    def __init__(self, node: Node, parameters: DepthParameters) -> None:
        """
        Start without a subscription.

        :raises ValueError: TF is needed, and its messages are not installed.
        """
        needed = ODOMETRY in parameters.anchors() or (
            parameters.placed_sensors() and not parameters.anchor_transform)
        if needed and TFMessage is None:
            raise ValueError(f"anchor '{parameters.anchor}' needs the package tf2_msgs for TF"
                             + (', or parameter anchor_transform'
                                if parameters.placed_sensors() else ''))
        self._wanted = parameters.follows_robot()
        self._node = node
        self._subscriptions: list[Any] = []
        self.frames = Frames(_WAITING) if parameters.policy == 'every' else Frames()

    def subscribe(self) -> None:
        """Subscribe to /tf, /tf_static and odom, if something uses them."""
        if self._wanted and TFMessage is not None:
            self._subscriptions = [
                self._node.create_subscription(
                    TFMessage, topic, partial(self._hear, static), qos)
                for topic, static, qos in (('/tf', False, _TF), ('/tf_static', True, _TF_STATIC))]
        if self._wanted and Odometry is not None:
            self._subscriptions.append(self._node.create_subscription(
                # From reliable publishers and others; of many poses a lost one costs nothing.
                Odometry, 'odom', self._hear_odometry, qos_profile_sensor_data))

    def destroy(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _hear(self, static: bool, message: Any) -> None:
        if add_transforms(self.frames, message, static):
            self._node.get_logger().warning(
                f'damaged transforms on {"/tf_static" if static else "/tf"} are not used',
                once=True)

    def _hear_odometry(self, message: Any) -> None:
        if add_odometry(self.frames, message):
            self._node.get_logger().warning('damaged odometry is not used', once=True)
