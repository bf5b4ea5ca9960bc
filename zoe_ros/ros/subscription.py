"""A subscription that follows the QoS of its publishers, and a gate that holds it back."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions, QoSPolicyKind

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:     # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

_RELIABLE, _BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
_LATCHED, _VOLATILE = DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE
# Nobody has chosen yet: values that tell a user's choice from ours.
_OPEN_RELIABILITY = ReliabilityPolicy.SYSTEM_DEFAULT
_OPEN_DURABILITY = DurabilityPolicy.SYSTEM_DEFAULT
_OVERRIDES = QoSOverridingOptions((
    QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY))


class Gate(CallbackGroup):
    """
    Lets the executor take messages only while there is room for them.

    Until then they wait in the middleware, which holds back a publisher that is reliable and
    keeps all. Waiting in a callback would hold back the services and timers as well.
    """

    def __init__(self, is_open: Callable[[], bool]) -> None:
        """Ask ``is_open`` before each message; who opens it must wake the executor."""
        super().__init__()
        self._is_open = is_open

    def can_execute(self, entity: Any) -> bool:
        """Tell whether a message may be taken now."""
        return self._is_open()

    def beginning_execution(self, entity: Any) -> bool:
        """Tell the same, just before it is taken."""
        return self._is_open()

    def ending_execution(self, entity: Any) -> None:
        """Do nothing: taking one message does not forbid the next."""


class MatchedSubscription:
    """
    A subscription with the reliability and durability that all publishers of the topic offer.

    It is reliable if all of them are, else best effort: a reliable subscription hears nothing
    from a best-effort camera, and a best-effort one loses most large images of a reliable
    publisher. It is transient local if all of them are, which brings the message that a
    publisher sent once, before the node subscribed. Who needs every message subscribes reliable
    from the start, and keeps all. What a user sets under qos_overrides stands.

    :ivar topic: its resolved name.
    """

    def __init__(self, node: Node, kind: type, topic: str, callback: Callable[[Any], None],
                 depth: int, gate: Gate | None) -> None:
        """Subscribe with a history of ``depth``; with a gate, for every message behind it."""
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
            self._qos.reliability = _BEST_EFFORT    # DDS's default of a reader
        if self._follows_durability:
            self._qos.durability = _VOLATILE        # the same

    def destroy(self) -> None:
        """Stop to listen."""
        self._node.destroy_subscription(self._subscription)

    def follow(self) -> None:
        """Look at the publishers, and subscribe as they offer; to be called periodically."""
        offers = [info.qos_profile
                  for info in self._node.get_publishers_info_by_topic(self.topic)]
        if not offers:
            return      # keep what fitted the last publisher: it may come back
        reliability, durability = self._qos.reliability, self._qos.durability
        if self._follows_reliability:
            reliable = all(offer.reliability == _RELIABLE for offer in offers)
            reliability = _RELIABLE if reliable else _BEST_EFFORT
        # Not after the first message: the history would bring that a second time.
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
        self._callback(message)

    def _on_incompatible(self, event: Any) -> None:
        # Where the publisher is followed there is another subscription in a moment.
        if not self._follows_reliability:
            self._node.get_logger().warning(
                f'a publisher of {self.topic} offers another QoS than the one that qos_overrides '
                'or the policy demand: no messages will be received from it')
