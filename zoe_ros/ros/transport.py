"""What Fast DDS needs to carry images and clouds, unless the user has chosen something."""
from __future__ import annotations

import os
from pathlib import Path

PROFILE = Path(__file__).resolve().parents[1] / 'data' / 'fastdds.xml'
# The first since Kilted, the second up to Jazzy.
_NAMES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')


def transport() -> dict[str, str]:
    """
    Return the environment in which Fast DDS has a shared-memory segment for large messages.

    It holds for a process that has not joined DDS yet. Empty where the environment has profiles
    or transports of the user's; without room in /dev/shm Fast DDS says so and goes by UDP.
    """
    if any(os.environ.get(name) for name in (*_NAMES, 'FASTDDS_BUILTIN_TRANSPORTS')):
        return {}
    return dict.fromkeys(_NAMES, str(PROFILE))
