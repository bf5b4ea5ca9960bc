"""The anchor of a bag: points of its range sensor, and where the sensor is."""
from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from zoe_ros.anchor.anchor import Anchor, Scale, Source
from zoe_ros.anchor.transform import IDENTITY, Transform
from zoe_ros.bag import BagError, BagImage, BagReader
from zoe_ros.images import MessageError
from zoe_ros.messages import frame_name, nanoseconds
from zoe_ros.range_messages import sensor_points, StaticTransforms
from zoe_ros.settings import AnchorSettings

_KINDS = {'scan': 'sensor_msgs/msg/LaserScan', 'points': 'sensor_msgs/msg/PointCloud2',
          'depth': 'sensor_msgs/msg/Image'}
_TF, _TF_STATIC = 'tf2_msgs/msg/TFMessage', '/tf_static'


class BagAnchor:
    """
    Feeds an anchor with the messages of a bag, as a node would receive them.

    :ivar anchor: for the pipeline.
    :ivar topic: of the sensor.
    """

    def __init__(self, bag: BagReader, settings: AnchorSettings) -> None:
        """
        Find the sensor and its place.

        :raises BagError: the bag has no such sensor or several, or its place is not known.
        :raises ValueError: ``anchor_transform`` is not a transform.
        """
        self._name = settings.anchor
        kind = _KINDS[settings.anchor]
        self.topic = _choose(bag, settings, kind)
        self.anchor = Anchor()
        self._messages = bag.messages(self.topic, kind)
        self._next = next(self._messages, None)
        self._frame, to_camera = self._place(bag, settings)
        self.anchor.place(Source(self._name, to_camera))
        self._scales: list[Scale] = []
        self._said: set[str] = set()

    def observe_until(self, recorded: int) -> None:
        """
        Give the anchor the messages that were recorded until a time [ns].

        A message that is damaged, or of another frame than the first one, is counted.
        """
        while self._next is not None and self._next.recorded <= recorded:
            try:
                message = self._next.message
                if frame_name(message.header) != self._frame:
                    raise MessageError('frame', f'its frame is not {self._frame}')
                self.anchor.observe(sensor_points(message),
                                    nanoseconds(message.header.stamp) / 1e9, self._name)
            except MessageError as error:
                self.anchor.counts[f'{self._name}: {error.cause}'] += 1
            self._next = next(self._messages, None)

    def add(self, scale: Scale) -> str:
        """Count the scale of a frame; return what the user should know, each cause once."""
        self._scales.append(scale)
        cause = scale.reason.partition(':')[0]
        if cause in self._said:
            return ''
        self._said.add(cause)
        if not cause:
            return (f'scale {scale.value:.3f} +- {scale.deviation:.3f} by {scale.pairs} points of '
                    f'{self.topic}')
        held = f'stays at {scale.value:.3f}' if np.isfinite(scale.age) else 'is unknown'
        return f'the scale {held}: {scale.reason}'

    def summary(self) -> dict[str, Any]:
        """Return statistics for JSON."""
        measured = [scale.value for scale in self._scales if not scale.reason]
        low, middle, high = np.percentile(measured, (5, 50, 95)) if measured else [np.nan] * 3
        values = {'scale_p5': low, 'scale_p50': middle, 'scale_p95': high}
        return {'topic': self.topic, 'frames_measured': len(measured),
                **{name: float(f'{value:.4g}') if np.isfinite(value) else None
                   for name, value in values.items()},
                'left_out': dict(sorted(self.anchor.counts.items()))}

    def _place(self, bag: BagReader, settings: AnchorSettings) -> tuple[str, Transform]:
        """Return the frame of the sensor, and the transform to the camera."""
        first = self._next
        while first is not None and not _readable(first):
            first = self._next = next(self._messages, None)
        image = next((image for image in bag if _readable(image)), None)
        if first is None or image is None:
            raise BagError(f'no message on {self.topic} or {bag.topic} can be read')
        sensor, camera = frame_name(first.message.header), frame_name(image.message.header)
        if settings.anchor_transform:
            return sensor, Transform.from_numbers(_numbers(settings.anchor_transform))
        if settings.anchor == 'depth':
            return sensor, IDENTITY
        transforms = StaticTransforms()
        if _TF_STATIC in bag.topics(_TF):
            for item in bag.messages(_TF_STATIC, _TF):
                with suppress(MessageError, ValueError):
                    transforms.add(item.message)
        to_camera = transforms.between(sensor, camera)
        if to_camera is None:
            raise BagError(f"{_TF_STATIC} has no transform from '{sensor}' ({self.topic}) to "
                           f"'{camera}' ({bag.topic}): give one by --anchor-transform")
        return sensor, to_camera


def _choose(bag: BagReader, settings: AnchorSettings, kind: str) -> str:
    """Return the topic of the sensor: the requested one, or the only one."""
    topics = list(bag.depth_topics()) if settings.anchor == 'depth' else bag.topics(kind)
    wanted = settings.anchor_topic
    fitting = [topic for topic in topics if wanted in ('', topic)]
    if len(fitting) == 1:
        return fitting[0]
    raise BagError(f"anchor '{settings.anchor}' needs a topic of {kind}"
                   + (f', which {wanted} is not' if wanted else '')
                   + f'; the bag has {", ".join(topics) or "none"}'
                   + (': choose one by --anchor-topic' if fitting else ''))


def _readable(item: BagImage) -> bool:
    try:
        return item.message is not None
    except MessageError:
        return False


def _numbers(text: str) -> list[float]:
    """
    Return the numbers in a text.

    :raises ValueError: another word is in it.
    """
    try:
        return [float(word) for word in text.replace(',', ' ').split()]
    except ValueError:
        raise ValueError(f"parameter 'anchor_transform' is '{text}', not seven numbers "
                         'x y z qx qy qz qw') from None
