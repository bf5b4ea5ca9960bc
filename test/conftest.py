"""What several test files share: made-up models and photographs; and a DDS domain of our own."""
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
import os
import random

# Without a GPU Triton's interpreter runs the kernels. Triton asks for it when it is imported, and
# zoe_ros imports it: so this stands before the first import of zoe_ros, for the whole process.
# Nothing else of the suite runs Triton; what compiles its kernels does so in another process.
if not import_module('torch').cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'

import made_up
import pytest
import torch

from zoe_ros import DepthEstimator

# Before anything joins DDS: stay on this machine, and out of the way of other runs.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, 100)))

HAS_ROS = find_spec('rclpy') is not None
collect_ignore = [] if HAS_ROS else ['node']


def pytest_report_header():
    """Say what is left out, and where DDS meets."""
    return (f'ROS_DOMAIN_ID {os.environ["ROS_DOMAIN_ID"]}' if HAS_ROS else
            'without rclpy (pip install .[ros]): the tests of the node, test/node, are left out')


@pytest.fixture(scope='module')
def one_torch_thread():
    """Let torch use one thread: with two the tiny model mostly waits on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    """Return a context manager: variant -> path of a full-size official file, for that long."""
    folder = tmp_path_factory.mktemp('official')

    @contextmanager
    def written(variant):
        # 1.4 GB: never more than one on disk.
        path = folder / f'ZoeD_M12_{variant.upper()}.pt'
        made_up.write_official(variant, path)
        try:
            yield path
        finally:
            path.unlink()

    return written
