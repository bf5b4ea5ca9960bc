"""Places the points of a turning lidar, which moves with the robot while it measures."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zoe_ros.anchor.points import SensorPoints
from zoe_ros.anchor.transform import Transform

# Between these instants of a scan the motion is taken as even: 50 ms of a lidar of 10 Hz. A robot
# that turns by 1 rad/s meanwhile moves a point 5 m away by 2 mm from the chord.
_INSTANTS = 3


def place(points: SensorPoints, placed: Callable[[float], Transform]) -> np.ndarray:
    """
    Take points to another frame, each from where the sensor was when it measured the point.

    :param placed: time after the stamp of the points [s] -> transform of points of that time.
    :return: (n, 3) [m].
    """
    times = points.times
    if times is None or not times.size:
        return placed(0.0)(points.xyz)
    first, last = float(times.min()), float(times.max())
    if first == last:
        return placed(first)(points.xyz)
    found = np.zeros_like(points.xyz)
    place_of = (times - first) * ((_INSTANTS - 1) / (last - first))
    for index, time in enumerate(np.linspace(first, last, _INSTANTS)):
        # Of the instants before and after a point, the nearer one counts more.
        share = np.maximum(1 - np.abs(place_of - index), 0)
        found += share[:, None] * placed(float(time))(points.xyz)
    return found
