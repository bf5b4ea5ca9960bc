"""The bond by which the lifecycle manager of nav2 notices that a node has died."""
from __future__ import annotations

from typing import Any

from rclpy.node import Node

try:
    from bondpy import bondpy
except ImportError:     # bondpy is not part of every ROS installation
    bondpy = None

# Values of the nodes of nav2 [s].
_TOPIC, _PERIOD, _TIMEOUT = 'bond', 0.1, 4.0


def make_bond(node: Node) -> Any | None:
    """Return a started bond with the name of the node, or None without bondpy."""
    if bondpy is None:
        return None
    bond = bondpy.Bond(node, _TOPIC, node.get_name())
    bond.heartbeat_period, bond.heartbeat_timeout = _PERIOD, _TIMEOUT
    bond.start()
    return bond
