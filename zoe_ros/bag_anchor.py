"""The anchor of a bag: the messages of its range sensors and transforms, in their order."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from heapq import merge
from typing import Any

import numpy as np

from zoe_ros.anchor.anchor import Scale
from zoe_ros.anchor.frames import Frames
from zoe_ros.anchor.steady import SteadyScale
from zoe_ros.bag import BagError, BagImage, BagReader
from zoe_ros.bag_messages import INFO_TYPE
from zoe_ros.headers import frame_name
from zoe_ros.images import MessageError
from zoe_ros.range_anchor import RangeAnchor
from zoe_ros.range_messages import add_odometry, add_transforms
from zoe_ros.settings import ODOMETRY, REGISTERED, RunSettings, STEREO
from zoe_ros.topic_names import is_rectified

_TYPES = {'scan': 'sensor_msgs/msg/LaserScan', 'points': 'sensor_msgs/msg/PointCloud2',
          'depth': 'sensor_msgs/msg/Image with depth',
          'stereo': 'sensor_msgs/msg/Image with CameraInfo'}
_RIGHT_INFO = 'CameraInfo of the right camera'
_TF_TYPE, _TF, _TF_STATIC = 'tf2_msgs/msg/TFMessage', '/tf', '/tf_static'
ODOMETRY_TYPE = 'nav_msgs/msg/Odometry'
# Odometry and right images are often recorded a little after their image; a live node hears them
# while the network runs.
_AHEAD = 10 ** 8        # [ns]


class BagAnchor:
    """
    Feeds an anchor with the messages of a bag, as a node would receive them.

    :ivar anchor: for the pipeline; None where the settings name no anchor.
    :ivar steady: for the pipeline; None where it is off.
    :ivar frames: of the robot, until the last message that was heard.
    :ivar topics: kind of a sensor -> its topic.
    :ivar motion_topics: of the motion of the camera.
    :ivar note: why no motion is used although the bag has some; '' if there is nothing to say.
    """

    def __init__(self, bag: BagReader, settings: RunSettings) -> None:
        """
        Find the sensors and their places.

        :raises BagError: the bag has no such sensor or several, or its place is not known.
        :raises ValueError: ``anchor_transform`` is not a transform.
        """
        self.frames = Frames()
        # The motion of the camera is of use without an anchor, too.
        self._ranges = RangeAnchor(settings, self.frames)
        self.anchor = self._ranges if settings.anchors() else None
        self.steady = SteadyScale.of(settings.scale_time_constant, self.frames)
        self.topics = {kind: _choose(bag, kind, settings) for kind in settings.sensors()}
        moving, static = (_choose_transforms(bag, name) for name in (_TF, _TF_STATIC))
        driven = _choose_odometry(bag, settings, bool(moving))
        self.motion_topics = [*([moving] if moving else []), *driven]
        self.note = '' if self.motion_topics else _several_motions(bag)
        if ODOMETRY in settings.anchors() and not moving and not driven:
            raise BagError(f"anchor '{ODOMETRY}' needs the motion of the camera on {_TF}, or one "
                           f'topic of {ODOMETRY_TYPE}; the bag has '
                           + (f'{", ".join(bag.topics(ODOMETRY_TYPE))}: choose one by '
                              '--anchor-topic' if bag.topics(ODOMETRY_TYPE) else 'neither'))
        if static:      # holds at all times, whenever it was recorded
            for item in bag.messages(static, _TF_TYPE):
                self._hear(_TF_STATIC, item)
        if not settings.anchor_transform and not moving:
            self._check_places(bag)
        streams = [_named(kind, _messages(bag, kind, topic))
                   for kind, topic in self.topics.items()]
        if STEREO in self.topics:
            info = bag.other_cameras()[self.topics[STEREO]]
            streams.append(_named(_RIGHT_INFO, bag.messages(info, INFO_TYPE)))
        if moving:
            streams.append(_named(_TF, bag.messages(moving, _TF_TYPE)))
        streams += [_named(ODOMETRY_TYPE, bag.messages(topic, ODOMETRY_TYPE))
                    for topic in driven]
        self._messages = merge(*streams, key=_due)
        self._next = next(self._messages, None)
        self._scales: list[Scale] = []

    def hear_until(self, recorded: int) -> None:
        """
        Give the anchor the messages that were recorded until a time [ns].

        Damaged messages are counted.
        """
        while self._next is not None and _due(self._next) <= recorded:
            self._hear(*self._next)
            self._next = next(self._messages, None)

    def add(self, scale: Scale) -> None:
        """Count the scale of a frame."""
        self._scales.append(scale)

    def summary(self) -> dict[str, Any]:
        """Return statistics for JSON, of the anchor and of the steadying."""
        found: dict[str, Any] = {}
        if self.anchor is not None:
            found['anchor'] = self._of_anchor()
        if self.steady is not None:
            found['steady'] = {'started_again': dict(sorted(self.steady.counts.items()))}
        return found

    def _of_anchor(self) -> dict[str, Any]:
        measured = [scale.value for scale in self._scales if not scale.reason]
        low, middle, high = np.percentile(measured, (5, 50, 95)) if measured else [np.nan] * 3
        values = {'scale_p5': low, 'scale_p50': middle, 'scale_p95': high}
        return {'topics': list(self.topics.values()), 'frames_measured': len(measured),
                **{name: float(f'{value:.4g}') if np.isfinite(value) else None
                   for name, value in values.items()},
                'left_out': dict(sorted(self._ranges.counts.items()))}

    def _hear(self, kind: str, item: BagImage) -> None:
        try:
            message = item.message
        except MessageError as error:
            self._ranges.miss(kind, error.cause)
            return
        pair = self._ranges.pair
        if pair is not None and kind == STEREO:
            pair.hear(message)
        elif pair is not None and kind == _RIGHT_INFO:
            pair.hear_info(message, is_rectified(self.topics[STEREO]))
        elif kind in self.topics:
            self._ranges.hear(kind, message)
        else:
            self._hear_motion(kind, message)

    def _hear_motion(self, kind: str, message: Any) -> None:
        damaged = (add_odometry(self.frames, message) if kind == ODOMETRY_TYPE
                   else add_transforms(self.frames, message, kind == _TF_STATIC))
        for _ in range(damaged):
            self._ranges.miss(kind, 'damaged')

    def _check_places(self, bag: BagReader) -> None:
        """Check, before the model is loaded, that the fixed transforms reach each sensor."""
        camera = _first_frame(bag, bag.topic)
        for kind, topic in self.topics.items():
            sensor = _first_frame(_messages(bag, kind, topic), topic)
            if kind in (REGISTERED, STEREO):
                continue
            try:
                self.frames.across(sensor, 0.0, camera, 0.0)
            except LookupError:
                raise BagError(f"{_TF_STATIC} has no transform from '{sensor}' ({topic}) to "
                               f"'{camera}' ({bag.topic}): give one by --anchor-transform"
                               ) from None


def _choose(bag: BagReader, kind: str, settings: RunSettings) -> str:
    """Return the topic of a sensor: a requested one, or the only one."""
    wanted = settings.anchor_topic
    topics = (_depth_topics(bag, wanted) if kind == REGISTERED
              else list(bag.other_cameras()) if kind == STEREO else bag.topics(_TYPES[kind]))
    fitting = [topic for topic in topics if topic in wanted] or (
        topics if not wanted or len(settings.sensors()) > 1 else [])
    if len(fitting) == 1:
        return fitting[0]
    raise BagError(f"anchor '{kind}' needs a topic of {_TYPES[kind]}"
                   + (f', which {" or ".join(wanted)} is not' if wanted else '')
                   + f'; the bag has {", ".join(topics) or "none"}'
                   + (': choose one by --anchor-topic' if fitting else ''))


def _depth_topics(bag: BagReader, wanted: Sequence[str]) -> list[str]:
    """Return the topics of depth, those of our own node only if a user wants them."""
    found = list(bag.depth_topics(wanted))
    return found if set(found) & set(wanted) else list(bag.sensor_depth_topics('--anchor-topic'))


def _choose_transforms(bag: BagReader, name: str) -> str:
    """Return /tf or /tf_static or, without it, that of the namespace of the camera; '' if none."""
    topics = [topic for topic in bag.topics(_TF_TYPE) if topic.endswith(name)]
    if name in topics:
        return name
    own = [topic for topic in topics if bag.topic.startswith(topic.removesuffix(name) + '/')]
    fitting = own or topics
    return fitting[0] if len(fitting) == 1 else ''


def _choose_odometry(bag: BagReader, settings: RunSettings, by_tf: bool) -> list[str]:
    """Return the topics of odometry: requested ones or, without TF, the only one."""
    topics = bag.topics(ODOMETRY_TYPE)
    wanted = [topic for topic in topics if topic in settings.anchor_topic]
    return wanted or (topics if len(topics) == 1 and not by_tf else [])


def _several_motions(bag: BagReader) -> str:
    """Return which motions of the robot there are to choose from, if there are any."""
    odometry = bag.topics(ODOMETRY_TYPE)
    transforms = [topic for topic in bag.topics(_TF_TYPE) if topic.endswith(_TF)]
    if odometry:
        return (f'the motion of the robot is not used, because it is on {", ".join(odometry)}: '
                'choose one by --anchor-topic')
    if transforms:
        return (f'the motion of the robot is not used, because it is on {", ".join(transforms)}, '
                f'and none of them has the namespace of {bag.topic}: record it on {_TF}')
    return ''


def _due(entry: tuple[str, BagImage]) -> int:
    """Return when a message of a kind is heard [ns]."""
    kind, item = entry
    early = kind in (_TF, ODOMETRY_TYPE, STEREO, _RIGHT_INFO)
    return item.recorded - (_AHEAD if early else 0)


def _messages(bag: BagReader, kind: str, topic: str) -> Iterator[BagImage]:
    return (bag.images(topic) if kind in (REGISTERED, STEREO)
            else bag.messages(topic, _TYPES[kind]))


def _named(kind: str, messages: Iterator[BagImage]) -> Iterator[tuple[str, BagImage]]:
    return ((kind, item) for item in messages)


def _first_frame(messages: Any, topic: str) -> str:
    """Return the frame of the first message that can be read."""
    for item in messages:
        with suppress(MessageError):
            return frame_name(item.message.header)
    raise BagError(f'no message on {topic} can be read')
