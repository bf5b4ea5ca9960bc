"""The depth estimator: images in, metric depth out. Every entry point uses it."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoe_ros.camera import Camera
from zoe_ros.inference.choices import DTYPES, find_config, find_precision, resolve_device
from zoe_ros.inference.defaults import describe
from zoe_ros.inference.malloc import trim_freed_memory
from zoe_ros.inference.pair_runner import PairRunner
from zoe_ros.inference.preprocess import plan_sizes, SizePlan, to_depth, to_pixels
from zoe_ros.inference.routing import (
    choose_heads,
    Chooser,
    HeadChoice,
    known_choice,
    known_heads,
    most_probable,
)
from zoe_ros.inference.runner import ModelRunner
from zoe_ros.inference.threads import ThreadBudget
from zoe_ros.inference.transfer import as_arrays, stack, start_to_host
from zoe_ros.model.calibration import Calibration
from zoe_ros.model.config import PAIRS
from zoe_ros.model.hub import find_weights, licence_of, SHIPPED, SHIPPED_LIMITS
from zoe_ros.model.identity import weights_identity
from zoe_ros.model.pair import load_pair, ModelPair
from zoe_ros.model.weights import load_model, weights_file
from zoe_ros.model.zoedepth import ZoeDepth
from zoe_ros.settings import ASPECTS, check_choice, PRECISIONS, ROUTERS
from zoe_ros.training_camera import focal_factor

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class DepthPrediction:
    """
    The prediction for one image.

    :param depth: (h, w) float32 [m] along the optical axis; NaN where there is no value.
    :param head: the metric head of the image, 'indoor' or 'outdoor'.
    :param head_probabilities: head -> probability by the router; 1 for a head that was forced or
        is the only one.
    :param deviation: (h, w) float32 [m] standard deviation of depth, NaN where depth is; None if
        it was not asked for.
    """

    depth: np.ndarray
    head: str
    head_probabilities: dict[str, float]
    deviation: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class NetworkDepth:
    """
    Depth before any postprocessing.

    :param depth: (H, W) float32 [m] at the size of the network, on its device; may be invalid.
    :param deviation: (H, W) [m] standard deviation, or None.
    :param plan: the sizes, for the way back to the image.
    :param pixels: (3, H, W) in [-1, 1], the input of the network.
    """

    depth: torch.Tensor
    deviation: torch.Tensor | None
    plan: SizePlan
    head: str
    head_probabilities: dict[str, float]
    pixels: torch.Tensor


class DepthEstimator:
    """
    Metric depth from single images.

    Calls keep no state, so several threads may share an estimator. Make one with :meth:`load`.

    :ivar weights: the files that the model was loaded from.
    :ivar licence: of released weights, or that none is stated; empty for other files.
    :ivar runner: runs the model on pixels.
    :ivar threads: how many threads a frame gets on a CPU.
    """

    weights: tuple[Path, ...] = ()
    licence = ''

    def __init__(self, model: ZoeDepth | ModelPair, *, aspect: str = 'stretch', pad: bool = False,
                 flip: bool = False, router: str = 'auto', position_memory: float = 1.0) -> None:
        """
        Wrap a model that is already on its device; see :meth:`load` for the parameters.

        :raises ValueError: a choice is not one of those accepted, or the model lacks the head.
        """
        check_choice('aspect', aspect, ASPECTS)
        self.model = model.eval()
        self.check_router(router)
        self.aspect = aspect
        self.pad = pad
        self.flip = flip
        self.router = router
        self.device = next(model.parameters()).device
        self.runner: ModelRunner | PairRunner = (
            PairRunner(model, position_memory) if isinstance(model, ModelPair)
            else ModelRunner(model, position_memory))
        self.threads = ThreadBudget()

    @classmethod
    def load(cls, variant: str = '', weights: str | Path | None = None, device: str = 'auto',
             precision: str = 'auto', aspect: str = 'stretch', pad: bool = False,
             flip: bool = False, router: str = 'auto',
             position_memory: float = 1.0) -> DepthEstimator:
        """
        Load a model, for inference alone: see :meth:`ZoeDepth.pack`.

        :param variant: 'mobile-lite' (small, comes with the package), 'mobile' (the same for
            rendered scenes), 'nk' (the published one with both heads and a router), 'n'
            (indoor), 'k' (outdoor), 'da-n' and 'da-k' (Depth Anything, indoor and outdoor),
            'da-nk' (both; the router of 'mobile-lite' chooses), or the name of the model in a
            ``weights`` file of our own.
            Empty: what ``weights`` holds; without these 'nk' on a CUDA device and 'mobile-lite'
            on a CPU.
        :param weights: path of a checkpoint; without one those that come with the package, or
            the released ones, fetched once into the cache of the Hugging Face hub. For a pair
            the folder with both files.
        :param device: 'auto' (a CUDA device if there is one), 'cpu', 'cuda', 'cuda:1', ...
        :param precision: of encoder and decoder: 'fp32', 'fp16', 'bf16', or 'auto' for bf16 where
            the device has products of it, else fp32.
        :param aspect: 'stretch' to the training resolution, or 'keep' the aspect ratio.
        :param pad: mirror a border around the image, as the official inference does.
        :param flip: average with the mirrored image, as the official inference does; twice the
            cost. The official default inference is aspect 'keep' with both.
        :param router: 'auto' decides for each image; 'indoor' or 'outdoor' force a head.
        :param position_memory: the most that is kept between frames to save time [GiB]; see
            :class:`zoe_ros.inference.runner.PositionBiases`.
        :raises ValueError: a choice that is not accepted, or weights that cannot be used.
        :raises FileNotFoundError: no such weights file.
        """
        check_choice('precision', precision, PRECISIONS)
        check_choice('aspect', aspect, ASPECTS)
        check_choice('router', router, ROUTERS)
        target = resolve_device(device)
        hardware = describe(target)
        dtype = DTYPES[find_precision(precision, hardware)]
        model: ZoeDepth | ModelPair
        if variant in PAIRS:
            model, paths = load_pair(variant, weights, target, dtype)
        else:
            config = find_config(variant, weights, hardware)
            path = weights_file(weights) if weights else find_weights(config.variant)
            if path.parent == SHIPPED:
                log.warning('%s comes with the package and %s: for metres in the real world take '
                            "variant 'nk', or fine-tune it", config.title,
                            SHIPPED_LIMITS[config.variant])
            model, paths = load_model(config, path, target, dtype), (path,)
        estimator = cls(model.pack(), aspect=aspect, pad=pad, flip=flip, router=router,
                        position_memory=position_memory)
        estimator.weights = paths
        licences = map(licence_of, paths, PAIRS.get(variant, (model.config.variant,)))
        estimator.licence = '; '.join(dict.fromkeys(filter(None, licences)))
        if estimator.licence:
            log.info('licence of the weights of %s: %s', model.config.title, estimator.licence)
        trim_freed_memory()
        return estimator

    @cached_property
    def identity(self) -> dict[str, str]:
        """Return the SHA-256 of the weights and calibrations; read on the first call."""
        return weights_identity(self.weights)

    @property
    def precision(self) -> str:
        """Return the precision of encoder and decoder: 'fp32', 'fp16' or 'bf16'."""
        return next(name for name, known in DTYPES.items() if known == self.model.precision)

    def calibration(self, head: str) -> Calibration | None:
        """Return the calibration of the deviation of a head; None if it has none."""
        model = self.model.models[head] if isinstance(self.model, ModelPair) else self.model
        return model.calibrations.get(head)

    def warm_up(self, size: tuple[int, int] | None = None, batches: int = 1,
                router: str = 'auto') -> None:
        """
        Do the one-time work of the first frames: tables, graphs, the libraries' choice of kernels.

        :param size: (height, width) of the images [px]; with aspect 'stretch' and
            no padding the network does not depend on it.
        :param batches: a GPU gets ready for batches of 1 to this many images, with and without
            deviation.
        :param router: 'auto', or the head that will be forced.
        """
        height, width = size or self.model.config.image_size
        self.expect((height, width), batches, router, wait=True)
        self.predict(np.zeros((height, width, 3), np.uint8))
        trim_freed_memory()

    def expect(self, size: tuple[int, int], batches: int = 1, router: str = 'auto',
               wait: bool = False) -> None:
        """
        Let a GPU get ready for images of this size while it works; see :meth:`warm_up`.

        :param wait: return only when the GPU is ready.
        """
        heads = () if router == 'auto' else (router,)
        net = self._plan(size).net
        for batch in range(1, batches + 1):
            for deviation in (False, True):
                self.runner.prepare(batch * (2 if self.flip else 1), net, deviation, heads, wait)

    def record_in_background(self) -> None:
        """
        From now on record graphs in the background; until then a new shape runs without its graph.

        For programs that never call ``torch.cuda.synchronize``, which fails during a recording.
        """
        if self.runner.graphs is not None:
            self.runner.graphs.in_background = True

    def check_router(self, router: str) -> None:
        """Raise a ValueError unless ``router`` is 'auto' or a head that the model has."""
        check_choice('router', router, ROUTERS)
        names = self.model.config.head_names
        if router != 'auto' and router not in names:
            raise ValueError(f'{self.model.config.title} has no {router} head, only '
                             f'{" and ".join(names)}')

    def predict(self, image: np.ndarray, camera: Camera | None = None,
                deviation: bool = False) -> DepthPrediction:
        """
        Estimate the depth of one image.

        :param image: (h, w, 3) uint8 RGB.
        :param camera: of this image. A model with ``canonical_focal`` needs its focal length for
            the metres, and takes a usual one for granted without. Other models ignore it.
        :param deviation: compute the standard deviation of depth, too.
        :raises TypeError, ValueError: the array or the size of the camera is of another kind.
        """
        return self.predict_batch([image], [camera], deviation)[0]

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[np.ndarray],
                      cameras: Sequence[Camera | None] = (),
                      deviation: bool = False) -> list[DepthPrediction]:
        """
        Estimate the depth of several images, which may differ in size and go to different heads.

        Images of equal network size go through the network together.

        :param images: each (h, w, 3) uint8 RGB.
        :param cameras: of each image, see :meth:`predict`; empty for none.
        :param deviation: see :meth:`predict`.
        :raises TypeError, ValueError: an array or the size of a camera is of another kind.
        """
        cameras = cameras or [None] * len(images)
        for image, camera in zip(images, cameras, strict=True):
            _check_image(image)
            if camera is not None and (camera.height, camera.width) != image.shape[:2]:
                raise ValueError(f'the camera has {camera.width} x {camera.height} pixels, the '
                                 f'image {image.shape[1]} x {image.shape[0]}')
        with self.threads.frame():
            nets = [self._in_metres(net, camera) for net, camera in zip(
                self.infer(images, deviation=deviation), cameras)]
            plans = [net.plan for net in nets]
            depths = self._to_images([net.depth for net in nets], plans)
            found = [DepthPrediction(depth, net.head, net.head_probabilities)
                     for depth, net in zip(depths, nets)]
            if not deviation:
                return found
            # A deviation of 0 is none: no head is free of error.
            deviations = self._to_images(
                [net.deviation for net in nets if net.deviation is not None], plans)
            return [replace(item, deviation=np.where(np.isnan(item.depth), item.depth, values))
                    for item, values in zip(found, deviations)]

    def _to_images(self, values: Sequence[torch.Tensor],
                   plans: Sequence[SizePlan]) -> list[np.ndarray]:
        """Bring depth or deviation (H, W) [m] to the images (h, w), on the host; NaN for none."""
        found: dict[int, torch.Tensor | None] = {}
        for plan in dict.fromkeys(plans):
            rows = [i for i, other in enumerate(plans) if other == plan]
            found.update(zip(rows, self._run_on_device(
                ('depth', plan), partial(_positive, plan=plan),
                torch.stack([values[i] for i in rows]), lambda depth: start_to_host(*depth))))
        arrays = as_arrays([found[i] for i in range(len(plans))], self.device)
        # A caller may keep many predictions, and pinned memory is scarce.
        return [array.copy() for array in arrays] if self.device.type == 'cuda' else arrays

    def _in_metres(self, net: NetworkDepth, camera: Camera | None) -> NetworkDepth:
        """Apply the focal length, known or usual, where the model leaves that to us."""
        config = self.model.config
        if not config.canonical_focal:
            return net
        factor = focal_factor(camera, net.plan, config.head(net.head), config.image_size)
        return replace(net, depth=net.depth * factor, deviation=(
            None if net.deviation is None else net.deviation * factor))

    @torch.inference_mode()
    def infer(self, images: Sequence[np.ndarray | torch.Tensor],
              choosers: Sequence[Chooser] | None = None,
              deviation: bool = False) -> list[NetworkDepth]:
        """
        Run the network and leave depth on its device, at its size; see :meth:`predict_batch`.

        Depth is that of the training camera where the model has ``canonical_focal``.

        :param images: each (h, w, 3) uint8 RGB, an array or a tensor on the estimator's device.
        :param choosers: what picks the head of each image; by default :meth:`chooser`.
        :param deviation: compute the standard deviation of depth, too.
        """
        plans = [self._plan((image.shape[0], image.shape[1])) for image in images]
        choosers = choosers or [self.chooser()] * len(images)
        results: dict[int, NetworkDepth] = {}
        for size in dict.fromkeys(plan.net for plan in plans):
            rows = [i for i, plan in enumerate(plans) if plan.net == size]
            with self.threads.frame(network=True):
                group = self._run([images[i] for i in rows], [plans[i] for i in rows],
                                  [choosers[i] for i in rows], deviation)
            results.update(zip(rows, group))
        return [results[i] for i in range(len(images))]

    def _plan(self, size: tuple[int, int]) -> SizePlan:
        config = self.model.config
        return plan_sizes(size, config.image_size, self.aspect, self.pad,
                          config.backbone.size_multiple)

    def _run(self, images: list[np.ndarray | torch.Tensor], plans: list[SizePlan],
             choosers: list[Chooser], deviation: bool) -> list[NetworkDepth]:
        pixels = self._pixels(images, plans)
        if self.flip:
            # Each of the two passes is routed on its own, as in the official code, so their heads
            # may differ. The head that is returned is that of the image itself, not its mirror.
            pixels = torch.cat([pixels, pixels.flip(-1)])
            choosers = choosers * 2
        choices: list[HeadChoice] = []

        def choose(logits: np.ndarray | None) -> list[str]:
            choices[:] = choose_heads(choosers, logits)
            return [choice.head for choice in choices]

        heads = known_heads(choosers, self.model.config.head_names)
        depth, deviations = self.runner(pixels, choose, deviation, heads)
        if self.flip:
            depth = _average_mirrored(depth)
            deviations = None if deviations is None else _average_mirrored(deviations)
        return [NetworkDepth(depth[i], None if deviations is None else deviations[i], plan,
                             *choices[i], pixels[i])
                for i, plan in enumerate(plans)]

    def _pixels(self, images: list[np.ndarray | torch.Tensor],
                plans: list[SizePlan]) -> torch.Tensor:
        """Bring images to the network's size, in one batch where they are of one kind."""
        if len(set(plans)) > 1 or len({isinstance(image, torch.Tensor) for image in images}) > 1:
            return torch.cat([self._pixels([image], [plan])
                              for image, plan in zip(images, plans)])
        tensors = [image for image in images if isinstance(image, torch.Tensor)]
        stacked = torch.stack(tensors) if tensors else stack(
            [image for image in images if isinstance(image, np.ndarray)], self.device)
        return self._run_on_device(
            ('pixels', plans[0]), partial(to_pixels, plan=plans[0]), stacked,
            torch.Tensor.clone)

    def _run_on_device(self, key: tuple[Any, ...], work: Callable[[torch.Tensor], torch.Tensor],
                       given: torch.Tensor, take: Callable[[torch.Tensor], Any]) -> Any:
        """Do a small piece of work; on a GPU by a graph, which costs one launch."""
        graphs = self.runner.graphs
        if graphs is None:
            return take(work(given.to(self.device)))
        return graphs.run(key, work, [given], take)

    def chooser(self) -> Chooser:
        """Return the head that is forced, or what picks the most probable one for an image."""
        names = self.model.config.head_names
        return known_choice(self.router, names) or partial(most_probable, names=names)


def _positive(values: torch.Tensor, plan: SizePlan) -> torch.Tensor:
    """Bring depth or deviation (b, H, W) to the image; NaN where not finite and positive."""
    values = to_depth(values, plan)
    return torch.where(torch.isfinite(values) & (values > 0), values, torch.nan)


def _average_mirrored(values: torch.Tensor) -> torch.Tensor:
    """Average the first half of a batch with the mirrored second half."""
    straight, mirrored = values.chunk(2)
    return (straight + mirrored.flip(-1)) / 2


def _check_image(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise TypeError(f'an image is an array of uint8, not of {kind}')
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f'an image has the shape (height, width, 3), not {image.shape}')
