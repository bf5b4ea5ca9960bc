"""
The node with a network that is slow on demand: a program for test_node_slow.py.

Everything is real but two hooks of torch on the encoder. An image that is almost white, everywhere
the same, takes seconds, as on a CPU that is too small for the model. The program prints when such
an image enters and leaves the network, and whether another one was in the network.
"""
import sys
from threading import Lock
from time import sleep

from zoe_ros import DepthEstimator
from zoe_ros.ros.main import main

SLOW = 0.984
SECONDS = 4.0
inside = Lock()


def enter(module, arguments):
    """Tell of two images at once, and dawdle."""
    if not inside.acquire(blocking=False):
        sys.stderr.write('two frames at once\n')
        inside.acquire()
    low, high = (round(value.item(), 3) for value in (arguments[0].min(), arguments[0].max()))
    if low == high == SLOW:
        sys.stderr.write('a slow frame begins\n')
        sleep(SECONDS)
        sys.stderr.write('a slow frame ends\n')


def leave(module, arguments, output):
    """Let the next image in."""
    inside.release()


load = DepthEstimator.load


def load_slow(*arguments, **choices):
    """Load an estimator as always, and put the hooks onto its encoder."""
    estimator = load(*arguments, **choices)
    estimator.model.backbone.register_forward_pre_hook(enter)
    estimator.model.backbone.register_forward_hook(leave)
    return estimator


if __name__ == '__main__':
    DepthEstimator.load = load_slow
    main()
