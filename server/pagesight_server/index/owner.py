"""One thread for what only one may use: the index on a GPU, the making of a generation."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Owner:
    """One thread that does what it is told in turn; the end of the process waits for none of it.

    Args:
        name: Of the thread.
        begin: Called in it first.
    """

    def __init__(self, name: str, begin: Callable[[], None] = lambda: None) -> None:
        self._begin = begin
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def run(self, work: Callable[[], T]) -> T:
        """Runs `work` there and gives what it gives."""
        return self.submit(work).result()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Has `work` run there."""
        done: Future[T] = Future()
        self._work.put((work, done))
        return done

    def _serve(self) -> None:
        self._begin()
        while True:
            work, done = self._work.get()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)
