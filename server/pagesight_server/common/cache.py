"""An LRU cache that is single-flight: concurrent requests for one key share one computation.

    get ──> cached? ──yes──────────────────────────> value
              └─no─> in flight? ──yes──> join it ──> value
                        └─no──> start it ──────────> value, cached

The same screenshot is often uploaded twice, and often at the same moment. An
error is raised to every caller that waits for it and never cached.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class CacheStats(NamedTuple):
    """How often a cache was asked, and how often that saved a computation."""

    hits: int
    """Requests answered from the cache, or by a computation that was in flight already."""
    misses: int
    """Requests that started a computation."""
    entries: int
    """Values cached now."""

    @property
    def hit_ratio(self) -> float:
        """Share of the requests that were hits, 0 to 1; 0 before the first."""
        requests = self.hits + self.misses
        return self.hits / requests if requests else 0.0

    def __str__(self) -> str:
        return f"{self.hits} of {self.hits + self.misses} ({self.hit_ratio:.1%})"


@dataclass(slots=True)
class _Flight(Generic[V]):
    """One computation and how many callers wait for it."""

    future: asyncio.Future[V]
    waiters: int = 0


class Lru(Generic[K, V]):
    """Keeps the `max_entries` most recently used values; for one thread at a time.

    Args:
        max_entries: Values kept; 0: none.
    """

    def __init__(self, max_entries: int) -> None:
        if max_entries < 0:
            raise ValueError(f"need max_entries >= 0, got {max_entries}")
        self.max_entries = max_entries
        self.hits = 0
        """Requests answered from the cache, or by a computation that was in flight already."""
        self.misses = 0
        """Requests that started a computation."""
        self._values: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def __getitem__(self, key: K) -> V:
        """The value of a key, which is a hit.

        Raises:
            KeyError: it is not cached.
        """
        value = self._values[key]
        self._values.move_to_end(key)
        self.hits += 1
        return value

    def lookup(self, key: K) -> V | None:
        """The value of a key, which is a hit; None where it is not cached, which counts nothing."""
        return self[key] if key in self._values else None

    def __setitem__(self, key: K, value: V) -> None:
        """Caches a value, in place of the least recently used one where there is no room."""
        self._values[key] = value
        while len(self._values) > self.max_entries:
            self._values.popitem(last=False)

    def stats(self) -> CacheStats:
        """Hits and misses so far, and the number of entries."""
        return CacheStats(self.hits, self.misses, len(self._values))


class SingleFlightLru(Lru[K, V]):
    """An LRU cache that computes what it lacks, once at a time for each key; for one event loop.

    Args:
        max_entries: Values kept. 0 switches the cache off: every call computes for itself.
    """

    def __init__(self, max_entries: int) -> None:
        super().__init__(max_entries)
        self._in_flight: dict[K, _Flight[V]] = {}

    async def get(self, key: K, compute: Callable[[], Awaitable[V]]) -> V:
        """The value of a key, computed unless it is cached or in flight.

        A computation is cancelled only when every caller that waits for it has gone.

        Raises:
            Exception: whatever `compute` raises.
        """
        if self.max_entries == 0:
            self.misses += 1
            return await compute()
        if key in self:
            return self[key]
        flight = self._in_flight.get(key)
        if flight is None:
            self.misses += 1
            flight = _Flight(asyncio.ensure_future(compute()))
            flight.future.add_done_callback(partial(self._landed, key, flight))
            self._in_flight[key] = flight
        else:
            self.hits += 1
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.future)
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and not flight.future.done():
                if self._in_flight.get(key) is flight:
                    del self._in_flight[key]
                flight.future.cancel()

    def _landed(self, key: K, flight: _Flight[V], future: asyncio.Future[V]) -> None:
        """Caches what a computation gave."""
        if self._in_flight.get(key) is flight:
            del self._in_flight[key]
        if future.cancelled() or future.exception() is not None:
            return
        self[key] = future.result()
