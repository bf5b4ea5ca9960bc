"""Replaces parts of a model by fused GPU kernels, if these give the same results."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F

from zoe_ros.model import cuda, fused
from zoe_ros.model.decoder import Features
from zoe_ros.model.fused_decoder import FusedDecoder
from zoe_ros.model.fused_metric import FusedMetric

# Largest relative difference (L2) between fused and plain stage, by precision of the products.
_TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
# (height, width) of the probe's finest map, at stride 4.
_PROBE = (16, 24)


def fuse(model: Any, probe: bool = True) -> str:
    """
    Replace decoder, metric heads and router of a model for inference with their fused forms.

    :param model: a :class:`~zoe_ros.model.zoedepth.ZoeDepth`.
    :param probe: first compare each fused form with the plain one on the model's device.
    :return: why the model is unchanged; empty if the parts were replaced.
    """
    if not fused.DEFINED:
        return 'torch has no Triton here'
    tf32 = _dtype(model.decoder.project) != torch.float32
    metric = FusedMetric(model.metric, tf32)
    decoder = FusedDecoder(model.decoder, relative=model.config.metric.relative_input)
    if probe:
        try:
            with cuda.convolutions(tf32=False):
                for stage, difference, tolerance in _differences(model, metric, decoder):
                    if not difference < tolerance:
                        return f'{stage} is off by {difference:.2g} (relative L2)'
        except Exception as error:      # compilers and drivers raise many types
            text = str(error).strip().splitlines()
            return ': '.join([type(error).__name__, *text[:1]])
    model.metric, model.decoder = metric, decoder
    if model.router is not None:
        model.router.fuse()
    if hasattr(model.backbone, 'fused'):
        model.backbone.fused = True
    return ''


@torch.inference_mode()
def _differences(model: Any, metric: FusedMetric,
                 decoder: FusedDecoder) -> Iterator[tuple[str, float, float]]:
    """Yield stage, relative difference of the fused form on a small input, and its tolerance."""
    half, wide = _dtype(model.decoder.project), _dtype(model.metric.bottleneck)
    device = next(model.metric.parameters()).device
    generator = torch.Generator(device).manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device, generator=generator)

    maps = [random(1, layer.in_channels, _PROBE[0] >> level, _PROBE[1] >> level).to(half)
            for level, layer in enumerate(model.decoder.project)]
    plain: Features = model.decoder(maps)
    found = decoder(maps)
    tolerance = _TOLERANCES[half]
    yield 'the decoder', _off(found.fine, plain.fine), tolerance
    for a, b in zip(found.pyramid, plain.pyramid):
        yield 'the decoder', _off(a, b), tolerance
    # Factors of 10 bits and ill-conditioned weights; a broken kernel differs far more.
    exact = _TOLERANCES[torch.bfloat16 if metric.tf32 else torch.float32]
    bottleneck = model.metric.project(plain.bottleneck)
    yield 'the bottleneck', _off(metric.project(plain.bottleneck), bottleneck), exact
    embeddings = model.metric.embed(plain, bottleneck)
    for a, b in zip(metric.embed(plain, bottleneck).levels, embeddings.levels):
        yield 'the embedding', _off(a, b), exact
    for name in metric.heads:
        for a, b in zip(metric.mean_and_deviation(name, plain, embeddings, True),
                        model.metric.mean_and_deviation(name, plain, embeddings, True)):
            yield f'the {name} head', _off(a, b), exact
    tokens, update, scale = random(2, 5, 96), random(2, 5, 96).to(half), random(96)
    total, normed = fused.add_norm(tokens, update, scale, scale, scale, 1e-6, wide, True)
    expected = torch.addcmul(tokens, scale, update)
    yield 'the sum', _off(total, expected), 1e-4
    yield 'the norm', _off(normed, F.layer_norm(expected, (96,), scale, scale, 1e-6)), 1e-4


def _dtype(module: Any) -> torch.dtype:
    return next(module.parameters()).dtype


def _off(found: torch.Tensor | None, expected: torch.Tensor | None) -> float:
    assert found is not None and expected is not None
    return float((found.float() - expected.float()).norm() / expected.float().norm())
