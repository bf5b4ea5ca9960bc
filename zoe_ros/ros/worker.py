"""One thread that works on the images of all cameras: on the newest, or on every one."""
from __future__ import annotations

from collections.abc import Callable
from threading import Condition, Thread
from typing import Any

_LOOK = 0.2     # [s] how often a waiting put() asks whether it should give up


class Worker:
    """
    A mailbox with one slot for each sender, emptied by one thread.

    What waits goes through as one batch, so that no sender is served twice before another.

    By default the newest item wins: one that is not begun when the next of its sender comes is
    dropped, because on a slow machine a queue would only make every result late. With ``every``
    the sender waits for its slot instead, which holds back a reliable publisher.
    """

    def __init__(self, work: Callable[[dict[str, Any]], None], every: bool = False) -> None:
        """
        Prepare to work in a thread that :meth:`start` begins.

        :param work: is called with sender -> item of all that waits.
        """
        self._work = work
        self._every = every
        self._changed = Condition()
        self._items: dict[str, Any] = {}
        self._stopping = False
        # A daemon: a process that is told to end does not wait for a network on a slow CPU.
        self._thread = Thread(target=self._loop, name='depth', daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def put(self, sender: str, item: Any, alive: Callable[[], bool] = lambda: True) -> bool:
        """
        Hand over an item; waits for the slot only with ``every``.

        :param alive: asked while waiting; the item is given up when it says no.
        :return: whether it took the place of one that was not begun.
        """
        with self._changed:
            while self._every and not self._changed.wait_for(
                    lambda: sender not in self._items or self._stopping, timeout=_LOOK):
                if not alive():
                    return False
            replaced = sender in self._items
            self._items[sender] = item
            self._changed.notify_all()
        return replaced

    def stop(self, timeout: float) -> bool:
        """Finish the item at hand and end; return whether that was done in ``timeout`` [s]."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._stopping)
                if self._stopping:
                    return
                items, self._items = self._items, {}
                self._changed.notify_all()
            self._work(items)
