"""Images to the device of the network, and what comes of them back to the host."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch


def to_device(image: np.ndarray, device: torch.device) -> torch.Tensor:
    """
    Copy an image to a device.

    To a CUDA device by pinned memory, so that the host does not wait; torch keeps that memory
    for the next image.

    :param image: uint8, of any strides; it may change as soon as this has returned.
    """
    if device.type != 'cuda':
        # np.array copies: torch refuses negative strides and warns of read-only messages.
        return torch.from_numpy(np.array(image, order='C')).to(device)
    pinned = torch.empty(image.shape, dtype=torch.uint8, pin_memory=True)
    pinned.numpy()[...] = image
    return pinned.to(device, non_blocking=True)


def to_host(*values: torch.Tensor | None) -> list[Any]:
    """
    Return the arrays of tensors of one device; those of the CPU share their memory.

    From a CUDA device all copies are under way before the host waits, once, for the last; the
    arrays are pinned memory then, and not meant to be kept.

    :param values: a None stays None.
    """
    arrays: list[Any] = []
    waits_for = None
    for value in values:
        if value is None:
            arrays.append(None)
        elif value.is_cuda:
            pinned = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            pinned.copy_(value, non_blocking=True)
            arrays.append(pinned.numpy())
            waits_for = value.device
        else:
            arrays.append(value.numpy())
    if waits_for is not None:
        torch.cuda.current_stream(waits_for).synchronize()
    return arrays
