"""What the names of variants, precisions, devices and sizes mean, which users choose."""
from __future__ import annotations

import logging
from pathlib import Path

import torch

from zoe_ros.counts import counted
from zoe_ros.inference.defaults import default_precision, default_variant, Hardware
from zoe_ros.model.config import PAIRS, VARIANTS, ZoeConfig
from zoe_ros.model.weights import open_checkpoint, WeightsError
from zoe_ros.settings import check_choice

DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}

log = logging.getLogger(__name__)


def find_config(variant: str, weights: str | Path | None, hardware: Hardware) -> ZoeConfig:
    """
    Return the description of the model that ``variant`` names.

    An empty name means the model in the ``weights`` file or, without a file, the default of the
    hardware, which is logged.

    :raises ValueError: the name is neither a known variant nor the model in the file.
    """
    if weights:
        checkpoint = open_checkpoint(weights)
        own = checkpoint.config
        checkpoint.require_metric()
        if not variant:
            released = checkpoint.released_variants()
            if own is None and len(released) != 1:
                choice = f' {" or ".join(released)}' if released else ''
                raise WeightsError(f'{weights} does not tell which model it holds: name the '
                                   f'variant{choice}')
            return own or VARIANTS[released[0]]
        if own is not None and own.variant != variant:
            raise WeightsError(f"{weights} holds {own.title}: ask for variant '{own.variant}', "
                               f"not '{variant}'")
        if own is not None:
            return own
    if not variant:
        variant, reason = default_variant(hardware)
        log.info("variant '%s': %s", variant, reason)
    if variant in PAIRS:
        raise ValueError(two_models(variant))
    check_choice('variant', variant, (*VARIANTS, *PAIRS))
    return VARIANTS[variant]


def two_models(variant: str) -> str:
    """Return why a pair of models is refused where one model is needed."""
    return f"'{variant}' is two models: name one of them, {' or '.join(map(repr, PAIRS[variant]))}"


def find_precision(name: str, hardware: Hardware) -> str:
    """Return the precision of that name; the choice for 'auto' is logged."""
    if name != 'auto':
        return name
    precision, reason = default_precision(hardware)
    log.info('precision %s: %s', precision, reason)
    return precision


def resolve_device(name: str) -> torch.device:
    """
    Return the torch device of that name; 'auto' is a CUDA device if there is one, else the CPU.

    :raises ValueError: there is no such device on this machine.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ('cpu', 'cuda'):
        raise ValueError(f"no device '{name}': use 'auto', 'cpu', 'cuda' or 'cuda:N'")
    count = torch.cuda.device_count()
    if device.type == 'cuda' and (device.index or 0) >= count:
        found = counted(count, 'CUDA device') if count else 'no CUDA device'
        raise ValueError(f"no device '{name}': torch finds {found} here; use 'auto' or 'cpu'")
    return device


def input_size(text: str, config: ZoeConfig) -> tuple[int, int]:
    """
    Return the (height, width) of the network input [px] that a text like '192x256' means.

    An empty text means the size of the model.

    :raises ValueError: the text is not two multiples of what the encoder needs.
    """
    if not text:
        return config.image_size
    multiple = config.backbone.size_multiple
    try:
        height, width = (int(part) for part in text.lower().split('x'))
    except ValueError:
        height = width = 0
    if min(height, width) < multiple or height % multiple or width % multiple:
        raise ValueError(f"size '{text}' is not HEIGHTxWIDTH in multiples of {multiple}, like "
                         f'{6 * multiple}x{8 * multiple}')
    return height, width
