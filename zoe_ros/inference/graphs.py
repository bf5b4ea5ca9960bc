"""CUDA graphs: work of a fixed shape, recorded once and replayed without waiting for Python."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
import logging
from threading import Lock
from typing import Any, TypeVar

import torch

_log = logging.getLogger(__name__)

# Graphs that are kept. Each takes a few MB of its own; what they compute with, they share.
_KEPT = 64
# Announced graphs that wait for the recorder.
_WAITING = 32

Result = TypeVar('Result')
# Static inputs -> whatever tensors; it must not wait for the device nor read from the host.
Work = Callable[..., Any]
Shape = tuple[tuple[int, ...], torch.dtype]


class Graphs:
    """
    Records and replays work on one CUDA device, for several threads.

    Work that is asked for the first time is recorded by a thread of its own. What cannot be
    recorded always runs as it is; a failure belongs to its key alone. All graphs run on one stream
    and share one memory, because no two of them run at a time and what one has computed is taken
    before another runs.

    :ivar in_background: nobody waits for a recording, and new work runs as it is meanwhile. For
        programs that never synchronise the whole device, which CUDA forbids during a recording.
    """

    def __init__(self, device: torch.device) -> None:
        """Start empty."""
        self.in_background = False
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool: Any = None
        self._kept: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._pending: dict[Hashable, Future[None]] = {}
        self._failed: set[Hashable] = set()
        self._running, self._books = Lock(), Lock()
        # One thread for all: cuBLAS keeps a workspace of 32 MB for each thread and stream.
        self._recorder = ThreadPoolExecutor(1, 'zoe_ros-graphs')
        self._recording_stream = torch.cuda.Stream(device)

    def __len__(self) -> int:
        """Return how many graphs are kept."""
        return len(self._kept)

    def run(self, key: Hashable, work: Work, inputs: Sequence[torch.Tensor],
            take: Callable[[Any], Result], announce: str = '') -> Result:
        """
        Do some work on the inputs, by its graph if there is one.

        :param key: tells this work from other work; together with the inputs' shapes and types.
        :param work: what is recorded.
        :param inputs: on the device or on the host (pinned, so that nobody waits).
        :param take: turns what the work returned into what is kept: the next replay overwrites
            it. Runs on the stream of the graphs.
        :param announce: what is logged when this is recorded in the background.
        """
        shapes = [(tuple(x.shape), x.dtype) for x in inputs]
        full = (key, *shapes)
        if self._submit(full, work, shapes) and announce and self.in_background:
            _log.info('recording %s; frames take the slower way until that is done', announce)
        if not self.in_background:
            self._wait_for(full)
        with torch.cuda.device(self._device):
            caller = torch.cuda.current_stream()
            with self._running:
                self._stream.wait_stream(caller)
                with torch.cuda.stream(self._stream):
                    with self._books:
                        graph = self._kept.get(full)
                        if graph is not None:
                            self._kept.move_to_end(full)
                    if graph is not None:
                        result = take(graph.replay(inputs))
                    else:
                        on_device = [x.to(self._device, non_blocking=True) for x in inputs]
                        result = take(work(*on_device))
                caller.wait_stream(self._stream)
        return result

    def prepare(self, key: Hashable, work: Work, shapes: Sequence[Shape],
                wait: bool = False) -> None:
        """
        Record some work beside what goes on; see :meth:`run`.

        :param shapes: shape and type of each input.
        :param wait: return when that is done.
        """
        if not wait and len(self._pending) >= _WAITING:
            return      # what announces ever new sizes shall not fill the memory
        full = (key, *shapes)
        self._submit(full, work, shapes)
        if wait:
            self._wait_for(full)

    def wait(self) -> None:
        """Wait until everything is recorded that has been asked for."""
        with self._books:
            pending = list(self._pending.values())
        for one in pending:
            one.result()

    def _wait_for(self, full: Hashable) -> None:
        with self._books:
            pending = self._pending.get(full)
        if pending is not None:
            pending.result()

    def _submit(self, full: Hashable, work: Work, shapes: Sequence[Shape]) -> bool:
        """Hand work to the recorder, unless it was recorded, is being recorded, or cannot be."""
        with self._books:
            if full in self._kept or full in self._pending or full in self._failed:
                return False
            self._pending[full] = self._recorder.submit(self._record, full, work, shapes)
        return True

    def _record(self, full: Hashable, work: Work,
                shapes: Sequence[Shape]) -> None:
        graph = None
        try:
            with torch.inference_mode(), torch.cuda.device(self._device):
                self._pool = self._pool or torch.cuda.graph_pool_handle()
                inputs = [torch.zeros(shape, dtype=dtype, device=self._device)
                          for shape, dtype in shapes]
                graph = _Graph(work, inputs, self._recording_stream, self._pool)
        except Exception as error:      # whatever the driver or a library refuses
            text = str(error).strip().splitlines()
            _log.warning('without a CUDA graph, which is slower: %s',
                         text[0] if text else type(error).__name__)
            # The memory that it was recording into stays in that state.
            self._pool = None
        if not self.in_background:
            # What trying out took; to give it back waits for the device.
            torch.cuda.empty_cache()
        with self._books:
            del self._pending[full]
            if graph is None:
                self._failed.add(full)
                return
            self._kept[full] = graph
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)


class _Graph:
    """Recorded work, with the memory that it reads and writes."""

    def __init__(self, work: Work, inputs: list[torch.Tensor], stream: torch.cuda.Stream,
                 pool: Any) -> None:
        self._inputs = inputs
        self._work = work               # keeps alive what it reads
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # Libraries choose their algorithms and workspaces at the first calls.
            for _ in range(2):
                work(*inputs)
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            # Other threads may use the device meanwhile. torch's context manager would collect
            # garbage and empty the allocator's cache, which costs others their time.
            self._graph.capture_begin(pool, capture_error_mode='thread_local')
            try:
                self._results = work(*inputs)
            finally:
                self._graph.capture_end()
            stream.synchronize()

    def replay(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Return the results; they hold until another graph runs."""
        for static, given in zip(self._inputs, inputs):
            static.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._results
