"""
How many threads a frame on a CPU gets: as many as the machine has cores to spare.

The threads of a network wait for each other some hundred times a frame. Where other processes take
the cores, each wait lasts until the scheduler brings the last thread back: two threads on two busy
cores were measured to be fifty times slower than one. So the cores that others leave are measured
between frames, and no frame gets more threads than that.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import logging
import os
from pathlib import Path
from threading import Lock
from time import monotonic, process_time
from typing import NamedTuple

import torch

log = logging.getLogger(__name__)

# Who sets one of these has chosen.
_CHOICES = ('OMP_NUM_THREADS', 'OMP_THREAD_LIMIT', 'OMP_DYNAMIC', 'OMP_WAIT_POLICY',
            'OMP_PROC_BIND', 'OMP_PLACES', 'GOMP_SPINCOUNT', 'GOMP_CPU_AFFINITY',
            'KMP_AFFINITY', 'KMP_BLOCKTIME', 'MKL_NUM_THREADS')
_PROCESSORS = Path('/proc/stat')
_QUOTA = Path('/sys/fs/cgroup/cpu.max')     # of a container, in a file system of its own
_WINDOW = 0.2           # [s] shortest time to measure over: /proc/stat counts hundredths
# A core counts if others leave this share of it: a little noise does not cost a thread.
_ENOUGH = 0.65
# More threads only after so many measurements in a row: the way up may wait, the way down not.
_PATIENCE = 2


class Usage(NamedTuple):
    """
    Times so far, all in seconds.

    :param wall: of the clock.
    :param own: of all cores, by this process.
    :param idle: of all cores that this process may use, by nobody.
    """

    wall: float
    own: float
    idle: float

    @staticmethod
    def now() -> Usage:
        """
        Read the clocks.

        :raises OSError, ValueError: this system does not tell.
        """
        mine = {f'cpu{number}' for number in os.sched_getaffinity(0)}
        idle = 0
        for line in _PROCESSORS.read_text().splitlines():
            name, *ticks = line.split()
            if name in mine:
                idle += int(ticks[3]) + int(ticks[4])       # idle, and waiting for a disk
        return Usage(monotonic(), process_time(), idle / os.sysconf('SC_CLK_TCK'))

    def free_cores(self, before: Usage) -> float:
        """Return how many cores others have left since then, on average."""
        seconds = self.wall - before.wall
        return (self.own - before.own + self.idle - before.idle) / seconds


def quota() -> float:
    """Return the cores that a container may use at a time; infinite where nobody says."""
    try:
        allowed, period = _QUOTA.read_text().split()
        return int(allowed) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return float('inf')


class ThreadBudget:
    """
    Gives each frame as many threads as there are cores to spare; at most torch's own choice.

    Threads that the user has chosen stand, by the environment or by ``torch.set_num_threads``.
    Several threads may use one budget.

    :ivar threads: of the last frame.
    """

    def __init__(self) -> None:
        """Begin with what was measured since this module was imported."""
        self._most = torch.get_num_threads()
        self.threads = self._most
        self._before = _AT_IMPORT
        self._more = 0
        self._lock = Lock()
        chosen = [name for name in _CHOICES if name in os.environ]
        self._adapts = self._most > 1 and not chosen and _AT_IMPORT is not None
        if chosen:
            log.info('%d threads, as %s says', self._most, chosen[0])

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Let torch use the threads of this frame within the block, in this thread of Python."""
        before = torch.get_num_threads()
        threads = self._choose() if self._adapts and before == self._most else before
        if threads == before:
            yield
            return
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _choose(self) -> int:
        with self._lock:
            assert self._before is not None
            usage = Usage.now()
            if usage.wall - self._before.wall >= _WINDOW:
                self._take(min(usage.free_cores(self._before), quota()))
                self._before = usage
            return self.threads

    def _take(self, free: float) -> None:
        """Follow a measurement of the cores that are free."""
        fit = max(1, min(self._most, int(free + 1 - _ENOUGH)))
        self._more = self._more + 1 if fit > self.threads else 0
        if fit < self.threads or self._more >= _PATIENCE:
            log.info('%d of %d threads: others leave %.1f cores', fit, self._most, free)
            self.threads, self._more = fit, 0


def _usage_or_none() -> Usage | None:
    try:
        return Usage.now()
    except (OSError, ValueError, AttributeError, IndexError):     # macOS, Windows, a closed /proc
        return None


_AT_IMPORT = _usage_or_none()
