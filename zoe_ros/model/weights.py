"""Loads and saves checkpoints: strictly, without pickled code or a second copy in memory."""
from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
import json
from pathlib import Path
import pickle
import re
from typing import Any

from safetensors import safe_open, SafetensorError
from safetensors.torch import save_file
import torch

from zoe_ros.files import whole_file
from zoe_ros.model.calibration import load_calibration
from zoe_ros.model.config import PyramidConfig, VARIANTS, ZoeConfig
from zoe_ros.model.layouts import DEPTH_ANYTHING, detect, Layout, NATIVE
from zoe_ros.model.pyramid import PyramidBackbone
from zoe_ros.model.releases import released_as
from zoe_ros.model.zoedepth import ZoeDepth

_METADATA_KEY = 'zoe_ros'
_IN_FOLDERS = 'model.safetensors'   # file name in the cache of the hub's clients
# Files that are not checkpoints but failed downloads, by their first bytes in lower case.
_NO_WEIGHTS = {
    b'version https://git-lfs': 'a Git LFS pointer, not the file itself: run "git lfs pull" in '
                                'the repository',
    b'<': 'a web page, not the file: download the file from that page',
}


class WeightsError(ValueError):
    """A checkpoint that cannot be used; the text gives the reason and a remedy."""


@dataclass(frozen=True)
class Checkpoint:
    """
    An open checkpoint whose tensors are read from disk one by one, on access.

    :param shapes: name in the file -> shape.
    :param tensor: name in the file -> the tensor, memory-mapped.
    :param config: of the model, only known for files written by :func:`save_model`.
    """

    path: Path
    layout: Layout
    shapes: dict[str, tuple[int, ...]]
    tensor: Callable[[str], torch.Tensor]
    config: ZoeConfig | None = None

    def require_metric(self) -> None:
        """
        Reject a model without metric heads.

        :raises WeightsError: the file holds the relative model of MiDaS or Depth Anything.
        """
        if self.layout.no_heads:
            raise WeightsError(f'{self.path} holds {self.layout.no_heads}, which has no '
                               'metric bins: use the file as initial weights of zoe train')

    def released_variants(self) -> tuple[str, ...]:
        """
        Return the released variants that the file may hold, by its names and shapes.

        The indoor and the outdoor file of Depth Anything have the same names and shapes. The
        SHA-256 tells these apart, unless somebody has written the file again.
        """
        layout = self.layout
        if layout is DEPTH_ANYTHING:
            known = released_as(self.path)
            return ('da-n', 'da-k') if known is None else (known,)
        if layout is NATIVE or layout.no_heads:
            return ()
        if any(name.startswith(layout.router_mark) for name in self.shapes):
            return ('nk',)
        attractors = self.shapes.get(layout.first_attractor_bias)
        return ('n',) if attractors == (16,) else ('k',) if attractors == (32,) else ()


def open_checkpoint(path: str | Path) -> Checkpoint:
    """
    Open a checkpoint: an official .pt, Hugging Face's safetensors, or our own safetensors.

    :raises FileNotFoundError: there is no such file.
    :raises WeightsError: the file is damaged, contains code, or is not a ZoeDepth.
    """
    path = weights_file(path)
    return _open_safetensors(path) if _is_safetensors(path) else _open_pickle(path)


def read_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """
    Read the weights of any network, from a safetensors file or from one of torch.

    :return: name in the file -> tensor.
    :raises FileNotFoundError: there is no such file.
    :raises WeightsError: the file is damaged, or contains something else than tensors.
    """
    path = weights_file(path)
    if _is_safetensors(path):
        file, shapes, _ = _read_header(path)
        return {name: file.get_tensor(name) for name in shapes}
    # Files of torch before 1.6 cannot be mapped into memory.
    return _unpickle(path, mmap=False)


def weights_file(path: str | Path) -> Path:
    """
    Return the weights file of a path: the path itself, or the file in a folder of the hub.

    :raises FileNotFoundError: there is no such file.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        if not (path / _IN_FOLDERS).is_file():
            raise FileNotFoundError(f'no weights file at {path}: this is a folder without '
                                    f'{_IN_FOLDERS}; give the path of the file')
        return path / _IN_FOLDERS
    if not path.is_file():
        raise FileNotFoundError(f'no weights file at {path}: check the path, or leave the path '
                                'empty to download the released weights')
    return path


def load_model(config: ZoeConfig, path: str | Path, device: torch.device | str = 'cpu',
               dtype: torch.dtype = torch.float32) -> ZoeDepth:
    """
    Build the model of ``config`` with the weights of a checkpoint, ready for inference.

    Each tensor is copied from the memory-mapped file to the device in its final precision. A
    calibration beside the file is used.

    :param dtype: precision of the encoder and decoder, see :meth:`ZoeDepth.set_precision`.
    :raises WeightsError: a tensor is missing, unknown or of another shape; the text names it.
    :raises ValueError: the calibration is damaged.
    """
    checkpoint = open_checkpoint(path)
    checkpoint.require_metric()
    with torch.device('meta'):
        model = ZoeDepth(config).set_precision(dtype)
    wanted = model.state_dict()
    sources = {name: checkpoint.layout.sources(name, len(config.metric.heads)) for name in wanted}
    _check(checkpoint, config, wanted, sources)

    state = {}
    for name, target in wanted.items():
        parts = [checkpoint.tensor(source) for source in sources[name]]
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
        # Always a copy, because memory of a mapped file changes with the file.
        state[name] = tensor.to(device, target.dtype, copy=True)
    model.load_state_dict(state, assign=True)
    if isinstance(model.backbone, PyramidBackbone):
        model.backbone.restore_buffers()
    model.calibrations = load_calibration(checkpoint.path)
    return model.requires_grad_(False).eval()


def save_model(model: ZoeDepth, path: str | Path, half: bool = False) -> None:
    """
    Write weights and configuration as one safetensors file, completely or not at all.

    :param half: store matrices and kernels in float16, half the size. Vectors keep their type:
        statistics of a normalisation can be too small for float16, and need little space.
    :raises OSError: the file cannot be written; the text names it.
    """
    path = Path(path)
    tensors = {name: t.detach().to('cpu', torch.float16 if half and t.ndim > 1 else t.dtype)
               .contiguous() for name, t in model.state_dict().items()}
    with whole_file(path, also=(SafetensorError,)) as part:
        part.touch()
        usual = part.stat().st_mode
        save_file(tensors, part, {_METADATA_KEY: json.dumps(model.config.as_dict())})
        part.chmod(usual)   # safetensors sets 0600, but other users run nodes


def _is_safetensors(path: Path) -> bool:
    with path.open('rb') as file:
        start = file.read(64)
    for mark, text in _NO_WEIGHTS.items():
        if start.lstrip().lower().startswith(mark):
            raise WeightsError(f'{path} is {text}')
    # The header of a safetensors file is its length (8 bytes), then JSON.
    return start[8:9] == b'{'


def _read_header(path: Path) -> tuple[Any, dict[str, tuple[int, ...]], dict[str, str]]:
    """Return an open safetensors file, the shapes of its tensors, and its metadata."""
    try:
        file = safe_open(path, framework='pt')
        names = list(file.keys())
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
        return file, shapes, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f'{path} is damaged or incomplete ({error}): '
                           'delete the file and download it again') from None


def _open_safetensors(path: Path) -> Checkpoint:
    file, shapes, metadata = _read_header(path)
    if _METADATA_KEY in metadata:
        try:
            config = ZoeConfig.from_dict(json.loads(metadata[_METADATA_KEY]))
        except ValueError as error:
            raise WeightsError(f'{path} was written by another version of zoe_ros: '
                               f'{error}') from None
        return Checkpoint(path, NATIVE, shapes, file.get_tensor, config)
    return Checkpoint(path, _detect_layout(path, shapes), shapes, file.get_tensor)


def _open_pickle(path: Path) -> Checkpoint:
    state = _unpickle(path, mmap=True)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    return Checkpoint(path, _detect_layout(path, state), shapes, state.__getitem__)


def _unpickle(path: Path, mmap: bool) -> dict[str, torch.Tensor]:
    """Read a file of torch, without running the code that it may contain."""
    try:
        content = torch.load(path, map_location='cpu', mmap=mmap, weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r'GLOBAL\s+([\w.]+)', str(error))
        what = f' ({found.group(1)})' if found else ''
        raise WeightsError(
            f'{path} is not loaded: it holds more than tensors{what}, and unpickling could '
            'run code; use the released .pt or a safetensors file') from None
    except (RuntimeError, EOFError, OSError, ValueError, SafetensorError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f'{path} is damaged, incomplete or no checkpoint of torch 1.6 or newer '
                           f'({line}): delete the file and download it again') from None
    state = content.get('model', content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(
            isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f'{path} holds no model: a dictionary of tensors is expected, at the '
                           "top or under 'model'")
    # Saved from DistributedDataParallel.
    return {str(name).removeprefix('module.'): value for name, value in state.items()}


def _detect_layout(path: Path, names: Collection[str]) -> Layout:
    try:
        return detect(names)
    except ValueError as error:
        raise WeightsError(f'{path} {error}') from None


def _check(checkpoint: Checkpoint, config: ZoeConfig, wanted: dict[str, torch.Tensor],
           sources: dict[str, list[str]]) -> None:
    """Compare the file with the model, tensor by tensor; raise a WeightsError with the names."""
    shapes = checkpoint.shapes
    missing, wrong, used = [], [], set()
    for name, target in wanted.items():
        used.update(sources[name])
        # A layout has no names for what another encoder consists of.
        absent = [source for source in sources[name] or [name] if source not in shapes]
        missing += absent
        if absent:
            continue
        # Several parts divide the first axis evenly.
        rows, *tail = target.shape or (1,)
        part = (rows // len(sources[name]), *tail) if target.shape else ()
        wrong += [f'{source} is {shapes[source]}, not {part}'
                  for source in sources[name] if shapes[source] != part]
    unknown = [name for name in shapes
               if name not in used and not checkpoint.layout.unused.fullmatch(name)]
    problems = [f'{title}: {_some(names)}' for title, names in (
        ('missing', missing), ('of another shape', wrong), ('unknown', unknown)) if names]
    if not problems and checkpoint.layout is not DEPTH_ANYTHING:
        return
    found = checkpoint.released_variants()
    # One of several only resembles the file, and another model may do so, too.
    if found and config.variant not in found and (problems or len(found) == 1):
        titles, names = (
            ' or '.join(words) for words in zip(*((VARIANTS[v].title, f"'{v}'") for v in found)))
        raise WeightsError(
            f'{checkpoint.path} holds {titles}, not {config.title}: '
            f'ask for variant {names} or give the weights of {config.title}')
    if not problems:
        return
    held, asked = getattr(checkpoint.config, 'backbone', None), config.backbone
    if (isinstance(held, PyramidConfig) and isinstance(asked, PyramidConfig)
            and held.name != asked.name):
        raise WeightsError(f'{checkpoint.path} holds a model with the encoder {held.name}, but '
                           f'the encoder of {config.title} is {asked.name}')
    raise WeightsError(f'{checkpoint.path} does not fit {config.title}; ' + '; '.join(problems))


def _some(names: list[str]) -> str:
    return ', '.join(names[:4]) + (f' and {len(names) - 4} more' if len(names) > 4 else '')
