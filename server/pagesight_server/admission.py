"""Who may come in: how many screenshots are worked on, how many wait, who goes first.

    arrive ──> full? OverloadedError, before any work
       └────> wait by priority, then first come first served ──> work

Bounded everywhere: at most `max_active` screenshots hold pixels, at most
`max_waiting` hold encoded bytes.
"""

from __future__ import annotations

import asyncio
import enum
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pagesight_server.errors import OverloadedError


class Priority(enum.IntEnum):
    """Smaller goes first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


class Gate:
    """Lets `max_active` in and keeps `max_waiting` waiting; for one event loop.

    Args:
        max_active: Screenshots worked on at the same time.
        max_waiting: Screenshots that may wait beyond those.
        retry_after_ms: What those turned away are told.
    """

    def __init__(self, max_active: int, max_waiting: int, *, retry_after_ms: int = 500) -> None:
        if max_active < 1 or max_waiting < 0:
            raise ValueError(
                f"need max_active >= 1 and max_waiting >= 0, got {max_active} and {max_waiting}"
            )
        self._max_waiting = max_waiting
        self._retry_after_ms = retry_after_ms
        self._free = max_active
        self._order = itertools.count()
        self._waiting: list[tuple[Priority, int, asyncio.Future[None]]] = []

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(not future.done() for _, _, future in self._waiting)

    @asynccontextmanager
    async def enter(self, priority: Priority = Priority.NORMAL) -> AsyncIterator[None]:
        """Holds a place while its block runs; may be cancelled while waiting.

        Raises:
            OverloadedError: as many wait as may.
        """
        await self._acquire(priority)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, priority: Priority) -> None:
        if self._free > 0:
            self._free -= 1
            return
        waiting = self.waiting
        if waiting >= self._max_waiting:
            raise OverloadedError(
                f"{waiting} screenshots are waiting already: retry later",
                retry_after_ms=self._retry_after_ms,
            )
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (priority, next(self._order), future)
        heapq.heappush(self._waiting, place)
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled():
                # The place was handed over in the moment of cancellation: pass it on.
                self._release()
            elif place in self._waiting:
                # Left in the heap, what gave up behind steadier callers would pile up for ever.
                self._waiting.remove(place)
                heapq.heapify(self._waiting)
            raise

    def _release(self) -> None:
        while self._waiting:
            *_, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)
                return
        self._free += 1
