"""Turns the deviation that a head predicts into the error that was measured."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
import json
import logging
import math
from pathlib import Path
from typing import Any

import torch

from zoe_ros.files import file_sha256, whole_file

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """
    A monotone map of the relative deviation s of one head: max(floor, factor * s ** exponent).

    The relative deviation is the standard deviation over the bins, divided by the depth. The true
    depth of 68 % of the pixels is within the mapped deviation. ``zoe calibrate`` fits the map.

    :param left: shares of the mapped deviation that are left where the scale of one row of the
        image is right, and where that of the whole image is; None in files of older versions.
    :raises ValueError: a parameter is negative or not finite, or the floor is zero.
    """

    factor: float
    exponent: float
    floor: float
    left: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse a map that falls, or that promises depth without error."""
        numbers = (self.factor, self.exponent, self.floor, *(self.left or ()))
        if not all(isinstance(value, (int, float)) and math.isfinite(value) and value >= 0
                   for value in numbers) or self.floor == 0 or len(numbers) not in (3, 5):
            raise ValueError(f'{self} is no calibration: factor and exponent are finite and not '
                             'negative, as are both shares that are left, the floor is positive')

    def __call__(self, deviation: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        """Return the calibrated deviation [m]; all tensors have one shape."""
        relative = self.factor * (deviation / depth) ** self.exponent
        return depth * relative.clamp(min=self.floor)

    def left_at(self, coverage: float) -> float | None:
        """
        Return the share of the deviation that is left where an anchor gives the scale.

        :param coverage: of the image by the anchor: 0 for one row, 1 for all of it.
        :return: None if that is not known.
        """
        if self.left is None:
            return None
        row, image = self.left
        # Variances are added, not deviations.
        return math.sqrt((1 - coverage) * row ** 2 + coverage * image ** 2)


def calibration_file(weights: Path) -> Path:
    """Return the path of the calibration of a weights file: beside it, of any kind of weights."""
    return weights.with_suffix('.calibration.json')


def save_calibration(weights: Path, heads: Mapping[str, Calibration],
                     data: list[str]) -> Path:
    """
    Write the calibration of a weights file.

    :param heads: name of the head -> its map.
    :param data: names of the datasets that the maps were fitted to.
    :return: the path of the file.
    :raises OSError: the file cannot be written; the text names it.
    """
    content = {'weights_sha256': file_sha256(weights), 'data': data,
               'heads': {name: asdict(found) for name, found in heads.items()}}
    path = calibration_file(weights)
    with whole_file(path) as part:
        part.write_text(json.dumps(content, indent=1) + '\n')
    return path


def load_calibration(weights: Path) -> dict[str, Calibration]:
    """
    Read the calibration of a weights file.

    :return: name of the head -> its map; empty without a calibration of these weights.
    :raises ValueError: the file of the calibration is damaged.
    """
    path = calibration_file(weights)
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
        made_for = content['weights_sha256']
        heads = {str(name): _build(values) for name, values in content['heads'].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{path} is no calibration ({error}): remove the file, or make it again '
                         'with zoe calibrate') from None
    if made_for != file_sha256(weights):
        # Training replaced the weights.
        _log.warning('%s was made for other weights and is not used: make it again with zoe '
                     'calibrate', path)
        return {}
    return heads


def _build(values: Mapping[str, Any]) -> Calibration:
    left = values.get('left')
    return Calibration(values['factor'], values['exponent'], values['floor'],
                       None if left is None else tuple(left))
