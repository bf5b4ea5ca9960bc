"""Runs a pair of models on frames: first the router, then the model that was chosen."""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from zoe_ros.inference.runner import Choose, graphs_of, host, ModelRunner
from zoe_ros.model.pair import ModelPair


class PairRunner:
    """
    Offers what :class:`ModelRunner` does.

    A model with several heads computes all of them on a GPU, because that costs less than to wait
    for the router's choice. Here each head is a whole model, so the runner waits.

    :ivar graphs: of the device, see :class:`ModelRunner`.
    """

    def __init__(self, pair: ModelPair, position_memory: float) -> None:
        """
        Wrap models on their device.

        :param position_memory: [GiB], see :class:`ModelRunner`; each model gets its share.
        """
        self._pair = pair
        self.graphs = graphs_of(next(pair.parameters()).device)
        share = position_memory / len(pair.models)
        self._runners = {head: ModelRunner(model, share, self.graphs)
                         for head, model in pair.models.items()}

    @torch.inference_mode()
    def __call__(self, pixels: torch.Tensor, choose: Choose, deviation: bool = False,
                 heads: Sequence[str] = ()) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return depth and deviation (b, H, W) [m]; see :meth:`ModelRunner.__call__`."""
        logits = None if heads else host(self._route(pixels))
        chosen = choose(logits)
        depth = pixels.new_empty((len(pixels), *pixels.shape[2:]), dtype=torch.float32)
        deviations = torch.empty_like(depth) if deviation else None
        for head in dict.fromkeys(chosen):
            rows = [i for i, other in enumerate(chosen) if other == head]
            found, spread = self._runners[head](
                pixels[rows], partial(_only, head, len(rows)), deviation, (head,))
            depth[rows] = found
            if deviations is not None and spread is not None:
                deviations[rows] = spread
        return depth, deviations

    def prepare(self, batch: int, size: tuple[int, int], deviation: bool,
                heads: Sequence[str] = (), wait: bool = False) -> None:
        """Prepare for pixels (batch, 3, height, width); see :meth:`ModelRunner.prepare`."""
        if self.graphs is not None and not heads:
            self.graphs.prepare(
                'route', self._pair.route, [((batch, 3, *size), torch.float32)], wait)
        for head in heads or self._runners:
            self._runners[head].prepare(batch, size, deviation, (head,), wait)

    def _route(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.graphs is None:
            return self._pair.route(pixels)
        return self.graphs.run('route', self._pair.route, [pixels], torch.Tensor.clone)


def _only(head: str, count: int, logits: np.ndarray | None) -> list[str]:
    """Choose one head for all of ``count`` images."""
    return [head] * count
