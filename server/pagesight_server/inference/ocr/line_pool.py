"""Batches the text lines of all screenshots in flight; each batch has one shape.

    lines of a screenshot ──submit──> cached or in flight? ──yes──> text ──────────────┐
                                        ^       └──no──> queues, one per shape         │
                    once more, where    │                  └──> batch ──> a reader ────┤
                    that text is unsure └──────────────────────────────────────────────┤
                                       the screenshot's one future <── no line is left ┘

A shape is a width and the network that reads; each reader has all networks. A line comes as a
strip, its pixels, 48 high, with the shapes that it is read in until one gives a text that is sure.

Work-conserving: a reader's thread takes one batch after the other; the event loop hears of a
screenshot once, when all of it is read. While all readers are busy, the next batches form. The
shape that a strip is read in depends on its own picture alone and never on the batch, so a
screenshot reads the same whatever else is in flight. (The network sees the padding: lines that the
library reads one by one instead of six at a time differ in 0.4 % of the characters.)

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
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.cache import Lru
from pagesight_server.common.priority import present
from pagesight_server.common.threads import WorkerPool
from pagesight_server.common.timings import Observe, Run, RunItem, current, ignore
from pagesight_server.inference.ocr.line_queues import (
    Entry,
    Key,
    Line,
    Pending,
    Rank,
    Share,
)
from pagesight_server.inference.ocr.recogniser import Shape, Text
from pagesight_server.inference.ocr.settings import OcrSettings


class Recognise(Protocol):
    """The interface of a reader, as the pool uses it."""

    def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
        """Reads strips in a shape; one text per strip, in order."""


OLDEST_EVERY = 4
"""Of so many batches one is of the oldest screenshot of the first priority, however much it has
had: it ends also where there are always others with less text."""


LEFT_IDLE = 2
"""Recognisers left idle for each part of a picture that is looked through and goes first. On two
cores that others used too, finding took 1.4 s alone, 17 s beside the lines of a long page, 10 s
with one recogniser idle and 1.6 s with two: a thread of low priority loses to other processes
what its own leaves it."""


class LinePool:
    """Recognises strips in batches; for one event loop at a time.

    Args:
        recognisers: Each with one reader, and so one thread.
        settings: Batch sizes, and how many texts are remembered.
        sure_from: Confidence from which a text is sure.
    """

    def __init__(
        self,
        recognisers: Sequence[WorkerPool[Recognise]],
        settings: OcrSettings,
        *,
        sure_from: float = 0.0,
    ) -> None:
        self._recognisers = tuple(recognisers)
        self._settings = settings
        self._sure_from = sure_from
        self._numbers = itertools.count()
        self._turns = itertools.count()
        self._lock = threading.Lock()
        """Held for all below, by the event loop and the readers' threads."""
        self._idle = list(recognisers)
        self._shares: list[Share] = []
        """Of the screenshots that are being read."""
        self._entries: dict[Key, Entry] = {}
        """The strips that wait or are read, where equal ones are read once."""
        self._readings: set[Pending] = set()
        """The screenshots of which a line is not read yet."""
        self._finding: list[Share] = []
        """Of the screenshots that are looked through, once for each part that is."""
        self._owed = False
        """Whether a part was looked through since strips that are due later had a batch."""
        self._closed = False
        self.observe: Observe = ignore
        """Called with each run when it is over, in the thread that ran it."""
        self.cache: Lru[Key, Text] = Lru(settings.cache_entries)
        """Texts of lines; with 0 entries equal lines in flight are not read once either."""
        self.depth = 0
        """Strips that wait."""
        self.batches = 0
        """Batches run so far."""
        self.strips = 0
        """Strips in those batches; one that was read again counts twice."""
        self.columns = 0
        """Sum of the widths of those strips in pixels, padding included."""
        self.settled = 0
        """Lines whose first text was taken."""
        self.reread = 0
        """Lines that were read twice, whether or not a text was in the cache."""

    @contextmanager
    def share(self) -> Iterator[Share]:
        """A share for one screenshot, at the priority of the work at hand."""
        share = Share(present(), next(self._turns), self._settings.share_columns)
        with self._lock:
            self._shares.append(share)
        try:
            yield share
        finally:
            with self._lock:
                self._shares.remove(share)

    @contextmanager
    def finding(self, share: Share) -> Iterator[None]:
        """Leaves cores to finding the text of a screenshot, while the block runs.

        What is due before it is read all the same, and of all else a batch between two parts.
        """
        with self._lock:
            self._finding.append(share)
        try:
            yield
        finally:
            with self._lock:
                self._finding.remove(share)
                self._owed = True
                self._dispatch()

    def submit(self, lines: Sequence[Line], share: Share) -> asyncio.Future[list[Text]]:
        """Queues the lines of a screenshot; one future for the texts of all, in order.

        It fails with whatever a reader raises for one of them. Cancelling it drops the lines that
        wait, unless others wait for them too.

        Args:
            lines: In any order.
            share: Of the screenshot; they are read while it is open.

        Raises:
            RuntimeError: the pool is closed.
        """
        loop = asyncio.get_running_loop()
        origin = RunItem(current(), time.perf_counter())
        texts = [Text("", 0.0)] * len(lines)
        reading = Pending(share, lines, loop.create_future(), origin, texts)
        with self._lock:
            if self._closed:
                raise RuntimeError("the reader is closed")
            for number in range(len(lines)):
                self._want(reading, number)
            if not reading.wanted:
                reading.future.set_result(texts)
                return reading.future
            self._readings.add(reading)
            reading.future.add_done_callback(lambda _done: self._forget(reading))
            self._dispatch()
        return reading.future

    async def close(self) -> None:
        """Ends the threads after their present runs, and cancels what is not read by then."""
        with self._lock:
            self._closed = True
        self._cancel_waiting()
        for recogniser in self._recognisers:
            await asyncio.to_thread(recogniser.close)
        self._cancel_waiting()  # what was to be read once more

    def _cancel_waiting(self) -> None:
        """Cancels the screenshots of which a line waits."""
        with self._lock:
            waiting = [
                reading
                for reading in self._readings
                if any(entry.shares for entry in reading.wanted.values())
            ]
        for reading in waiting:
            reading.future.cancel()
            self._forget(reading)

    def _want(self, reading: Pending, number: int, step: int = 0) -> None:
        """Takes the text of a line from the cache, or waits for it: in its shapes from a step."""
        strip, digest, shapes = reading.lines[number]
        for at in range(step, len(shapes)):
            key = (digest, strip.shape[1], shapes[at])
            text = self.cache.lookup(key)
            if text is None:
                entry = self._entry(key, strip, reading, is_first=at == 0)
                entry.wanted_by.append((reading, number, at))
                reading.wanted[number] = entry
                return
            if self._takes(reading, number, at, text):
                return

    def _entry(self, key: Key, strip: Pixels, reading: Pending, *, is_first: bool) -> Entry:
        """The entry of a strip, joined where it is in flight, which its screenshot waits for."""
        entry = self._entries.get(key)
        if entry is None:
            self.cache.misses += 1
            origin = reading.origin
            if not is_first:
                origin = origin._replace(submitted_s=time.perf_counter())
            entry = Entry(next(self._numbers), key, strip, origin)
            if self.cache.max_entries:
                self._entries[key] = entry
            self.depth += 1
            reading.share.add(entry)
            return entry
        self.cache.hits += 1
        if entry.shares:
            reading.share.add(entry)
        return entry

    def _takes(self, reading: Pending, number: int, step: int, text: Text) -> bool:
        """Whether the text of a line in its shape of a step is the last one."""
        shapes = reading.lines[number].shapes
        is_last = step + 1 == len(shapes) or text.confidence >= self._sure_from
        if step == 0:
            self.settled += is_last
            self.reread += not is_last
        if is_last:
            reading.texts[number] = text
        return is_last

    def _forget(self, reading: Pending) -> None:
        """Drops what a screenshot still waits for, unless others do."""
        with self._lock:
            self._readings.discard(reading)
            for entry in reading.wanted.values():
                entry.wanted_by = [one for one in entry.wanted_by if one[0] is not reading]
                if entry.shares and not entry.wanted_by:
                    entry.leave()
                    self.depth -= 1
                    self._entries.pop(entry.key, None)
            reading.wanted.clear()

    def _dispatch(self) -> None:
        """Gives a batch to each idle recogniser while there are strips."""
        while self._idle and not self._closed and (batch := self._next_batch()):
            recogniser = self._idle.pop()
            recogniser.start(partial(self._work, recogniser, batch))

    def _next_batch(self) -> list[Entry] | None:
        """Takes the next batch out of the queues: entries of one shape."""
        by_turn = self.batches % OLDEST_EVERY == OLDEST_EVERY - 1

        def rank(share: Share) -> Rank:
            return (share.priority, 0, share.turn) if by_turn else share.rank

        ranked = [(rank(share), share) for share in self._shares if share.waits]
        if not ranked:
            return None
        due, first = min(ranked)
        if self._gives_way(due, [rank(share) for share in self._finding]):
            return None
        shape = first.due()
        ranked = [one for one in ranked if one[1].waits_for(shape)]
        most = self._settings.count(shape.width, sys.maxsize)
        # A strip that several want is one.
        waiting: set[Entry] = set()
        for _, share in ranked:
            waiting.update(itertools.islice(share.waiting(shape), most))
            if len(waiting) >= most:
                break
        heapq.heapify(ranked)
        entries: list[Entry] = []
        count, cost = self._settings.count(shape.width, len(waiting)), shape.cost
        while len(entries) < count:
            before, share = ranked[0]
            if not share.waits_for(shape):
                heapq.heappop(ranked)
                continue
            entry = share.next(shape)
            entry.leave()
            share.columns += cost
            entries.append(entry)
            if (now := rank(share)) != before:
                heapq.heapreplace(ranked, (now, share))
        self.depth -= len(entries)
        self.batches += 1
        self.strips += len(entries)
        self.columns += shape.width * len(entries)
        return entries

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

    def _work(
        self,
        recogniser: WorkerPool[Recognise],
        batch: list[Entry] | None,
        reader: Recognise,
    ) -> None:
        """Reads a batch, and the next ones until there is none; in the recogniser's thread."""
        while batch:
            outcome = self._read(reader, batch)
            with self._lock:
                ended = self._store(batch, outcome)
                self._idle.append(recogniser)
                batch = None if self._closed else self._next_batch()
                if batch:
                    self._idle.pop()
                self._dispatch()  # of what is to be read once more, others may take a part
            for reading in ended:
                reading.end()

    def _read(self, reader: Recognise, batch: Sequence[Entry]) -> list[Text] | Exception:
        """Runs one batch: its texts, or why there are none."""
        strips = [entry.strip for entry in batch]
        started_s = time.perf_counter()
        outcome: list[Text] | Exception
        try:
            outcome = reader.read(strips, batch[0].shape)
            if len(outcome) != len(batch):
                raise RuntimeError(f"{len(batch)} strips gave {len(outcome)} texts")
        except Exception as error:
            outcome = error
        run = Run(
            stage="recognise",
            start_s=started_s,
            end_s=time.perf_counter(),
            items=tuple(entry.origin for entry in batch),
            # An idle recogniser takes what is there: no batch is held open.
            closed="idle",
            failed=type(outcome).__name__ if isinstance(outcome, Exception) else "",
        )
        self.observe(run)
        return outcome

    def _store(self, batch: Sequence[Entry], outcome: list[Text] | Exception) -> list[Pending]:
        """Gives what a batch came to to whoever wants it; the screenshots that end with it."""
        ended: dict[Pending, None] = {}
        for at, entry in enumerate(batch):
            self._entries.pop(entry.key, None)
            if not isinstance(outcome, Exception):
                self.cache[entry.key] = outcome[at]
            for reading, number, step in entry.wanted_by:
                del reading.wanted[number]
                if isinstance(outcome, Exception):
                    reading.error = outcome
                elif not self._takes(reading, number, step, outcome[at]):
                    self._want(reading, number, step + 1)
                if not reading.wanted or reading.error:
                    ended[reading] = None
        return list(ended)
