"""Batches the text lines of all screenshots in flight; each batch has one width.

    submit ──> queues, one per width ──> batch ──> an idle recogniser ──> futures
                 ^ entries whose caller has gone are dropped

A line arrives as a strip: its pixels, 48 high. Work-conserving: an idle recogniser takes the next
batch at once; while all are busy, the next batches form. The width that a strip is padded to
depends on its own picture alone and never on the batch, so a screenshot reads the same whatever
else is in flight. (The network sees the padding: lines that the library reads one by one instead
of six at a time differ in 0.4 % of the characters.)

The first strip in order of turns decides the width, and others of that width fill the batch: no
strip waits for longer than everything submitted before it takes.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.threads import WorkerPool
from pagesight_server.common.timings import Observe, Run, RunItem, current, ignore
from pagesight_server.inference.ocr.recogniser import Text
from pagesight_server.inference.ocr.settings import OcrSettings


class Recognise(Protocol):
    """The interface of a recogniser, as the pool uses it."""

    def read(self, strips: Sequence[Pixels], width: int) -> list[Text]:
        """Reads strips padded to a width; one text per strip, in order."""


@dataclass(order=True, slots=True)
class _Entry:
    """One strip in a queue; entries sort in the order in which they are due."""

    turn: int
    """The number of its screenshot; smaller goes first."""
    number: int
    """First come, first served within a turn."""
    strip: Pixels = field(compare=False)
    future: asyncio.Future[Text] = field(compare=False)
    """Done already where the caller has gone."""
    origin: RunItem = field(compare=False)
    """Whose screenshot it is, and when it was submitted."""


class LinePool:
    """Recognises strips in batches; for one event loop at a time.

    Args:
        recognisers: Each with one recogniser, and so one thread.
        settings: Batch sizes.
    """

    def __init__(self, recognisers: Sequence[WorkerPool[Recognise]], settings: OcrSettings) -> None:
        self._recognisers = tuple(recognisers)
        self._idle = list(recognisers)
        self._settings = settings
        self._numbers = itertools.count()
        self._queues: dict[int, list[_Entry]] = {}
        """The entries of each width, sorted."""
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
        """Strips in the queues."""
        entries = itertools.chain.from_iterable(self._queues.values())
        return sum(not entry.future.done() for entry in entries)

    def submit(self, strip: Pixels, width: int, *, turn: int) -> asyncio.Future[Text]:
        """Queues one strip; the future of its text costs no run if it is cancelled in the queue.

        Args:
            strip: 48 x at most `width` x 3.
            width: The width in pixels that it is padded to.
            turn: Smaller goes first; one number for all strips of a screenshot.

        Raises:
            RuntimeError: the pool is closed.
        """
        if self._closed:
            raise RuntimeError("the reader is closed")
        loop = asyncio.get_running_loop()
        origin = RunItem(current(), time.perf_counter())
        entry = _Entry(turn, next(self._numbers), strip, loop.create_future(), origin)
        insort(self._queues.setdefault(width, []), entry)
        # Not at once: the other strips of the screenshot are submitted in this step of the loop.
        loop.call_soon(self._dispatch)
        return entry.future

    async def close(self) -> None:
        """Ends the threads after their present runs, and cancels the strips in the queues."""
        self._closed = True
        for entry in itertools.chain.from_iterable(self._queues.values()):
            entry.future.cancel()
        self._queues.clear()
        await asyncio.gather(*self._running, return_exceptions=True)
        for recogniser in self._recognisers:
            await asyncio.to_thread(recogniser.close)

    def _dispatch(self) -> None:
        """Gives a batch to each idle recogniser while there are strips."""
        while self._idle and (batch := self._next_batch()):
            width, entries = batch
            task = asyncio.create_task(self._run(self._idle.pop(), width, entries))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _next_batch(self) -> tuple[int, list[_Entry]] | None:
        """Takes the next batch out of its queue: the width, and entries of that width."""
        self._drop_cancelled()
        if not self._queues:
            return None
        width = min(self._queues, key=lambda width: self._queues[width][0])
        entries = self._queues[width]
        count = self._settings.count(width, len(entries))
        self._queues[width] = entries[count:]
        return width, entries[:count]

    def _drop_cancelled(self) -> None:
        """Drops entries whose caller has gone, and queues that are empty."""
        self._queues = {
            width: alive
            for width, entries in self._queues.items()
            if (alive := [entry for entry in entries if not entry.future.done()])
        }

    async def _run(
        self, recogniser: WorkerPool[Recognise], width: int, entries: Sequence[_Entry]
    ) -> None:
        """Runs one batch, resolves its futures and makes the recogniser idle again."""
        strips = [entry.strip for entry in entries]
        self.batches += 1
        self.strips += len(strips)
        self.columns += width * len(strips)
        started_s = time.perf_counter()
        try:
            texts = await recogniser.run(lambda one: one.read(strips, width))
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
