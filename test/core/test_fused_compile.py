"""The kernels of a GPU compile for GPUs of several generations, none of which need be here."""
import json
import os
from pathlib import Path
import subprocess
import sys

import pytest

from zoe_ros.model import fused

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not fused.DEFINED, reason='Triton comes with torch on Linux')]
ROOT = Path(__file__).resolve().parents[2]
# What a block may take on the smallest GPUs: 8.6, 8.9, 12.0 [bytes].
SHARED = 99 * 1024
# Registers that go to memory, of each thread [bytes]. Some in the seed bins of N and K, which are
# as wide as nothing else and as few as the pixels of the bottleneck.
SPILT, SPILT_BY_SEEDS = 300, 1000


@pytest.mark.parametrize('variant, capability', [
    ('nk', 90), ('mobile', 120), *(
        pytest.param(*case, marks=pytest.mark.full) for case in (
            ('nk', 80), ('nk', 120), ('n', 80), ('k', 90), ('k', 120), ('mobile', 80)))])
def test_kernels_compile_and_fit(variant, capability, tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / 'test' / 'compile_kernels.py'), variant, str(capability)],
        cwd=ROOT, capture_output=True, text=True, timeout=550,
        env={**os.environ, 'TRITON_INTERPRET': '0', 'TRITON_CACHE_DIR': str(tmp_path),
             'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {entry['kernel'] for entry in found} == {
        'upsample', 'pixel_mlp', 'attract_level', 'bin_moments', 'add_norm', 'add_residual'}
    for entry in found:
        assert entry['shared'] <= SHARED, entry
        seeds = entry['kernel'] == 'pixel_mlp' and entry['constants']['HIDDEN'] == 256
        assert entry['stack'] <= (SPILT_BY_SEEDS if seeds else SPILT), entry
        # Else each new size of image would compile for seconds.
        assert not entry['specialised'], entry
