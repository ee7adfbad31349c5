"""The strips of all screenshots in flight, in batches of one width.

    submit ──> waiting, by width and turn ──take──> batch ──> an idle recogniser ──> futures
                 ^ cancelled strips leave      ^ the width of the strip whose turn it is

Work-conserving: whoever is idle takes what is there; while all are busy the next batches
form. A strip is padded as its own picture says, never as its company needs, so a screenshot
reads the same whatever else is in flight. (The network sees the padding: lines that the library
reads one by one instead of six at a time differ in 0.4 % of the characters.)

The strip whose turn it is goes first, its width decides, and others of that width go along:
none waits for longer than everything that came before it takes.
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
from pagesight_server.common.timings import Observe, Run, Share, current, ignore
from pagesight_server.inference.ocr.recogniser import Text
from pagesight_server.inference.ocr.settings import OcrSettings


class Recognise(Protocol):
    """What the pool needs of a recogniser."""

    def read(self, strips: Sequence[Pixels], width: int) -> list[Text]:
        """The texts of strips that are padded to a width, in order."""


@dataclass(order=True, slots=True)
class _Job:
    turn: int
    number: int
    """Within a turn, as they came."""
    strip: Pixels = field(compare=False)
    future: asyncio.Future[Text] = field(compare=False)
    share: Share = field(compare=False)


class Pool:
    """Recognises strips; for one event loop at a time.

    Args:
        recognisers: Each with one resource and so one thread.
        settings: Of the batches.
    """

    def __init__(self, recognisers: Sequence[WorkerPool[Recognise]], settings: OcrSettings) -> None:
        self._recognisers = tuple(recognisers)
        self._idle = list(recognisers)
        self._settings = settings
        self._numbers = itertools.count()
        self._waiting: dict[int, list[_Job]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        self.observe: Observe = ignore
        """Told of each run."""
        self.batches = 0
        """Runs so far."""
        self.strips = 0
        """Strips of those runs; one that was read again counts twice."""
        self.columns = 0
        """Pixels of width of those runs, padding included."""

    @property
    def depth(self) -> int:
        """Strips that wait."""
        return sum(not job.future.done() for jobs in self._waiting.values() for job in jobs)

    def submit(self, strip: Pixels, width: int, *, turn: int) -> asyncio.Future[Text]:
        """The text of a strip, in time; cancelling it while it waits costs nothing.

        Args:
            strip: 48 x at most `width` x 3.
            width: To pad it to.
            turn: Smaller goes first; one number for all strips of a screenshot.

        Raises:
            RuntimeError: the pool is closed.
        """
        if self._closed:
            raise RuntimeError("the reader is closed")
        loop = asyncio.get_running_loop()
        share = Share(current(), time.perf_counter())
        job = _Job(turn, next(self._numbers), strip, loop.create_future(), share)
        insort(self._waiting.setdefault(width, []), job)
        # Not now: the other strips of the screenshot are submitted in this turn of the loop.
        loop.call_soon(self._dispatch)
        return job.future

    async def close(self) -> None:
        """Ends the threads after their present runs; whatever waits is cancelled."""
        self._closed = True
        for job in itertools.chain.from_iterable(self._waiting.values()):
            job.future.cancel()
        self._waiting.clear()
        await asyncio.gather(*self._running, return_exceptions=True)
        for recogniser in self._recognisers:
            await asyncio.to_thread(recogniser.close)

    def _dispatch(self) -> None:
        while self._idle and (batch := self._take()):
            width, jobs = batch
            task = asyncio.create_task(self._run(self._idle.pop(), width, jobs))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _take(self) -> tuple[int, list[_Job]] | None:
        alive = {
            width: left
            for width, jobs in self._waiting.items()
            if (left := [job for job in jobs if not job.future.done()])
        }
        self._waiting = alive
        if not alive:
            return None
        width = min(alive, key=lambda w: alive[w][0])
        jobs = alive[width]
        count = self._settings.count(width, len(jobs))
        alive[width] = jobs[count:]
        return width, jobs[:count]

    async def _run(
        self, recogniser: WorkerPool[Recognise], width: int, jobs: Sequence[_Job]
    ) -> None:
        strips = [job.strip for job in jobs]
        self.batches += 1
        self.strips += len(strips)
        self.columns += width * len(strips)
        started_s = time.perf_counter()
        try:
            texts = await recogniser.run(lambda one: one.read(strips, width))
            if len(texts) != len(jobs):
                raise RuntimeError(f"{len(jobs)} strips gave {len(texts)} texts")
        except asyncio.CancelledError:
            for job in jobs:
                job.future.cancel()
            raise
        except Exception as error:
            self._tell(jobs, started_s, failed=type(error).__name__)
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(error)
        else:
            self._tell(jobs, started_s)
            for job, text in zip(jobs, texts, strict=True):
                if not job.future.done():
                    job.future.set_result(text)
        finally:
            self._idle.append(recogniser)
            if not self._closed:
                self._dispatch()

    def _tell(self, jobs: Sequence[_Job], started_s: float, failed: str = "") -> None:
        run = Run(
            stage="recognise",
            start_s=started_s,
            end_s=time.perf_counter(),
            shares=tuple(job.share for job in jobs),
            # Whoever is idle takes what is there: no batch waits for company.
            closed="idle",
            failed=failed,
        )
        self.observe(run)
