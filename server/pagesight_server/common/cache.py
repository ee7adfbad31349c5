"""One computation per key at a time, and the results of the last few.

    get ──> remembered? ──yes──────────────────────> value
              └─no─> under way? ──yes──> join it ──> value
                        └─no──> start it ──────────> value, remembered

The same screenshot is often uploaded twice, and often at the same moment. An
error is told to everyone who waits for it and never remembered.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class CacheStats(NamedTuple):
    """What a cache has saved so far."""

    hits: int
    """Answers that were remembered or under way."""
    misses: int
    """Answers that were computed."""
    entries: int
    """Values remembered now."""

    @property
    def hit_ratio(self) -> float:
        """Share of the answers that cost nothing; 0 before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0

    def __str__(self) -> str:
        return f"{self.hits} of {self.hits + self.misses} ({self.hit_ratio:.1%})"


@dataclass(slots=True)
class _Underway(Generic[V]):
    task: asyncio.Task[V]
    waiters: int = 0


class Memo(Generic[K, V]):
    """Remembers the last `max_entries` values; for one event loop.

    Args:
        max_entries: 0 remembers nothing and joins nothing: every call computes.
    """

    def __init__(self, max_entries: int) -> None:
        if max_entries < 0:
            raise ValueError(f"need max_entries >= 0, got {max_entries}")
        self._max_entries = max_entries
        self._values: OrderedDict[K, V] = OrderedDict()
        self._underway: dict[K, _Underway[V]] = {}
        self.hits = 0
        """Answers that were remembered or under way."""
        self.misses = 0

    def __len__(self) -> int:
        return len(self._values)

    def stats(self) -> CacheStats:
        """Hits and misses so far."""
        return CacheStats(self.hits, self.misses, len(self._values))

    async def get(self, key: K, compute: Callable[[], Awaitable[V]]) -> V:
        """The value of a key, computed unless it is remembered or under way.

        A computation ends early only when everyone who waits for it has gone.

        Raises:
            Exception: whatever `compute` raises.
        """
        if self._max_entries == 0:
            self.misses += 1
            return await compute()
        if key in self._values:
            self.hits += 1
            self._values.move_to_end(key)
            return self._values[key]
        underway = self._underway.get(key)
        if underway is None:
            self.misses += 1
            underway = _Underway(asyncio.ensure_future(self._compute(key, compute)))
            self._underway[key] = underway
        else:
            self.hits += 1
        underway.waiters += 1
        try:
            return await asyncio.shield(underway.task)
        finally:
            underway.waiters -= 1
            if underway.waiters == 0 and not underway.task.done():
                if self._underway.get(key) is underway:
                    del self._underway[key]
                underway.task.cancel()

    async def _compute(self, key: K, compute: Callable[[], Awaitable[V]]) -> V:
        mine = asyncio.current_task()
        try:
            value = await compute()
        finally:
            underway = self._underway.get(key)
            if underway is not None and underway.task is mine:
                del self._underway[key]
        self._values[key] = value
        while len(self._values) > self._max_entries:
            self._values.popitem(last=False)
        return value
