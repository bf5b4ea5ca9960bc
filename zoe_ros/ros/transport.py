"""What Fast DDS needs to carry images and clouds, unless the user has chosen something."""
from __future__ import annotations

import os
from pathlib import Path

PROFILE = Path(__file__).resolve().parents[1] / 'data' / 'fastdds.xml'
_NAMES = (_NAME, _OLD_NAME) = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
# Their Fast DDS reads the old name; a newer one complains about it.
_OLD_DISTRIBUTIONS = ('humble', 'iron', 'jazzy')


def transport() -> dict[str, str]:
    """
    Return the environment in which Fast DDS has a shared-memory segment for large messages.

    It holds for a process that has not joined DDS yet. Empty where the environment has profiles
    or transports of the user's; without room in /dev/shm Fast DDS says so and goes by UDP.
    """
    if any(os.environ.get(name) for name in (*_NAMES, 'FASTDDS_BUILTIN_TRANSPORTS')):
        return {}
    old = os.environ.get('ROS_DISTRO') in _OLD_DISTRIBUTIONS
    return {_OLD_NAME if old else _NAME: str(PROFILE)}
