"""The default model and precision of a device."""
from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

# Flags of /proc/cpuinfo for products of bfloat16: x86 with tiles, x86 with vectors, ARM.
_BF16_FLAGS = ('amx_bf16', 'avx512_bf16', 'bf16')
_BF16_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Hardware:
    """
    The properties of a device that decide the defaults.

    :param kind: 'cpu' or 'cuda', the type of the torch device.
    :param capability: compute capability of a CUDA device.
    :param flags: instruction sets of a CPU, as Linux names them.
    """

    kind: str
    capability: tuple[int, int] = (0, 0)
    flags: frozenset[str] = frozenset()


class Choice(NamedTuple):
    """A default value and the reason for it."""

    name: str
    reason: str


def describe(device: torch.device) -> Hardware:
    """Return the properties of a device; CPU instruction sets are known on Linux only."""
    if device.type == 'cuda':
        return Hardware('cuda', capability=torch.cuda.get_device_capability(device))
    cpuinfo = ''
    with suppress(OSError):
        cpuinfo = Path('/proc/cpuinfo').read_text(encoding='utf-8', errors='replace')
    return Hardware('cpu', flags=common_flags(cpuinfo))


def common_flags(cpuinfo: str) -> frozenset[str]:
    """Return the flags common to all cores, from the text of /proc/cpuinfo (x86 and ARM)."""
    lines = (line.partition(':') for line in cpuinfo.splitlines())
    cores = [frozenset(value.split()) for key, _, value in lines
             if key.strip() in ('flags', 'Features')]
    return frozenset.intersection(*cores) if cores else frozenset()


def default_variant(hardware: Hardware) -> Choice:
    """Choose the model if neither variant nor weights are given."""
    if hardware.kind == 'cuda':
        return Choice('nk', 'a CUDA device runs the full ZoeDepth live; name variant '
                            "'mobile-lite' for the small model of the package")
    return Choice('mobile-lite', 'a CPU takes seconds for a frame of the full ZoeDepth; name '
                                 "variant 'nk' for that")


def default_precision(hardware: Hardware) -> Choice:
    """Choose the precision for 'auto'."""
    if hardware.kind == 'cuda':
        capability = '.'.join(map(str, hardware.capability))
        if hardware.capability >= _BF16_CAPABILITY:
            return Choice('bf16', f'compute capability {capability} has products of bfloat16')
        return Choice('fp32', f'compute capability {capability} has no products of bfloat16')
    found = [flag for flag in _BF16_FLAGS if flag in hardware.flags]
    if found:
        return Choice('bf16', f'this CPU has products of bfloat16 ({found[0]})')
    return Choice('fp32', 'this CPU is not known to have products of bfloat16')
