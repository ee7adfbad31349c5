"""Batches the text lines of all screenshots in flight; each batch has one shape.

    submit ──> queues, one per shape ──> batch ──> an idle reader ──> futures
                 ^ entries whose caller has gone are dropped

A shape is a width and the network that reads; each reader has all networks.

A line arrives as a strip: its pixels, 48 high. Work-conserving: an idle reader takes the next
batch at once; while all are busy, the next batches form. The shape that a strip is read in
depends on its own picture alone and never on the batch, so a screenshot reads the same whatever
else is in flight. (The network sees the padding: lines that the library reads one by one instead
of six at a time differ in 0.4 % of the characters.)

The screenshot that is first decides the shape, and others with strips of that shape fill the batch.
First is the higher priority; then who has had fewer columns, in steps of what a usual screenshot
takes. So usual ones are read in the order in which they came, and one with ten times their text
goes on when there is nobody else, or in every fourth batch. A strip that several screenshots have
in common is due as soon as it is of any of them. Finding text takes the same cores, in threads of a
lower priority (`common/threads.py`): for those who go first, recognisers are left idle meanwhile.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.priority import Priority, present
from pagesight_server.common.threads import WorkerPool
from pagesight_server.common.timings import Observe, Run, RunItem, current, ignore
from pagesight_server.inference.ocr.recogniser import Shape, Text
from pagesight_server.inference.ocr.settings import OcrSettings


class Recognise(Protocol):
    """The interface of a reader, as the pool uses it."""

    def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
        """Reads strips in a shape; one text per strip, in order."""


OLDEST_EVERY = 4
"""Of so many batches one is of the oldest screenshot of the first priority, however much it has
had: it ends also where there are always others with less text."""


Rank = tuple[int, int, int]
"""Priority, shares that were had, turn: of a screenshot; smaller goes first."""


LEFT_IDLE = 2
"""Recognisers left idle for each part of a picture that is looked through and goes first. On two
cores that others used too, finding took 1.4 s alone, 17 s beside the lines of a long page, 10 s
with one recogniser idle and 1.6 s with two: a thread of low priority loses to other processes
what its own leaves it."""


@dataclass(eq=False, slots=True)
class _Entry:
    """One strip that waits, in the queues of all screenshots that it is of."""

    number: int
    """First come, first served within a screenshot."""
    shape: Shape
    """How it is read."""
    strip: Pixels
    future: asyncio.Future[Text]
    """Done already where every caller has gone."""
    origin: RunItem
    """Whose screenshot it is, and when it was submitted."""
    taken: bool = False
    """Whether it is in a batch."""

    @property
    def waits(self) -> bool:
        """Whether it is still to be read."""
        return not self.taken and not self.future.done()


class Share:
    """What one screenshot waits for, and what it has had.

    Args:
        priority: Smaller goes first.
        turn: Which screenshot it is, counted from the first.
        step: Columns for which it keeps its place among others.
    """

    def __init__(self, priority: Priority, turn: int, step: int) -> None:
        self.priority = priority
        self.turn = turn
        self.columns = 0
        """What reading its strips took, in columns of the recognition network."""
        self._step = step
        self._queues: dict[Shape, deque[_Entry]] = {}

    @property
    def rank(self) -> Rank:
        """Smaller goes first."""
        return self.priority, self.columns // self._step, self.turn

    def add(self, entry: _Entry) -> None:
        """Has it wait for a strip."""
        self._queues.setdefault(entry.shape, deque()).append(entry)

    @property
    def waits(self) -> bool:
        """Whether it waits for any strip."""
        # Up to the first: this is asked of all screenshots for each batch.
        return any(self.waits_for(shape) for shape in list(self._queues))

    def waits_for(self, shape: Shape) -> bool:
        """Whether it waits for a strip in a shape; what was read meanwhile is dropped."""
        queue = self._queues.get(shape)
        if queue is None:
            return False
        while queue and not queue[0].waits:
            queue.popleft()
        if not queue:
            del self._queues[shape]
        return bool(queue)

    def due(self) -> Shape:
        """The shape of the first strip that it waits for; it must wait for one."""
        shapes = [shape for shape in list(self._queues) if self.waits_for(shape)]
        return min(shapes, key=lambda shape: self._queues[shape][0].number)

    def take(self, shape: Shape) -> _Entry | None:
        """Takes out what it waits for next in a shape, and counts that; None without any."""
        queue = self._queues.get(shape, deque())
        while queue:
            entry = queue.popleft()
            if entry.waits:
                entry.taken = True
                self.columns += shape.cost
                return entry
        return None

    def waiting(self, shape: Shape) -> Iterator[_Entry]:
        """What it waits for in a shape, in order."""
        return (entry for entry in self._queues.get(shape, ()) if entry.waits)


class LinePool:
    """Recognises strips in batches; for one event loop at a time.

    Args:
        recognisers: Each with one reader, and so one thread.
        settings: Batch sizes.
    """

    def __init__(self, recognisers: Sequence[WorkerPool[Recognise]], settings: OcrSettings) -> None:
        self._recognisers = tuple(recognisers)
        self._idle = list(recognisers)
        self._settings = settings
        self._numbers = itertools.count()
        self._turns = itertools.count()
        self._shares: list[Share] = []
        """Of the screenshots that are being read."""
        self._wanting: dict[bytes, list[Share]] = {}
        """Which of them wait for a strip, by its key."""
        self._entries: dict[bytes, list[_Entry]] = {}
        """The strips that wait or are read, by their keys; equal ones where none is cached."""
        self._finding: list[Share] = []
        """Of the screenshots that are looked through, once for each part that is."""
        self._owed = False
        """Whether a part was looked through since strips that are due later had a batch."""
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        self.observe: Observe = ignore
        """Called with each run when it is over."""
        self.batches = 0
        """Batches run so far."""
        self.strips = 0
        """Strips in those batches; one that was read again counts twice."""
        self.columns = 0
        """Sum of the widths of those strips in pixels, padding included."""

    @property
    def depth(self) -> int:
        """Strips that wait."""
        entries = itertools.chain.from_iterable(self._entries.values())
        return sum(entry.waits for entry in entries)

    @contextmanager
    def share(self) -> Iterator[Share]:
        """A share for one screenshot, at the priority of the work at hand."""
        share = Share(present(), next(self._turns), self._settings.share_columns)
        self._shares.append(share)
        try:
            yield share
        finally:
            self._shares.remove(share)

    @contextmanager
    def finding(self, share: Share) -> Iterator[None]:
        """Leaves cores to finding the text of a screenshot, while the block runs.

        What is due before it is read all the same, and of all else a batch between two parts.
        """
        self._finding.append(share)
        try:
            yield
        finally:
            self._finding.remove(share)
            self._owed = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    @contextmanager
    def wanted(self, key: bytes, share: Share) -> Iterator[None]:
        """Has a strip, whoever submits it, be due as soon as a screenshot is, while the block runs.

        Args:
            key: Of the strip, as it is read.
            share: Of the screenshot.
        """
        wanting = self._wanting.setdefault(key, [])
        wanting.append(share)
        for entry in self._entries.get(key, ()):
            share.add(entry)
        try:
            yield
        finally:
            wanting.remove(share)
            if not wanting:
                self._wanting.pop(key, None)

    def submit(self, strip: Pixels, shape: Shape, *, key: bytes) -> asyncio.Future[Text]:
        """Queues one strip; the future of its text costs no run if it is cancelled in the queue.

        It is read while a screenshot that wants it is; see `wanted`.

        Args:
            strip: 48 x at most `shape.width` x 3.
            shape: How it is read.
            key: The same for strips that are the same and are read alike.

        Raises:
            RuntimeError: the pool is closed.
        """
        if self._closed:
            raise RuntimeError("the reader is closed")
        loop = asyncio.get_running_loop()
        origin = RunItem(current(), time.perf_counter())
        entry = _Entry(next(self._numbers), shape, strip, loop.create_future(), origin)
        self._entries.setdefault(key, []).append(entry)
        entry.future.add_done_callback(lambda _done: self._forget(key, entry))
        for share in dict.fromkeys(self._wanting.get(key, ())):
            share.add(entry)
        # Not at once: the other strips of the screenshot are submitted in this step of the loop.
        loop.call_soon(self._dispatch)
        return entry.future

    async def close(self) -> None:
        """Ends the threads after their present runs, and cancels the strips in the queues."""
        self._closed = True
        for entry in itertools.chain.from_iterable(self._entries.values()):
            if entry.waits:
                entry.future.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for recogniser in self._recognisers:
            await asyncio.to_thread(recogniser.close)

    def _dispatch(self) -> None:
        """Gives a batch to each idle recogniser while there are strips."""
        while self._idle and (batch := self._next_batch()):
            shape, entries = batch
            task = asyncio.create_task(self._run(self._idle.pop(), shape, entries))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _next_batch(self) -> tuple[Shape, list[_Entry]] | None:
        """Takes the next batch out of the queues: the shape, and entries of that shape."""
        shares = [share for share in self._shares if share.waits]
        if not shares:
            return None
        by_turn = self.batches % OLDEST_EVERY == OLDEST_EVERY - 1

        def rank(share: Share) -> Rank:
            return (share.priority, 0, share.turn) if by_turn else share.rank

        first = min(shares, key=rank)
        if self._gives_way(rank(first), [rank(share) for share in self._finding]):
            return None
        shape = first.due()
        shares = [share for share in shares if share.waits_for(shape)]
        most = self._settings.count(shape.width, sys.maxsize)
        # A strip that several want is one.
        waiting: set[_Entry] = set()
        for one in itertools.chain.from_iterable(share.waiting(shape) for share in shares):
            waiting.add(one)
            if len(waiting) == most:
                break
        ranked = [(rank(share), share) for share in shares]
        heapq.heapify(ranked)
        entries: list[_Entry] = []
        while len(entries) < self._settings.count(shape.width, len(waiting)):
            share = ranked[0][1]
            if (entry := share.take(shape)) is None:
                heapq.heappop(ranked)
            else:
                entries.append(entry)
                heapq.heapreplace(ranked, (rank(share), share))
        return shape, entries

    def _gives_way(self, due: Rank, finding: Sequence[Rank]) -> bool:
        """Whether strips of a rank leave a recogniser idle, for what is found and goes first."""
        if not self._settings.gives_way:
            return False
        running = len(self._recognisers) - len(self._idle)
        ahead = sum(rank < due for rank in finding)
        if not ahead or running + LEFT_IDLE * ahead < len(self._recognisers):
            return False
        owed, self._owed = self._owed, False
        return not owed

    def _forget(self, key: bytes, entry: _Entry) -> None:
        """Drops an entry that was read, or whose caller has gone."""
        entries = self._entries[key]
        entries.remove(entry)
        if not entries:
            del self._entries[key]

    async def _run(
        self, recogniser: WorkerPool[Recognise], shape: Shape, entries: Sequence[_Entry]
    ) -> None:
        """Runs one batch, resolves its futures and makes the recogniser idle again."""
        strips = [entry.strip for entry in entries]
        self.batches += 1
        self.strips += len(strips)
        self.columns += shape.width * len(strips)
        started_s = time.perf_counter()
        try:
            texts = await recogniser.run(lambda one: one.read(strips, shape))
            if len(texts) != len(entries):
                raise RuntimeError(f"{len(entries)} strips gave {len(texts)} texts")
        except asyncio.CancelledError:
            for entry in entries:
                entry.future.cancel()
            raise
        except Exception as error:
            self._report(entries, started_s, failed=type(error).__name__)
            for entry in entries:
                if not entry.future.done():
                    entry.future.set_exception(error)
        else:
            self._report(entries, started_s)
            for entry, text in zip(entries, texts, strict=True):
                if not entry.future.done():
                    entry.future.set_result(text)
        finally:
            self._idle.append(recogniser)
            if not self._closed:
                self._dispatch()

    def _report(self, entries: Sequence[_Entry], started_s: float, failed: str = "") -> None:
        """Calls the observer with a run that is over."""
        run = Run(
            stage="recognise",
            start_s=started_s,
            end_s=time.perf_counter(),
            items=tuple(entry.origin for entry in entries),
            # An idle recogniser takes what is there: no batch is held open.
            closed="idle",
            failed=failed,
        )
        self.observe(run)
