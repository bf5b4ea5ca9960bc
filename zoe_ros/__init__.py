"""Metric depth from one ordinary camera: ZoeDepth for ROS 2, for bags and for Python."""
from zoe_ros.engine import DepthEstimator, DepthPrediction

__all__ = ['DepthEstimator', 'DepthPrediction', '__version__']
__version__ = '0.1.0'
