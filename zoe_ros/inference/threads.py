"""
How many threads a frame on a CPU gets: as many as the machine has cores to spare.

The threads of a network wait for each other some hundred times a frame. Where other processes take
the cores, each wait lasts until the scheduler brings the last thread back: on two busy cores two
threads were measured to be forty times slower than one. So the cores that others leave are
measured between frames, and a frame gets no more threads than that: all of them, or a power of
two, because 1, 2, 4 and 8 threads give the same depth to the bit. Other numbers round differently
here and there.

Long frames wait less often for their length. On busy cores they keep all threads, but a thread
that waits sleeps at once, and does not burn the core that another needs; see :class:`Crowd`.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import logging
import os
from pathlib import Path
from threading import Event, local, Lock, Thread
from time import monotonic, process_time
from typing import NamedTuple
import weakref

import torch

from zoe_ros.counts import counted

log = logging.getLogger(__name__)

# Whoever sets one of these has chosen.
_CHOICES = ('OMP_NUM_THREADS', 'OMP_THREAD_LIMIT', 'OMP_DYNAMIC', 'OMP_WAIT_POLICY',
            'OMP_PROC_BIND', 'OMP_PLACES', 'GOMP_SPINCOUNT', 'GOMP_CPU_AFFINITY',
            'KMP_AFFINITY', 'KMP_BLOCKTIME', 'MKL_NUM_THREADS')
_PROCESSORS = Path('/proc/stat')
_QUOTA = Path('/sys/fs/cgroup/cpu.max')     # of a container, as seen from inside of it
_WINDOW = 0.2           # [s] shortest time to measure over: /proc/stat counts hundredths
# A core counts as free if others leave this share of it.
_ENOUGH = 0.65
# More threads only after so many measurements in a row that allow them; fewer at once.
_PATIENCE = 2
# A frame is long if it takes this time of all cores together [s].
_LONG = 0.5
_LIBRARIES = Path('/proc/self/maps')


class Usage(NamedTuple):
    """
    Times since some moment in the past [s].

    :param wall: of the clock.
    :param own: of all cores, used by this process.
    :param idle: of all cores that this process may use, used by no process.
    """

    wall: float
    own: float
    idle: float

    @staticmethod
    def now() -> Usage:
        """
        Read the clocks.

        :raises OSError, ValueError, AttributeError: this system does not have them.
        """
        mine = {f'cpu{number}' for number in os.sched_getaffinity(0)}
        ticks = 0
        for line in _PROCESSORS.read_text().splitlines():
            name, *fields = line.split()
            if name in mine:
                ticks += int(fields[3]) + int(fields[4])        # idle, and idle with a disk busy
        return Usage(monotonic(), process_time(), ticks / os.sysconf('SC_CLK_TCK'))

    def free_cores(self, before: Usage) -> float:
        """Return how many cores, on average, others and a container have left since then."""
        left = (self.own - before.own + self.idle - before.idle) / (self.wall - before.wall)
        return min(left, quota())


def _usage_or_none() -> Usage | None:
    try:
        return Usage.now()
    except (OSError, ValueError, AttributeError):       # macOS, Windows, a closed /proc
        return None


_AT_IMPORT = _usage_or_none()
_DEFAULT = torch.get_num_threads()


class FreeCores:
    """
    Measures from one look to the next how many cores others leave.

    :ivar before: usage at the last measurement; None where it is not known.
    """

    def __init__(self) -> None:
        """Begin with the usage when this module was imported."""
        self.before = _AT_IMPORT

    def look(self) -> float | None:
        """Return the cores that were free since the last measurement; None if it is too early."""
        # Reading the clocks of all cores is not for every frame.
        if self.before is None or monotonic() - self.before.wall < _WINDOW:
            return None
        usage = Usage.now()
        free = usage.free_cores(self.before)
        self.before = usage
        return free


def _chosen_by_user() -> str:
    """Return the variable of the environment by which the user has chosen; '' if none."""
    return next((name for name in _CHOICES if name in os.environ), '')


def quota() -> float:
    """Return the cores that a container may use at a time; infinite where it has no limit."""
    try:
        allowed, period = _QUOTA.read_text().split()
        return int(allowed) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return float('inf')


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads within the block, where this thread of Python calls it."""
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Crowd:
    """
    Threads that do nothing, so many that the process has more of them than cores.

    GNU's OpenMP lets a thread that waits for others spin for some milliseconds, but hardly at all
    while the process has more threads of OpenMP than cores. Its settings are read only once,
    before anybody can know how long a frame takes; a crowd changes that at run time.
    """

    def __init__(self, threads: int) -> None:
        """
        Start them.

        :param threads: of OpenMP that the process has without them.
        """
        self._leave, ready = Event(), Event()
        count = len(os.sched_getaffinity(0)) - threads + 2
        Thread(target=_start_and_stay, args=(max(2, count), ready, self._leave),
               name='zoe_crowd', daemon=True).start()
        ready.wait()
        weakref.finalize(self, self._leave.set)

    @staticmethod
    def helps() -> bool:
        """Tell whether GNU's OpenMP is the one of this process."""
        try:
            libraries = _LIBRARIES.read_text()
        except OSError:
            return False
        return 'libgomp' in libraries and not any(
            other in libraries for other in ('libiomp', 'libomp.'))


class TrainingThreads:
    """
    Lets the threads of a training on the CPU sleep while they wait, when others want the cores.

    Their number stays, because gradients depend on it. Choices of the user stay, too.
    """

    def __init__(self) -> None:
        """Begin with the cores that were free since this module was imported."""
        self._may_crowd = not _chosen_by_user() and _DEFAULT > 1 and Crowd.helps()
        self._cores = FreeCores()
        self._crowd: Crowd | None = None

    def follow(self) -> None:
        """Look at the cores; call this after each step."""
        free = self._cores.look() if self._may_crowd else None
        if free is not None:
            busy = _whole(free) < _DEFAULT
            self._crowd = (self._crowd or Crowd(_DEFAULT)) if busy else None


def _whole(free: float) -> int:
    """Return how many cores count as free, at least one."""
    return max(1, int(free + 1 - _ENOUGH))


def _start_and_stay(count: int, ready: Event, leave: Event) -> None:
    """Let OpenMP start its threads for this thread; they last as long as this one."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    torch.zeros(count << 16).add_(1)        # torch gives no thread less than 1 << 15 elements
    torch.set_num_threads(before)           # new threads of Python begin with the last number
    ready.set()
    leave.wait()


class ThreadBudget:
    """
    Gives each frame as many threads as there are cores to spare, at most torch's own choice.

    Threads that the user has chosen stay, by the environment or by ``torch.set_num_threads`` after
    this package was imported. Several threads of Python may share a budget.
    """

    def __init__(self) -> None:
        """Begin with the cores that were free since this module was imported."""
        self._threads = _DEFAULT
        self._cores = FreeCores()
        self._more = 0
        self._told: set[str] = set()
        self._shortest = 0.0
        self._crowd: Crowd | None = None
        self._may_crowd = Crowd.helps()
        self._lock = Lock()
        self._here = local()
        self._chosen = _chosen_by_user()
        if self._chosen:
            log.info('%s, as %s says', counted(_DEFAULT, 'thread'), self._chosen)

    @contextmanager
    def frame(self, network: bool = False) -> Iterator[None]:
        """
        Let torch use the threads for a frame within the block.

        :param network: the block is the network, whose length decides how threads wait.
        """
        if not hasattr(self._here, 'known'):
            self._here.known = True
            # A thread of Python begins with what torch uses then, perhaps for a frame of another.
            if torch.get_num_threads() == self._threads and not self._chosen:
                torch.set_num_threads(_DEFAULT)
        given = torch.get_num_threads()
        adapts = not self._chosen and given == _DEFAULT > 1
        with torch_threads(self._choose() if adapts else given):
            start = process_time()
            yield
            taken = process_time() - start
        # Other threads of the process and threads that spin only add to it.
        if network:
            self._shortest = min(taken, self._shortest or taken)

    def _choose(self) -> int:
        with self._lock:
            free = self._cores.look()
            if free is not None:
                self._follow(free)
            return _DEFAULT if self._crowd is not None else self._threads

    def _follow(self, free: float) -> None:
        """Take as many threads as fit into the cores that are free, or all and a crowd."""
        cores = _whole(free)
        fit = _DEFAULT if cores >= _DEFAULT else 1 << (cores.bit_length() - 1)
        self._more = self._more + 1 if fit > self._threads else 0
        if fit != self._threads and not 0 < self._more < _PATIENCE:
            self._threads, self._more = fit, 0
            self._tell('%d of %d threads, because other processes leave %.1f cores; adapted '
                       'between frames', fit, _DEFAULT, free)
        crowded = self._threads < _DEFAULT and self._may_crowd and self._shortest > _LONG
        if crowded and self._crowd is None:
            self._crowd = Crowd(_DEFAULT)
            self._tell('%d threads that sleep while they wait, because other processes leave '
                       '%.1f cores and a frame is long', _DEFAULT, free)
        elif not crowded:
            self._crowd = None

    def _tell(self, text: str, *values: object) -> None:
        """Log the first of each kind of choice, and later ones only for those who look closely."""
        log.log(logging.DEBUG if text in self._told else logging.INFO, text, *values)
        self._told.add(text)
