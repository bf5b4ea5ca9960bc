"""What a ZoeDepth is made of: frozen descriptions of its parts, and the released variants."""
from __future__ import annotations

from dataclasses import asdict, dataclass, replace
import math
from typing import Any


@dataclass(frozen=True)
class BackboneConfig:
    """
    A transformer encoder and its reassembly into four feature maps (specification, section 1).

    :param patch: side of the square patch of a token [px].
    :param table_grid: rows (= columns) of the token grid that the positions were trained on.
    :param taps: the blocks (0-based) whose outputs are used.
    :param channels: widths of the four reassembled maps at strides of a quarter, half, one and two
        times the patch.
    :param kind: 'beit' (ZoeDepth) or 'dinov2' (Depth Anything).
    """

    embed_dim: int = 1024
    depth: int = 24
    heads: int = 16
    patch: int = 16
    table_grid: int = 24
    taps: tuple[int, ...] = (5, 11, 17, 23)
    channels: tuple[int, ...] = (256, 512, 1024, 1024)
    kind: str = 'beit'

    def __post_init__(self) -> None:
        """Refuse an unknown kind."""
        if self.kind not in ('beit', 'dinov2'):
            raise ValueError(f"kind of an encoder is '{self.kind}', not one of beit, dinov2")

    @property
    def stride(self) -> int:
        """Return the stride of the third map [px]."""
        return self.patch

    @property
    def size_multiple(self) -> int:
        """Return the number of which sizes of images are multiples [px]."""
        # Depth Anything has grids with an odd number of tokens, ZoeDepth rounds to even ones.
        return self.patch if self.kind == 'dinov2' else 2 * self.patch


@dataclass(frozen=True)
class PyramidConfig:
    """
    A network of timm whose own feature maps at strides 4, 8, 16 and 32 feed the decoder.

    :param name: the name of the network in timm.
    :param channels: widths of the four maps.
    :param sized: the network is built for one image size (windows of attention).
    """

    name: str
    channels: tuple[int, ...]
    sized: bool = False

    @property
    def stride(self) -> int:
        """Return the stride of the third map [px]."""
        return 16

    @property
    def size_multiple(self) -> int:
        """Return the number of which sizes of images are multiples [px]."""
        return 32


@dataclass(frozen=True)
class DecoderConfig:
    """
    The DPT decoder (section 2): width of the fusion blocks and of the relative depth head.

    :param fine_stride: of the features that the metric heads end on: 1 as released, or 2, where
        depth is predicted at half the size. Nine tenths of a small model's time would go into the
        bins of all pixels otherwise.
    """

    features: int = 256
    relative_channels: int = 32
    fine_stride: int = 1


@dataclass(frozen=True)
class HeadConfig:
    """
    One metric bins head (section 3).

    :param name: 'indoor' or 'outdoor', the name by which users force it.
    :param attractors: number of attractors of each of the four levels, coarse to fine.
    :param depth_range: (min, max) [m]; bounds the bins only where ``bounded`` is true.
    :param training_camera: (fx, fy, cx, cy) of the camera that it was trained with, in widths
        (x) and heights (y) of that camera's image.
    :param assumed_focal: (fx, fy) in the same units that a model with ``canonical_focal`` takes
        for granted where the focal length is unknown; None for those of the training camera.
    """

    name: str
    attractors: tuple[int, ...]
    depth_range: tuple[float, float]
    training_camera: tuple[float, float, float, float] = (
        518.8579 / 640, 519.4696 / 480, 325.5824 / 640, 253.7362 / 480)
    assumed_focal: tuple[float, float] | None = None

    @property
    def usual_focal(self) -> tuple[float, float]:
        """Return (fx, fy) that are taken for granted where they are unknown."""
        return self.assumed_focal or self.training_camera[:2]

    @property
    def field_of_view(self) -> float:
        """Return the horizontal field of view that is right without CameraInfo [degrees]."""
        return 2 * math.degrees(math.atan(0.5 / self.usual_focal[0]))


@dataclass(frozen=True)
class MetricConfig:
    """
    What all metric heads of a model share (section 3.7).

    The released models differ in ``bounded``, ``relative_input`` and in widths only; the other
    choices are those of the paper's ablations (table 5).

    :param kind: 'attractors'; 'splitter', which halves the bins of each level as LocalBins does;
        'global', with one set of bins for an image as in AdaBins; or 'convolution', which predicts
        depth without bins.
    :param attraction: 'inverse' (paper equation 2) or 'exponential' (equation 3).
    :param reduction: 'mean' over the attractors (as released) or 'sum' (as in the paper).
    :param distribution: 'log_binomial' or 'softmax'.
    :param bounded: bins normed to the depth range of the head ("normed", K) instead of free
        positive centres ("softplus", N and NK).
    :param relative_input: the relative depth is concatenated to the input of the log-binomial.
    :param bottleneck_factor: input width / hidden width of the log-binomial's MLP.
    """

    heads: tuple[HeadConfig, ...]
    bounded: bool = False
    relative_input: bool = True
    seed_hidden: int = 256
    embedding_hidden: int = 128
    bottleneck_factor: int = 2
    bins: int = 64
    embedding_dim: int = 128
    kind: str = 'attractors'
    attraction: str = 'inverse'
    reduction: str = 'mean'
    distribution: str = 'log_binomial'

    def __post_init__(self) -> None:
        """Refuse what no head can be built of."""
        for what, value, accepted in (
                ('kind', self.kind, ('attractors', 'splitter', 'global', 'convolution')),
                ('attraction', self.attraction, ('inverse', 'exponential')),
                ('reduction', self.reduction, ('mean', 'sum')),
                ('distribution', self.distribution, ('log_binomial', 'softmax'))):
            if value not in accepted:
                raise ValueError(f"{what} of a metric head is '{value}', not one of "
                                 f'{", ".join(accepted)}')


@dataclass(frozen=True)
class RouterConfig:
    """The transformer that chooses a head for each image (section 3.8)."""

    dim: int = 128
    layers: int = 4
    heads: int = 4
    feedforward: int = 1024


@dataclass(frozen=True)
class ZoeConfig:
    """
    A whole model.

    :param variant: the name that users ask for: 'n', 'k', 'nk'.
    :param title: the name in the paper, for messages.
    :param image_size: (height, width) [px] of the training images; multiples of the encoder's
        ``size_multiple``.
    :param canonical_focal: the network predicts the depth that its training camera would see, as
        in Metric3D (arXiv 2307.10984); the focal length of the camera turns it into metres.
    """

    variant: str
    title: str
    image_size: tuple[int, int]
    metric: MetricConfig
    backbone: BackboneConfig | PyramidConfig = BackboneConfig()
    decoder: DecoderConfig = DecoderConfig()
    router: RouterConfig | None = None
    canonical_focal: bool = False

    @property
    def head_names(self) -> tuple[str, ...]:
        """Return the names of the heads, in the order of the router's logits."""
        return tuple(head.name for head in self.metric.heads)

    def head_for(self, domain: str) -> str:
        """Return the name of the head that learns a domain: its own, else the first one."""
        return domain if domain in self.head_names else self.head_names[0]

    def head(self, name: str) -> HeadConfig:
        """Return the description of the head of this name."""
        return next(head for head in self.metric.heads if head.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists and numbers, fit for JSON; see :func:`from_dict`."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ZoeConfig:
        """
        Build the configuration that :meth:`as_dict` wrote down.

        :raises ValueError: a field is missing, unknown or of another kind.
        """
        try:
            metric = dict(values['metric'])
            metric['heads'] = tuple(_build(HeadConfig, head) for head in metric['heads'])
            router = values.get('router')
            backbone = values['backbone']
            return _build(ZoeConfig, {
                **values,
                'metric': _build(MetricConfig, metric),
                'backbone': _build(
                    PyramidConfig if 'name' in backbone else BackboneConfig, backbone),
                'decoder': _build(DecoderConfig, values['decoder']),
                'router': None if router is None else _build(RouterConfig, router)})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f'not a model description: {error}') from None


def _build(cls: Any, values: dict[str, Any]) -> Any:
    # JSON has no tuples, the frozen (hashable) configurations have no lists.
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


_PYRAMID = (16, 8, 4, 1)
# KITTI's camera (1242 x 375), of which training takes the lower middle 1216 x 352 (section 6.2).
_KITTI = (721.5377 / 1216, 721.5377 / 352, (609.5593 - 13) / 1216, (172.854 - 23) / 352)
_INDOOR = HeadConfig('indoor', _PYRAMID, (1e-3, 10.0))
# The released K was trained for 80 m, but its own configuration leaves the default of 10 m in
# place and so returns an eighth of the depth (trap T1; ZoeDepth issues 28, 45, 139).
_OUTDOOR = HeadConfig('outdoor', _PYRAMID, (1e-3, 80.0), _KITTI)
# In the released NK the attractor counts landed in another argument: every level has 16 (trap T3).
_NK_ATTRACTORS = (16, 16, 16, 16)
# NK never sees the relative depth in its metric heads, whatever the paper's figure shows (T5).
_NK = MetricConfig(
    heads=(HeadConfig('indoor', _NK_ATTRACTORS, (1e-3, 10.0)),
           HeadConfig('outdoor', _NK_ATTRACTORS, (1e-3, 80.0), _KITTI)),
    relative_input=False, seed_hidden=64, embedding_hidden=64, bottleneck_factor=4)
# The cameras of zoe world, in the middle of their range: 63 and 79 degrees wide, 4 : 3.
_ROOM = (0.816, 1.088, 0.498, 0.497)
_STREET = (0.607, 0.809, 0.498, 0.497)
_SMALL = MetricConfig(
    heads=(replace(_INDOOR, training_camera=_ROOM), replace(_OUTDOOR, training_camera=_STREET)),
    relative_input=False, seed_hidden=64, embedding_hidden=64, embedding_dim=48, bins=32)
# The canonical camera: 61 degrees wide, 4 : 3, between phones, webcams and RGB-D cameras.
_USUAL = (0.85, 0.85 * 4 / 3, 0.498, 0.497)
# Outdoors lenses differ more, and one that is wider than assumed costs more than one that is
# narrower: the main camera of a phone, 67 degrees, costs less on average (docs/lenses.md).
_WIDER = (0.75, 0.75 * 4 / 3)
_LITE = replace(_SMALL, heads=(
    replace(_INDOOR, training_camera=_USUAL),
    replace(_OUTDOOR, training_camera=_USUAL, assumed_focal=_WIDER)))
_NANO = replace(_LITE, seed_hidden=32, embedding_hidden=32, embedding_dim=24, bins=16)
_SMALL_ROUTER = RouterConfig(dim=64, layers=2, heads=4, feedforward=128)
_SWIN = 'swinv2_{}_window12to24_192to384'
# Depth Anything V1 takes its last four blocks, and is stretched to one size also for KITTI.
_DINOV2_L = BackboneConfig(patch=14, table_grid=37, taps=(20, 21, 22, 23), kind='dinov2')

VARIANTS: dict[str, ZoeConfig] = {config.variant: config for config in (
    ZoeConfig('n', 'ZoeD-M12-N', (384, 512), MetricConfig(heads=(_INDOOR,))),
    ZoeConfig('k', 'ZoeD-M12-K', (384, 768), MetricConfig(heads=(_OUTDOOR,), bounded=True)),
    ZoeConfig('nk', 'ZoeD-M12-NK', (384, 512), _NK, router=RouterConfig()),
    # The metric models of Depth Anything V1: the bins of N, also for KITTI.
    ZoeConfig('da-n', 'Depth Anything N', (392, 518), MetricConfig(heads=(_INDOOR,)), _DINOV2_L),
    ZoeConfig('da-k', 'Depth Anything K', (392, 518), MetricConfig(heads=(_OUTDOOR,)), _DINOV2_L),
    # Both heads over the paper's other backbones (table 18); no weights of these are published.
    ZoeConfig('nk-beit-b', 'ZoeD-BEiT-B-NK', (384, 512), _NK, BackboneConfig(
        embed_dim=768, depth=12, heads=12, taps=(2, 5, 8, 11), channels=(96, 192, 384, 768)),
        router=RouterConfig()),
    ZoeConfig('nk-swin2-l', 'ZoeD-Swin2-L-NK', (384, 512), _NK, PyramidConfig(
        _SWIN.format('large'), (192, 384, 768, 1536), sized=True), router=RouterConfig()),
    ZoeConfig('nk-swin2-b', 'ZoeD-Swin2-B-NK', (384, 512), _NK, PyramidConfig(
        _SWIN.format('base'), (128, 256, 512, 1024), sized=True), router=RouterConfig()),
    ZoeConfig('nk-swin2-t', 'ZoeD-Swin2-T-NK', (384, 512), _NK, PyramidConfig(
        'swinv2_tiny_window16_256', (96, 192, 384, 768), sized=True), router=RouterConfig()),
    ZoeConfig('mobile', 'ZoeD-Mobile-NK', (192, 256), _SMALL,
              PyramidConfig('regnetx_004', (32, 64, 160, 384)),
              DecoderConfig(features=64, relative_channels=32, fine_stride=2), _SMALL_ROUTER),
    # Its encoder can start from ImageNet weights; the camera's focal length makes its metres.
    ZoeConfig('mobile-lite', 'ZoeD-Mobile-Lite-NK', (192, 256), _LITE,
              PyramidConfig('tf_efficientnet_lite2', (24, 48, 120, 352)),
              DecoderConfig(features=48, relative_channels=32, fine_stride=2), _SMALL_ROUTER,
              canonical_focal=True),
    # For a robot's own model (zoe distill); no weights of it come with the package.
    ZoeConfig('nano', 'ZoeD-Nano-NK', (160, 192), _NANO,
              PyramidConfig('tf_efficientnet_lite0', (24, 40, 112, 320)),
              DecoderConfig(features=32, relative_channels=16, fine_stride=2), _SMALL_ROUTER,
              canonical_focal=True),
)}
# Released models of one head each, of which a router of our own chooses one for an image.
PAIRS = {'da-nk': ('da-n', 'da-k')}
# Of these the authors publish weights.
RELEASED = ('n', 'k', 'nk', 'da-n', 'da-k')
