"""One thread that owns a resource which must not be shared: a GPU, the building of an index.

submit(work) ──> queue ──> thread: work, one after the other
close(), or the owner is garbage ──> the thread ends after what was queued before
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

_Queue: TypeAlias = "queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]"
"""Work with the future of its result; None ends the thread."""


class OwnerThread:
    """Runs work one after the other in a daemon thread: the process may end in the middle of it.

    Args:
        name: The name of the thread.
        begin: Runs in the thread when it starts.
    """

    def __init__(self, name: str, begin: Callable[[], None] = lambda: None) -> None:
        self._work: _Queue = queue.SimpleQueue()
        # The thread knows the queue alone, so that an owner nobody holds any more is collected.
        self.thread = threading.Thread(
            target=_serve, args=(self._work, begin), name=name, daemon=True
        )
        self.close = weakref.finalize(self, self._work.put, None)
        """Ends the thread once it has done what was queued before; harmless when repeated."""
        self.close.atexit = False
        self.thread.start()

    def run(self, work: Callable[[], T]) -> T:
        """Runs `work` in the thread and waits for its result."""
        return self.submit(work).result()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queues `work` for the thread.

        Raises:
            RuntimeError: the thread was closed, so nobody would ever do it.
        """
        if not self.close.alive:
            raise RuntimeError(f"the thread {self.thread.name} is closed")
        future: Future[T] = Future()
        self._work.put((work, future))
        return future


def _serve(work: _Queue, begin: Callable[[], None]) -> None:
    begin()
    while (item := work.get()) is not None:
        _do(*item)
        # Else the last closure, and all that it refers to, lives until the next one comes.
        del item


def _do(work: Callable[[], Any], future: Future[Any]) -> None:
    """Runs one piece of work; its result, or its error, is the future's."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
