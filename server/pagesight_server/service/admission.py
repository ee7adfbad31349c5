"""Who may come in: how many screenshots are worked on, how many wait, who goes first.

    arrive ──> too late already? OverloadedError, before any work
       │  └──> full? whoever ranks last, perhaps the newcomer: OverloadedError, before any work
       └─────> wait: by priority, then callers in turn, then first come first served ──> work

Bounded everywhere: at most `max_active` screenshots hold pixels, at most
`max_waiting` hold encoded bytes. Callers take turns, so that one who sends a
thousand at once delays another by one screenshot and not by a thousand; and who
has most of the room gives way when others come, so that it keeps nobody out.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

from pagesight_server.common.errors import OverloadedError
from pagesight_server.common.priority import Priority
from pagesight_server.service.waiters import Waiters

SMOOTHING = 0.1
"""Weight of the newest screenshot in the estimate of how long one takes."""

MIN_RETRY_MS = 100
"""A retry sooner than this meets the same queue."""


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
        self._waiters = Waiters(max_waiting, what)
        self._clock = clock
        self._free = max_active
        self._work_s = 0.0

    @property
    def max_waiting(self) -> int:
        """How many may wait."""
        return self._waiters.limit

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiters)

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
        stream: Hashable = None,
        budget_s: float | None = None,
    ) -> AsyncIterator[None]:
        """Holds a place while its block runs; may be cancelled while waiting.

        Args:
            priority: Higher priorities go first whoever asks.
            caller: Whose turn it counts as.
            stream: Which of the caller's; these take turns among themselves.
            budget_s: Seconds until the answer is of no use. None: whenever.

        Raises:
            OverloadedError: as many wait as may, at once or once others come who go first; or the
                answer would come too late.
        """
        await self._acquire(priority, caller, stream, budget_s)
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

    async def _acquire(
        self, priority: Priority, caller: Hashable, stream: Hashable, budget_s: float | None
    ) -> None:
        if self._free > 0:
            self._free -= 1
            return
        ahead = self._waiters.ahead_of(priority, caller, stream)
        expected_s = self._work_s * (1 + math.ceil((ahead + 1) / self._max_active))
        if budget_s is not None and expected_s > budget_s:
            raise OverloadedError(
                f"an answer would take about {1000 * expected_s:.0f} ms, "
                f"{1000 * budget_s:.0f} ms are allowed: retry later",
                retry_after_ms=_retry_ms(expected_s - budget_s),
            )
        half_s = self._work_s * self.waiting / self._max_active / 2
        waiter = self._waiters.join(priority, caller, stream, retry_after_ms=_retry_ms(half_s))
        try:
            await waiter.future
        except asyncio.CancelledError:
            if waiter.future.cancelled():
                self._waiters.leave(waiter)
            elif waiter.future.exception() is None:
                # The place was handed over in the moment of cancellation: pass it on.
                self._release()
            raise

    def _release(self) -> None:
        while (waiter := self._waiters.next()) is not None:
            if not waiter.future.done():
                waiter.future.set_result(None)
                return
        self._free += 1


def _retry_ms(seconds: float) -> int:
    return max(MIN_RETRY_MS, math.ceil(1000 * seconds))
