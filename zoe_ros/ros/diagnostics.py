"""What the node has done lately, for /diagnostics."""
from __future__ import annotations

from collections import Counter, defaultdict
from threading import Lock
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np

_FALLING_BEHIND = 0.5   # share of images dropped in a period above which the node warns


class Journal:
    """
    Counts and times of one period; written by the subscription and by the worker.

    :ivar totals: cause -> images dropped since the start.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self._lock = Lock()
        self.totals: Counter[str] = Counter()
        self._last = ''
        self._clear()

    def _clear(self) -> None:
        self._received = 0
        self._published = 0
        self._dropped: Counter[str] = Counter()
        self._ages: list[float] = []
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)

    def received(self) -> None:
        """Count an image that has come in."""
        with self._lock:
            self._received += 1

    def published(self, age: float, seconds: dict[str, float], head: str,
                  probability: float) -> None:
        """
        Count a frame that has gone out.

        :param age: from the stamp of the image to now [s].
        :param seconds: stage -> time [s].
        """
        with self._lock:
            self._published += 1
            self._ages.append(age)
            self._last = f'{head} {probability:.2f}'
            for stage, value in seconds.items():
                self._seconds[stage].append(value)

    def dropped(self, cause: str, count: int = 1) -> None:
        """Count images that were lost."""
        with self._lock:
            self._dropped[cause] += count
            self.totals[cause] += count

    def report(self, stamp: Any, name: str, period: float, facts: dict[str, str],
               listening: bool) -> DiagnosticArray:
        """
        Return the message for the period that ends now, and begin the next.

        :param facts: what does not change: device, weights, ...
        :param listening: somebody subscribes an output, so that silence means something.
        """
        with self._lock:
            level, text = self._judge(listening)
            values = {
                'rate in [Hz]': f'{self._received / period:.2f}',
                'rate out [Hz]': f'{self._published / period:.2f}',
                **_percentiles('age at publish', self._ages),
                **{key: value for stage, times in sorted(self._seconds.items())
                   for key, value in _percentiles(stage, times).items()},
                **{f'dropped: {cause}': str(count)
                   for cause, count in sorted(self.totals.items())},
                'head': self._last or '-', **facts}
            self._clear()
        status = DiagnosticStatus(
            level=level, name=f'{name}: depth', message=text, hardware_id=facts.get('device', ''),
            values=[KeyValue(key=key, value=value) for key, value in values.items()])
        message = DiagnosticArray(status=[status])
        message.header.stamp = stamp
        return message

    def _judge(self, listening: bool) -> tuple[bytes, str]:
        if self._dropped['error']:
            return DiagnosticStatus.ERROR, f'{self._dropped["error"]} errors of the network'
        damaged = sum(n for cause, n in self._dropped.items() if cause != 'newer')
        if damaged:
            return DiagnosticStatus.WARN, f'{damaged} images could not be used'
        if not listening:
            return DiagnosticStatus.OK, 'nobody listens'
        if not self._received:
            return DiagnosticStatus.WARN, 'no images arrive'
        if self._dropped['newer'] > _FALLING_BEHIND * self._received:
            return DiagnosticStatus.WARN, 'slower than the camera: most images are dropped'
        return DiagnosticStatus.OK, 'working'


def _percentiles(name: str, seconds: list[float]) -> dict[str, str]:
    if not seconds:
        return {}
    p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
    return {f'{name} p50 [ms]': f'{p50:.1f}', f'{name} p95 [ms]': f'{p95:.1f}'}
