"""Those who wait, at most so many: who goes next, and who gives way when there is no more room.

    join ──room──────────────────────────────────> queue ──next──> by priority, then callers in turn
      └──full──> somebody ranks below? ──no──> OverloadedError
                      └──yes──> that one: OverloadedError; the newcomer takes its room

Without the second way one caller could take all the room, and keep everybody else out for as long
as it goes on. Streams, and connections, of one caller take turns among themselves: they may be of
different people behind one address, and together they get no more for it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from pagesight_server.common.errors import OverloadedError
from pagesight_server.common.priority import Priority


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """Stands for one who waits in a queue, until it is its turn or it gives way."""

    priority: Priority
    caller: Hashable
    stream: Hashable
    number: int
    """First come, first served within a priority, a caller and a stream."""
    future: asyncio.Future[None]
    """Done once it may go on, and an OverloadedError once it has given way."""


Streams = OrderedDict[Hashable, deque[Waiter]]
"""Those of one caller who wait: streams in the order of their turns, each with its own queue."""


class Waiters:
    """Bounded queues of one priority each, in which callers take turns; for one event loop.

    Args:
        limit: How many may wait.
        what: What they are called in what a caller is told.
    """

    def __init__(self, limit: int, what: str) -> None:
        self.limit = limit
        """How many may wait."""
        self._what = what
        self._numbers = itertools.count()
        self._lines: dict[Priority, OrderedDict[Hashable, Streams]] = {
            priority: OrderedDict() for priority in Priority
        }
        """Callers in the order of their turns."""
        self._counts: Counter[Hashable] = Counter()
        """How many of each caller wait, at whatever priority."""

    def __len__(self) -> int:
        return self._counts.total()

    def join(
        self,
        priority: Priority,
        caller: Hashable,
        stream: Hashable = None,
        *,
        retry_after_ms: int,
    ) -> Waiter:
        """Lets one more wait; where there is no room, one that ranks below it gives way.

        That is the newest of the lowest priority, of the caller who has most. Between equals a
        caller gives way to one who has fewer than it would have left.

        Args:
            priority: Higher priorities go first whoever asks.
            caller: Whose turn it counts as.
            stream: Which of the caller's.
            retry_after_ms: Told to whoever finds no room, or gives way.

        Raises:
            OverloadedError: as many wait as may, and none of them ranks below.
        """
        if len(self) >= self.limit:
            last = self._last_in_rank()
            if last is None or not self._ranks_below(last, priority, caller):
                raise OverloadedError(
                    f"{len(self)} {self._what} are waiting already: retry later",
                    retry_after_ms=retry_after_ms,
                )
            self.leave(last)
            if not last.future.done():  # It is when it was cancelled a moment ago.
                last.future.set_exception(
                    OverloadedError(
                        f"{self.limit} {self._what} are waiting already, and one came that goes "
                        "first: retry later",
                        retry_after_ms=retry_after_ms,
                    )
                )
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = Waiter(priority, caller, stream, next(self._numbers), future)
        streams = self._lines[priority].setdefault(caller, OrderedDict())
        streams.setdefault(stream, deque()).append(waiter)
        self._counts[caller] += 1
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Takes out one who waits no longer, unless that was done already."""
        line = self._lines[waiter.priority]
        streams = line.get(waiter.caller, OrderedDict())
        queue = streams.get(waiter.stream, deque())
        if waiter not in queue:
            return
        queue.remove(waiter)
        if not queue:
            del streams[waiter.stream]
        if not streams:
            del line[waiter.caller]
        self._uncount(waiter.caller)

    def next(self) -> Waiter | None:
        """Takes out the one who goes first; None where nobody waits."""
        line = next((line for line in self._lines.values() if line), None)
        if line is None:
            return None
        caller, streams = next(iter(line.items()))
        stream, queue = next(iter(streams.items()))
        waiter = queue.popleft()
        # To the end of the line, where more are waiting.
        del line[caller], streams[stream]
        if queue:
            streams[stream] = queue
        if streams:
            line[caller] = streams
        self._uncount(caller)
        return waiter

    def ahead_of(self, priority: Priority, caller: Hashable, stream: Hashable = None) -> int:
        """How many would go before one who joined now."""
        higher = sum(
            len(queue)
            for other, line in self._lines.items()
            if other < priority
            for streams in line.values()
            for queue in streams.values()
        )
        line = self._lines[priority]
        own = {which: len(queue) for which, queue in line.get(caller, {}).items()}
        of_caller = _turns_before(own.pop(stream, 0), own.values())
        others = (sum(map(len, streams.values())) for who, streams in line.items() if who != caller)
        return higher + _turns_before(of_caller, others)

    def _last_in_rank(self) -> Waiter | None:
        """The newest waiter of the lowest priority, of the caller who has most."""
        for line in reversed(self._lines.values()):
            if line:
                newest = (queue[-1] for streams in line.values() for queue in streams.values())
                return max(newest, key=lambda one: (self._counts[one.caller], one.number))
        return None

    def _ranks_below(self, waiter: Waiter, priority: Priority, caller: Hashable) -> bool:
        if waiter.priority != priority:
            return waiter.priority > priority
        # One more for the newcomer and one fewer for the other must not turn the tables: the two
        # would take the room from each other for ever.
        return self._counts[waiter.caller] > self._counts[caller] + 1

    def _uncount(self, caller: Hashable) -> None:
        self._counts[caller] -= 1
        if not self._counts[caller]:
            del self._counts[caller]


def _turns_before(own: int, others: Iterable[int]) -> int:
    """How many go before one with `own` of its kind ahead, where as many kinds take turns."""
    return own + sum(min(other, own + 1) for other in others)
