"""Copies images to the device of the network, and results back to the host."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def to_device(image: np.ndarray, device: torch.device) -> torch.Tensor:
    """
    Copy an image to a device, see :func:`stack`.

    :param image: uint8, of any strides; the caller may change the array afterwards.
    """
    return stack([image], device)[0].to(device, non_blocking=True)


def stack(images: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
    """
    Copy images of one size into one tensor on the host, ready for a device.

    For a CUDA device the tensor is in pinned memory, from which the device copies asynchronously;
    torch reuses that memory for the next images.

    :param images: each (h, w, 3) uint8, of any strides.
    :return: (b, h, w, 3).
    """
    stacked = torch.empty(
        (len(images), *images[0].shape), dtype=torch.uint8, pin_memory=device.type == 'cuda')
    array = stacked.numpy()
    for i, image in enumerate(images):
        array[i] = image
    return stacked


def to_host(*values: torch.Tensor | None) -> list[Any]:
    """
    Return tensors of one device as arrays; arrays of CPU tensors share memory with them.

    From a CUDA device all copies are started before the host waits once for the last. These arrays
    are in pinned memory and should not be kept.

    :param values: a None stays None.
    """
    found = [value for value in values if value is not None]
    return as_arrays(start_to_host(*values), found[0].device if found else torch.device('cpu'))


def start_to_host(*values: torch.Tensor | None) -> list[torch.Tensor | None]:
    """Start the copies of :func:`to_host`; :func:`as_arrays` waits for them."""
    return [value if value is None or not value.is_cuda
            else torch.empty(value.shape, dtype=value.dtype, pin_memory=True).copy_(
                value, non_blocking=True)
            for value in values]


def as_arrays(values: Sequence[torch.Tensor | None], device: torch.device) -> list[Any]:
    """Wait for the copies of :func:`start_to_host`, and return the arrays."""
    if device.type == 'cuda':
        torch.cuda.current_stream(device).synchronize()
    return [None if value is None else value.numpy() for value in values]
