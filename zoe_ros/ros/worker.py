"""One thread that works on the images of all cameras: on what waits, together."""
from __future__ import annotations

from collections.abc import Callable
import ctypes
from threading import Condition, Thread
from typing import Any


class Worker:
    """
    A mailbox with one slot for each sender, emptied by one thread.

    What waits goes through as one batch, so that no sender is served twice before another. The
    newest item wins: one that is not begun when the next of its sender comes is dropped, because
    on a slow machine a queue would only make every result late. Who must not lose one asks
    :meth:`has_room` first.
    """

    def __init__(self, work: Callable[[dict[str, Any]], None],
                 on_room: Callable[[], None] = lambda: None) -> None:
        """
        Prepare to work in a thread that :meth:`start` begins.

        :param work: is called with sender -> item of all that waits.
        :param on_room: is called, in that thread, when the slots have become empty.
        """
        self._work = work
        self._on_room = on_room
        self._changed = Condition()
        self._items: dict[str, Any] = {}
        self._stopping = False
        # A daemon: a process that is told to end does not wait for a network on a slow CPU.
        self._thread = Thread(target=self._loop, name='depth', daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def has_room(self, sender: str) -> bool:
        """Tell whether an item of this sender would replace no other."""
        with self._changed:
            return sender not in self._items

    def put(self, sender: str, item: Any) -> bool:
        """Hand over an item; return whether it took the place of one that was not begun."""
        with self._changed:
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

    def abandon(self, timeout: float) -> bool:
        """
        Give up the item at hand, for the end of a process; return whether that worked in time.

        A network on a slow CPU is a thousand short calls: the thread ends after the present one.
        """
        if self._thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread.ident), ctypes.py_object(SystemExit))
        return self.stop(timeout)

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._stopping)
                if self._stopping:
                    return
                items, self._items = self._items, {}
            self._on_room()
            self._work(items)
