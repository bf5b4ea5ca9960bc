"""What is taken where nothing is asked for, by descriptions of devices that need not be here."""
from pathlib import Path

import pytest
import torch

from zoe_ros.inference.defaults import (
    common_flags,
    default_precision,
    default_variant,
    describe,
    Hardware,
)

# Shortened: an EPYC of Zen 4, and a server on ARM.
X86 = """processor\t: {0}
vendor_id\t: AuthenticAMD
flags\t\t: fpu vme sse2 avx2 avx512f avx512_bf16 clzero
bugs\t\t: sysret_ss_attrs null_seg
"""
ARM = """processor\t: {0}
BogoMIPS\t: 2000.00
Features\t: fp asimd sve i8mm bf16
CPU implementer\t: 0x41
"""
# The small cores of a phone beside a large one.
SMALL = 'processor\t: 1\nFeatures\t: fp asimd\n'


@pytest.mark.parametrize('hardware, precision, reason', [
    (Hardware('cuda', (7, 5)), 'fp32', 'compute capability 7.5 has no products of bfloat16'),
    (Hardware('cuda', (8, 0)), 'bf16', 'compute capability 8.0 has products of bfloat16'),
    (Hardware('cuda', (8, 7)), 'bf16', 'compute capability 8.7 has products of bfloat16'),
    (Hardware('cuda', (12, 0)), 'bf16', 'compute capability 12.0 has products of bfloat16'),
    (Hardware('cpu', flags=common_flags(X86.format(0))), 'bf16',
     'this CPU has products of bfloat16 (avx512_bf16)'),
    (Hardware('cpu', flags=frozenset({'avx512f', 'amx_tile', 'amx_bf16', 'avx512_bf16'})), 'bf16',
     'this CPU has products of bfloat16 (amx_bf16)'),
    (Hardware('cpu', flags=common_flags(ARM.format(0))), 'bf16',
     'this CPU has products of bfloat16 (bf16)'),
    (Hardware('cpu', flags=frozenset({'avx2', 'avx512f'})), 'fp32',
     'this CPU is not known to have products of bfloat16'),
    (Hardware('cpu'), 'fp32', 'this CPU is not known to have products of bfloat16')])
def test_precision(hardware, precision, reason):
    assert default_precision(hardware) == (precision, reason)


@pytest.mark.parametrize('capability', [(5, 3), (9, 0)])
def test_variant(capability):
    variant, reason = default_variant(Hardware('cuda', capability))
    assert variant == 'nk' and "name variant 'mobile-lite'" in reason
    variant, reason = default_variant(Hardware('cpu'))
    assert variant == 'mobile-lite' and "name variant 'nk'" in reason


def test_flags_are_those_of_all_cores():
    assert common_flags(''.join(X86.format(i) for i in range(3))) == {
        'fpu', 'vme', 'sse2', 'avx2', 'avx512f', 'avx512_bf16', 'clzero'}
    assert common_flags(ARM.format(0) + SMALL) == {'fp', 'asimd'}
    assert common_flags('') == common_flags('processor: 0\nmodel name: x bf16\n') == frozenset()


def test_the_cpu_of_this_machine():
    found = describe(torch.device('cpu'))
    assert (found.kind, found.capability) == ('cpu', (0, 0))
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.exists():
        # Any that Linux runs has floating point, by one name or the other.
        assert found.flags & {'fpu', 'fp'}
    ask = getattr(torch.cpu, '_is_avx512_bf16_supported', None)
    if ask is not None and cpuinfo.exists():
        assert ('avx512_bf16' in found.flags) == ask()


@pytest.mark.skipif(not torch.cuda.is_available(), reason='has no CUDA device')
def test_the_gpu_of_this_machine():
    found = describe(torch.device('cuda'))
    assert found == Hardware('cuda', torch.cuda.get_device_capability())
