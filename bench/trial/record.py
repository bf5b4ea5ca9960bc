"""What a step writes down, and how it measures."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
import statistics
import time
import traceback
from typing import Any

from bench.trial.facts import write_fact
import torch

# Repetitions of what is timed, and the most that they may take together [s].
_REPEAT = 50
_SECONDS = 1.5


@dataclass
class Trial:
    """
    One step at work.

    :ivar tiny: a dry run: the tiny model, and few repetitions.
    :ivar zero: when the trial began, by :func:`time.time`.
    :ivar end: when the step will be killed, likewise.
    :ivar failures: attempts that failed.
    """

    step: str
    out: Path
    device: torch.device
    tiny: bool
    zero: float
    end: float
    failures: list[str] = field(default_factory=list)

    @property
    def cuda(self) -> bool:
        """Tell whether the device is a GPU."""
        return self.device.type == 'cuda'

    @property
    def left(self) -> float:
        """Return the time that a command of this step may take [s]."""
        return max(1.0, self.end - time.time() - 2)

    def fact(self, name: str, **values: Any) -> None:
        """
        Append a fact to results.jsonl.

        :param name: the row of the summary; facts of one name share a row.
        """
        write_fact(self.out, self.step, self.zero, name=name, **values)

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Keep a failure to what is inside of this block, and write down its cause."""
        try:
            yield
        except Exception as error:
            self.failures.append(name)
            self.fact(name, error=f'{type(error).__name__}: {str(error)[:600]}')
            traceback.print_exc()
            if isinstance(error, getattr(torch, 'AcceleratorError', ())):
                raise SystemExit(3) from error      # the device cannot be used in this process

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize()

    def timed(self, work: Callable[[], Any]) -> dict[str, float]:
        """Return the median, minimum and 95th percentile by the clock of the host [ms]."""
        times: list[float] = []
        for _ in range(1 if self.tiny else 3):
            work()
        begin = time.perf_counter()
        while len(times) < (3 if self.tiny else _REPEAT) and (
                len(times) < 5 or time.perf_counter() - begin < _SECONDS):
            self.synchronize()
            start = time.perf_counter()
            work()
            self.synchronize()
            times.append(1e3 * (time.perf_counter() - start))
        times.sort()
        return {'p50_ms': round(statistics.median(times), 4), 'min_ms': round(times[0], 4),
                'p95_ms': round(times[int(0.95 * (len(times) - 1))], 4)}

    def device_ms(self, work: Callable[[], Any], calls: int = 1) -> float:
        """
        Return the median time between calls that follow each other without a wait [ms].

        :param calls: what ``work`` does at a time; the time is that of one.
        """
        if not self.cuda:
            return self.timed(work)['p50_ms'] / calls
        for _ in range(3):
            work()
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(1 + _REPEAT // 2)]
        marks[0].record()
        for mark in marks[1:]:
            work()
            mark.record()
        self.synchronize()
        return statistics.median(
            a.elapsed_time(b) for a, b in pairwise(marks)) / calls

    def captured(self, work: Callable[[], Any]) -> Callable[[], Any]:
        """Return a function that replays ``work`` as a CUDA graph; on a CPU, ``work`` itself."""
        if not self.cuda:
            return work
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            results = work()

        def replay() -> Any:
            graph.replay()
            return results

        return replay

    def memory(self) -> dict[str, int]:
        """Return the device memory [MB] that tensors had at most, and that torch holds now."""
        if not self.cuda:
            return {}
        return {'peak_mb': torch.cuda.max_memory_allocated() >> 20,
                'reserved_mb': torch.cuda.memory_reserved() >> 20}
