"""Ray, on this machine or on a cluster that runs already."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import logging
import os
import socket
from typing import Any

from zoe_ros.errors import first_line
from zoe_ros.extras import require

# For Ray's shared memory [bytes]: only paths, figures and small pictures go through it.
_SHARED_MEMORY = 100_000_000
_ANSWER = 5.0       # [s] to wait for a cluster: Ray would wait a minute and end the process


def import_ray(alone: bool) -> Any:
    """
    Import Ray, without its report of usage to its makers.

    :param alone: this machine is no part of a cluster.
    :raises ValueError: it is not installed.
    """
    os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
    if alone:
        # Read on import: all processes of Ray listen on the loopback interface only. The name
        # comes from Windows and macOS, where this is the default.
        os.environ['RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER'] = '0'
    return require('a fleet', 'fleet', 'ray')


@contextmanager
def connected(ray: Any, address: str) -> Iterator[None]:
    """
    Start Ray, or join a cluster; leave it however the block ends.

    :raises ValueError: there is no cluster at the address.
    """
    own: dict[str, Any] = {} if address else {
        'include_dashboard': False, 'object_store_memory': _SHARED_MEMORY}
    if ':' in address:
        _require_answer(address)
    try:
        ray.init(address=address or 'local', log_to_driver=False, logging_level=logging.ERROR,
                 **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ValueError(f"no Ray cluster at '{address}': {first_line(error)}" if address else
                         f'Ray cannot be started: {first_line(error)}') from None
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """
    Connect to an address once.

    :raises ValueError: nothing answers there.
    """
    host, _, port = address.rpartition(':')
    with suppress(ValueError):      # not a number
        try:
            socket.create_connection((host, int(port)), _ANSWER).close()
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise ConnectionError(f"no Ray cluster at '{address}': {reason}") from None
