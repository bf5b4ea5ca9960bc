"""Runs a model on frames: caches position biases, and replays CUDA graphs on a GPU."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch

from zoe_ros.inference.graphs import Graphs
from zoe_ros.model import cuda
from zoe_ros.model.transformer import TransformerBackbone
from zoe_ros.model.zoedepth import ZoeDepth

# The router's logits (b, heads), or None if the router was not run -> head name of each image.
Choose = Callable[[np.ndarray | None], Sequence[str]]


class ModelRunner:
    """
    Runs a model with fixed weights; may be called from several threads.

    On a CPU the runner calls the model. On a GPU one graph, recorded once for each shape, computes
    the depth of each head from the pixels, so that the only wait is for the result. Running all
    heads and choosing afterwards is faster than waiting for the router's choice.

    :ivar biases: the position biases that are cached between frames.
    :ivar graphs: of the device, also used for pre- and postprocessing; None on a CPU.
    """

    def __init__(self, model: ZoeDepth, position_memory: float,
                 graphs: Graphs | None = None) -> None:
        """
        Wrap a model on its device.

        :param position_memory: [GiB] that position biases may take, see :class:`PositionBiases`.
        :param graphs: of a device that runs several models, each with other heads.
        """
        self._model = model
        device = next(model.parameters()).device
        on_gpu = self._on_gpu = device.type == 'cuda'
        self.biases = PositionBiases(model, position_memory, evict=not on_gpu)
        self.graphs = graphs_of(device) if graphs is None else graphs
        self._side_stream = torch.cuda.Stream(device) if on_gpu else None
        self._tf32 = model.precision != torch.float32

    @torch.inference_mode()
    def __call__(self, pixels: torch.Tensor, choose: Choose, deviation: bool = False,
                 heads: Sequence[str] = ()) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Return depth (b, H, W) [m], and its standard deviation [m] if ``deviation``.

        :param pixels: (b, 3, H, W) in [-1, 1], H and W multiples of the encoder's
            ``size_multiple``.
        :param choose: chooses a head for each image.
        :param heads: heads that may be chosen without the router, in the model's order; others
            are not computed. Empty: all heads, and the router is run.
        """
        if self.graphs is None:
            with self.convolutions():
                shared = self._model.forward_features(
                    pixels, self.biases.get(pixels), route=not heads)
                return self._model.predict_depth(shared, choose(host(shared.logits)), deviation)
        height, width = pixels.shape[-2:]
        return self.graphs.run(
            self._key(heads, deviation), self._work(heads, deviation), [pixels],
            lambda found: _pick(found, choose),
            f'batches of {len(pixels)} at {width} x {height}' + ' with deviation' * deviation)

    def prepare(self, batch: int, size: tuple[int, int], deviation: bool,
                heads: Sequence[str] = (), wait: bool = False) -> None:
        """Prepare for pixels (batch, 3, height, width); see :meth:`__call__` and Graphs."""
        if self.graphs is not None:
            self.graphs.prepare(self._key(heads, deviation), self._work(heads, deviation),
                                [((batch, 3, *size), torch.float32)], wait)

    def _key(self, heads: Sequence[str], deviation: bool) -> tuple[Any, ...]:
        return 'network', tuple(heads), deviation

    def _work(self, heads: Sequence[str], deviation: bool) -> Callable[[torch.Tensor], ByHead]:
        kept: list[Sequence[torch.Tensor]] = []

        def work(pixels: torch.Tensor) -> ByHead:
            if not kept:
                # A graph keeps alive the tensors that it reads, because it keeps this function.
                kept.append(self.biases.get(pixels))
            side = self._side_stream if torch.cuda.is_current_stream_capturing() else None
            with self.convolutions():
                return by_heads(self._model, pixels, kept[0], deviation, heads, side)

        return work

    def convolutions(self) -> AbstractContextManager[None]:
        """Set cuDNN's rounding for the model's precision, see :mod:`zoe_ros.model.cuda`."""
        return cuda.convolutions(self._tf32) if self._on_gpu else nullcontext()


def graphs_of(device: torch.device) -> Graphs | None:
    """Return the graphs of a GPU; None for a CPU."""
    return Graphs(device) if device.type == 'cuda' else None


class ByHead(NamedTuple):
    """
    The results of a graph.

    :param logits: (b, heads) of the router, or None.
    :param depth, deviation: head -> (b, H, W) [m].
    """

    logits: torch.Tensor | None
    depth: dict[str, torch.Tensor]
    deviation: dict[str, torch.Tensor]


def by_heads(model: ZoeDepth, pixels: torch.Tensor, biases: Sequence[torch.Tensor],
             deviation: bool, heads: Sequence[str] = (), side_stream: Any = None) -> ByHead:
    """
    Compute depth by several heads, without waiting for the device or reading from the host.

    :param heads, deviation: see :class:`ModelRunner`.
    :param side_stream: see :meth:`ZoeDepth.forward_features`.
    """
    shared = model.forward_features(pixels, biases, not heads, side_stream)
    found = {head: model.predict_depth(shared, [head] * len(pixels), deviation)
             for head in heads or model.config.head_names}
    return ByHead(
        shared.logits, {head: depth for head, (depth, _) in found.items()},
        {head: values for head, (_, values) in found.items() if values is not None})


def _pick(found: ByHead, choose: Choose) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return depth and deviation (b, H, W) of the chosen head of each image."""
    heads = choose(host(found.logits))
    depth = torch.stack([found.depth[head][i] for i, head in enumerate(heads)])
    if not found.deviation:
        return depth, None
    return depth, torch.stack([found.deviation[head][i] for i, head in enumerate(heads)])


def host(logits: torch.Tensor | None) -> np.ndarray | None:
    """Bring the router's logits (b, heads) to the host."""
    return None if logits is None else logits.float().cpu().numpy()


class PositionBiases:
    """
    A cache of the position biases of a transformer, for the latest resolutions.

    Biases depend only on the weights and the resolution. In BEiT each block has its own, and
    computing them takes 20 % of a frame. At 384 x 512 all 24 take 0.9 GB in float32, half as much
    in half precision. If the memory does not suffice for all blocks of a resolution, the first
    blocks are cached, and the other biases are computed in each frame. DINOv2 adds one bias of a
    few MB to its tokens.
    """

    def __init__(self, model: ZoeDepth, memory: float, evict: bool = True) -> None:
        """
        Start empty.

        :param memory: maximum size of the cache [GiB], for all resolutions together.
        :param evict: a new resolution may replace old ones. False: it gets the remaining memory,
            because graphs read the old ones.
        """
        self._backbone = model.backbone
        self._limit = int(memory * 2 ** 30)
        self._evict = evict
        self._kept: OrderedDict[tuple[int, int], list[torch.Tensor]] = OrderedDict()
        self._lock = Lock()

    def get(self, pixels: torch.Tensor) -> Sequence[torch.Tensor]:
        """Return the biases for images of this size, see TransformerBackbone.position_biases."""
        backbone = self._backbone
        if not isinstance(backbone, TransformerBackbone):
            return ()
        grid = backbone.patch_grid(pixels)
        with self._lock:
            if grid not in self._kept:
                room = self._limit if self._evict else self._limit - self.size
                self._kept[grid] = backbone.position_biases(grid, room)
            self._kept.move_to_end(grid)
            while self.size > self._limit:
                self._kept.popitem(last=False)
            return self._kept[grid]

    @property
    def size(self) -> int:
        """Return the size of the cache [bytes]."""
        return sum(bias.untyped_storage().nbytes()
                   for biases in self._kept.values() for bias in biases)
