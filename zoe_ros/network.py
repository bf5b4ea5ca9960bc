"""The model as estimators run it: what frames share is kept, and a GPU replays whole graphs."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
import logging
from threading import Lock
from typing import Any

import numpy as np
import torch

from zoe_ros.model.backbone import BeitBackbone, relative_position_index
from zoe_ros.model.zoedepth import ZoeDepth

_log = logging.getLogger(__name__)

# Shapes of input whose graphs are kept.
_GRAPHS = 4

# The router's logits (b, heads), None where there is one head -> the name of the head of each.
Choose = Callable[[np.ndarray | None], Sequence[str]]


class Network:
    """
    Runs a model that does not change any more; may be called from several threads.

    On a CPU that is the model itself. On a GPU everything from pixels to the depth by each head is
    recorded once for each shape and replayed: no step waits for Python, and the only wait for the
    device is for the answer. Choosing a head afterwards costs less than stopping to ask.

    :ivar biases: the position biases that are kept between frames.
    """

    def __init__(self, model: ZoeDepth, position_memory: float) -> None:
        """
        Wrap a model on its device.

        :param position_memory: [GiB] that position biases may take, see :class:`PositionBiases`.
        """
        self._model = model
        self.biases = PositionBiases(model, position_memory)
        self._graphs = _Graphs(model) if next(model.parameters()).is_cuda else None

    @torch.inference_mode()
    def __call__(self, pixels: torch.Tensor, choose: Choose,
                 deviation: bool = False) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Return depth (b, H, W) [m], and its standard deviation [m] if that is asked for.

        :param pixels: (b, 3, H, W) in [-1, 1], H and W multiples of 32.
        """
        biases = self.biases.of(pixels)
        if self._graphs is not None:
            try:
                return self._graphs.replay(pixels, biases, choose, deviation)
            except _GraphError as error:
                _log.warning('without CUDA graphs, which is slower: %s', error)
                self._graphs = None
        with _convolutions_for(self._model):
            trunk = self._model.trunk(pixels, biases)
            return self._model.measure(trunk, choose(_host(trunk.logits)), deviation)


class PositionBiases:
    """
    The position biases of the attention of all blocks, for the resolutions seen last.

    They depend on the weights and the resolution alone, and making them takes a fifth of a frame.
    At 384 x 512 all 24 are 0.9 GB in float32, half of that in half precision. Where the memory
    does not suffice for all blocks of a resolution, the first ones are kept and the others are
    made again for each frame.
    """

    def __init__(self, model: ZoeDepth, memory: float) -> None:
        """
        Start empty.

        :param memory: the most that is kept [GiB], for all resolutions together.
        """
        self._backbone = model.backbone
        self._limit = int(memory * 2 ** 30)
        self._kept: OrderedDict[tuple[int, int], list[torch.Tensor]] = OrderedDict()
        self._lock = Lock()

    def of(self, pixels: torch.Tensor) -> Sequence[torch.Tensor]:
        """Return the biases of the first blocks for images of this size, (1, heads, n, n) each."""
        backbone = self._backbone
        if not isinstance(backbone, BeitBackbone):
            return ()
        grid = backbone.grid_of(pixels)
        with self._lock:
            if grid not in self._kept:
                self._kept[grid] = self._make(backbone, grid)
            self._kept.move_to_end(grid)
            while self.size > self._limit:
                self._kept.popitem(last=False)
            return self._kept[grid]

    @property
    def size(self) -> int:
        """Return the bytes that are kept."""
        return sum(bias.untyped_storage().nbytes()
                   for biases in self._kept.values() for bias in biases)

    @torch.inference_mode()
    def _make(self, backbone: BeitBackbone, grid: tuple[int, int]) -> list[torch.Tensor]:
        table = backbone.position_tables[0]
        tokens = 1 + grid[0] * grid[1]
        # The fused attention of GPUs reads rows that start at multiples of eight numbers.
        row = -(-tokens // 8) * 8
        each = table.shape[1] * tokens * row * table.element_size()
        index = relative_position_index(*grid, device=table.device)
        biases = []
        for block in range(min(backbone.used_blocks, self._limit // each)):
            bias = table.new_empty(1, table.shape[1], tokens, row)[..., :tokens]
            biases.append(bias.copy_(backbone.position_bias(block, grid, index)))
        return biases


class _GraphError(RuntimeError):
    """A graph could not be recorded; the text is the reason."""


class _Graphs:
    """
    The graphs for the shapes of input seen last.

    They share their memory, because no two of them run at a time and what one has computed is
    copied before another runs. Each keeps the position biases that it reads, whatever their limit
    is: to record it anew would cost far more than they do.
    """

    def __init__(self, model: ZoeDepth) -> None:
        """Start empty."""
        self._model = model
        self._kept: OrderedDict[tuple[int, ...], _Graph] = OrderedDict()
        self._pool: Any = None
        self._lock = Lock()

    def replay(self, pixels: torch.Tensor, biases: Sequence[torch.Tensor], choose: Choose,
               deviation: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Do what :class:`Network` does.

        :raises _GraphError: see there.
        """
        # Streams and graphs are of the current device, which need not be the model's.
        with self._lock, torch.cuda.device(pixels.device):
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            key = (*pixels.shape, deviation)
            if key not in self._kept:
                while len(self._kept) >= _GRAPHS:
                    self._kept.popitem(last=False)
                self._kept[key] = _Graph(self._model, pixels, biases, deviation, self._pool)
            self._kept.move_to_end(key)
            logits, depths, spreads = self._kept[key](pixels)
            heads = choose(_host(logits))
            rows = [self._model.config.head_names.index(head) for head in heads]
            picked = list(enumerate(rows))
            depth = torch.stack([depths[head][i] for i, head in picked])
            if not spreads:
                return depth, None
            return depth, torch.stack([spreads[head][i] for i, head in picked])


class _Graph:
    """Pixels of one shape to the router's logits, and to depth and deviation by each head."""

    def __init__(self, model: ZoeDepth, pixels: torch.Tensor, biases: Sequence[torch.Tensor],
                 deviation: bool, pool: Any) -> None:
        """Record the graph; it keeps the biases alive that it reads."""
        self._biases = biases
        self._pixels = pixels.clone()
        try:
            with _convolutions_for(model):
                # Libraries choose their algorithms and workspaces at the first calls.
                aside = torch.cuda.Stream()
                aside.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(aside):
                    for _ in range(2):
                        by_all_heads(model, self._pixels, biases, deviation)
                torch.cuda.current_stream().wait_stream(aside)
                self._graph = torch.cuda.CUDAGraph()
                # A stream of this device, which torch's own need not be. Other threads may use the
                # device meanwhile.
                with torch.cuda.graph(self._graph, pool, aside, 'thread_local'):
                    self._results = by_all_heads(model, self._pixels, biases, deviation)
        except RuntimeError as error:
            raise _GraphError(str(error).splitlines()[0]) from None

    def __call__(self, pixels: torch.Tensor) -> tuple[
            torch.Tensor | None, list[torch.Tensor], list[torch.Tensor]]:
        """Return what :func:`by_all_heads` does; it holds until the next call."""
        self._pixels.copy_(pixels)
        self._graph.replay()
        return self._results


def by_all_heads(model: ZoeDepth, pixels: torch.Tensor, biases: Sequence[torch.Tensor],
                 deviation: bool) -> tuple[
        torch.Tensor | None, list[torch.Tensor], list[torch.Tensor]]:
    """
    Compute all that a graph holds; nothing in it waits for the device or comes from the host.

    :return: the router's logits, depths and (if asked for) deviations by each head.
    """
    trunk = model.trunk(pixels, biases)
    both = [model.measure(trunk, [head] * len(pixels), deviation)
            for head in model.config.head_names]
    return (trunk.logits, [depth for depth, _ in both],
            [spread for _, spread in both if spread is not None])


def _convolutions_for(model: ZoeDepth) -> AbstractContextManager[None]:
    """
    Let cuDNN try out which algorithm is the fastest, and keep float32 what was asked to be.

    torch lets it round the factors of float32 convolutions to 10 bits (TF32). Beside half
    precision that is plenty for what stays float32 there for its range.
    """
    half = next(model.backbone.parameters()).dtype != torch.float32
    if next(model.parameters()).is_cuda:
        return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=half)
    return nullcontext()


def _host(logits: torch.Tensor | None) -> np.ndarray | None:
    return None if logits is None else logits.float().cpu().numpy()
