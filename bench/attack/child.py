"""A function in a forked process with limits: what it returns, and how it ends."""
from __future__ import annotations

from collections.abc import Callable
from multiprocessing import get_context
import os
from pathlib import Path
import resource
import signal
import sys
import time
import traceback
from typing import Any, NamedTuple

import torch

LIMIT = 120.0
MEMORY = 2 ** 30
FORK = get_context('fork')


class End(NamedTuple):
    """
    How a child ended.

    :param kind: 'returned', 'raised', 'hung', 'memory' or 'died'.
    :param value: the value returned, the traceback, or the exit code.
    """

    kind: str
    value: Any


def call(function: Callable[..., Any], *arguments: Any, log: Path | None = None,
         limit: float = LIMIT, memory: int = MEMORY) -> End:
    """
    Call a function in a child that inherits what this process has imported.

    :param log: file for stdout and stderr of the child, which are discarded without one.
    :param limit: [s] after which the child hangs.
    :param memory: that it may take beyond the memory of this process [bytes].
    """
    reader, writer = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_child, args=(writer, log, memory, function, arguments))
    process.start()
    writer.close()
    try:
        answer = reader.recv() if reader.poll(limit) else End('hung', None)
    except EOFError:
        process.join(LIMIT)
        answer = End('died', process.exitcode)
    process.kill()
    process.join()
    return answer


def kill_after(seconds: float, function: Callable[..., Any], *arguments: Any) -> bool:
    """Call a function in a child and kill the child after a time; tell whether it still ran."""
    process = FORK.Process(target=_quiet, args=(None, function, arguments))
    process.start()
    end = time.monotonic() + seconds
    while process.is_alive() and time.monotonic() < end:
        time.sleep(min(0.002, max(0.0, end - time.monotonic())))
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _child(writer: Any, log: Path | None, memory: int, function: Callable[..., Any],
           arguments: tuple[Any, ...]) -> None:
    limit = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        answer = End('returned', _quiet(log, function, arguments))
    except MemoryError:
        answer = End('memory', traceback.format_exc())
    except BaseException:
        answer = End('raised', traceback.format_exc())
    writer.send(answer)


def _quiet(log: Path | None, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call with the descriptors of stdout and stderr in a file."""
    target = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(target, stream.fileno())
    # This renews a thread pool of torch that the fork has copied. Threads of autograd, which would
    # do it at the same time, sometimes find none and end the process.
    torch.set_num_threads(torch.get_num_threads())
    try:
        return function(*arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
