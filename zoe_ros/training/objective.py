"""From a batch to a loss: the two stages and the three ways to teach a router."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros.model.zoedepth import SharedFeatures, ZoeDepth
from zoe_ros.training.batches import Batch
from zoe_ros.training.losses import (
    EPSILON,
    imitation_loss,
    relative_loss,
    routing_loss,
    scale_loss,
    SCALE_WEIGHT,
    silog,
)


class Objective(nn.Module):
    """
    A model and its training loss; a module, because DistributedDataParallel wraps modules.

    The released code teaches the router with a cross entropy but sends a batch to the head that
    the untrained router happens to prefer. Here the label picks the head during training, so that
    each head sees only its own domain from the first step. The paper does not say how R.3 gets a
    gradient through a hard choice; here R.3 trains on the mixture of the heads' depths, weighted
    by the router's probabilities, and chooses one head at inference.
    """

    def __init__(self, model: ZoeDepth, stage: str, routing: str, routing_weight: float,
                 precision: str, shape_weight: float = 0.0, distilled: bool = False) -> None:
        """Wrap a model; see :class:`TrainSettings` for the choices."""
        super().__init__()
        self.model = model
        self._relative = stage == 'relative'
        self._routing = routing
        self._routing_weight, self._shape_weight = routing_weight, shape_weight
        self._narrow, self._distilled = precision == 'bf16', distilled

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the loss and its parts; training minimises 'loss'."""
        model = self.model
        with torch.autocast(batch.pixels.device.type, torch.bfloat16, enabled=self._narrow):
            features = model.decoder(model.encode(batch.pixels))
        features = type(features)(*(_widen(part) for part in features))
        if self._relative:
            return _relative(features.relative, batch)
        shared = model.embed(features)
        logits = shared.logits
        if logits is not None and self._routing == 'auto':
            return self._depth_loss(self._mixture(shared, logits), batch)
        names = model.config.head_names
        heads = [model.config.head_for(domain) for domain in batch.domains]
        parts = self._depth_loss(model.predict_depth(shared, heads)[0], batch)
        if logits is not None and self._routing == 'trained':
            known = [given or {head: 1.0} for given, head in zip(batch.head_probabilities, heads)]
            labels = torch.tensor([[row.get(name, 0.0) for name in names] for row in known],
                                  device=logits.device)
            parts['routing'] = routing_loss(logits, labels)
            parts['loss'] = parts['loss'] + self._routing_weight * parts['routing']
        return parts

    def _depth_loss(self, depths: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the loss of metric depth (b, H, W) and its parts."""
        if self._distilled:
            pairs = [(_resize(row[None], depth), depth)
                     for row, depth in zip(depths, batch.depths) if torch.isfinite(depth).any()]
            return imitation_loss(*zip(*pairs)) if pairs else {'loss': _nothing(depths)}
        parts = {'silog': _silog(depths, batch)}
        parts['loss'] = parts['silog']
        if self._shape_weight:
            parts['shape'] = _mean_loss(
                relative_loss, depths.clamp(min=EPSILON).reciprocal()[:, None], batch)
            parts['loss'] = parts['loss'] + self._shape_weight * parts['shape']
        return parts

    def _mixture(self, shared: SharedFeatures, logits: torch.Tensor) -> torch.Tensor:
        """Mix the depths of all heads by the router's probabilities, (b, H, W) [m]."""
        model, count = self.model, len(logits)
        depths = torch.stack([model.predict_depth(shared, [name] * count)[0]
                              for name in model.config.head_names], dim=1)
        return (logits.softmax(dim=1)[:, :, None, None] * depths).sum(dim=1)


def _widen(part: Any) -> Any:
    return part.float() if isinstance(part, torch.Tensor) else tuple(p.float() for p in part)


def _relative(relative: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
    shape = _mean_loss(relative_loss, relative, batch)
    scale = _mean_loss(scale_loss, relative, batch)
    return {'relative': shape, 'scale': scale, 'loss': shape + SCALE_WEIGHT * scale}


def _mean_loss(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
               relative: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the mean of a loss over the images with depth, each at the size of its true depth."""
    losses = [loss(_resize(row, depth)[None], depth[None])
              for row, depth in zip(relative, batch.depths) if torch.isfinite(depth).any()]
    return torch.stack(losses).mean() if losses else _nothing(relative)


def _silog(depths: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Compare at the size and at the pixels of the true depth, up to scale where it is unsure."""
    predicted, true = [], []
    for row, depth, metric in zip(depths, batch.depths, batch.metric):
        valid = torch.isfinite(depth)
        if not valid.any():
            continue
        guess, truth = _resize(row[None], depth)[valid], depth[valid]
        if not metric:
            # Equal means of the logarithms: a factor on the guess changes nothing.
            guess = guess * (truth.log() - guess.log()).mean().exp()
        predicted.append(guess)
        true.append(truth)
    return silog(predicted, true) if predicted else _nothing(depths)


def _nothing(values: torch.Tensor) -> torch.Tensor:
    """Return a loss of 0 that has a gradient, for a batch without depth."""
    return values.float().sum() * 0.0


def _resize(row: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """Bring a (1, H, W) map to the (h, w) of a true depth; return (h, w)."""
    if row.shape[1:] == depth.shape:
        return row[0]
    return F.interpolate(row[None], depth.shape, mode='bilinear', align_corners=True)[0, 0]
