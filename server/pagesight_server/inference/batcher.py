"""Micro-batches: what waits while the model runs goes together in its next run.

    submit ──> waiting, by priority ──take──> batch ──run, one owner thread──> futures
                  ^ cancelled items leave        ^ when the model is free: never waits idle

Work-conserving: a lone item goes at once when the model is idle, so batching adds
latency only where it saves some. `max_wait_ms` may hold a batch open for company;
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

from pagesight_server.common.timings import Observe, Run, Share, StageTimes, current, ignore

_MOMENT_S = 1e-6
"""No timer is set for less: its rounding might be more."""

Item = TypeVar("Item")
Result = TypeVar("Result")

CloseReason = Literal["idle", "full", "waited"]
"""Why a batch went: nothing else was there, it was full, it had waited `max_wait_ms`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    """How items wait for company."""

    max_batch: int = 16
    """Items of one run."""

    max_wait_ms: float = 0.0
    """How long a batch that is not full may wait for company while the model is idle."""

    def __post_init__(self) -> None:
        if self.max_batch < 1 or self.max_wait_ms < 0:
            raise ValueError(
                f"need max_batch >= 1 and max_wait_ms >= 0, got {self.max_batch} and "
                f"{self.max_wait_ms}"
            )


class BatchInfo(NamedTuple):
    """What an item is told of the batch it went in."""

    size: int
    wait_ms: float
    """From submission to the start of the run."""
    closed: CloseReason


@dataclass(order=True, slots=True)
class _Waiting(Generic[Item, Result]):
    priority: int
    number: int
    """First come, first served within a priority."""
    item: Item = field(compare=False)
    future: asyncio.Future[tuple[Result, BatchInfo]] = field(compare=False)
    since: float = field(compare=False)
    owner: StageTimes | None = field(compare=False)
    """The record of the screenshot that it belongs to."""


class Batcher(Generic[Item, Result]):
    """Runs items in batches on a thread of its own; for one event loop.

    Args:
        run: Takes a batch, gives as many results in order. Called by one thread only.
        config: How items wait.
        name: Of the thread.
        clock: Seconds, monotonic.
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
        self._heap: list[_Waiting[Item, Result]] = []
        self._arrived = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self.observe: Observe = ignore
        """Told of each run."""

    async def submit(self, item: Item, *, priority: int = 0) -> tuple[Result, BatchInfo]:
        """Waits for the result of one item; cancelling it while it waits costs nothing.

        Args:
            item: What to run.
            priority: Smaller goes first.

        Raises:
            RuntimeError: the batcher is closed.
            Exception: whatever `run` raised for the batch of this item.
        """
        if self._loop is None:
            self._loop = asyncio.create_task(self._work())
        if self._loop.done():
            raise RuntimeError("the batcher is closed")
        future: asyncio.Future[tuple[Result, BatchInfo]] = (
            asyncio.get_running_loop().create_future()
        )
        waiting = _Waiting(priority, next(self._numbers), item, future, self._clock(), current())
        heapq.heappush(self._heap, waiting)
        self._arrived.set()
        return await future

    @property
    def depth(self) -> int:
        """Items that wait."""
        return sum(not waiting.future.done() for waiting in self._heap)

    async def close(self) -> None:
        """Ends the thread after its present run; whatever waits is cancelled."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        for waiting in self._heap:
            waiting.future.cancel()
        self._heap.clear()
        await asyncio.to_thread(self._owner.shutdown)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch, closed = await self._form()
            started = self._clock()
            items = [waiting.item for waiting in batch]
            try:
                results = await loop.run_in_executor(self._owner, self._run, items)
                if len(results) != len(items):
                    raise RuntimeError(f"{len(items)} items gave {len(results)} results")
            except asyncio.CancelledError:
                for waiting in batch:
                    waiting.future.cancel()
                raise
            except Exception as error:
                self._tell(batch, started, closed, failed=type(error).__name__)
                for waiting in batch:
                    if not waiting.future.done():
                        waiting.future.set_exception(error)
                continue
            self._tell(batch, started, closed)
            for waiting, result in zip(batch, results, strict=True):
                if not waiting.future.done():
                    wait_ms = 1000 * (started - waiting.since)
                    waiting.future.set_result((result, BatchInfo(len(batch), wait_ms, closed)))

    def _tell(
        self,
        batch: Sequence[_Waiting[Item, Result]],
        started_s: float,
        closed: CloseReason,
        failed: str = "",
    ) -> None:
        shares = tuple(Share(waiting.owner, waiting.since) for waiting in batch)
        self.observe(
            Run(
                stage="encode",
                start_s=started_s,
                end_s=self._clock(),
                shares=shares,
                closed=closed,
                failed=failed,
            )
        )

    async def _form(self) -> tuple[list[_Waiting[Item, Result]], CloseReason]:
        """Waits for the first item, then takes what goes with it."""
        closed: CloseReason = "idle"
        while True:
            # After every wait: whoever gave up meanwhile must not be run.
            self._drop_cancelled()
            if not self._heap:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            if not self._config.max_wait_ms or len(self._heap) >= self._config.max_batch:
                break
            since = min(waiting.since for waiting in self._heap)
            left_s = since + self._config.max_wait_ms / 1000 - self._clock()
            if left_s < _MOMENT_S:
                closed = "waited"
                break
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._arrived.wait()
        count = min(len(self._heap), self._config.max_batch)
        if count == self._config.max_batch:
            closed = "full"
        return [heapq.heappop(self._heap) for _ in range(count)], closed

    def _drop_cancelled(self) -> None:
        alive = [waiting for waiting in self._heap if not waiting.future.done()]
        if len(alive) != len(self._heap):
            self._heap = alive
            heapq.heapify(self._heap)
