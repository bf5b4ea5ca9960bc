"""One thread that processes the waiting images of all cameras as one batch."""
from __future__ import annotations

from collections.abc import Callable
import ctypes
from threading import Condition, Thread
from typing import Any


class Worker:
    """
    A mailbox with one slot for each sender, emptied by one thread.

    All waiting items are processed as one batch, so that no sender is served twice before another.
    A new item replaces a waiting one of the same sender, because on a slow machine a queue would
    only delay every result. A sender that must not lose items calls :meth:`has_room` first.
    """

    def __init__(self, work: Callable[[dict[str, Any]], None],
                 on_room: Callable[[], None] = lambda: None) -> None:
        """
        Create the thread, which :meth:`start` starts.

        :param work: called with sender -> item of all waiting items.
        :param on_room: called in the thread after the slots have been emptied.
        """
        self._work = work
        self._on_room = on_room
        self._changed = Condition()
        self._items: dict[str, Any] = {}
        self._working = self._stopping = False
        # A daemon, so that the end of the process does not wait for a network on a slow CPU.
        self._thread = Thread(target=self._loop, name='depth', daemon=True)

    def start(self) -> None:
        """Start the thread, unless it has been started."""
        if self._thread.ident is None:
            self._thread.start()

    def has_room(self, sender: str) -> bool:
        """Tell whether the slot of this sender is free."""
        with self._changed:
            return sender not in self._items

    def put(self, sender: str, item: Any) -> bool:
        """Put an item into the slot; return whether it replaced a waiting item."""
        with self._changed:
            replaced = sender in self._items
            self._items[sender] = item
            self._changed.notify_all()
        return replaced

    def rest(self, timeout: float) -> bool:
        """Forget what waits; return whether the current batch ended within ``timeout`` [s]."""
        with self._changed:
            self._items.clear()
            return self._changed.wait_for(lambda: not self._working, timeout)

    def stop(self, timeout: float) -> bool:
        """Finish the current batch and end; return whether both took less than ``timeout`` [s]."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def abandon(self, timeout: float) -> bool:
        """
        Abandon the current batch at the end of a process; return whether the thread ended in time.

        A network on a slow CPU consists of a thousand short calls; the thread ends after the
        current call.
        """
        if self._thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread.ident), ctypes.py_object(SystemExit))
        return self.stop(timeout)

    def _loop(self) -> None:
        while self._next():
            pass

    def _next(self) -> bool:
        """Process the next batch, of which nothing is kept; return False at the end."""
        with self._changed:
            self._working = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._items or self._stopping)
            if self._stopping:
                return False
            items, self._items, self._working = self._items, {}, True
        self._on_room()
        self._work(items)
        return True
