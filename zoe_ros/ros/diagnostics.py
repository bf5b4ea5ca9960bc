"""Statistics of the node for /diagnostics."""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from threading import Lock
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np

from zoe_ros.anchor.anchor import Scale
from zoe_ros.counts import counted

_FALLING_BEHIND = 0.5   # fraction of images dropped in a period above which the node warns
_HELD = 1.0             # age of the scale from which the node warns that it has no anchor [s]


class FrameStats:
    """
    Counts and times of one period, written by the subscription and the worker.

    :ivar totals: cause -> images dropped since the start.
    """

    def __init__(self) -> None:
        """Start with all counts at zero."""
        self._lock = Lock()
        self.totals: Counter[str] = Counter()
        self._failing = False       # no frame has succeeded since the last error
        self.restart()

    def restart(self) -> None:
        """Forget all frames, whose cameras and anchors may be others now, but no error."""
        with self._lock:
            self._heads: dict[str, str] = {}
            self._not_made: dict[str, str] = {}
            self._alternating: dict[str, str] = {}
            self._scales: dict[str, Scale] = {}
            self._clear()

    def _clear(self) -> None:
        self._received: Counter[str] = Counter()
        self._published = 0
        self._dropped: Counter[str] = Counter()
        self._ages: list[float] = []
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)

    def received(self, camera: str) -> None:
        """Count a received image."""
        with self._lock:
            self._received[camera] += 1

    def published(self, camera: str, age: float | None, seconds: dict[str, float], head: str,
                  probability: float, not_made: str = '', scale: Scale | None = None,
                  alternating: str = '') -> None:
        """
        Count a published frame.

        :param age: from the stamp of the image to now [s]; None while the clock is at zero.
        :param seconds: stage -> time [s].
        :param not_made: subscribed outputs that could not be made, and the reason.
        :param scale: of depth, by an anchor.
        :param alternating: what is wrong with the views of the last frames.
        """
        with self._lock:
            self._published += 1
            if age is not None:
                self._ages.append(age)
            self._failing = False
            self._not_made[camera] = not_made
            self._alternating[camera] = alternating
            self._heads[camera] = f'{head} {probability:.2f}'
            if scale is not None:
                self._scales[camera] = scale
            for stage, value in seconds.items():
                self._seconds[stage].append(value)

    def dropped(self, cause: str, count: int = 1) -> None:
        """Count dropped images."""
        with self._lock:
            self._dropped[cause] += count
            self.totals[cause] += count
            self._failing |= cause == 'error'

    def report(self, stamp: Any, name: str, period: float, facts: dict[str, str],
               listening: Collection[str]) -> DiagnosticArray:
        """
        Return the message for the period that ends now, and start the next period.

        :param facts: constant values such as device and weights.
        :param listening: cameras with a subscribed output; missing images matter only for these.
        """
        with self._lock:
            level, text = self._judge(listening)
            values = {
                'rate in [Hz]': f'{self._received.total() / period:.2f}',
                'rate out [Hz]': f'{self._published / period:.2f}',
                **_percentiles('age at publish', self._ages),
                **{key: value for stage, times in sorted(self._seconds.items())
                   for key, value in _percentiles(stage, times).items()},
                **{f'dropped: {cause}': str(count)
                   for cause, count in sorted(self.totals.items())},
                **{_key('head', camera): head for camera, head in sorted(self._heads.items())},
                **{_key(key, camera): value
                   for camera, scale in sorted(self._scales.items())
                   for key, value in _describe(scale).items()},
                **facts}
            self._clear()
        status = DiagnosticStatus(
            level=level, name=f'{name}: depth', message=text, hardware_id=facts.get('device', ''),
            values=[KeyValue(key=key, value=value) for key, value in values.items()])
        message = DiagnosticArray(status=[status])
        message.header.stamp = stamp
        return message

    def _judge(self, listening: Collection[str]) -> tuple[bytes, str]:
        if self._dropped['error']:
            lost = self._dropped['error']
            return DiagnosticStatus.ERROR, f'{counted(lost, "frame")} lost to errors'
        if self._failing:
            return DiagnosticStatus.ERROR, 'no frame has worked since the last error'
        damaged = sum(n for cause, n in self._dropped.items() if cause != 'newer')
        if damaged:
            return DiagnosticStatus.WARN, f'{counted(damaged, "image")} could not be used'
        if not listening:
            return DiagnosticStatus.OK, 'nobody listens'
        silent = [camera for camera in listening if not self._received[camera]]
        if silent:
            names = ', '.join(filter(None, silent))
            return DiagnosticStatus.WARN, f'no images arrive{names and f" from {names}"}'
        missing = _of_cameras(self._not_made, listening)
        if missing:
            return DiagnosticStatus.WARN, f'subscribed but not made: {missing}'
        alternating = _of_cameras(self._alternating, listening)
        if alternating:
            return DiagnosticStatus.WARN, f'the view changes: {alternating}'
        held = _of_cameras({camera: scale.reason for camera, scale in self._scales.items()
                            if scale.age > _HELD}, listening)
        if held:
            return DiagnosticStatus.WARN, f'the anchor does not work: {held}'
        if self._dropped['newer'] > _FALLING_BEHIND * self._received.total():
            return DiagnosticStatus.WARN, 'slower than the camera: most images are dropped'
        return DiagnosticStatus.OK, 'working'


def _percentiles(name: str, seconds: list[float]) -> dict[str, str]:
    if not seconds:
        return {}
    p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
    return {f'{name} p50 [ms]': f'{p50:.1f}', f'{name} p95 [ms]': f'{p95:.1f}'}


def _key(name: str, camera: str) -> str:
    return f'{name} {camera}'.rstrip()


def _of_cameras(texts: dict[str, str], listening: Collection[str]) -> str:
    """Join the texts of the cameras that somebody listens to; a camera without one is left out."""
    return '; '.join(f'{camera and f"{camera}: "}{text}' for camera, text in texts.items()
                     if text and camera in listening)


def _describe(scale: Scale) -> dict[str, str]:
    return {'scale': f'{scale.value:.4f}', 'scale deviation': f'{scale.deviation:.4f}',
            'scale age [s]': f'{scale.age:.2f}', 'scale pairs': str(scale.pairs),
            'scale residual': f'{scale.residual:.3f}', 'scale sources': scale.source,
            'scale held': scale.reason}
