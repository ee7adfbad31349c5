"""Threads for what is slow: each owns one resource, such as a model session."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Workers(Generic[T]):
    """Runs work on whichever resource is free, each by one thread at a time.

    Args:
        make: Makes one resource; called `count` times, here.
        count: How many resources and threads.
        name: Of the threads, for debuggers and profilers.
    """

    def __init__(self, make: Callable[[], T], count: int, *, name: str) -> None:
        self._free: queue.SimpleQueue[T] = queue.SimpleQueue()
        for _ in range(count):
            self._free.put(make())
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=name)

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
