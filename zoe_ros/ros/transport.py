"""Settings for Fast DDS to transport images and clouds, unless the user has chosen others."""
from __future__ import annotations

import os
from pathlib import Path

PROFILE = Path(__file__).resolve().parents[1] / 'data' / 'fastdds.xml'
_NAMES = (_NAME, _OLD_NAME) = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
# Fast DDS of these distributions reads the old name; newer versions warn about the old name.
_OLD_DISTRIBUTIONS = ('humble', 'iron', 'jazzy')


def transport() -> dict[str, str]:
    """
    Return the environment in which Fast DDS has a shared-memory segment for large messages.

    The environment must be set before the process joins DDS. Empty if the user has set profiles or
    transports. Without room in /dev/shm, Fast DDS logs a warning and falls back to UDP.
    """
    if any(os.environ.get(name) for name in (*_NAMES, 'FASTDDS_BUILTIN_TRANSPORTS')):
        return {}
    old = os.environ.get('ROS_DISTRO') in _OLD_DISTRIBUTIONS
    return {_OLD_NAME if old else _NAME: str(PROFILE)}
