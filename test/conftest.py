"""What several test files share: made-up models and photographs; and a DDS domain of our own."""
import fcntl
from functools import partial
from importlib import import_module
from importlib.util import find_spec
import os
import random
import shutil

# Threads of torch that wait for each other sleep: on a busy machine spinning takes most of their
# processor time. OpenMP reads this while torch is imported; what tests start shall not inherit it.
if 'OMP_WAIT_POLICY' not in os.environ:
    os.environ['OMP_WAIT_POLICY'] = 'PASSIVE'
    import_module('torch')
    del os.environ['OMP_WAIT_POLICY']

# Without a GPU Triton's interpreter runs the kernels. Triton asks for it when it is imported, and
# zoe_ros imports it: so this stands before the first import of zoe_ros, for the whole process.
# Nothing else of the suite runs Triton; what compiles its kernels does so in another process.
if not import_module('torch').cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'

import made_up
import pytest
import torch

from zoe_ros import DepthEstimator

# Of pytest-xdist; tests that start pytest in another process start no worker.
WORKER = os.environ.pop('PYTEST_XDIST_WORKER', '')
# Before anything joins DDS: stay on this machine, and out of the way of other runs. Each worker of
# pytest-xdist ('gw0', ...) has a domain of its own, next to that of the process that started it.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, 90)))
if WORKER:
    os.environ['ROS_DOMAIN_ID'] = str(int(os.environ['ROS_DOMAIN_ID']) + 1 + int(WORKER[2:]))

THREADS = torch.get_num_threads()
HAS_ROS = find_spec('rclpy') is not None
collect_ignore = [] if HAS_ROS else ['node']


def pytest_report_header():
    """Say what is left out, and where DDS meets."""
    return (f'ROS_DOMAIN_ID {os.environ["ROS_DOMAIN_ID"]}' if HAS_ROS else
            'without rclpy (pip install .[ros]): the tests of the node, test/node, are left out')


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Let workers begin with the long files, so that they end at about the same time."""
    if WORKER:
        items.sort(key=lambda item: not {'slow', 'full'} & {m.name for m in item.iter_markers()})


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """
    Let torch use one thread, unless the model of a test is large enough to gain from more.

    Two threads of the tiny model mostly wait for each other: on a busy machine a test takes six to
    thirty times the processor time.
    """
    large = item.get_closest_marker('full') or item.get_closest_marker('threads')
    torch.set_num_threads(THREADS if large else 1)


@pytest.fixture
def ray_runs(tmp_path_factory):
    """Let no other worker of pytest run the test that needs a machine without Ray."""
    yield from _locked(tmp_path_factory, fcntl.LOCK_SH)


@pytest.fixture
def no_ray_runs(tmp_path_factory):
    """Wait until no other worker of pytest runs Ray: Ray finds all that runs on a machine."""
    yield from _locked(tmp_path_factory, fcntl.LOCK_EX)


def _locked(tmp_path_factory, kind):
    # Workers of one run have one parent of their folders.
    folder = tmp_path_factory.getbasetemp()
    with open((folder.parent if WORKER else folder) / 'ray.lock', 'w') as file:
        fcntl.flock(file, kind)
        yield


@pytest.fixture(scope='session')
def photos():
    """Return four photographs, (h, w, 3) uint8 RGB; two sizes, both heads of the tiny model."""
    return [made_up.photo(name) for name in made_up.PHOTOS]


@pytest.fixture(scope='session')
def tiny_weights(tmp_path_factory):
    """Return the path of a file of our own with the tiny model: variant 'tiny', two heads."""
    return made_up.write_tiny(tmp_path_factory.mktemp('tiny') / 'tiny.safetensors')


@pytest.fixture(scope='session')
def tiny_estimator(tiny_weights):
    """Return an estimator on the tiny model, in fp32 on the CPU, the other choices by default."""
    return DepthEstimator.load('tiny', tiny_weights, device='cpu', precision='fp32')


@pytest.fixture(scope='session')
def official(tmp_path_factory):
    """Return a function: variant -> path of its full-size official file, until the next one."""
    folder = tmp_path_factory.mktemp('official')
    yield partial(official_file, folder)
    # 1.4 GB, and pytest keeps the folders of several runs.
    shutil.rmtree(folder)


def official_file(folder, variant):
    """Return the path of an official file; never more than one is on disk."""
    path = folder / f'ZoeD_M12_{variant.upper()}.pt'
    if not path.exists():
        for other in folder.iterdir():
            other.unlink()
        made_up.write_official(variant, path)
    return path
