"""Who may come in: how many screenshots are worked on, how many wait, who goes first.

    arrive ──> full, or too late already? OverloadedError, before any work
       └────> wait: by priority, then callers in turn, then first come first served ──> work

Bounded everywhere: at most `max_active` screenshots hold pixels, at most
`max_waiting` hold encoded bytes. Callers take turns, so that one who sends a
thousand at once delays another by one screenshot and not by a thousand.
"""

from __future__ import annotations

import asyncio
import enum
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

from pagesight_server.common.errors import OverloadedError

SMOOTHING = 0.1
"""Weight of the newest screenshot in the estimate of how long one takes."""

MIN_RETRY_MS = 100
"""A retry sooner than this meets the same queue."""


class Priority(enum.IntEnum):
    """Smaller goes first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


Line = OrderedDict[Hashable, deque[asyncio.Future[None]]]
"""Those who wait at one priority: callers in the order of their turns, each with its own queue."""


class Gate:
    """Lets `max_active` in and keeps `max_waiting` waiting; for one event loop.

    Args:
        max_active: Screenshots worked on at the same time.
        max_waiting: Screenshots that may wait beyond those.
        what: What they are called in what a caller is told.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        max_active: int,
        max_waiting: int,
        *,
        what: str = "screenshots",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if max_active < 1 or max_waiting < 0:
            raise ValueError(
                f"need max_active >= 1 and max_waiting >= 0, got {max_active} and {max_waiting}"
            )
        self._max_active = max_active
        self._max_waiting = max_waiting
        self._what = what
        self._clock = clock
        self._free = max_active
        self._lines: dict[Priority, Line] = {priority: OrderedDict() for priority in Priority}
        self._work_s = 0.0

    @property
    def max_waiting(self) -> int:
        """How many may wait."""
        return self._max_waiting

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(queue) for line in self._lines.values() for queue in line.values())

    @property
    def work_s(self) -> float:
        """Seconds that a screenshot lately took once it was in; 0 before the first."""
        return self._work_s

    @asynccontextmanager
    async def enter(
        self,
        priority: Priority = Priority.NORMAL,
        *,
        caller: Hashable = None,
        budget_s: float | None = None,
    ) -> AsyncIterator[None]:
        """Holds a place while its block runs; may be cancelled while waiting.

        Args:
            priority: Higher priorities go first whoever asks.
            caller: Whose turn it counts as.
            budget_s: Seconds until the answer is of no use. None: whenever.

        Raises:
            OverloadedError: as many wait as may, or the answer would come too late.
        """
        await self._acquire(priority, caller, budget_s)
        start = self._clock()
        try:
            yield
        except BaseException:
            self._release()
            raise
        # Only what succeeded tells how long work takes: errors and cancellations are quick.
        took = self._clock() - start
        self._work_s += (took - self._work_s) * (SMOOTHING if self._work_s else 1.0)
        self._release()

    async def _acquire(self, priority: Priority, caller: Hashable, budget_s: float | None) -> None:
        if self._free > 0:
            self._free -= 1
            return
        waiting = self.waiting
        if waiting >= self._max_waiting:
            raise OverloadedError(
                f"{waiting} {self._what} are waiting already: retry later",
                retry_after_ms=self._retry_ms(self._work_s * waiting / self._max_active / 2),
            )
        expected_s = self._expected_s(priority, caller)
        if budget_s is not None and expected_s > budget_s:
            raise OverloadedError(
                f"an answer would take about {1000 * expected_s:.0f} ms, "
                f"{1000 * budget_s:.0f} ms are allowed: retry later",
                retry_after_ms=self._retry_ms(expected_s - budget_s),
            )
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = self._lines[priority]
        line.setdefault(caller, deque()).append(future)
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled():
                # The place was handed over in the moment of cancellation: pass it on.
                self._release()
            else:
                self._forget(line, caller, future)
            raise

    def _expected_s(self, priority: Priority, caller: Hashable) -> float:
        """Seconds until an answer, were a screenshot to join the queue now."""
        ahead = 0
        for other, line in self._lines.items():
            if other < priority:
                ahead += sum(map(len, line.values()))
            elif other == priority:
                own = len(line.get(caller, ()))
                turns = (min(len(q), own + 1) for who, q in line.items() if who != caller)
                ahead += own + sum(turns)
        return self._work_s * (1 + math.ceil((ahead + 1) / self._max_active))

    @staticmethod
    def _retry_ms(seconds: float) -> int:
        return max(MIN_RETRY_MS, math.ceil(1000 * seconds))

    @staticmethod
    def _forget(line: Line, caller: Hashable, future: asyncio.Future[None]) -> None:
        queue = line.get(caller)
        if queue is not None and future in queue:
            queue.remove(future)
            if not queue:
                del line[caller]

    def _release(self) -> None:
        for line in self._lines.values():
            while line:
                caller, queue = next(iter(line.items()))
                future = queue.popleft()
                if queue:
                    line.move_to_end(caller)
                else:
                    del line[caller]
                if not future.done():
                    future.set_result(None)
                    return
        self._free += 1
