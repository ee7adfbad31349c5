"""Threads for what is slow: each owns one resource, such as a model session."""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


NICENESS = 10
"""Of threads whose work can wait: about a tenth of the weight of the others."""


def step_back() -> None:
    """Lets other threads come before the calling one where cores are short.

    On Linux a thread has a niceness of its own; elsewhere nothing happens.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


class Workers(Generic[T]):
    """Runs work on whichever resource is free, each by one thread at a time.

    Args:
        make: Makes one resource; called `count` times, here.
        count: How many resources and threads.
        name: Of the threads, for debuggers and profilers.
        first: What each thread does before all else.
    """

    def __init__(
        self,
        make: Callable[[], T],
        count: int,
        *,
        name: str,
        first: Callable[[], None] = lambda: None,
    ) -> None:
        self._free: queue.SimpleQueue[T] = queue.SimpleQueue()
        for _ in range(count):
            self._free.put(make())
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=name, initializer=first)

    async def run(self, work: Callable[[T], R]) -> R:
        """Runs `work` with a free resource; work not yet begun is dropped when cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)

    def _run(self, work: Callable[[T], R]) -> R:
        resource = self._free.get()
        try:
            return work(resource)
        finally:
            self._free.put(resource)

    def close(self) -> None:
        """Ends the threads once what they run is done; drops what has not begun."""
        self._threads.shutdown(cancel_futures=True)
