"""One process's share of a load, from the first message to the last reply.

    open loop     due times ──> send, whatever is in flight ──> latency from the due time
    closed loop   N workers ──> send, wait, send again      ──> latency from the send time

All times are of the event loop's clock, so that tests can run this in virtual time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from pagesight._load.arrivals import due_times
from pagesight._load.mix import Item, Mix
from pagesight._load.plan import Plan
from pagesight._load.tally import Reply, Tally, bucket_s
from pagesight._load.wire import Send

TICK_S = 0.05
"""Interval at which the event loop's lag is sampled: 20 times a second, which costs nothing."""
AFTER_STOP_S = 5.0
"""How long replies are awaited after an interruption: most arrive, and a user waits that long."""
_TURN = 32
"""Messages sent in a row while behind schedule before replies are processed again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The share of a load that one process generates."""

    number: int = 0
    """Number of this process, from 0."""
    of: int = 1
    """Number of processes."""

    def share(self, whole: int) -> int:
        """Returns how many of `whole` equal items this process takes."""
        return whole // self.of + (self.number < whole % self.of)


class Drive:
    """Sends the messages of a plan and counts their replies.

    Args:
        plan: The whole load.
        send: Sends one message and returns its reply.
        mix: Draws the messages.
        part: The share of the load to generate; None: all of it.
    """

    def __init__(self, plan: Plan, send: Send, mix: Mix, part: Part | None = None) -> None:
        self._plan = plan
        self._send = send
        self._mix = mix
        self._part = part or Part()
        self._end_s = plan.warmup_s + plan.duration_s
        self.tally = Tally(warmup_s=plan.warmup_s, bucket_s=bucket_s(self._end_s))
        self._in_flight: set[asyncio.Task[None]] = set()
        self._over = False
        self._start_s = 0.0
        several = len(set(plan.names)) > 1
        self._path_slices = [f"path {name}" for name in plan.names] if several else []
        self._by_priority = len(plan.priorities or ()) > 1

    async def run(self, *, start_s: float | None = None, stop: asyncio.Event) -> Tally:
        """Runs the load to its end, or until `stop` is set.

        Args:
            start_s: When to start, by the event loop's clock; None: now.
            stop: Ends the run early; the tally so far remains valid.
        """
        loop = asyncio.get_running_loop()
        self._start_s = loop.time() if start_s is None else start_s
        await asyncio.sleep(self._start_s - loop.time())
        cpu_s, wall_s = time.process_time(), loop.time()
        ending = loop.call_at(self._start_s + self._end_s, self._close)
        sending = asyncio.create_task(self._open() if self._plan.is_open else self._closed())
        lag = asyncio.create_task(self._watch())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({sending, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                self._close()
                await asyncio.wait({sending}, timeout=AFTER_STOP_S if not self._plan.is_open else 0)
            await self._settle(sending, stop, stopping)
        finally:
            for task in (sending, lag, stopping, *self._in_flight):
                task.cancel()
            await asyncio.gather(sending, lag, stopping, *self._in_flight, return_exceptions=True)
            ending.cancel()
        self._close()
        wall_s = loop.time() - wall_s
        if wall_s > 0:
            self.tally.cpu_share = [round((time.process_time() - cpu_s) / wall_s, 4)]
        return self.tally

    async def _settle(
        self,
        sending: asyncio.Task[None],
        stop: asyncio.Event,
        stopping: asyncio.Task[bool],
    ) -> None:
        """Waits for the replies in flight: until their own timeouts, or shortly when stopped."""
        if sending.done() and not sending.cancelled() and (error := sending.exception()):
            raise error
        while self._in_flight:
            await asyncio.wait(
                {*self._in_flight, stopping} if not stop.is_set() else self._in_flight,
                timeout=AFTER_STOP_S if stop.is_set() else None,
                return_when=asyncio.ALL_COMPLETED if stop.is_set() else asyncio.FIRST_COMPLETED,
            )
            if stop.is_set():
                self._close()
                return

    async def _open(self) -> None:
        """Sends at the due times, whatever is in flight."""
        loop = asyncio.get_running_loop()
        most = self._plan.most_in_flight * self._part.share(self._plan.streams)
        for turn, due_s in enumerate(self._due()):
            wait_s = self._start_s + due_s - loop.time()
            if wait_s > 0 or turn % _TURN == 0:
                await asyncio.sleep(max(0.0, wait_s))
            if self._over:
                return
            in_flight = len(self._in_flight)
            if in_flight >= most:
                self.tally.on_due(due_s, in_flight=in_flight, sent=False)
                continue
            self.tally.on_due(due_s, in_flight=in_flight + 1, sent=True)
            task = asyncio.create_task(self._one(self._mix.next(), due_s))
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)
        if self._plan.count is None:
            # Rates are counted to the end of the run, which is after the last arrival.
            await asyncio.sleep(max(0.0, self._start_s + self._end_s - loop.time()))

    def _due(self) -> Iterator[float]:
        """Yields the due times of this process's messages, in seconds from the start."""
        plan, part = self._plan, self._part
        assert plan.rate is not None
        left = None if plan.count is None else part.share(plan.count)
        for due_s in due_times(
            plan.arrivals, plan.rate, seed=plan.seed, part=part.number, parts=part.of
        ):
            if due_s >= self._end_s or left == 0:
                return
            yield due_s
            if left is not None and due_s >= plan.warmup_s:
                left -= 1

    async def _closed(self) -> None:
        """Keeps a fixed number of messages in flight."""
        workers = self._plan.most_in_flight * self._part.share(self._plan.streams)
        left = None if self._plan.count is None else self._part.share(self._plan.count)
        loop = asyncio.get_running_loop()

        async def work() -> None:
            nonlocal left
            while not self._over and left != 0:
                due_s = loop.time() - self._start_s
                if due_s >= self._end_s:
                    return
                if left is not None and due_s >= self._plan.warmup_s:
                    left -= 1
                self.tally.on_due(due_s, in_flight=workers, sent=True)
                await self._one(self._mix.next(), due_s)

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())

    async def _one(self, item: Item, due_s: float) -> None:
        """Sends one message and counts its reply."""
        loop = asyncio.get_running_loop()
        sent_s = loop.time() - self._start_s
        count: Callable[[Reply], None] = partial(self._count, item, due_s, sent_s)
        try:
            reply = await self._send(item)
        except asyncio.CancelledError:
            count(Reply(at_s=loop.time(), code="CANCELLED", message="the run was interrupted"))
            raise
        except Exception as error:  # a bug of the generator must not count as an answer
            count(Reply(at_s=loop.time(), code="INTERNAL", message=f"generator: {error!r}"))
            return
        count(reply)

    def _count(self, item: Item, due_s: float, sent_s: float, reply: Reply) -> None:
        slices = []
        if self._path_slices:
            slices.append(self._path_slices[item.group])
        if self._by_priority:
            slices.append(f"priority {item.priority}")
        reply.at_s -= self._start_s
        self.tally.on_reply(item, tuple(slices), due_s=due_s, sent_s=sent_s, reply=reply)

    async def _watch(self) -> None:
        """Samples the event loop's lag, which tells whether this process is overloaded itself."""
        loop = asyncio.get_running_loop()
        while True:
            want_s = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            if self._plan.warmup_s <= want_s - self._start_s <= self._end_s:
                self.tally.loop_lag.record_s(loop.time() - want_s)

    def _close(self) -> None:
        self._over = True
        self.tally.close(asyncio.get_running_loop().time() - self._start_s)
