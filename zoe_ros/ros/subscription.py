"""A subscription that follows its publisher's reliability, and a gate that holds it back."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

_RELIABLE, _BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
# Nobody has chosen yet: a value that tells a user's 'best_effort' from ours.
_OPEN = ReliabilityPolicy.SYSTEM_DEFAULT
_PERIOD = 0.5   # [s] between looks at the publishers


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
    Best effort, which every publisher serves, until all publishers of the topic are reliable.

    A fixed choice fails one way or the other: a reliable subscription hears nothing from a
    best-effort camera, and a best-effort one loses most large images of a reliable publisher.
    Who needs every message subscribes reliable from the start, and keeps all. What a user sets
    under qos_overrides stands.
    """

    def __init__(self, node: Node, kind: type, topic: str, callback: Callable[[Any], None],
                 depth: int, gate: Gate | None) -> None:
        """Subscribe with a history of ``depth``; with a gate, for every message behind it."""
        self._node, self._kind, self._callback = node, kind, callback
        self._topic = node.resolve_topic_name(topic)
        self._qos = (QoSProfile(history=HistoryPolicy.KEEP_ALL, reliability=_RELIABLE) if gate
                     else QoSProfile(depth=depth, reliability=_OPEN))
        # This declares the parameters qos_overrides.<topic>.subscription.* and writes them into
        # the profile.
        self._subscription = node.create_subscription(
            kind, self._topic, callback, self._qos, callback_group=gate,
            qos_overriding_options=QoSOverridingOptions.with_default_policies())
        self._fixed = self._qos.reliability != _OPEN
        if not self._fixed:
            self._qos.reliability = _BEST_EFFORT    # DDS's default of a reader
        self._timer = node.create_timer(_PERIOD, self._match)

    def destroy(self) -> None:
        """Stop to listen."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)

    def _match(self) -> None:
        offered = {info.qos_profile.reliability
                   for info in self._node.get_publishers_info_by_topic(self._topic)}
        if not offered or self._fixed:
            return      # without a publisher keep what fitted the last one: it may come back
        wanted = _RELIABLE if offered == {_RELIABLE} else _BEST_EFFORT
        if wanted != self._qos.reliability:
            self._node.destroy_subscription(self._subscription)
            self._qos.reliability = wanted
            self._subscription = self._node.create_subscription(
                self._kind, self._topic, self._callback, self._qos)
