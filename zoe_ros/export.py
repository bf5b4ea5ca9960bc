"""``zoe export``: a model as an ONNX file with all that a program without torch has to know."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import json
import logging
import math
from pathlib import Path
import sys
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from zoe_ros import __version__
from zoe_ros.command_settings import ExportSettings
from zoe_ros.extras import require
from zoe_ros.files import file_sha256, whole_folder
from zoe_ros.inference.choices import find_config, input_size
from zoe_ros.inference.defaults import Hardware
from zoe_ros.inference.routing import known_choice
from zoe_ros.inference.runner import by_heads
from zoe_ros.model.config import HeadConfig, PyramidConfig, ZoeConfig
from zoe_ros.model.distributions import LogBinomial
from zoe_ros.model.hub import find_weights
from zoe_ros.model.transformer import TransformerBackbone
from zoe_ros.model.weights import load_model, weights_file
from zoe_ros.model.zoedepth import ZoeDepth

PIXELS, ROUTER = 'pixels', 'router'
# The oldest version of the operators that torch writes.
OPSET = 18
# Difference between ONNX Runtime and torch above which an export is refused, see check.
TOLERANCE = 1e-4
# Weights that take more than this are in a file of their own [bytes]: ONNX files end at 2 GiB.
LARGEST_FILE = 1_500_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """
    The result of an export.

    :param graph: the ONNX file; large weights are next to it in ``<name>.data``.
    :param facts: the file with :func:`describe`, as JSON.
    :param difference: between ONNX Runtime and torch, see :func:`check`.
    """

    graph: Path
    facts: Path
    difference: float


def export(settings: ExportSettings) -> Exported:
    """
    Write ``settings.folder``, which must not exist or be empty, whole or not at all.

    :raises ValueError: settings and weights do not fit, a package is missing, or ONNX Runtime
        computes other depth than torch.
    :raises OSError: the folder cannot be written.
    """
    require('zoe export', 'export', 'onnx', 'onnxruntime', 'onnxscript')
    folder = Path(settings.folder).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f'{folder} exists and is not empty: name a new folder')
    if not (settings.variant or settings.weights):
        raise ValueError('name the model: --variant nk, or another variant, or a --weights file')
    config = find_config(settings.variant, settings.weights or None, Hardware('cpu'))
    size, heads = find_shape(config, settings)
    path = weights_file(settings.weights) if settings.weights else find_weights(config.variant)
    model = load_model(config, path)
    facts = {**describe(config, size, heads), 'weights_sha256': file_sha256(path)}
    name = f'{config.variant}.onnx'
    with whole_folder(folder) as part:
        log.info('exporting %s for images of %d x %d', config.title, size[1], size[0])
        expected = write_graph(model, size, heads, facts, part / name)
        del model
        found = run_graph(part / name, made_up_pixels(size))
        facts['difference'] = check(found, expected)
        (part / f'{config.variant}.json').write_text(json.dumps(facts, indent=2) + '\n')
    return Exported(folder / name, folder / f'{config.variant}.json', facts['difference'])


def find_shape(config: ZoeConfig, settings: ExportSettings) -> tuple[tuple[int, int], list[str]]:
    """
    Return the (height, width) of the pixels [px], and the heads in the order of the router.

    :raises ValueError: the model cannot have this size, or lacks the head.
    """
    size = input_size(settings.size, config)
    sized = isinstance(config.backbone, PyramidConfig) and config.backbone.sized
    if sized and size != config.image_size:
        height, width = config.image_size
        raise ValueError(f'{config.title} has windows for {height}x{width} pixels only, not for '
                         f'size {settings.size}')
    if settings.router != 'auto' and settings.router not in config.head_names:
        raise ValueError(f'{config.title} has no {settings.router} head, only '
                         f'{" and ".join(config.head_names)}')
    choice = known_choice(settings.router, config.head_names)
    return size, list(config.head_names) if choice is None else [choice.head]


def describe(config: ZoeConfig, size: tuple[int, int], heads: Sequence[str]) -> dict[str, Any]:
    """
    Return what a program has to know to use the graph, for JSON.

    :param size: (height, width) of the pixels [px].
    :param heads: of the graph; with several of them the graph has the router.
    """
    height, width = size
    outputs: dict[str, Any] = {
        f'depth_{head}': {
            'shape': [1, height, width], 'type': 'float32', 'unit': 'm',
            'meaning': f'depth along the optical axis by the {head} head'} for head in heads}
    if len(heads) > 1:
        outputs[ROUTER] = {
            'shape': [1, len(heads)], 'type': 'float32', 'unit': '1',
            'meaning': f'logits of the heads {", ".join(heads)}: use the depth of the largest'}
    return {
        'made_by': f'zoe_ros {__version__}', 'variant': config.variant, 'title': config.title,
        'height': height, 'width': width, 'heads': list(heads),
        'inputs': {PIXELS: {
            'shape': [1, 3, height, width], 'type': 'float32', 'unit': '1',
            'meaning': 'planes R, G, B of an image of 0 ... 255, resized bilinearly with aligned '
                       'corners; then value / 127.5 - 1'}},
        'outputs': outputs,
        **_focal_lengths(config, [config.head(head) for head in heads])}


def _focal_lengths(config: ZoeConfig,
                   heads: Sequence[HeadConfig]) -> dict[str, dict[str, float] | None]:
    """Return the focal length of depth, and that to assume if a camera's is unknown [px]."""
    if not config.canonical_focal:
        return {'canonical_focal': None, 'assumed_focal': None}
    height, width = config.image_size
    trained = {head.name: head.training_camera[:2] for head in heads}
    assumed = {head.name: head.usual_focal for head in heads}
    return {name: {head: round(math.sqrt(fx * width * fy * height), 3)
                   for head, (fx, fy) in focal.items()}
            for name, focal in (('canonical_focal', trained), ('assumed_focal', assumed))}


class FixedGraph(nn.Module):
    """
    Pixels of one size to the depth of each head and the logits of the router.

    The position biases of this size are constants.
    """

    def __init__(self, model: ZoeDepth, size: tuple[int, int], heads: Sequence[str]) -> None:
        """Wrap a model that is not packed, in float32 on the CPU; see :func:`describe`."""
        super().__init__()
        self.model = model
        self.heads = tuple(heads)
        self.biases = nn.ParameterList(_position_biases(model, size))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return (1, H, W) [m] of each head; and (1, heads) of the router for several heads."""
        if len(self.heads) == 1:
            return tuple(by_heads(self.model, pixels, list(self.biases), False,
                                  self.heads).depth.values())
        found = by_heads(self.model, pixels, list(self.biases), False)
        assert found.logits is not None
        return (*found.depth.values(), found.logits)


class ExactSoftplus(nn.Module):
    """
    Softplus with small relative errors also near 0, in every runtime.

    The log-binomial divides such numbers, and its temperature multiplies their errors. OpenVINO's
    softplus and logarithm are wrong by up to 2e-6, and ONNX has no log1p. So the logarithm of
    1 + u is the series of 2 artanh(u / (2 + u)).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ln(1 + exp(x))."""
        u = torch.exp(-x.abs())
        z = u / (2 + u)             # at most 1/3: the first term left out is below 1e-9
        square = z * z
        series = torch.full_like(z, 1 / 17)
        for odd in range(15, 0, -2):
            series = series * square + 1 / odd
        return x.relu() + 2 * z * series


def _use_exact_softplus(model: ZoeDepth) -> None:
    for module in model.modules():
        if isinstance(module, LogBinomial):
            module.mlp[-1] = ExactSoftplus()


@torch.no_grad()
def _position_biases(model: ZoeDepth, size: tuple[int, int]) -> list[nn.Parameter]:
    """Return the position biases of all blocks for an image of (height, width) [px]."""
    backbone = model.backbone
    if not isinstance(backbone, TransformerBackbone):
        return []
    grid = (size[0] // backbone.patch, size[1] // backbone.patch)
    # Copies, because the exporter does not take tensors of inference mode.
    return [nn.Parameter(bias.clone(memory_format=torch.contiguous_format), requires_grad=False)
            for bias in backbone.position_biases(grid, sys.maxsize)]


def write_graph(model: ZoeDepth, size: tuple[int, int], heads: Sequence[str],
                facts: dict[str, Any], path: Path) -> dict[str, np.ndarray]:
    """
    Write the ONNX file, with ``facts`` as its metadata.

    :param model: not packed, in float32 on the CPU; :param facts: from :func:`describe`.
    :return: what torch computes for :func:`made_up_pixels`: name of the output -> array.
    """
    graph, pixels = FixedGraph(model, size, heads).eval(), made_up_pixels(size)
    # With gradients, of which there are none, layers are those of torch and not of oneDNN, and
    # maps are not cut into tiles.
    with torch.enable_grad():
        expected = graph(pixels)
        _use_exact_softplus(model)
        program = torch.onnx.export(
            torch.export.export(graph, (pixels,)), dynamo=True, opset_version=OPSET,
            input_names=[PIXELS], output_names=list(facts['outputs']), verbose=False)
    assert program is not None
    program.model.metadata_props.update(
        {key: value if isinstance(value, str) else json.dumps(value)
         for key, value in facts.items()})
    stored = sum(value.const_value.nbytes for value in program.model.graph.initializers.values()
                 if value.const_value is not None)
    program.save(path, external_data=stored > LARGEST_FILE)
    return {name: values.numpy() for name, values in zip(facts['outputs'], expected)}


def made_up_pixels(size: tuple[int, int]) -> torch.Tensor:
    """Return a reproducible image of soft blobs, (1, 3, H, W) in [-1, 1]."""
    coarse = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return F.interpolate(coarse, size, mode='bilinear', align_corners=True)


def run_graph(path: Path, pixels: torch.Tensor) -> dict[str, np.ndarray]:
    """Run an ONNX file by ONNX Runtime on the CPU: name of the output -> array."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {PIXELS: pixels.numpy()})))


def check(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """
    Return the largest relative difference (L2) of an output.

    Single pixels may differ more: the log-binomial multiplies rounding errors where its
    temperature is low.

    :param found, expected: name of the output -> array.
    :raises ValueError: the difference is larger than :data:`TOLERANCE`.
    """
    worst = 0.0
    for name, wanted in expected.items():
        difference = float(np.linalg.norm(found[name] - wanted) / np.linalg.norm(wanted))
        if not difference <= TOLERANCE:
            raise ValueError(f'ONNX Runtime computes another {name} than torch: they differ by '
                             f'{difference:.2g} (L2, relative), so nothing is written')
        worst = max(worst, difference)
    return worst
