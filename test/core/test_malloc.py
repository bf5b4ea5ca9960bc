"""What a frame has freed is there for the next one."""
import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# As a frame does: many tensors of some megabytes, alive together, all freed at its end.
FRAMES = """
import ctypes, resource, sys, torch
from zoe_ros.inference.malloc import keep_freed_memory
# Hand all large blocks back at once. By itself glibc does so or not as its heap happens to lie.
assert ctypes.CDLL(None).mallopt(-3, 65536) and ctypes.CDLL(None).mallopt(-1, 65536)
assert keep_freed_memory() == (sys.argv[1] == 'keep')
torch.set_num_threads(1)
def frame():
    blocks = [torch.ones(1_000_000) for _ in range(10)]
for _ in range(3):
    frame()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    frame()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20)
"""
# A user's own choice, which stands.
CHOICES = {'keep': {}, 'own': {'MALLOC_TRIM_THRESHOLD_': '65536'}}


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='mallopt is of glibc')
def test_frames_cost_no_page_faults_unless_the_user_says_so():
    faults = {how: float(subprocess.run(
        [sys.executable, '-c', FRAMES, how], env=os.environ | choice, capture_output=True,
        text=True, check=True, timeout=120).stdout) for how, choice in CHOICES.items()}
    assert faults['keep'] < 200         # of the 10,000 pages that a frame touches
    assert faults['own'] > 10 * max(faults['keep'], 10)


HOLES = """
import os, torch
from zoe_ros.inference.malloc import keep_freed_memory, trim_freed_memory
def resident():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
keep_freed_memory()
blocks = [torch.ones(250_000) for _ in range(200)]
blocks = blocks[1::2]       # the last one holds up what glibc would give back by itself
before = resident()
trim_freed_memory()
assert all(block.sum() == 250_000 for block in blocks)
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='malloc_trim is of glibc')
def test_holes_are_given_back():
    freed = int(subprocess.run([sys.executable, '-c', HOLES], capture_output=True, text=True,
                               check=True, timeout=120).stdout)
    assert 0.8 * 100e6 < freed < 1.2 * 100e6
