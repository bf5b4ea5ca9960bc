"""A subscription that follows the QoS of its publishers, and a gate that delays messages."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions, QoSPolicyKind

from zoe_ros.headers import nanoseconds
from zoe_ros.pace import Pace

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:     # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

_RELIABLE, _BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
_LATCHED, _VOLATILE = DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE
# Placeholders, by which a value that the user has set can be recognised.
_OPEN_RELIABILITY = ReliabilityPolicy.SYSTEM_DEFAULT
_OPEN_DURABILITY = DurabilityPolicy.SYSTEM_DEFAULT
_OVERRIDES = QoSOverridingOptions((
    QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY))


def type_name(kind: type) -> str:
    """Return the name of a type of sensor_msgs in the ROS graph."""
    return f'sensor_msgs/msg/{kind.__name__}'


def published_types(node: Node, topic: str) -> set[str]:
    """Return the types of the messages that a topic has publishers of."""
    return {info.topic_type for info in node.get_publishers_info_by_topic(topic)}


class Gate(CallbackGroup):
    """
    Lets the executor take messages only while there is room.

    Until then messages wait in the middleware, which slows down a reliable publisher that keeps
    all messages. Waiting in a callback would also block services and timers.
    """

    def __init__(self, is_open: Callable[[], bool]) -> None:
        """Call ``is_open`` before each message; the code that opens it must wake the executor."""
        super().__init__()
        self._is_open = is_open

    def can_execute(self, entity: Any) -> bool:
        """Tell whether a message may be taken now."""
        return self._is_open()

    def beginning_execution(self, entity: Any) -> bool:
        """Check again just before a message is taken."""
        return self._is_open()

    def ending_execution(self, entity: Any) -> None:
        """Do nothing, because callbacks of the group need not exclude each other."""

    def heard(self, message: Any) -> None:
        """Do nothing: which message was taken does not matter."""


class FollowingGate(Gate):
    """
    Lets the messages of a sensor follow the images of a camera, with which they are used.

    While images wait, there is never room for long; the sensor's messages pass until one is as new
    as the last image that was taken.
    """

    def __init__(self, has_room: Callable[[], bool]) -> None:
        """Call ``has_room`` as :class:`Gate` does."""
        self.pace = Pace()
        super().__init__(lambda: has_room() or self.pace.is_behind())

    def heard(self, message: Any) -> None:
        """Take note of a message that was taken."""
        self.pace.hear(nanoseconds(message.header.stamp))


class MatchedSubscription:
    """
    A subscription with the reliability and durability that all publishers of the topic offer.

    The subscription is reliable if all publishers are, else best effort: a reliable subscription
    receives nothing from a best-effort camera, and a best-effort one loses most large images of
    a reliable publisher. It is transient local if all publishers are, to receive a message that
    was sent once, before the node subscribed. With a gate, the subscription is reliable from the
    start and keeps all messages. Values that a user sets under qos_overrides are never changed.

    :ivar topic: its resolved name.
    """

    def __init__(self, node: Node, kind: type, topic: str, callback: Callable[[Any], None],
                 depth: int, gate: Gate | None) -> None:
        """Subscribe with a history of ``depth``, or to every message with a gate."""
        self._node, self._kind, self._callback, self._gate = node, kind, callback, gate
        self.topic = node.resolve_topic_name(topic)
        self._heard = False
        self._qos = QoSProfile(depth=depth, reliability=_OPEN_RELIABILITY)
        if gate:
            self._qos = QoSProfile(history=HistoryPolicy.KEEP_ALL, reliability=_RELIABLE)
        self._qos.durability = _OPEN_DURABILITY
        self._follows_reliability = self._follows_durability = True
        # This declares the parameters qos_overrides.<topic>.subscription.* and writes them into
        # the profile.
        self._subscription = self._subscribe(_OVERRIDES)
        self._follows_reliability = self._qos.reliability == _OPEN_RELIABILITY
        self._follows_durability = self._qos.durability == _OPEN_DURABILITY
        if self._follows_reliability:
            self._qos.reliability = _BEST_EFFORT    # default of DDS readers
        if self._follows_durability:
            self._qos.durability = _VOLATILE        # default of DDS readers

    def destroy(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)

    def follow(self) -> None:
        """Adapt the QoS to the publishers; call this periodically."""
        offers = [info.qos_profile
                  for info in self._node.get_publishers_info_by_topic(self.topic)]
        if not offers:
            return      # keep the QoS of the last publisher, which may return
        reliability, durability = self._qos.reliability, self._qos.durability
        if self._follows_reliability:
            reliable = all(offer.reliability == _RELIABLE for offer in offers)
            reliability = _RELIABLE if reliable else _BEST_EFFORT
        # Not after the first message, because the history would deliver it a second time.
        if self._follows_durability and not self._heard:
            latched = all(offer.durability == _LATCHED for offer in offers)
            durability = _LATCHED if latched else _VOLATILE
        if (reliability, durability) != (self._qos.reliability, self._qos.durability):
            self._qos.reliability, self._qos.durability = reliability, durability
            self._renew()

    def _renew(self) -> None:
        self._node.destroy_subscription(self._subscription)
        self._subscription = self._subscribe(None)

    def _subscribe(self, overrides: QoSOverridingOptions | None) -> Any:
        return self._node.create_subscription(
            self._kind, self.topic, self._receive, self._qos, callback_group=self._gate,
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible),
            qos_overriding_options=overrides)

    def _receive(self, message: Any) -> None:
        self._heard = True
        if self._gate is not None:
            self._gate.heard(message)
        self._callback(message)

    def _on_incompatible(self, event: Any) -> None:
        # If reliability follows the publishers, the subscription is replaced soon.
        if not self._follows_reliability:
            self._node.get_logger().warning(
                f'a publisher of {self.topic} offers a QoS incompatible with qos_overrides or the '
                'policy: no messages will be received from this publisher')
