"""The anchor of one camera from messages: one for live topics and for bags."""
from __future__ import annotations

from collections import Counter
from functools import partial
import logging
from threading import Lock
from typing import Any

import numpy as np

from zoe_ros.anchor.anchor import Anchor, Scale, Source
from zoe_ros.anchor.frames import Frames
from zoe_ros.anchor.points import ImagePoints, SensorPoints
from zoe_ros.anchor.stereo import PairError
from zoe_ros.anchor.tracks import FeatureTracker
from zoe_ros.anchor.transform import IDENTITY, Transform
from zoe_ros.camera import Camera
from zoe_ros.headers import frame_name, nanoseconds, not_registered, UNSTAMPED
from zoe_ros.images import MessageError
from zoe_ros.range_messages import sensor_points
from zoe_ros.settings import AnchorSettings, ODOMETRY, REGISTERED, STEREO
from zoe_ros.stereo_pair import StereoPair

# Several sensors may share a topic. More frames than this come from damaged messages.
_MOST_FRAMES = 8
# A way of some decimetres is known to about this share; the odometry of a small drone, measured.
_ODOMETRY_DEVIATION = 0.1


log = logging.getLogger(__name__)


class RangeAnchor:
    """
    Takes the messages of sensors, and gives the scale of each depth image.

    Messages may come from another thread than depth.

    :ivar pair: hears the right camera of a pair; None without one.
    :ivar scaling: what the user had set of the scale of depth itself in the last frame, if any;
        a node keeps its anchors while it is inactive, when settings change as well.
    """

    def __init__(self, settings: AnchorSettings, frames: Frames) -> None:
        """
        Start without a message.

        :param frames: of the robot, by TF; may be shared and may change.
        :raises ValueError: ``anchor_transform`` is no transform, or a package is missing.
        """
        numbers = settings.transform_numbers()
        self._fixed = Transform.from_numbers(numbers) if numbers else None
        self._frames, self._lock = frames, Lock()
        self.scaling: tuple[Any, ...] | None = None
        self._camera_frame = ''
        self._judged = False        # whether depth is registered
        self._anchor = Anchor(settings.anchor_tolerance, settings.anchor_report_only,
                              self._motion)
        self.pair = StereoPair() if STEREO in settings.anchors() else None
        self._tracker = FeatureTracker() if ODOMETRY in settings.anchors() else None
        # Their places follow with their first messages.
        self._anchor.place(*(Source(kind, deviation=_ODOMETRY_DEVIATION if kind == ODOMETRY else 0)
                             for kind in settings.anchors()))
        self._names: dict[tuple[str, str], str] = {}    # kind and frame -> source
        self._last: dict[str, SensorPoints | ImagePoints | MessageError] = {}   # by kind

    @property
    def counts(self) -> Counter[str]:
        """Return cause -> number of values, points and frames that were not used."""
        with self._lock:
            return Counter(self._anchor.counts)

    def hear(self, kind: str, message: Any) -> None:
        """
        Remember a message of a sensor; a damaged one is counted.

        :param kind: of the sensor, see :class:`.AnchorSettings`.
        """
        try:
            points, frame = sensor_points(message), frame_name(message.header)
            stamp = nanoseconds(message.header.stamp) / 1e9
            if not stamp:
                # One without a stamp may be of any time, also from a sensor that sends no more.
                raise MessageError('stamp', UNSTAMPED)
        except MessageError as error:
            self.miss(kind, error.cause)
            with self._lock:
                self._last[kind] = error
            return
        with self._lock:
            self._last[kind] = points
            source = self._source(kind, frame)
            if source is None:
                self._anchor.counts[f'{kind}: frame'] += 1
                self._last[kind] = MessageError('frame', self._stranger(kind, frame))
            else:
                self._anchor.observe(points, stamp, source)

    def miss(self, kind: str, cause: str) -> None:
        """Count a message of a sensor that cannot be read."""
        with self._lock:
            self._anchor.counts[f'{kind}: {cause}'] += 1

    def forget(self) -> None:
        """Forget the scales: depth is in another one from now on."""
        with self._lock:
            self._anchor.forget('other settings')

    def measure(self, depth: np.ndarray, head: str, header: Any, camera: Camera | None,
                image: np.ndarray, flaw: str = '') -> Scale:
        """
        Return the scale of a depth image.

        :param depth: (h, w) float32 [m] by the network, at the size of the image.
        :param head: that predicted the depth; :param header: of the image.
        :param camera: that took the image; None if it is not known.
        :param image: (h, w, 3) uint8 RGB.
        :param flaw: why the image is not rectified, see :func:`.stereo_pair.flaw_of`.
        """
        stamp = nanoseconds(header.stamp) / 1e9
        seen = None
        if self._tracker is not None and camera is not None:
            seen = self._tracker.points(image, camera, stamp, partial(
                self._frames.motion, frame_name(header), exact=True))
        paired = self._paired(header, camera, image, flaw)
        with self._lock:
            self._camera_frame = frame_name(header)
            self._doubt_registered()
            self._anchor.configure(camera)
            if self._tracker is not None and seen is not None:
                if any(self._tracker.reason):
                    self._anchor.miss(ODOMETRY, stamp, *self._tracker.reason)
                else:
                    self._anchor.observe(seen, stamp, ODOMETRY)
            if isinstance(paired, PairError):
                self._anchor.miss(STEREO, stamp, paired.cause, str(paired))
            elif paired is not None:
                self._anchor.observe(paired, stamp, STEREO)
            return self._explained(self._anchor.measure(depth, head, stamp), depth.shape)

    def _doubt_registered(self) -> None:
        """Say it once if the frame of depth images says that they are of another camera."""
        first = next((frame for kind, frame in self._names if kind == REGISTERED), '')
        if self._judged or not first or not self._camera_frame:
            return
        # Frames that change later change one after the other, which tells nothing.
        self._judged = True
        if first != self._camera_frame:
            log.warning(not_registered('the depth of the anchor', first, self._camera_frame))

    def _explained(self, scale: Scale, size: tuple[int, ...]) -> Scale:
        """
        Name what is wrong with the messages of a sensor, instead of calling it silent.

        :param size: (height, width) of the image [px].
        """
        if scale.reason.startswith(('silent', 'no points')):
            for kind, last in self._last.items():
                flaw = _flaw_of(kind, last, size)
                if flaw:
                    return scale._replace(reason=flaw)
        return scale

    def _paired(self, header: Any, camera: Camera | None, image: np.ndarray,
                flaw: str) -> ImagePoints | PairError | None:
        """Return the points of a stereo pair, or why there are none; None without a pair."""
        if self.pair is None or camera is None:
            return None
        try:
            return self.pair.points(header, image, camera, flaw)
        except PairError as error:
            return error

    def _source(self, kind: str, frame: str) -> str | None:
        """Return the source of a sensor in a frame, or None if its place cannot be known."""
        if (kind, frame) in self._names:
            return self._names[kind, frame]
        known = sum(name == kind for name, _ in self._names)
        placed: Any = partial(self._place, frame)
        if kind == REGISTERED or self._fixed is not None:
            if kind == REGISTERED and known and frame == self._camera_frame:
                return kind     # the camera has another frame now, and so has its depth
            if known:
                return None     # it cannot be in two places
            placed = IDENTITY if kind == REGISTERED else self._fixed
        if known == _MOST_FRAMES:
            return None
        name = self._names[kind, frame] = f'{kind} of {frame}' if known else kind
        self._anchor.place(Source(name, placed))
        return name

    def _stranger(self, kind: str, frame: str) -> str:
        """Tell why a message of a sensor in a frame is not used."""
        known = ', '.join(f"'{name}'" for of, name in self._names if of == kind)
        what = ('a registered one has the frame of the images' if kind == REGISTERED
                else 'anchor_transform holds for one sensor' if self._fixed is not None
                else 'more frames are not followed')
        return f"its frame is '{frame}' after {known}, and {what}"

    def _place(self, frame: str, taken: float, stamp: float) -> Transform:
        return self._frames.across(frame, taken, self._camera_frame, stamp)

    def _motion(self, start: float, stop: float) -> Transform | None:
        return self._frames.motion(self._camera_frame, start, stop)


def _flaw_of(kind: str, message: SensorPoints | ImagePoints | MessageError,
             size: tuple[int, ...]) -> str:
    """Return why a message of a sensor has no points for an image of a size, or nothing."""
    if isinstance(message, MessageError):
        return f'{message.cause}: {kind} is not used: {message}'
    if isinstance(message, ImagePoints) and message.size != size:
        return (f'image size: {kind} has {message.size[1]} x {message.size[0]} pixels, the image '
                f'{size[1]} x {size[0]}')
    if len(message[0]):
        return ''
    causes = ', '.join(f'{number} {cause}' for cause, number in message.dropped.items())
    return f'no points: {kind} has no value to use ({causes or "it is empty"})'


class ScaleNews:
    """Finds what a user should know about the scales of a camera, each thing once."""

    def __init__(self) -> None:
        """Start with nothing said."""
        self._said: set[str] = set()

    def of(self, scale: Scale) -> str:
        """Return what the scale of a frame tells for the first time, or nothing."""
        cause = scale.reason.partition(':')[0]
        if cause in self._said:
            return ''
        self._said.add(cause)
        if not cause:
            return (f'the scale of depth is {scale.value:.3f} +- {scale.deviation:.3f} by '
                    f'{scale.source} ({scale.pairs} pairs)')
        held = 'is unknown' if np.isinf(scale.age) else f'stays at {scale.value:.3f}'
        return f'the scale of depth {held}: {scale.reason}'
