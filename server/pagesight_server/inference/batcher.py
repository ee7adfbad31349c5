"""Micro-batching: items that arrive while the model runs form the batch of its next run.

    submit ──> queue, by priority ──> batch ──run, one owner thread──> futures
                 ^ entries whose caller has gone are dropped

Work-conserving: a lone item runs at once when the model is idle, so batching adds
latency only where it saves some. `max_wait_ms` may hold a batch open for more items;
0, the default, is right wherever a run of two costs about two runs of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeVar

from pagesight_server.common.timings import Observe, Run, RunItem, current, ignore

_MIN_TIMER_S = 1e-6
"""Shortest timer that is set: the rounding of the clock may be as much."""

Item = TypeVar("Item")
Result = TypeVar("Result")

CloseReason = Literal["idle", "full", "waited"]
"""Why a batch was closed: no other item was there, it was full, or it had waited `max_wait_ms`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    """How large batches may become, and how long they stay open."""

    max_batch: int = 16
    """Items in one run."""

    max_wait_ms: float = 0.0
    """How long a batch that is not full may wait for more items while the model is idle."""

    def __post_init__(self) -> None:
        if self.max_batch < 1 or self.max_wait_ms < 0:
            raise ValueError(
                f"need max_batch >= 1 and max_wait_ms >= 0, got {self.max_batch} and "
                f"{self.max_wait_ms}"
            )


class BatchInfo(NamedTuple):
    """The batch that an item was part of."""

    size: int
    """Items in the batch."""
    wait_ms: float
    """How long the item waited, from its submission to the start of the run."""
    closed: CloseReason
    """Why the batch was closed."""


@dataclass(order=True, slots=True)
class _Entry(Generic[Item, Result]):
    """One item in the queue; entries sort in the order in which they run."""

    priority: int
    number: int
    """First come, first served within a priority."""
    item: Item = field(compare=False)
    future: asyncio.Future[tuple[Result, BatchInfo]] = field(compare=False)
    """Done already where the caller has gone."""
    origin: RunItem = field(compare=False)
    """Whose screenshot it is, and when it was submitted by the batcher's clock."""


class Batcher(Generic[Item, Result]):
    """Runs items in batches on a thread of its own; for one event loop.

    Args:
        run: Takes a batch and gives one result per item, in order. Called by one thread only.
        config: How large batches become, and how long they stay open.
        name: The name of the thread.
        clock: A monotonic clock, in seconds.
        owner: Runs the batches, one at a time. None: a thread.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        config: BatchConfig,
        *,
        name: str,
        clock: Callable[[], float] = time.perf_counter,
        owner: Executor | None = None,
    ) -> None:
        self._run = run
        self._config = config
        self._clock = clock
        self._owner = owner or ThreadPoolExecutor(1, thread_name_prefix=name)
        self._numbers = itertools.count()
        self._queue: list[_Entry[Item, Result]] = []
        """A heap: the entry that runs next is first."""
        self._arrived = asyncio.Event()
        """Set by each submission."""
        self._serving: asyncio.Task[None] | None = None
        """Forms and runs the batches; started with the first item."""
        self.observe: Observe = ignore
        """Called with each run when it is over."""

    async def submit(self, item: Item, *, priority: int = 0) -> tuple[Result, BatchInfo]:
        """Queues one item and waits for its result; cancelling it in the queue costs no run.

        Args:
            item: What to run.
            priority: Smaller goes first.

        Raises:
            RuntimeError: the batcher is closed.
            Exception: whatever `run` raised for the batch of this item.
        """
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve())
        if self._serving.done():
            raise RuntimeError("the batcher is closed")
        future: asyncio.Future[tuple[Result, BatchInfo]] = (
            asyncio.get_running_loop().create_future()
        )
        origin = RunItem(current(), self._clock())
        heapq.heappush(self._queue, _Entry(priority, next(self._numbers), item, future, origin))
        self._arrived.set()
        return await future

    @property
    def depth(self) -> int:
        """Items in the queue."""
        return sum(not entry.future.done() for entry in self._queue)

    async def close(self) -> None:
        """Ends the thread after its present run, and cancels the items in the queue."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        for entry in self._queue:
            entry.future.cancel()
        self._queue.clear()
        await asyncio.to_thread(self._owner.shutdown)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch, closed = await self._next_batch()
            started_s = self._clock()
            items = [entry.item for entry in batch]
            try:
                results = await loop.run_in_executor(self._owner, self._run, items)
                if len(results) != len(items):
                    raise RuntimeError(f"{len(items)} items gave {len(results)} results")
            except asyncio.CancelledError:
                for entry in batch:
                    entry.future.cancel()
                raise
            except Exception as error:
                self._report(batch, started_s, closed, failed=type(error).__name__)
                for entry in batch:
                    if not entry.future.done():
                        entry.future.set_exception(error)
                continue
            self._report(batch, started_s, closed)
            for entry, result in zip(batch, results, strict=True):
                if not entry.future.done():
                    wait_ms = 1000 * (started_s - entry.origin.submitted_s)
                    entry.future.set_result((result, BatchInfo(len(batch), wait_ms, closed)))

    def _report(
        self,
        batch: Sequence[_Entry[Item, Result]],
        started_s: float,
        closed: CloseReason,
        failed: str = "",
    ) -> None:
        """Calls the observer with a run that is over."""
        self.observe(
            Run(
                stage="encode",
                start_s=started_s,
                end_s=self._clock(),
                items=tuple(entry.origin for entry in batch),
                closed=closed,
                failed=failed,
            )
        )

    async def _next_batch(self) -> tuple[list[_Entry[Item, Result]], CloseReason]:
        """Waits until the next batch is closed, and takes its entries out of the queue."""
        closed: CloseReason = "idle"
        while True:
            # After every wait: drop entries whose caller has gone.
            self._drop_cancelled()
            if not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            if not self._config.max_wait_ms or len(self._queue) >= self._config.max_batch:
                break
            since_s = min(entry.origin.submitted_s for entry in self._queue)
            left_s = since_s + self._config.max_wait_ms / 1000 - self._clock()
            if left_s < _MIN_TIMER_S:
                closed = "waited"
                break
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._arrived.wait()
        count = min(len(self._queue), self._config.max_batch)
        if count == self._config.max_batch:
            closed = "full"
        return [heapq.heappop(self._queue) for _ in range(count)], closed

    def _drop_cancelled(self) -> None:
        """Drops entries whose caller has gone."""
        alive = [entry for entry in self._queue if not entry.future.done()]
        if len(alive) != len(self._queue):
            self._queue = alive
            heapq.heapify(self._queue)
