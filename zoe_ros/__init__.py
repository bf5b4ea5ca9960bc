"""Metric depth from one ordinary camera: ZoeDepth for ROS 2, for bags and for Python."""
from __future__ import annotations

from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from zoe_ros.inference.engine import DepthEstimator, DepthPrediction

__all__ = ['DepthEstimator', 'DepthPrediction', '__version__']
__version__ = '0.1.0'


def __getattr__(name: str) -> Any:
    # On demand: importing torch takes seconds in which a node could not even answer a signal,
    # nor `zoe --help` its user.
    if name in ('DepthEstimator', 'DepthPrediction'):
        from zoe_ros.inference import engine
        return getattr(engine, name)
    raise AttributeError(f"module 'zoe_ros' has no attribute '{name}'")
