"""What the line pool holds: the lines of a screenshot until all are read, and who waits for what.

    Pending, a screenshot's lines ──each──> Entry, a strip in one shape ──> queues of its Shares
                                              └── that several screenshots may want

Nothing here locks: the line pool does, for its threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple, TypeAlias

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.priority import Priority
from pagesight_server.common.timings import RunItem
from pagesight_server.inference.ocr.recogniser import Shape, Text

Rank: TypeAlias = tuple[int, int, int]
"""Priority, shares that were had, turn: of a screenshot; smaller goes first."""

Key: TypeAlias = tuple[bytes, int, Shape]
"""Digest and width of a strip, and how it is read: the same for what reads the same."""


class Line(NamedTuple):
    """A line of text to be read."""

    strip: Pixels
    """48 x at most the width of its shapes x 3."""
    digest: bytes
    """Digest of the line's pixels: lines of equal digests have equal strips."""
    shapes: Sequence[Shape]
    """How it is read: in one after the other, up to the first whose text is sure, or the last."""


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
        self._queues: dict[Shape, dict[Entry, None]] = {}
        """What it waits for in each shape, in order; no queue is empty."""

    @property
    def rank(self) -> Rank:
        """Smaller goes first."""
        return self.priority, self.columns // self._step, self.turn

    @property
    def waits(self) -> bool:
        """Whether it waits for any strip."""
        return bool(self._queues)

    def waits_for(self, shape: Shape) -> bool:
        """Whether it waits for a strip in a shape."""
        return shape in self._queues

    def due(self) -> Shape:
        """The shape of the first strip that it waits for; it must wait for one."""
        firsts = (next(iter(queue)) for queue in self._queues.values())
        return min(firsts, key=attrgetter("number")).shape

    def next(self, shape: Shape) -> Entry:
        """What it waits for next in a shape; it must wait for one."""
        return next(iter(self._queues[shape]))

    def waiting(self, shape: Shape) -> Collection[Entry]:
        """What it waits for in a shape, in order."""
        return self._queues.get(shape, ())

    def add(self, entry: Entry) -> None:
        """Has it wait for a strip."""
        if self not in entry.shares:
            entry.shares.append(self)
            shape = entry.shape
            queue = self._queues.get(shape)
            if queue is None:
                self._queues[shape] = {entry: None}
            else:
                queue[entry] = None

    def remove(self, entry: Entry) -> None:
        """Has it no longer wait for a strip."""
        shape = entry.shape
        queue = self._queues[shape]
        del queue[entry]
        if not queue:
            del self._queues[shape]


@dataclass(eq=False, slots=True)
class Entry:
    """One strip that waits, in the queues of all screenshots that it is of, or is being read."""

    number: int
    """First come, first served within a screenshot."""
    key: Key
    strip: Pixels
    origin: RunItem
    """Whose screenshot it is, and when it was submitted."""
    wanted_by: list[tuple[Pending, int, int]] = field(default_factory=list)
    """Who wants its text, for which of their lines, in which of that line's shapes."""
    shares: list[Share] = field(default_factory=list)
    """The queues that hold it; none any more once it is in a batch."""

    @property
    def shape(self) -> Shape:
        """Says in which shape it is read."""
        return self.key[2]

    def leave(self) -> None:
        """Takes it out of all queues."""
        for share in self.shares:
            share.remove(self)
        self.shares.clear()


@dataclass(eq=False, slots=True)
class Pending:
    """The lines of one screenshot, until all are read."""

    share: Share
    lines: Sequence[Line]
    future: asyncio.Future[list[Text]]
    origin: RunItem
    texts: list[Text]
    """The text so far, of each line."""
    wanted: dict[int, Entry] = field(default_factory=dict)
    """What each line that is not read yet waits for."""
    error: Exception | None = None

    def end(self) -> None:
        """Has its future resolved, from any thread."""
        # A loop that is closed waits for nothing.
        with suppress(RuntimeError):
            self.future.get_loop().call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.texts)
