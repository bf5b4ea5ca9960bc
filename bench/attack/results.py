"""What runs and trainings leave behind: whether it can be read, and what must be equal."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bags
import numpy as np
from PIL import Image
import torch
import yaml

from zoe_ros.model.weights import open_checkpoint

# Differ between equal runs.
TIMES = ('rate_hz', 'latency_p50_ms', 'latency_p95_ms')
PLACES = ('output', 'folder', 'data')


def final(folder: Path) -> list[Path]:
    """Return the files under a folder that bear their final names."""
    return sorted(path for path in folder.rglob('*')
                  if path.is_file() and not any(
                      part.endswith('.part') or part.startswith('.')
                      for part in path.relative_to(folder).parts))


def unreadable(folder: Path) -> list[str]:
    """Read all files under their final names; return what cannot be read, and why."""
    defects = []
    for path in final(folder):
        try:
            _read(path)
        except Exception as error:      # each reader has its own
            defects.append(f'{path.relative_to(folder)}: {error!r}')
    return defects


def contents(folder: Path) -> dict[str, Any]:
    """Return what two runs must have in common: name of a file -> its bytes or its content."""
    return {str(path.relative_to(folder)): _comparable(path) for path in final(folder)}


def _read(path: Path) -> None:
    if path.suffix == '.yaml':
        assert isinstance(yaml.safe_load(path.read_text()), dict)
    elif path.suffix == '.json':
        assert json.loads(path.read_text())
    elif path.suffix == '.jsonl':
        assert all(map(json.loads, path.read_text().splitlines()))
    elif path.suffix == '.png':
        with Image.open(path) as picture:
            picture.load()
    elif path.suffix == '.npy':
        np.load(path)
    elif path.suffix == '.mcap':
        bags.read_bag(path.parent)
    elif path.suffix == '.safetensors':
        assert open_checkpoint(path).shapes
    elif path.suffix == '.pt':
        torch.load(path, weights_only=True)
    elif path.suffix == '.txt':
        assert path.read_text().endswith('\n')
    else:
        raise ValueError('of an unknown kind')


def _comparable(path: Path) -> Any:
    if path.name == 'summary.json':
        content = json.loads(path.read_text())
        return {name: value for name, value in content.items() if name not in TIMES}
    if path.name in ('config.yaml', 'settings.yaml'):
        content = yaml.safe_load(path.read_text())
        return {name: value for name, value in content.items() if name not in PLACES}
    if path.suffix == '.pt':
        # The bytes depend on which objects share memory.
        return _plain(torch.load(path, weights_only=True))
    return path.read_bytes()


def _plain(value: Any) -> Any:
    """Return nested tensors as what can be compared."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.numpy().tobytes() if isinstance(value, torch.Tensor) else value
