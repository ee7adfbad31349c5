"""Nothing is computed twice, and nobody is let down by somebody else's leaving."""

from __future__ import annotations

import asyncio

import pytest

from pagesight_server.common.cache import CacheStats, Lru, SingleFlightLru


class Work:
    """A computation that ends when it is let."""

    def __init__(self) -> None:
        self.runs = 0
        self.cancelled = 0
        self.go = asyncio.Event()

    async def __call__(self) -> int:
        self.runs += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.runs


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_remembered_value_is_not_computed_again() -> None:
    cache, work = SingleFlightLru[str, int](2), Work()
    work.go.set()
    assert [await cache.get("a", work), await cache.get("a", work)] == [1, 1]
    assert (cache.hits, cache.misses) == (1, 1)


async def test_the_least_recently_used_value_is_forgotten_first() -> None:
    cache, work = SingleFlightLru[str, int](2), Work()
    work.go.set()
    for key in ("a", "b", "a", "c"):
        await cache.get(key, work)
    assert len(cache) == 2
    runs = work.runs
    await cache.get("a", work)
    assert work.runs == runs
    await cache.get("b", work)
    assert work.runs == runs + 1


async def test_whoever_asks_while_it_is_under_way_joins() -> None:
    cache, work = SingleFlightLru[str, int](2), Work()
    tasks = [asyncio.create_task(cache.get("a", work)) for _ in range(3)]
    await settle()
    work.go.set()
    assert await asyncio.gather(*tasks) == [1, 1, 1]


async def test_one_who_leaves_takes_the_work_from_nobody() -> None:
    cache, work = SingleFlightLru[str, int](2), Work()
    first, second = (asyncio.create_task(cache.get("a", work)) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    work.go.set()
    assert await second == 1
    assert work.cancelled == 0


async def test_when_everyone_has_left_the_work_ends_and_the_next_begins_anew() -> None:
    cache, work = SingleFlightLru[str, int](2), Work()
    tasks = [asyncio.create_task(cache.get("a", work)) for _ in range(2)]
    await settle()
    for task in tasks:
        task.cancel()
    again = asyncio.create_task(cache.get("a", work))
    await settle()
    assert work.cancelled == 1
    work.go.set()
    assert await again == 2
    assert len(cache) == 1


async def test_an_error_is_told_to_all_and_not_remembered() -> None:
    cache = SingleFlightLru[str, int](2)
    go = asyncio.Event()

    async def fail() -> int:
        await go.wait()
        raise ValueError("broken")

    async def work() -> int:
        return 7

    tasks = [asyncio.create_task(cache.get("a", fail)) for _ in range(2)]
    await settle()
    go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["broken", "broken"]
    assert await cache.get("a", work) == 7


async def test_a_future_is_waited_for_as_it_is() -> None:
    cache = SingleFlightLru[str, int](2)
    futures = [asyncio.get_running_loop().create_future() for _ in range(2)]
    first, second = (asyncio.create_task(cache.get("a", lambda: futures[0])) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    assert not futures[0].done(), "the second waits for it still"
    futures[0].set_result(7)
    assert await second == 7
    assert await cache.get("a", lambda: futures[1]) == 7

    left = asyncio.create_task(cache.get("b", lambda: futures[1]))
    await settle()
    left.cancel()
    await settle()
    assert futures[1].cancelled()


async def test_a_computation_that_cannot_begin_is_told_and_not_remembered() -> None:
    cache, work = SingleFlightLru[str, int](2), Work()
    work.go.set()

    def refuse() -> asyncio.Future[int]:
        raise RuntimeError("closed")

    with pytest.raises(RuntimeError, match="closed"):
        await cache.get("a", refuse)
    assert await cache.get("a", work) == 1


async def test_switched_off_it_computes_every_time() -> None:
    cache, work = SingleFlightLru[str, int](0), Work()
    work.go.set()
    assert [await cache.get("a", work), await cache.get("a", work)] == [1, 2]
    assert cache.hits == 0


def test_a_value_that_is_looked_up_is_a_hit_and_one_that_is_not_there_counts_nothing() -> None:
    cache: Lru[str, int] = Lru(2)
    cache["a"], cache["b"] = 1, 2
    assert (cache.lookup("a"), cache.lookup("c")) == (1, None)
    cache["d"] = 4  # "b" is the least recently used.
    assert (cache.lookup("a"), cache.lookup("b")) == (1, None)
    assert cache.stats() == CacheStats(hits=2, misses=0, entries=2)


def test_a_negative_size_says_so() -> None:
    with pytest.raises(ValueError, match="max_entries"):
        SingleFlightLru[str, int](-1)


async def test_what_it_has_saved_can_be_told() -> None:
    cache, work = SingleFlightLru[str, int](2), Work()
    assert cache.stats().hit_ratio == 0.0
    work.go.set()
    for key in ("a", "a", "a", "b", "c"):
        await cache.get(key, work)
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.entries) == (2, 3, 2)
    assert stats.hit_ratio == 0.4
    assert str(stats) == "2 of 5 (40.0%)"


def test_values_are_kept_by_their_last_use_and_counted_as_hits() -> None:
    cache = Lru[str, int](2)
    cache["a"], cache["b"] = 1, 2
    assert cache["a"] == 1
    cache["c"] = 3
    assert [key in cache for key in "abc"] == [True, False, True]
    assert cache.stats() == CacheStats(hits=1, misses=0, entries=2)
    with pytest.raises(KeyError):
        cache["b"]
    assert cache.hits == 1


def test_a_cache_of_no_entries_keeps_nothing() -> None:
    cache = Lru[str, int](0)
    cache["a"] = 1
    assert "a" not in cache
