"""
A program in a fork of a process that has imported torch already, which takes seconds.

multiprocessing's fork server imports the core of the package and waits. It does not import ROS:
rclpy starts threads when it is imported (LTTng's), and a fork has none of them. So rclpy and DDS
begin in the process of each program, as they do in a fresh interpreter.

The forks import this module, too: it needs the standard library alone.
"""
from contextlib import contextmanager
from multiprocessing import get_context
import os
import runpy
import signal
import subprocess
import sys
from threading import Lock
import time

_CONTEXT = get_context('forkserver')
_IMPORTS = ['zoe_ros.pipeline']
# For all that reads an exit code. multiprocessing reads those of all forks when one starts; where
# two threads read the same, one of them gets 255.
_ONE_AT_A_TIME = Lock()
_POLL = 0.02    # [s] between looks at a fork that is waited for


class ForkedProcess:
    """Offers what tests use of subprocess.Popen."""

    def __init__(self, program, arguments, cwd, changes, output):
        """
        Start it; return when it handles SIGINT.

        :param program: ``('-m', module)`` or ``(path,)``, as for an interpreter.
        :param changes: of the environment, name -> value. Those that a library reads when it is
            loaded must be the same for all programs: the first one's hold for the fork server.
        :param output: multiprocessing's Connection that stdout and stderr are written to.
        """
        ready, handles_signals = _CONTEXT.Pipe(duplex=False)
        with _ONE_AT_A_TIME, _environment(changes):
            _CONTEXT.set_forkserver_preload(_IMPORTS)
            # A daemon ends with this process, at the latest.
            self._process = _CONTEXT.Process(target=_run, daemon=True, args=(
                program, arguments, cwd, dict(os.environ), output, handles_signals))
            self._process.start()
        handles_signals.close()
        with ready:
            ready.poll(None)    # until the fork closes its end
        self.pid = self._process.pid

    def poll(self):
        """Return the exit code, None while it runs."""
        with _ONE_AT_A_TIME:
            return self._process.exitcode

    def wait(self, timeout=None):
        """Wait for its end; return the exit code."""
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(self._process.name, timeout)
            time.sleep(_POLL)
        return code

    def send_signal(self, sign):
        """Send a signal if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, sign)

    def kill(self):
        """Send SIGKILL if it still runs."""
        self.send_signal(signal.SIGKILL)


@contextmanager
def _environment(changes):
    """Change the environment of this process within the block."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in changes:
            del os.environ[name]
        os.environ.update(before)


def _run(program, arguments, cwd, environment, output, handles_signals):
    """Give the fork what a fresh interpreter would have, and run the program in it."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    # The fork server ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    handles_signals.close()
    *option, name = program
    sys.argv = [name, *arguments]
    if option:
        runpy.run_module(name, run_name='__main__', alter_sys=True)
    else:
        runpy.run_path(name, run_name='__main__')
