"""The metric bins module: decoder features to a distribution over depths in metres."""
from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros.model.config import HeadConfig, MetricConfig
from zoe_ros.model.decoder import Features, upsample
from zoe_ros.model.distributions import (
    BinDistribution,
    Distribution,
    LogBinomial,
    mlp,
    SoftmaxBins,
)
from zoe_ros.model.kernels import pointwise
from zoe_ros.model.tiling import map_row_tiles, upsample_rows

# The released weights were trained with these values. Their configuration says 1000, but the
# attractor function was called without that value (trap T2).
ATTRACTOR_ALPHA = 300.0
# The nearest initial bin is this many octaves below the largest depth.
NEAREST_OCTAVE = 6


class Embeddings(NamedTuple):
    """Bin embeddings, shared by all heads: at the bottleneck, then at the four levels."""

    bottleneck: torch.Tensor
    seed: torch.Tensor
    levels: tuple[torch.Tensor, ...]


class MetricBins(nn.Module):
    """
    The parts that all heads share, and the heads (paper section 3.2, specification section 3).

    :meth:`project` and :meth:`embed` run once per image. The router reads the result of
    :meth:`project`; a head turns the embeddings into a distribution over depths.
    """

    def __init__(self, config: MetricConfig, features: int, fine_channels: int) -> None:
        """Build the module over a decoder of ``features`` and ``fine_channels`` channels."""
        super().__init__()
        hidden, dim = config.embedding_hidden, config.embedding_dim
        self.bottleneck = nn.Conv2d(features, features, 1)
        self.seed_embedding = mlp(features, hidden, dim)
        self.embeddings = nn.ModuleList(mlp(features, hidden, dim) for _ in range(4))
        kind = HEADS[config.kind]
        self.heads = nn.ModuleDict(
            {head.name: kind(config, head, features, fine_channels) for head in config.heads})

    def project(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """Project the decoder's bottleneck to the input of the router and the seed bins."""
        layer = self.bottleneck
        return pointwise(bottleneck.to(layer.weight.dtype), layer.weight, layer.bias)

    def embed(self, features: Features, bottleneck: torch.Tensor) -> Embeddings:
        """
        Project the decoder's features to bin embeddings, in the precision of this module.

        :param bottleneck: from :meth:`project`.
        """
        wide = self.bottleneck.weight.dtype
        return Embeddings(
            bottleneck, self.seed_embedding(bottleneck),
            tuple(net(x.to(wide)) for net, x in zip(self.embeddings, features.pyramid)))

    def forward(self, head: str, features: Features, embeddings: Embeddings) -> BinDistribution:
        """Return the distribution over depths of the named head, at full resolution."""
        return self.heads[head](features, embeddings)

    def mean_and_deviation(self, head: str, features: Features, embeddings: Embeddings,
                           deviation: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return mean and (optional) deviation of :meth:`forward`, with less memory."""
        chosen: Any = self.heads[head]
        return chosen.mean_and_deviation(features, embeddings, deviation)


class BinsHead(nn.Module):
    """Bins of one domain and a distribution over them; subclasses compute the bin centres."""

    def __init__(self, config: MetricConfig, head: HeadConfig, features: int,
                 fine_channels: int) -> None:
        """Build the head for ``head.depth_range`` [m], which only bounded bins use."""
        super().__init__()
        self.relative_input = config.relative_input
        self.min_depth, self.max_depth = head.depth_range
        self._kind = config.distribution
        kind = LogBinomial if config.distribution == 'log_binomial' else SoftmaxBins
        self.add_module(config.distribution, kind(
            fine_channels + int(config.relative_input) + config.embedding_dim,
            config.bottleneck_factor, config.bins))

    def forward(self, features: Features, embeddings: Embeddings) -> BinDistribution:
        """Return the distribution over depths at the resolution of ``features.fine``."""
        return self._in_rows(self.centers(embeddings), self._share(embeddings), features,
                             slice(0, features.fine.shape[2]))

    def mean_and_deviation(self, features: Features, embeddings: Embeddings,
                           deviation: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Return mean and (optional) deviation of the distribution, (b, H, W) [m].

        Full-resolution bins are computed for a few rows at a time, to save memory.
        """
        centers, share = self.centers(embeddings), self._share(embeddings)

        def compute(rows: slice) -> torch.Tensor:
            part = self._in_rows(centers, share, features, rows)
            return torch.stack([part.mean(), part.deviation()] if deviation else [part.mean()], 1)

        batch, _, height, width = features.fine.shape
        found = map_row_tiles(compute, (height, width), batch * centers.shape[1], centers.device)
        return found[:, 0], found[:, 1] if deviation else None

    def distribution(self) -> Distribution:
        """Return the module of probabilities; its name in checkpoints depends on its kind."""
        module: Any = self.get_submodule(self._kind)
        return module

    def _share(self, embeddings: Embeddings) -> torch.Tensor:
        """Return the contribution of the last embedding to the distribution's first layer."""
        return self.distribution().share(embeddings.levels[-1])

    def _in_rows(self, centers: torch.Tensor, share: torch.Tensor, features: Features,
                 rows: slice) -> BinDistribution:
        """Return the distribution in some rows of the image, for centres [m] of any size."""
        size = (features.fine.shape[2], features.fine.shape[3])
        fine = features.fine[:, :, rows].to(centers.dtype)
        if self.relative_input:
            assert features.relative is not None
            relative = upsample_rows(features.relative, size, rows).to(centers.dtype)
            fine = torch.cat([fine, relative], dim=1)
        probabilities = self.distribution()(fine, upsample_rows(share, size, rows))
        return BinDistribution(upsample_rows(centers, size, rows), probabilities)

    def centers(self, embeddings: Embeddings) -> torch.Tensor:
        """Return bin centres (b, k, H/2, W/2) [m]."""
        raise NotImplementedError


class AttractorHead(BinsHead):
    """Seed bins and four levels of attractors: the head of the paper."""

    def __init__(self, config: MetricConfig, head: HeadConfig, features: int,
                 fine_channels: int) -> None:
        """Build the head, see :class:`BinsHead`."""
        super().__init__(config, head, features, fine_channels)
        self.bounded = config.bounded
        self.attraction, self.reduction = config.attraction, config.reduction
        self.seed_bins = mlp(features, config.seed_hidden, config.bins)
        if not config.bounded:
            init_seed_bins(self.seed_bins[-1], self.max_depth)
        # A bounded layer predicts two channels per attractor, see _attractors.
        self.attractors = nn.ModuleList(
            mlp(config.embedding_dim, config.embedding_dim, n * (2 if config.bounded else 1))
            for n in head.attractors)

    def centers(self, embeddings: Embeddings) -> torch.Tensor:
        """Return bin centres (b, k, H/2, W/2) [m]; bounded ones ascend within the range."""
        bins = self._seed(embeddings.bottleneck)
        previous = embeddings.seed
        for net, embedding in zip(self.attractors, embeddings.levels):
            bins = self._level(net, bins, previous, embedding)
            # The next level gets the plain embedding, not its sum with this one (section 3.4).
            previous = embedding
        if not self.bounded:
            return bins
        centers = (self.max_depth - self.min_depth) * bins + self.min_depth
        return centers.sort(dim=1).values.clamp(self.min_depth, self.max_depth)

    def _level(self, net: nn.Module, bins: torch.Tensor, previous: torch.Tensor,
               embedding: torch.Tensor) -> torch.Tensor:
        """Move the bins of the previous level by the attractors of this level."""
        size = (embedding.shape[2], embedding.shape[3])

        def compute(rows: slice) -> torch.Tensor:
            both = embedding[:, :, rows] + upsample_rows(previous, size, rows)
            return attract(upsample_rows(bins, size, rows),
                           self._attractors(net(both).contiguous()),
                           self.attraction, self.reduction)

        return map_row_tiles(compute, size, bins.shape[0] * bins.shape[1], bins.device)

    def _seed(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """Bin centres at the bottleneck: [m], or in units of the depth range when bounded."""
        raw = self.seed_bins(bottleneck)
        if not self.bounded:
            return F.softplus(raw)
        # The original converts the edges to metres and back to [0, 1]; the range cancels.
        return middles(shares(raw))

    def _attractors(self, raw: torch.Tensor) -> torch.Tensor:
        """Attractor points (b, n, h, w) in the unit of the bins."""
        if not self.bounded:
            return F.softplus(raw)
        # ZoeD-M12-K was trained with a mistake: the ratio of each pair of channels was computed,
        # then overwritten by the first channel (trap T4). The second channel has no effect.
        return F.relu(raw[:, 0::2]) + 1e-3


class SplitterHead(BinsHead):
    """
    Few seed bins that each level splits in two, like LocalBins (paper, table 5).

    The bins divide the depth range of the head; a level predicts for each bin the fraction of its
    width at which to split.
    """

    def __init__(self, config: MetricConfig, head: HeadConfig, features: int,
                 fine_channels: int) -> None:
        """Build the head; four levels double the bins four times."""
        super().__init__(config, head, features, fine_channels)
        levels = len(head.attractors)
        seeds = config.bins // 2 ** levels
        if seeds * 2 ** levels != config.bins:
            raise ValueError(f'a splitter of {levels} levels makes a multiple of {2 ** levels} '
                             f'bins, not {config.bins}')
        self.seed_bins = mlp(features, config.seed_hidden, seeds)
        self.splits = nn.ModuleList(
            mlp(config.embedding_dim, config.embedding_dim, seeds * 2 ** level)
            for level in range(levels))

    def centers(self, embeddings: Embeddings) -> torch.Tensor:
        """Return ascending bin centres (b, k, H/2, W/2) [m] within the depth range."""
        widths = shares(self.seed_bins(embeddings.bottleneck))
        previous = embeddings.seed
        for net, embedding in zip(self.splits, embeddings.levels):
            size = (embedding.shape[2], embedding.shape[3])
            cut = torch.sigmoid(net(embedding + upsample(previous, size=size)))
            widths = upsample(widths, size=size)
            widths = torch.stack([widths * cut, widths * (1 - cut)], dim=2).flatten(1, 2)
            previous = embedding
        return (self.max_depth - self.min_depth) * middles(widths) + self.min_depth


class GlobalBinsHead(BinsHead):
    """
    One set of bins for the whole image, from the mean of the bottleneck, like AdaBins.

    AdaBins (arXiv 2011.14141) predicts the bins by a small transformer; the paper's line of
    ablations goes from there by LocalBins to attractors.
    """

    def __init__(self, config: MetricConfig, head: HeadConfig, features: int,
                 fine_channels: int) -> None:
        """Build the head, see :class:`BinsHead`."""
        super().__init__(config, head, features, fine_channels)
        self.widths = mlp(features, config.seed_hidden, config.bins)

    def centers(self, embeddings: Embeddings) -> torch.Tensor:
        """Return ascending bin centres (b, k, H/2, W/2) [m], the same for all pixels."""
        mean = embeddings.bottleneck.mean(dim=(2, 3), keepdim=True)
        centers = (self.max_depth - self.min_depth) * middles(shares(self.widths(mean)))
        height, width = embeddings.levels[-1].shape[2:]
        return (centers + self.min_depth).expand(-1, -1, height, width)


class ConvolutionHead(nn.Module):
    """Depth by two convolutions without bins: the naive head of the paper's table 5."""

    def __init__(self, config: MetricConfig, head: HeadConfig, features: int,
                 fine_channels: int) -> None:
        """Build the head with the same inputs as the other kinds."""
        super().__init__()
        hidden = config.embedding_dim
        self.net = nn.Sequential(
            nn.Conv2d(fine_channels + hidden, hidden, 3, padding=1), nn.ReLU(),
            nn.Conv2d(hidden, 1, 1), nn.Softplus())

    def forward(self, features: Features, embeddings: Embeddings) -> BinDistribution:
        """Return one bin of probability 1 per pixel at the resolution of ``features.fine``."""
        size = (features.fine.shape[2], features.fine.shape[3])
        last = embeddings.levels[-1]
        depth = self.net(torch.cat(
            [features.fine.to(last.dtype), upsample(last, size=size)], dim=1))
        return BinDistribution(depth, torch.ones_like(depth))

    def mean_and_deviation(self, features: Features, embeddings: Embeddings,
                           deviation: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return depth and (optional) a deviation of 0, (b, H, W) [m]."""
        distribution = self(features, embeddings)
        return distribution.mean(), distribution.deviation() if deviation else None


HEADS: dict[str, type[nn.Module]] = {
    'attractors': AttractorHead, 'splitter': SplitterHead, 'global': GlobalBinsHead,
    'convolution': ConvolutionHead}


def attract(bins: torch.Tensor, attractors: torch.Tensor, attraction: str = 'inverse',
            reduction: str = 'mean') -> torch.Tensor:
    """
    Move each bin centre towards the attractors (paper equations 2 and 3).

    :param bins: (b, k, h, w); :param attractors: (b, n, h, w), both in the same unit.
    :param attraction, reduction: see :class:`MetricConfig`.
    :return: (b, k, h, w), the moved centres.
    """
    count = attractors.shape[1]
    one = bins.new_ones(1)
    shift = torch.zeros_like(bins)
    for chunk in attractors.split(_attractors_at_once(bins), dim=1):
        distance = chunk[:, :, None] - bins[:, None]                     # b n k h w
        if attraction == 'exponential':
            shift += (distance * (-ATTRACTOR_ALPHA * distance.square()).exp()).sum(dim=1)
            continue
        damping = torch.addcmul(one, distance, distance, value=ATTRACTOR_ALPHA)
        if chunk.shape[1] == 1:
            shift.addcdiv_(distance[:, 0], damping[:, 0])
        else:
            shift += (distance / damping).sum(dim=1)
    return bins + (shift / count if reduction == 'mean' else shift)


def _attractors_at_once(bins: torch.Tensor) -> int:
    """Return the attractors per step: one for the caches of a CPU, several on a GPU."""
    return max(1, (1 << 22) // bins.numel()) if bins.is_cuda else 1


def init_seed_bins(layer: nn.Module, far: float) -> None:
    """
    Initialise the seed bins in ascending order, evenly in log depth, up to ``far`` [m].

    Not in the paper, and without effect on loaded weights. Random bins have no order, which the
    log-binomial needs, and are all within a metre: training them to reach 80 m takes long.
    """
    with torch.no_grad():
        bias = layer.get_parameter('bias')
        steps = torch.linspace(-NEAREST_OCTAVE, 0, len(bias), device=bias.device)
        centers = far * torch.exp2(steps)
        bias.copy_(centers + torch.log(-torch.expm1(-centers)))     # inverse softplus
        layer.get_parameter('weight').mul_(0.1)


def shares(raw: torch.Tensor) -> torch.Tensor:
    """Turn raw predictions (b, k, h, w) into positive widths that sum to one."""
    widths = F.relu(raw) + 1e-3
    return widths / widths.sum(dim=1, keepdim=True)


def middles(widths: torch.Tensor) -> torch.Tensor:
    """Return the centres of adjacent intervals of ``widths`` (b, k, h, w), starting at 0."""
    edges = F.pad(widths, (0, 0, 0, 0, 1, 0)).cumsum(dim=1)
    return 0.5 * (edges[:, :-1] + edges[:, 1:])
