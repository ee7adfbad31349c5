"""Threads for blocking work, each with a resource of its own, such as a model session."""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")


NICENESS = 10
"""Niceness of threads whose work can wait. Linux gives a thread of niceness 10 about a tenth of
the CPU share of one of niceness 0 (sched(7): each step is a factor of about 1.25)."""


def lower_priority() -> None:
    """Lowers the CPU priority of the calling thread, so that others run first when cores are short.

    On Linux each thread has a niceness of its own; on other systems this does nothing.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


class WorkerPool(Generic[T_co]):
    """A pool of threads and of as many resources; a resource is used by one thread at a time.

    Args:
        make: Makes one resource; called `count` times, in the calling thread.
        count: How many resources, and how many threads.
        name: Prefix of the threads' names, for debuggers and profilers.
        first: Runs in each thread when it starts.
    """

    def __init__(
        self,
        make: Callable[[], T_co],
        count: int,
        *,
        name: str,
        first: Callable[[], None] = lambda: None,
    ) -> None:
        self._idle_resources: queue.SimpleQueue[T_co] = queue.SimpleQueue()
        for _ in range(count):
            self._idle_resources.put(make())
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=name, initializer=first)

    async def run(self, work: Callable[[T_co], R]) -> R:
        """Runs `work` with an idle resource; cancelling drops work that has not begun."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)

    def call(self, work: Callable[[T_co], R]) -> R:
        """Runs `work` with an idle resource in one of the threads, and blocks until it is done."""
        return self._threads.submit(self._run, work).result()

    def start(self, work: Callable[[T_co], object]) -> None:
        """Has `work` run with an idle resource; it must tell by itself what it came to.

        Raises:
            RuntimeError: the pool is closed.
        """
        self._threads.submit(self._run, work)

    def _run(self, work: Callable[[T_co], R]) -> R:
        resource = self._idle_resources.get()
        try:
            return work(resource)
        finally:
            self._idle_resources.put(resource)

    def close(self) -> None:
        """Waits for the work that has begun, drops the rest and ends the threads."""
        self._threads.shutdown(cancel_futures=True)
