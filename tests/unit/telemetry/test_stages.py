"""The record of what happened to one screenshot, and what model runs tell of themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from pagesight_server.common.timings import Run, StageTimes, current, measure, recording
from pagesight_server.inference.batcher import BatchConfig, Batcher


def test_a_stage_that_runs_twice_adds_up_and_keeps_both_intervals() -> None:
    times = StageTimes()
    times.add("read", 1.0, 1.5)
    times.add("read", 2.0, 2.25)
    assert times == {"read": 750.0}
    assert [(i.start_s, i.end_s) for i in times.intervals] == [(1.0, 1.5), (2.0, 2.25)]


def test_without_a_record_measuring_does_nothing() -> None:
    assert current() is None
    with measure("detect"):
        pass
    assert current() is None


def test_the_record_of_an_outer_block_goes_on_in_an_inner_one() -> None:
    with recording() as outer:
        with recording() as inner, measure("detect"):
            pass
        assert inner is outer
    assert list(outer) == ["detect"]
    assert current() is None


async def test_screenshots_at_the_same_time_keep_records_of_their_own() -> None:
    async def one(stage: str) -> StageTimes:
        with recording() as times:
            await asyncio.sleep(0)
            await asyncio.create_task(inner(stage))
            return times

    async def inner(stage: str) -> None:
        with measure(stage):
            await asyncio.sleep(0)

    first, second = await asyncio.gather(one("a"), one("b"))
    assert (list(first), list(second)) == (["a"], ["b"])


async def test_a_batch_tells_whose_items_it_held_how_long_they_waited_and_why_it_went() -> None:
    runs: list[Run] = []
    batcher = Batcher[int, int](list, BatchConfig(max_batch=2), name="test", clock=clock())
    batcher.observe = runs.append

    async def one(item: int) -> StageTimes:
        with recording() as times:
            await batcher.submit(item)
            return times

    owners = await asyncio.gather(one(1), one(2))
    await batcher.submit(3)
    await batcher.close()
    assert [(run.stage, len(run.items), run.closed) for run in runs] == [
        ("encode", 2, "full"),
        ("encode", 1, "idle"),
    ]
    both, alone = runs
    assert [item.owner for item in both.items] == list(owners)
    # The clock ticks at each look: two submissions, the start of the run, its end.
    assert [item.submitted_s for item in both.items] == [0.0, 1.0]
    assert (both.start_s, both.end_s) == (2.0, 3.0)
    assert [item.owner for item in alone.items] == [None]


async def test_a_run_that_fails_says_what_it_raised_before_its_items_fail() -> None:
    runs: list[Run] = []

    def broken(_items: Sequence[int]) -> Sequence[int]:
        raise MemoryError

    batcher = Batcher[int, int](broken, BatchConfig(), name="test")
    batcher.observe = runs.append
    with pytest.raises(MemoryError):
        await batcher.submit(1)
    assert [run.failed for run in runs] == ["MemoryError"]
    await batcher.close()


def clock() -> Callable[[], float]:
    """Seconds that pass by one each time somebody looks."""
    ticks = iter(range(1000))
    return lambda: float(next(ticks))
