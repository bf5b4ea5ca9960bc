"""A stopwatch for the stages of a frame."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class Clock:
    """
    Adds up the time that each stage takes: ``with clock('cloud'): ...``.

    :ivar seconds: stage -> time of all its blocks so far [s].
    """

    def __init__(self) -> None:
        """Start without stages."""
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a block as a part of ``stage``."""
        start = perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - start
