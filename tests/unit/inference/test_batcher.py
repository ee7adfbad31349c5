"""The micro-batcher: nothing lost, nothing twice, in order, never idle while something waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagesight_server.inference.batcher import BatchConfig, Batcher
from tests.support import WAIT_S


class Model:
    """Doubles numbers; runs as many batches as it is let, and remembers them."""

    def __init__(self, *, free: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self._gate = threading.Semaphore(10**6 if free else 0)
        self.started = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.threads.add(threading.current_thread().name)
        self.started.release()
        assert self._gate.acquire(timeout=WAIT_S)
        if -1 in items:
            raise ValueError("a bad item")
        return [2 * item for item in items]

    def let(self, runs: int = 1) -> None:
        self._gate.release(runs)

    async def running(self) -> None:
        assert await asyncio.to_thread(self.started.acquire, timeout=WAIT_S)


async def settle() -> None:
    """Lets every task that can run now run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_lone_item_goes_at_once_and_is_told_its_batch() -> None:
    batcher = Batcher(Model(), BatchConfig(max_batch=8), name="test")
    result, info = await batcher.submit(21)
    assert result == 42
    assert (info.size, info.closed) == (1, "idle")
    await batcher.close()


async def test_what_arrives_while_the_model_runs_goes_together() -> None:
    model = Model(free=False)
    batcher = Batcher(model, BatchConfig(max_batch=3), name="test")
    first = asyncio.create_task(batcher.submit(0))
    await model.running()
    rest = [asyncio.create_task(batcher.submit(i)) for i in range(1, 6)]
    await settle()
    model.let(3)
    results = await asyncio.gather(first, *rest)
    assert [result for result, _ in results] == [0, 2, 4, 6, 8, 10]
    assert model.batches == [[0], [1, 2, 3], [4, 5]]
    assert [info.closed for _, info in results] == ["idle", "full", "full", "full", "idle", "idle"]
    assert len(model.threads) == 1
    await batcher.close()


async def test_higher_priority_goes_first_and_equals_in_order_of_arrival() -> None:
    model = Model(free=False)
    batcher = Batcher(model, BatchConfig(max_batch=2), name="test")
    tasks = [asyncio.create_task(batcher.submit(0))]
    await model.running()
    for item, priority in ((1, 2), (2, 1), (3, 0), (4, 1)):
        tasks.append(asyncio.create_task(batcher.submit(item, priority=priority)))
        await settle()
    model.let(3)
    await asyncio.gather(*tasks)
    assert model.batches == [[0], [3, 2], [4, 1]]
    await batcher.close()


async def test_cancelled_items_cost_nothing() -> None:
    model = Model(free=False)
    batcher = Batcher(model, BatchConfig(max_batch=8), name="test")
    first = asyncio.create_task(batcher.submit(0))
    await model.running()
    waiting = [asyncio.create_task(batcher.submit(i)) for i in (1, 2, 3)]
    await settle()
    waiting[1].cancel()
    await settle()
    assert batcher.depth == 2
    model.let(2)
    await asyncio.gather(first, waiting[0], waiting[2])
    assert model.batches == [[0], [1, 3]]
    await batcher.close()


async def test_a_failing_run_fails_its_own_batch_and_no_other() -> None:
    model = Model()
    batcher = Batcher(model, BatchConfig(), name="test")
    with pytest.raises(ValueError, match="a bad item"):
        await batcher.submit(-1)
    assert (await batcher.submit(1))[0] == 2
    await batcher.close()


async def test_a_batch_waits_for_company_as_long_as_it_may() -> None:
    model = Model()
    batcher = Batcher(model, BatchConfig(max_batch=2, max_wait_ms=60_000), name="test")
    first = asyncio.create_task(batcher.submit(1))
    await settle()
    assert model.batches == []
    _, info = await batcher.submit(2)
    await first
    assert (model.batches, info.closed) == ([[1, 2]], "full")
    await batcher.close()


async def test_a_batch_that_waited_goes_alone() -> None:
    model = Model()
    batcher = Batcher(model, BatchConfig(max_batch=2, max_wait_ms=1), name="test")
    _, info = await batcher.submit(1)
    assert (info.size, info.closed) == (1, "waited")
    assert info.wait_ms >= 1
    await batcher.close()


async def test_closing_cancels_what_waits_and_refuses_what_comes() -> None:
    model = Model(free=False)
    batcher = Batcher(model, BatchConfig(), name="test")
    running = asyncio.create_task(batcher.submit(0))
    await model.running()
    waiting = asyncio.create_task(batcher.submit(1))
    await settle()
    model.let()
    await batcher.close()
    assert (await asyncio.gather(waiting, return_exceptions=True))[0].__class__ is (
        asyncio.CancelledError
    )
    await asyncio.gather(running, return_exceptions=True)
    with pytest.raises(RuntimeError, match="closed"):
        await batcher.submit(2)
    assert model.batches == [[0]]


@settings(max_examples=60)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("submit"), st.integers(0, 2)),
            st.tuples(st.just("cancel"), st.integers(0, 30)),
            st.tuples(st.just("run"), st.just(0)),
        ),
        max_size=40,
    ),
    max_batch=st.integers(1, 5),
)
def test_no_item_is_lost_or_answered_twice_under_any_storm(
    steps: list[tuple[str, int]], max_batch: int
) -> None:
    asyncio.run(_storm(steps, max_batch))


async def _storm(steps: list[tuple[str, int]], max_batch: int) -> None:
    model = Model(free=False)
    batcher = Batcher(model, BatchConfig(max_batch=max_batch), name="test")
    tasks: list[asyncio.Task[int]] = []
    cancelled: set[int] = set()
    answered: list[int] = []

    async def ask(item: int, priority: int) -> int:
        result, info = await batcher.submit(item, priority=priority)
        assert 1 <= info.size <= max_batch
        answered.append(item)
        return result

    actions: dict[str, Callable[[int], None]] = {
        "submit": lambda value: tasks.append(asyncio.create_task(ask(len(tasks), value))),
        "run": lambda _value: model.let(),
    }
    for action, value in steps:
        if action != "cancel":
            actions[action](value)
        elif value < len(tasks) and not tasks[value].done():
            tasks[value].cancel()
            cancelled.add(value)
        await settle()
    model.let(len(steps) + 1)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    await batcher.close()
    for item, outcome in enumerate(outcomes):
        if item in cancelled:
            assert isinstance(outcome, asyncio.CancelledError)
        else:
            assert outcome == 2 * item
    ran = [item for batch in model.batches for item in batch]
    assert len(ran) == len(set(ran))
    assert sorted(answered) == [i for i in range(len(tasks)) if i not in cancelled]
    assert all(1 <= len(batch) <= max_batch for batch in model.batches)


@pytest.mark.parametrize(
    "settings",
    [{"max_batch": 0}, {"max_wait_ms": -1}],
)
def test_a_setting_that_cannot_be_says_so(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="need"):
        BatchConfig(**settings)
