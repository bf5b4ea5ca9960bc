"""Released models of one head each as one model: a small router chooses one for each image."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros.model.config import PAIRS, VARIANTS
from zoe_ros.model.hub import find_weights
from zoe_ros.model.releases import RELEASES
from zoe_ros.model.weights import load_model, weights_file
from zoe_ros.model.zoedepth import ZoeDepth

# The model of the package whose router chooses. It has learnt from photographs and costs 1 % of
# a ViT-L.
_ROUTER = 'mobile-lite'


class ModelPair(nn.Module):
    """
    Two models of one head each that take the same pixels, and a small model that has a router.

    Depth Anything publishes an indoor and an outdoor model and nothing that chooses.

    :ivar config: that of one model with the heads of both.
    :ivar models: name of a head -> its model.
    """

    router: ZoeDepth

    def __init__(self, variant: str, models: Sequence[ZoeDepth], router: ZoeDepth) -> None:
        """
        Join models.

        :param variant: name of the pair; :param models: in the order of the router's heads.
        :param router: the model whose router chooses.
        """
        super().__init__()
        configs = [model.config for model in models]
        self.config = replace(
            configs[0], variant=variant, title=' and '.join(config.title for config in configs),
            metric=replace(configs[0].metric,
                           heads=tuple(config.metric.heads[0] for config in configs)))
        assert self.config.head_names == router.config.head_names
        self.models = dict(zip(self.config.head_names, models))
        self._models = nn.ModuleList(models)    # so that parameters() finds them
        self.router = router
        self.precision = models[0].precision

    def pack(self) -> ModelPair:
        """Make all models faster, for inference only; see :meth:`ZoeDepth.pack`."""
        for model in (*self.models.values(), self.router):
            model.pack()
        return self

    def route(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits (b, heads) of the router for pixels (b, 3, H, W) in [-1, 1]."""
        small = F.interpolate(
            pixels, self.router.config.image_size, mode='bilinear', antialias=True)
        return self.router.route(small)


def pair_file(part: str, folder: str | Path) -> Path:
    """
    Return the weights file of a model of a pair in the user's folder, under its published name.

    :raises FileNotFoundError: there is no such file.
    """
    return weights_file(Path(folder) / Path(RELEASES[part].file).name)


def load_pair(variant: str, folder: str | Path | None, device: torch.device,
              dtype: torch.dtype) -> tuple[ModelPair, tuple[Path, ...]]:
    """
    Load a pair of released models.

    :param folder: that holds both files under their published names; None: the cache of the hub,
        to which missing files are fetched.
    :param dtype: of the encoders and decoders; the router is in float32.
    :return: the pair, and the weights files of its models.
    :raises WeightsError: a file is damaged, of another model, or cannot be fetched.
    :raises FileNotFoundError: a file is missing in the folder.
    """
    parts = PAIRS[variant]
    paths = tuple(find_weights(part) if folder is None else pair_file(part, folder)
                  for part in parts)
    models = [load_model(VARIANTS[part], path, device, dtype) for part, path in zip(parts, paths)]
    router = load_model(VARIANTS[_ROUTER], find_weights(_ROUTER), device)
    return ModelPair(variant, models, router), paths
