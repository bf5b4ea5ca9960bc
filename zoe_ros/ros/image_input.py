"""Subscribes to the images or the depth of one camera, raw or compressed."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from zoe_ros.ros.subscription import Gate, MatchedSubscription, published_types, type_name

# In order of preference for 'auto'.
KINDS = {'raw': Image, 'compressed': CompressedImage}
_HISTORY = 2


class ImageInput:
    """
    Subscribes to one of the two topics; with 'auto' to both, until one of them has a publisher.

    'auto' uses raw images if they are published, else compressed ones, and follows changes of
    the publishers. Raw images need no decoding, and the driver need not compress them.

    :ivar suffix: of the topic of compressed images.
    :ivar base: the resolved topic of raw images.
    """

    suffix = '/compressed'

    def __init__(self, node: Node, topic: str, transport: str,
                 callback: Callable[[Any], None], gate: Gate | None) -> None:
        """Subscribe to ``topic``, which may end in the suffix."""
        self._node, self._callback, self._gate = node, callback, gate
        self.base, transport = image_source(node, topic, transport, self.suffix)
        self._chooses = transport == 'auto'
        self._open = {name: self._subscribe(name) for name in KINDS
                      if transport in (name, 'auto')}

    @property
    def topics(self) -> dict[str, str]:
        """Return the subscribed transports, each with its topic."""
        return {name: subscription.topic for name, subscription in self._open.items()}

    def follow(self) -> None:
        """Adapt to the publishers; call this periodically."""
        if self._chooses:
            self._choose()
        for subscription in self._open.values():
            subscription.follow()

    def destroy(self) -> None:
        """Unsubscribe."""
        for subscription in self._open.values():
            subscription.destroy()
        self._open = {}

    def _choose(self) -> None:
        published = [name for name, kind in KINDS.items()
                     if type_name(kind) in published_types(self._node, self._topic(name))]
        if not published or list(self._open) == published[:1]:
            return
        chosen = published[0]
        for name in set(self._open) - {chosen}:
            self._open.pop(name).destroy()
        if chosen not in self._open:
            self._open[chosen] = self._subscribe(chosen)
        self._node.get_logger().info(f'taking {chosen} images from {self._topic(chosen)}')

    def _topic(self, name: str) -> str:
        return self.base if name == 'raw' else self.base + self.suffix

    def _subscribe(self, name: str) -> MatchedSubscription:
        def receive(message: Any) -> None:
            # Images of a camera that publishes both kinds must not be processed twice.
            if len(self._open) > 1:
                self._choose()
            if name in self._open:
                self._callback(message)

        return MatchedSubscription(
            self._node, KINDS[name], self._topic(name), receive, _HISTORY, self._gate)


class DepthInput(ImageInput):
    """Subscribes to depth images, raw or as image_transport compresses them."""

    def __init__(self, node: Node, topic: str, callback: Callable[[Any], None],
                 gate: Gate | None) -> None:
        """Subscribe to ``topic``, which may end in /compressedDepth or, for PNG, /compressed."""
        if not node.resolve_topic_name(topic).endswith(self.suffix):
            self.suffix += 'Depth'
        super().__init__(node, topic, 'auto', callback, gate)


def image_source(node: Node, topic: str, transport: str,
                 suffix: str = ImageInput.suffix) -> tuple[str, str]:
    """Return the resolved topic of raw images, and the transport given by the topic's name."""
    resolved = node.resolve_topic_name(topic)
    if transport == 'raw' or not resolved.endswith(suffix):
        return resolved, transport
    return resolved.removesuffix(suffix), 'compressed'
