"""Weights by their content: a file of the same path may hold another model later."""
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from zoe_ros.files import file_sha256
from zoe_ros.model.calibration import calibration_file
from zoe_ros.model.config import PAIRS, VARIANTS
from zoe_ros.model.hub import cached_weights, SHIPPED
from zoe_ros.model.pair import pair_file
from zoe_ros.model.releases import RELEASES
from zoe_ros.model.weights import weights_file


def known_weights(variant: str, weights: str = '') -> tuple[Path, ...]:
    """
    Return the files that :meth:`DepthEstimator.load` would read, without a download.

    :return: nothing if a file is not on this machine, or the variant is left to the hardware.
    """
    try:
        if weights:
            return (tuple(pair_file(part, weights) for part in PAIRS[variant])
                    if variant in PAIRS else (weights_file(weights),))
    except FileNotFoundError:
        return ()
    found = [_without_download(part) for part in PAIRS.get(variant, (variant,))]
    return () if None in found else tuple(path for path in found if path)


def weights_by_name(name: str) -> tuple[Path, ...]:
    """Return the same for the name of a variant or of a weights file."""
    return known_weights(name) if name in (*VARIANTS, *PAIRS) else known_weights('', name)


def _without_download(variant: str) -> Path | None:
    shipped = SHIPPED / f'{variant}.safetensors'
    if shipped.is_file():
        return shipped
    return cached_weights(variant) if variant in RELEASES else None


def weights_identity(paths: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of weights files, and of their calibrations, which change deviations."""
    paths = list(paths)
    calibrations = filter(Path.is_file, map(calibration_file, paths))
    return {'weights': ', '.join(map(file_sha256, paths)),
            'calibration': ', '.join(map(file_sha256, calibrations))}
