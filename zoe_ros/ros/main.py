"""The executable ``depth_node``, which handles signals at any time and exits cleanly."""
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
    """SIGINT or SIGTERM during work that need not be finished."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """
    Run the node until a signal, then end the process.

    The exit code is 0 after SIGINT or SIGTERM at any time, and 1 if the node cannot start.
    """
    def on_signal(number: int, frame: FrameType | None) -> None:
        # No DDS participant exists yet.
        _leave(0)

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    keep_freed_memory()
    os.environ.update(transport())
    # Imports take seconds; until then the handler above ends the process.
    import_module('zoe_ros.ros.node')

    code = _run(arguments)
    # Reference cycles keep the DDS participant alive. Destroy it before the process ends, else its
    # shared memory stays in /dev/shm and other nodes see the participant for 20 s.
    gc.collect()
    # Python's normal exit takes seconds on a busy machine to unload torch, and may crash a worker
    # that still runs the network, or a thread of DDS.
    _leave(code)


def _run(arguments: Sequence[str] | None) -> int:
    """Run the node from rclpy.init() to the shutdown; return the exit code."""
    import rclpy
    from rclpy.exceptions import ParameterException
    from rclpy.executors import SingleThreadedExecutor

    from zoe_ros.ros.node import DepthNode

    node, executor, code = None, None, 0
    interruptible, initialized = True, False

    def on_signal(number: int, frame: FrameType | None) -> None:
        # Loading a model takes seconds. Once the node spins, rclpy's handler, which runs before
        # this one, ends the spinning.
        if interruptible or (node is not None and node.configuring):
            raise _Ended

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    try:
        try:
            rclpy.init(args=None if arguments is None else list(arguments))
            initialized = True
            node = DepthNode()
            _warn_of_unused_files(node, sys.argv if arguments is None else arguments)
            if not node.parameters.autostart:
                node.get_logger().info('waiting to be configured (autostart is false)')
            if not node.parameters.autostart or node.start():
                executor = SingleThreadedExecutor()
                executor.add_node(node)
                interruptible = False
                spin(executor)
            elif rclpy.ok():
                code = 1
        except Exception as error:
            # A signal shuts the context down, after which every call of rclpy fails. That may
            # happen before Python's own handler has run.
            if not initialized or rclpy.ok():
                if not isinstance(error, (ValueError, ParameterException)):
                    raise
                sys.stderr.write(f'depth_node: {error}\n')
                code = 1
    except _Ended:
        pass
    interruptible = False
    # No signal may interrupt the shutdown; and the handler above would keep the node alive.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if node is not None:
        node.stop(for_good=True)
        if executor is not None:
            executor.shutdown()
        node.destroy_node()
    rclpy.try_shutdown()
    return code


def _warn_of_unused_files(node: Any, arguments: Sequence[str]) -> None:
    from zoe_ros.ros.parameter_files import explain_unused_files

    for text in explain_unused_files(arguments, node.get_fully_qualified_name()):
        node.get_logger().warning(text)


def spin(executor: Any) -> None:
    """Spin an rclpy executor until its context is shut down."""
    try:
        # Not executor.spin(): a signal wakes the wait shortly before the context is shut down.
        # spin() may see the context still valid and wait again, for ever if no event follows.
        while executor.context.ok():
            executor.spin_once(timeout_sec=0.5)
    except Exception:
        # After a shutdown of the context, which may happen at any time, rclpy calls fail.
        if executor.context.ok():
            raise


def _leave(code: int) -> NoReturn:
    """End the process at once, after flushing its output."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == '__main__':
    main()
