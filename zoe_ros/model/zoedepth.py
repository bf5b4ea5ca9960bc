"""The whole network: backbone, decoder, router and metric heads."""
from __future__ import annotations

from collections.abc import Sequence
import logging
from typing import Any, NamedTuple

import torch
from torch import nn

from zoe_ros.model.backbone import BeitBackbone
from zoe_ros.model.calibration import Calibration
from zoe_ros.model.config import PyramidConfig, ZoeConfig
from zoe_ros.model.decoder import DptDecoder, Features, upsample
from zoe_ros.model.dino import DinoBackbone
from zoe_ros.model.fuse import fuse
from zoe_ros.model.metric import Embeddings, MetricBins
from zoe_ros.model.pyramid import PyramidBackbone
from zoe_ros.model.router import Router
from zoe_ros.model.transformer import TransformerBackbone

_log = logging.getLogger(__name__)


class SharedFeatures(NamedTuple):
    """
    All results that do not depend on the choice of a head.

    :param logits: (b, heads) of the router; None if the router is missing or was not run.
    """

    features: Features
    embeddings: Embeddings
    logits: torch.Tensor | None


class ZoeDepth(nn.Module):
    """
    ZoeDepth (Bhat et al. 2023, arXiv 2302.12288), any variant, also over Depth Anything.

    Inference has three steps: :meth:`forward_features` processes the image, the caller chooses a
    head for each image (by the router's logits, or by name), and :meth:`predict_depth` runs these
    heads. The module keeps no state between calls, so several threads may use it at once.

    :ivar precision: of encoder and decoder, see :meth:`set_precision`.
    :ivar calibrations: name of a head -> map of its deviation; other heads keep theirs.
    """

    precision = torch.float32

    def __init__(self, config: ZoeConfig) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.config = config
        self.calibrations: dict[str, Calibration] = {}
        width = config.decoder.features
        self.backbone = make_backbone(config)
        self.decoder = DptDecoder(
            config.backbone.channels, config.decoder, config.backbone.stride)
        self.metric = MetricBins(config.metric, width, config.decoder.relative_channels)
        self.router = (None if config.router is None
                       else Router(config.router, width, len(config.metric.heads)))

    def set_precision(self, dtype: torch.dtype) -> ZoeDepth:
        """
        Convert the encoder and the decoder to ``dtype``; return self.

        The router and the metric heads stay in float32: their values span too many orders of
        magnitude for half precision (section 8). The relative depth head overflows float16, but
        not bfloat16, which has float32's range.
        """
        self.float()
        self.precision = dtype
        if isinstance(self.backbone, TransformerBackbone):
            self.backbone.to(dtype)
            self.backbone.widen_sums()
        else:
            self.backbone.set_precision(dtype)
        self.decoder.project.to(dtype)
        self.decoder.fusion.to(dtype)
        if dtype != torch.float16:
            self.decoder.relative.conv1.to(dtype)
            self.decoder.relative.conv2.to(dtype)
        return self

    def pack(self) -> ZoeDepth:
        """
        Make the model faster, for inference only: the weights cannot be saved or trained any more.

        On a GPU, fused kernels are used if they give the same results there; 'meta' counts as GPU.
        """
        self.backbone.pack()
        device = next(self.parameters()).device
        if device.type == 'cpu':
            self.decoder.pack()
        elif reason := fuse(self, probe=device.type == 'cuda'):
            _log.warning('without fused kernels, which is slower: %s', reason)
            self.decoder.pack()
        return self

    def forward_features(self, pixels: torch.Tensor, biases: Sequence[torch.Tensor] = (),
                         route: bool = True, side_stream: Any = None) -> SharedFeatures:
        """
        Compute the features that all heads share, and the router's logits.

        :param pixels: (b, 3, H, W) in [-1, 1], H and W multiples of the encoder's
            ``size_multiple``.
        :param biases: precomputed position biases, see :class:`TransformerBackbone`.
        :param route: run the router.
        :param side_stream: CUDA stream on which the router runs in parallel to the decoder.
        """
        skips = self.decoder.skips(self.encode(pixels, biases))
        bottleneck = self.metric.project(skips[-1])
        router = self.router if route else None
        logits = None
        if router is not None and side_stream is not None:
            side_stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side_stream):
                logits = router(bottleneck)
        features = self.decoder.fuse(skips)
        embeddings = self.metric.embed(features, bottleneck)
        if router is not None and side_stream is not None:
            torch.cuda.current_stream().wait_stream(side_stream)
        elif router is not None:
            logits = router(bottleneck)
        return SharedFeatures(features, embeddings, logits)

    def encode(self, pixels: torch.Tensor,
               biases: Sequence[torch.Tensor] = ()) -> list[torch.Tensor]:
        """Run the backbone in its precision; see :meth:`forward_features`."""
        if isinstance(self.backbone, TransformerBackbone):
            return self.backbone(pixels, biases)
        return self.backbone(pixels.to(next(self.backbone.parameters()).dtype))

    def route(self, pixels: torch.Tensor) -> torch.Tensor:
        """Compute the router's logits (b, heads) alone; see :meth:`forward_features`."""
        assert self.router is not None
        return self.router(self.metric.project(self.decoder.skips(self.encode(pixels))[-1]))

    def embed(self, features: Features) -> SharedFeatures:
        """Compute the embeddings that all heads share, and the router's logits."""
        bottleneck = self.metric.project(features.bottleneck)
        return SharedFeatures(features, self.metric.embed(features, bottleneck),
                              None if self.router is None else self.router(bottleneck))

    def predict_depth(self, shared: SharedFeatures, heads: Sequence[str],
                      deviation: bool = False) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Run the named head of each image.

        Each image has its own head, independent of the rest of the batch (trap T6).

        :param deviation: also return the standard deviation.
        :return: (b, H, W) depth along the optical axis [m] at the size of the pixels, and the
            standard deviation of its distribution over the bins [m], calibrated where
            ``calibrations`` has the head, or None.
        """
        depth, deviations = self._mean_and_deviation(shared, heads, deviation)
        stride = self.config.decoder.fine_stride
        return (upsample(depth[:, None], scale=stride)[:, 0],
                None if deviations is None else upsample(deviations[:, None], scale=stride)[:, 0])

    def _mean_and_deviation(self, shared: SharedFeatures, heads: Sequence[str],
                            deviation: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Do the work of :meth:`predict_depth`, at the fine stride."""
        used = sorted(set(heads))
        if len(used) == 1:
            return self._one_head(used[0], shared.features, shared.embeddings, deviation)
        fine = shared.features.fine
        depth = shared.embeddings.seed.new_empty((fine.shape[0], *fine.shape[2:]))
        deviations = torch.empty_like(depth) if deviation else None
        for name in used:
            rows = [i for i, head in enumerate(heads) if head == name]
            features, embeddings = _rows(shared.features, rows), _rows(shared.embeddings, rows)
            mean, part = self._one_head(name, features, embeddings, deviation)
            depth[rows] = mean
            if deviations is not None and part is not None:
                deviations[rows] = part
        return depth, deviations

    def _one_head(self, name: str, features: Features, embeddings: Embeddings,
                  deviation: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run a head at the fine stride; calibrate its deviation."""
        depth, found = self.metric.mean_and_deviation(name, features, embeddings, deviation)
        if found is not None and name in self.calibrations:
            found = self.calibrations[name](found, depth)
        return depth, found

    def choose(self, logits: torch.Tensor | None, count: int) -> list[str]:
        """Return the most probable head of each of ``count`` images."""
        names = self.config.head_names
        if logits is None:
            return [names[0]] * count
        return [names[i] for i in logits.argmax(dim=1).tolist()]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return depth (b, H, W) [m] of the head that the router chooses for each image."""
        shared = self.forward_features(pixels)
        return self.predict_depth(shared, self.choose(shared.logits, len(pixels)))[0]


def make_backbone(config: ZoeConfig) -> PyramidBackbone | TransformerBackbone:
    """Build the encoder of a model with random weights."""
    backbone = config.backbone
    if isinstance(backbone, PyramidConfig):
        return PyramidBackbone(backbone, config.image_size)
    return DinoBackbone(backbone) if backbone.kind == 'dinov2' else BeitBackbone(backbone)


def _rows(parts: Any, rows: list[int]) -> Any:
    """Select images from a batch, or from every batch in a (named) tuple."""
    if isinstance(parts, torch.Tensor):
        return parts[rows]
    selected = [_rows(part, rows) for part in parts]
    return type(parts)(*selected) if hasattr(parts, '_fields') else tuple(selected)
