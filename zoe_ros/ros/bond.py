"""The bond by which the lifecycle manager of nav2 notices that a node is gone."""
from __future__ import annotations

from typing import Any

from rclpy.node import Node

try:
    from bondpy import bondpy
except ImportError:     # its package is not part of every ROS installation
    bondpy = None

# As the nodes of nav2 have them, times in seconds.
_TOPIC, _PERIOD, _TIMEOUT = 'bond', 0.1, 4.0


def make_bond(node: Node) -> Any | None:
    """Return a bond that has been started under the name of the node, None without bondpy."""
    if bondpy is None:
        return None
    bond = bondpy.Bond(node, _TOPIC, node.get_name())
    bond.heartbeat_period, bond.heartbeat_timeout = _PERIOD, _TIMEOUT
    bond.start()
    return bond
