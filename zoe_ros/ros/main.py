"""The executable ``depth_node``: from a signal-safe start to a clean end."""
from __future__ import annotations

from collections.abc import Sequence
import gc
from importlib import import_module
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

from zoe_ros.inference.malloc import keep_freed_memory
from zoe_ros.ros.transport import transport


class _Ended(BaseException):
    """SIGINT or SIGTERM, while the process does nothing that is worth finishing."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """
    Run the node until it is told to end, and the process with it.

    The exit code is 0 after SIGINT or SIGTERM, at whatever moment, and 1 where the node cannot
    start.
    """
    def on_signal(number: int, frame: FrameType | None) -> None:
        # Nothing has joined DDS yet.
        _leave(0)

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    keep_freed_memory()
    os.environ.update(transport())
    # Imports take seconds; the handler above ends the process meanwhile.
    import_module('zoe_ros.ros.node')

    code = _run(arguments)
    # The participant of DDS lives in reference cycles. It must be gone before the process is:
    # else its shared memory stays in /dev/shm and other nodes see a ghost for 20 s.
    gc.collect()
    # Python's own ending takes seconds on a busy machine, to take torch apart, and would pull the
    # floor from under a worker that is still deep in the network, or under a thread of DDS.
    _leave(code)


def _run(arguments: Sequence[str] | None) -> int:
    """Run the node from joining DDS to leaving it; return the exit code."""
    import rclpy
    from rclpy.exceptions import ParameterException
    from rclpy.executors import SingleThreadedExecutor

    from zoe_ros.ros.node import DepthNode

    node, executor, starting = None, None, True

    def on_signal(number: int, frame: FrameType | None) -> None:
        # The loading of a model takes seconds. Once the node spins, rclpy's own handler, which
        # has run before this one, ends the spinning.
        if starting or (node is not None and node.configuring):
            raise _Ended

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    code = 0
    try:
        rclpy.init(args=None if arguments is None else list(arguments))
        node = DepthNode()
        started = not node.parameters.autostart or node.start()
        starting = False
        code = 0 if started else 1
        if started:
            if not node.parameters.autostart:
                node.get_logger().info('waiting to be configured (autostart is false)')
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            spin(executor)
    except (ValueError, ParameterException) as error:
        sys.stderr.write(f'depth_node: {error}\n')
        code = 1
    except _Ended:
        pass
    # No signal interrupts the leaving; and the handler above would keep the node alive.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if node is not None:
        node.stop(for_good=True)
        if executor is not None:
            executor.shutdown()
        node.destroy_node()
    rclpy.try_shutdown()
    return code


def spin(executor: Any) -> None:
    """Let an rclpy executor work until its context is shut down."""
    try:
        # Not executor.spin(): a signal wakes its wait a moment before it shuts the context down.
        # Seen too early that leads back into the wait, for ever where nothing else happens.
        while executor.context.ok():
            executor.spin_once(timeout_sec=0.5)
    except Exception:
        # The context may be shut down at any moment, and then whatever uses it fails.
        if executor.context.ok():
            raise


def _leave(code: int) -> NoReturn:
    """End the process at once, with what it has said so far."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == '__main__':
    main()
