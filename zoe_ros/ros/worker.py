"""One thread that always works on the newest frame."""
from __future__ import annotations

from collections.abc import Callable
from threading import Condition, Thread
from typing import Any


class NewestWorker:
    """
    A mailbox with one slot, emptied by one thread.

    A frame that is not begun when the next one comes is dropped: on a slow machine a queue would
    only make every result late.

    :ivar dropped: frames replaced before their turn.
    """

    def __init__(self, work: Callable[[Any], None]) -> None:
        """Prepare to call ``work`` with each item, in a thread that :meth:`start` begins."""
        self._work = work
        self._changed = Condition()
        self._item: Any = None
        self._stopping = False
        self.dropped = 0
        # A daemon: a process that is told to end does not wait for a network on a slow CPU.
        self._thread = Thread(target=self._loop, name='depth', daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def put(self, item: Any) -> None:
        """Hand over the newest item; never waits."""
        with self._changed:
            if self._item is not None:
                self.dropped += 1
            self._item = item
            self._changed.notify()

    def stop(self, timeout: float) -> bool:
        """Finish the item at hand and end; return whether that was done in ``timeout`` [s]."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._item is not None or self._stopping)
                if self._stopping:
                    return
                item, self._item = self._item, None
            self._work(item)
