"""The models and images of the trial, and all that it knows of the insides of the estimator."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
import os
from pathlib import Path
from tempfile import gettempdir
import time
from typing import Any
import zlib

from bench.trial.record import Trial
import made_up
import numpy as np
import torch

from zoe_ros import DepthEstimator
from zoe_ros.inference.preprocess import plan_sizes, to_depth, to_pixels
from zoe_ros.model import cuda
from zoe_ros.model.config import VARIANTS
from zoe_ros.model.weights import load_model, save_model

# Where gpu_trial takes made_up from, too: the weights behind the golden files.
ROOT = Path(__file__).resolve().parents[2]
PHOTOS = ('nk_astronaut', 'nk_camera')
PRECISIONS = ('fp32', 'bf16', 'fp16')


def weights_file(trial: Trial, full: str = 'nk') -> Path:
    """Return the path of the made-up weights of a variant in the layout of the package."""
    memory = Path('/dev/shm')
    folder = memory if os.access(memory, os.W_OK) else Path(gettempdir())
    rule = zlib.crc32(Path(made_up.__file__).read_bytes())
    name = f'tiny_{full}' if trial.tiny else full
    return folder / f'zoe_trial_{os.getuid()}_{name}_{rule:08x}.safetensors'


def variant(trial: Trial) -> str:
    """Return the name of the model."""
    return 'tiny' if trial.tiny else 'nk'


def weights(trial: Trial) -> None:
    """Write the weights; a step. Those of the full model stay for the next command."""
    _write(trial, 'nk')


def depth_anything(trial: Trial) -> Path:
    """Write the made-up weights of da-n, unless they are there; return their path."""
    _write(trial, 'da-n')
    return weights_file(trial, 'da-n')


def _write(trial: Trial, full: str) -> None:
    path = weights_file(trial, full)
    start = time.perf_counter()
    if trial.tiny:
        save_model(made_up.tiny_model() if full == 'nk' else made_up.tiny_depth_anything(), path)
    elif not path.exists():
        official, part = (path.with_suffix(f'.{os.getpid()}{end}') for end in ('.pt', ''))
        made_up.write_official(full, official)
        save_model(load_model(VARIANTS[full], official), part)
        official.unlink()
        part.rename(path)
    trial.fact('weights', of=full, mb=path.stat().st_size >> 20,
               written_in_s=round(time.perf_counter() - start, 1))


def estimator(trial: Trial, precision: str, path: Path | None = None,
              **options: Any) -> DepthEstimator:
    """
    Load a model; ``options`` are those of :meth:`DepthEstimator.load`.

    :param path: of its weights; by default those of the step that writes them.
    """
    return DepthEstimator.load('', path or weights_file(trial), device=str(trial.device),
                               precision=precision, **options)


def photo(name: str = PHOTOS[0]) -> np.ndarray:
    """Return the image of a golden file, (h, w, 3) uint8 RGB."""
    return made_up.golden_fields(name)['image']


def reference(trial: Trial, name: str, path: Path | None = None) -> np.ndarray:
    """
    Return the depth of every second pixel of a photo, resized with aspect 'keep' [m].

    That of the official code; for the tiny model, ours on a CPU in float32.
    """
    if trial.tiny:
        host = DepthEstimator.load('', path or weights_file(trial), device='cpu', aspect='keep',
                                   precision='fp32')
        return host.predict(photo(name)).depth[::2, ::2]
    return made_up.golden_fields(name)['infer_plain']


# What follows knows how the estimator works inside. When that changes, change it here.

def graphs(est: DepthEstimator) -> int | None:
    """Return how many CUDA graphs are kept; None: the estimator works without."""
    return None if est.runner.graphs is None else len(est.runner.graphs)


@contextmanager
def without_graphs(est: DepthEstimator) -> Iterator[None]:
    """Let the estimator launch each kernel by itself."""
    kept, est.runner.graphs = est.runner.graphs, None
    try:
        yield
    finally:
        est.runner.graphs = kept


def convolutions(est: DepthEstimator) -> AbstractContextManager[None]:
    """Round the factors of convolutions as the estimator does."""
    if est.device.type != 'cuda':
        return nullcontext()
    return cuda.convolutions(est.model.precision != torch.float32)


def parts(est: DepthEstimator, image: torch.Tensor, batch: int) -> dict[str, Callable[[], Any]]:
    """
    Return the parts of the network as functions, each on the results of those before it.

    :param image: (h, w, 3) uint8 on the device.
    """
    model = est.model
    plan = plan_sizes(tuple(image.shape[:2]), model.config.image_size, 'stretch', pad=False)
    images = image.expand(batch, *image.shape)
    pixels = to_pixels(images, plan)
    biases = est.runner.biases.get(pixels)
    heads = [model.config.head_names[0]] * batch
    maps = model.encode(pixels, biases)
    features = model.decoder(maps)
    shared = model.embed(features)
    depth = model.predict_depth(shared, heads)[0]
    return {
        'resize': lambda: to_pixels(images, plan),
        'backbone': lambda: model.encode(pixels, biases),
        'decoder': lambda: model.decoder(maps),
        'embeddings, router': lambda: model.embed(features),
        'one head': lambda: model.predict_depth(shared, heads),
        'depth to image size': lambda: to_depth(depth, plan),
        'network': lambda: model.predict_depth(model.forward_features(pixels, biases), heads)}
