"""The command ``zoe`` with the tiny model, in this process."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import made_up

from zoe_ros import cli


def weights(folder: Path) -> Path:
    """Write the tiny model; return the path."""
    return Path(made_up.write_tiny(folder / 'tiny.safetensors'))


def main(weights: Path, data: Any, *arguments: Any) -> int:
    """Do as ``zoe run DATA ...`` does; return the exit code."""
    return cli.main(['run', str(data), '--variant', 'tiny', '--weights', str(weights),
                     '--device', 'cpu', '--precision', 'fp32', *map(str, arguments)])
