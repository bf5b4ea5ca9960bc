"""
The node with a network that fails on demand: a program for test_node_faults.py.

Everything is real but one hook of torch on the encoder: an image that is almost black, everywhere
the same, makes it raise the error of a broken device, an almost white one that of a device without
memory. (Black itself is what a node warms up with.)
"""
import torch

from zoe_ros import DepthEstimator
from zoe_ros.ros.main import main

FAULTS = {
    -0.984: torch.AcceleratorError(
        'CUDA error: an illegal memory access was encountered\n'
        'CUDA kernel errors might be reported asynchronously'),
    0.984: torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')}


def fail_on_demand(module, arguments):
    """Look at the pixels that the encoder gets."""
    for image in arguments[0]:
        low, high = round(image.min().item(), 3), round(image.max().item(), 3)
        if low == high and low in FAULTS:
            raise FAULTS[low]


load = DepthEstimator.load


def load_faulty(*arguments, **choices):
    """Load an estimator as always, and put the hook into its encoder."""
    estimator = load(*arguments, **choices)
    estimator.model.backbone.register_forward_pre_hook(fail_on_demand)
    return estimator


if __name__ == '__main__':
    DepthEstimator.load = load_faulty
    main()
