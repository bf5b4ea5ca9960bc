"""A subscription whose reliability follows that of the publisher."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

_RELIABLE, _BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
_PERIOD = 0.5   # [s] between looks at the publishers


class MatchedSubscription:
    """
    Best effort, which every publisher serves, until all publishers of the topic are reliable.

    A fixed choice fails one way or the other: a reliable subscription hears nothing from a
    best-effort camera, and a best-effort one loses most large images of a reliable publisher.
    """

    def __init__(self, node: Node, kind: type, topic: str, callback: Callable[[Any], None],
                 depth: int) -> None:
        """Subscribe ``topic`` with a history of ``depth`` messages."""
        self._node, self._kind, self._topic = node, kind, topic
        self._callback, self._depth = callback, depth
        self._reliability = _BEST_EFFORT
        self._subscription = self._create()
        self._timer = node.create_timer(_PERIOD, self._match)

    def destroy(self) -> None:
        """Stop to listen."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)

    def _create(self) -> Any:
        return self._node.create_subscription(
            self._kind, self._topic, self._callback,
            QoSProfile(depth=self._depth, reliability=self._reliability))

    def _match(self) -> None:
        topic = self._node.resolve_topic_name(self._topic)
        offered = {info.qos_profile.reliability
                   for info in self._node.get_publishers_info_by_topic(topic)}
        if not offered:
            return      # keep what fitted the last publisher: it may come back
        wanted = _RELIABLE if offered == {_RELIABLE} else _BEST_EFFORT
        if wanted != self._reliability:
            self._node.destroy_subscription(self._subscription)
            self._reliability = wanted
            self._subscription = self._create()
