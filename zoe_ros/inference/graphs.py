"""CUDA graphs: work of a fixed shape, recorded once and replayed without Python overhead."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
import logging
from threading import Lock
from typing import Any, TypeVar

import torch

_log = logging.getLogger(__name__)

# Number of cached graphs. Each has a few MB of its own; all share the memory of their work.
_KEPT = 64
# Largest number of prepared graphs that wait for the recorder.
_WAITING = 32

Result = TypeVar('Result')
# Static inputs -> any tensors. Work must neither wait for the device nor read from the host.
Work = Callable[..., Any]
Shape = tuple[tuple[int, ...], torch.dtype]


class Graphs:
    """
    Records and replays work on one CUDA device, for several threads.

    A separate thread records new work. Work that cannot be recorded runs without a graph; a
    failure affects only its own key. All graphs use one stream and share one memory pool, because
    only one graph runs at a time and its results are copied before the next graph runs.

    :ivar in_background: do not wait for a recording; new work runs without a graph meanwhile.
        For programs that never synchronise the whole device, which CUDA forbids during a
        recording.
    """

    def __init__(self, device: torch.device) -> None:
        """Start without graphs."""
        self.in_background = False
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool: Any = None
        self._kept: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._pending: dict[Hashable, Future[None]] = {}
        self._failed: set[Hashable] = set()
        self._running, self._books = Lock(), Lock()
        # One thread for all recordings: cuBLAS keeps 32 MB of workspace per thread and stream.
        self._recorder = ThreadPoolExecutor(1, 'zoe_ros-graphs')
        self._recording_stream = torch.cuda.Stream(device)

    def __len__(self) -> int:
        """Return the number of cached graphs."""
        return len(self._kept)

    def run(self, key: Hashable, work: Work, inputs: Sequence[torch.Tensor],
            take: Callable[[Any], Result], announce: str = '') -> Result:
        """
        Run work on the inputs, by its graph if there is one.

        :param key: identifies the work, together with shapes and types of the inputs.
        :param work: the function to record.
        :param inputs: on the device or on the host (pinned, for asynchronous copies).
        :param take: copies the results of the work, which the next replay overwrites. Runs on the
            stream of the graphs.
        :param announce: name of the work in the log line of a background recording.
        """
        shapes = [(tuple(x.shape), x.dtype) for x in inputs]
        full = (key, *shapes)
        if self._submit(full, work, shapes) and announce and self.in_background:
            _log.info('recording a CUDA graph for %s; frames are slower until then', announce)
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
        Record work in the background; see :meth:`run`.

        :param shapes: shape and type of each input.
        :param wait: return after the recording.
        """
        if not wait and len(self._pending) >= _WAITING:
            return      # a camera with ever new sizes must not fill the memory
        full = (key, *shapes)
        self._submit(full, work, shapes)
        if wait:
            self._wait_for(full)

    def wait(self) -> None:
        """Wait for all pending recordings."""
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
        """Submit work to the recorder, unless it is recorded, pending, or has failed."""
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
        except Exception as error:      # drivers and libraries raise many types
            text = str(error).strip().splitlines()
            _log.warning('without a CUDA graph, which is slower: %s',
                         text[0] if text else type(error).__name__)
            # A failed recording leaves its memory pool unusable.
            self._pool = None
        if not self.in_background:
            # Frees the memory of the warm-up; this call waits for the device.
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
    """Recorded work, with the memory of its inputs and results."""

    def __init__(self, work: Work, inputs: list[torch.Tensor], stream: torch.cuda.Stream,
                 pool: Any) -> None:
        self._inputs = inputs
        self._work = work               # keeps the tensors that the graph reads alive
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # Libraries choose algorithms and workspaces in the first calls.
            for _ in range(2):
                work(*inputs)
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            # Other threads may use the device meanwhile, so torch's context manager is avoided:
            # it would collect garbage and empty the allocator's cache, which delays them.
            self._graph.capture_begin(pool, capture_error_mode='thread_local')
            try:
                self._results = work(*inputs)
            finally:
                self._graph.capture_end()
            stream.synchronize()

    def replay(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Return the results, which are valid until another graph runs."""
        for static, given in zip(self._inputs, inputs):
            static.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._results
