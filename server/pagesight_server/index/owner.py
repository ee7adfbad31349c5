"""One thread that owns a resource which must not be shared: a GPU index, the building of one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class OwnerThread:
    """Runs work one after the other in a daemon thread: the process may end in the middle of it.

    Args:
        name: The name of the thread.
        begin: Runs in the thread when it starts.
    """

    def __init__(self, name: str, begin: Callable[[], None] = lambda: None) -> None:
        self._begin = begin
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def run(self, work: Callable[[], T]) -> T:
        """Runs `work` in the thread and waits for its result."""
        return self.submit(work).result()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queues `work` for the thread."""
        future: Future[T] = Future()
        self._work.put((work, future))
        return future

    def _serve(self) -> None:
        self._begin()
        while True:
            work, future = self._work.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
