"""The gate: who comes in, in which order, and that no place is ever lost or made up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagesight_server.common.errors import OverloadedError
from pagesight_server.common.priority import Priority
from pagesight_server.service.admission import MIN_RETRY_MS, Gate
from tests.support import WAIT_S


class Visitors:
    """Tasks that enter a gate and stay until they are told to go."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.entered: list[str] = []
        self._go: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def arrive(
        self,
        name: str,
        priority: Priority = Priority.NORMAL,
        *,
        caller: str | None = None,
        stream: str | None = None,
        budget_s: float | None = None,
    ) -> None:
        self._go[name] = asyncio.Event()
        place = self.gate.enter(priority, caller=caller, stream=stream, budget_s=budget_s)
        self.tasks[name] = asyncio.create_task(self._visit(name, place))
        await settle()

    async def _visit(self, name: str, place: AbstractAsyncContextManager[None]) -> None:
        async with place:
            self.entered.append(name)
            await self._go[name].wait()

    async def leave(self, name: str) -> None:
        self._go[name].set()
        await self.tasks.pop(name)
        await settle()

    async def cancel(self, name: str) -> None:
        task = self.tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await settle()

    def turned_away(self) -> dict[str, int]:
        """Who was turned away, and after how many milliseconds to come back; then forgets them."""
        errors = {name: task.exception() for name, task in self.tasks.items() if task.done()}
        for name in errors:
            del self.tasks[name]
        assert all(isinstance(error, OverloadedError) for error in errors.values())
        return {
            name: error.retry_after_ms
            for name, error in errors.items()
            if isinstance(error, OverloadedError)
        }

    def inside(self) -> set[str]:
        return set(self.entered) & set(self.tasks)


async def settle() -> None:
    """Lets every task run until it waits for something that only the test can give."""
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def visitors(max_active: int, max_waiting: int) -> AsyncIterator[Visitors]:
    crowd = Visitors(Gate(max_active, max_waiting))
    try:
        yield crowd
    finally:
        for name in list(crowd.tasks):
            await crowd.cancel(name)


async def test_the_higher_priority_goes_first_and_equals_go_in_order() -> None:
    async with visitors(1, 10) as crowd:
        await crowd.arrive("inside")
        await crowd.arrive("low", Priority.LOW)
        await crowd.arrive("normal 1")
        await crowd.arrive("normal 2")
        await crowd.arrive("high", Priority.HIGH)
        for name in ["inside", "high", "normal 1", "normal 2", "low"]:
            await crowd.leave(name)
        assert crowd.entered == ["inside", "high", "normal 1", "normal 2", "low"]


async def test_beyond_those_that_may_wait_callers_are_turned_away_with_a_hint() -> None:
    async with visitors(1, 1) as crowd:
        await crowd.arrive("inside")
        await crowd.arrive("waiting")
        with pytest.raises(OverloadedError, match="1 screenshots are waiting") as turned_away:
            async with crowd.gate.enter():
                pass
        assert turned_away.value.retry_after_ms == MIN_RETRY_MS
        assert crowd.gate.waiting == 1
        await crowd.leave("inside")
        assert crowd.inside() == {"waiting"}


async def test_a_greedy_caller_delays_another_by_one_screenshot() -> None:
    async with visitors(1, 100) as crowd:
        await crowd.arrive("inside", caller="greedy")
        for number in range(20):
            await crowd.arrive(f"greedy {number}", caller="greedy")
        await crowd.arrive("modest 0", caller="modest")
        await crowd.arrive("modest 1", caller="modest")
        order = ["inside", "greedy 0", "modest 0", "greedy 1", "modest 1", "greedy 2"]
        for name in order:
            await crowd.leave(name)
        assert crowd.entered[: len(order)] == order


async def test_streams_of_one_caller_take_turns_within_the_turns_of_callers() -> None:
    async with visitors(1, 100) as crowd:
        await crowd.arrive("inside")
        for number in range(3):
            await crowd.arrive(f"batch {number}", caller="office", stream="batch")
        await crowd.arrive("person", caller="office", stream="person")
        await crowd.arrive("home 0", caller="home")
        await crowd.arrive("home 1", caller="home")
        order = ["inside", "batch 0", "home 0", "person", "home 1", "batch 1", "batch 2"]
        for name in order:
            await crowd.leave(name)
        assert crowd.entered == order


async def test_when_full_the_newest_of_the_lowest_priority_gives_way_to_a_higher_one() -> None:
    async with visitors(1, 4) as crowd:
        await crowd.arrive("inside", caller="greedy")
        await crowd.arrive("low 0", Priority.LOW, caller="greedy")
        await crowd.arrive("normal", Priority.NORMAL, caller="greedy")
        await crowd.arrive("low 1", Priority.LOW, caller="greedy")
        await crowd.arrive("low, another's", Priority.LOW, caller="modest")
        await crowd.arrive("high", Priority.HIGH, caller="hurried")
        assert crowd.turned_away() == {"low 1": MIN_RETRY_MS}
        assert crowd.gate.waiting == 4
        # Of the two that are left at low priority, greedy has most at all.
        await crowd.arrive("high 1", Priority.HIGH, caller="greedy")
        assert set(crowd.turned_away()) == {"low 0"}
        await crowd.arrive("low, too late", Priority.LOW, caller="late")
        assert set(crowd.turned_away()) == {"low, too late"}
        order = ["inside", "high", "high 1", "normal", "low, another's"]
        for name in order:
            await crowd.leave(name)
        assert crowd.entered == order


async def test_when_full_of_one_caller_another_gets_its_share_of_the_room() -> None:
    async with visitors(1, 6) as crowd:
        await crowd.arrive("inside", caller="greedy")
        for number in range(6):
            await crowd.arrive(f"greedy {number}", caller="greedy", stream=f"{number % 3}")
        for number in range(6):
            await crowd.arrive(f"modest {number}", caller="modest")
        # Newest first, until both have three: whoever took more would only be displaced again.
        assert set(crowd.turned_away()) == {
            *(f"greedy {number}" for number in (5, 4, 3)),
            *(f"modest {number}" for number in (3, 4, 5)),
        }
        await crowd.arrive("third", caller="third")
        assert set(crowd.turned_away()) == {"modest 2"}
        await crowd.arrive("greedy again", caller="greedy")
        assert set(crowd.turned_away()) == {"greedy again"}


async def test_room_that_callers_share_evenly_goes_to_no_newcomer() -> None:
    async with visitors(1, 3) as crowd:
        await crowd.arrive("inside")
        for caller in ("a", "b", "c", "d"):
            await crowd.arrive(caller, caller=caller)
        assert set(crowd.turned_away()) == {"d"}


async def test_one_who_was_cancelled_a_moment_ago_makes_room_as_well() -> None:
    async with visitors(1, 2) as crowd:
        await crowd.arrive("inside")
        await crowd.arrive("first", Priority.LOW)
        await crowd.arrive("second", Priority.LOW)
        crowd.tasks.pop("second").cancel()
        await crowd.arrive("high", Priority.HIGH)
        assert crowd.turned_away() == {}
        assert crowd.gate.waiting == 2
        await crowd.leave("inside")
        await crowd.leave("high")
        assert crowd.entered == ["inside", "high", "first"]


async def test_whoever_gives_way_and_is_cancelled_at_once_frees_no_place_it_never_had() -> None:
    async with visitors(1, 1) as crowd:
        await crowd.arrive("inside")
        await crowd.arrive("low", Priority.LOW)
        high = asyncio.create_task(crowd.arrive("high", Priority.HIGH))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await crowd.cancel("low")
        await high
        assert crowd.inside() == {"inside"}
        assert crowd.gate.waiting == 1


async def test_who_could_not_be_answered_in_time_displaces_nobody() -> None:
    crowd = await timed_gate(2.0, max_waiting=1)
    await crowd.arrive("waits", Priority.LOW)
    await crowd.arrive("hasty", Priority.HIGH, budget_s=3.0)
    assert set(crowd.turned_away()) == {"hasty"}
    assert crowd.gate.waiting == 1
    for name in list(crowd.tasks):
        await crowd.cancel(name)


async def timed_gate(work_s: float, max_active: int = 1, max_waiting: int = 100) -> Visitors:
    """A gate that has seen one screenshot take `work_s`, with every place taken."""
    now = [0.0]
    crowd = Visitors(Gate(max_active, max_waiting, clock=lambda: now[0]))
    await crowd.arrive("first")
    now[0] += work_s
    await crowd.leave("first")
    for number in range(max_active):
        await crowd.arrive(f"inside {number}")
    return crowd


async def test_who_cannot_be_answered_in_time_is_turned_away_at_once() -> None:
    crowd = await timed_gate(2.0)
    # One is inside and one would wait: the answer comes after 2 s of waiting and 2 s of work.
    await crowd.arrive("patient", budget_s=4.0)
    assert not crowd.tasks["patient"].done()
    # Now 2 s more: expected after 6 s, so a retry makes sense in 1 s.
    await crowd.arrive("hasty", budget_s=5.0)
    error = crowd.tasks.pop("hasty").exception()
    assert isinstance(error, OverloadedError)
    assert error.retry_after_ms == 1000
    for name in list(crowd.tasks):
        await crowd.cancel(name)


async def test_another_callers_queue_counts_only_as_far_as_its_turns_come_first() -> None:
    crowd = await timed_gate(1.0)
    for number in range(50):
        await crowd.arrive(f"greedy {number}", caller="greedy")
    # One greedy screenshot goes before it: 1 s inside, 1 s greedy, 1 s of its own.
    await crowd.arrive("modest", caller="modest", budget_s=3.0)
    assert not crowd.tasks["modest"].done()
    for name in list(crowd.tasks):
        await crowd.cancel(name)


async def test_work_that_failed_does_not_count_as_quick() -> None:
    crowd = await timed_gate(2.0)
    await crowd.leave("inside 0")

    async def fail() -> None:
        async with crowd.gate.enter():
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await fail()
    assert crowd.gate.work_s == pytest.approx(2.0 * 0.9)


async def test_with_no_room_to_wait_the_free_places_are_still_given() -> None:
    async with visitors(2, 0) as crowd:
        await crowd.arrive("a")
        await crowd.arrive("b")
        assert crowd.inside() == {"a", "b"}
        with pytest.raises(OverloadedError):
            async with crowd.gate.enter():
                pass


async def test_whoever_gives_up_waiting_makes_room_for_another() -> None:
    async with visitors(1, 1) as crowd:
        await crowd.arrive("inside")
        await crowd.arrive("gives up")
        await crowd.cancel("gives up")
        assert crowd.gate.waiting == 0
        await crowd.arrive("next")
        await crowd.leave("inside")
        assert crowd.entered == ["inside", "next"]


async def test_a_place_handed_over_in_the_moment_of_cancellation_is_passed_on() -> None:
    async with visitors(1, 2) as crowd:
        await crowd.arrive("inside")
        await crowd.arrive("cancelled")
        await crowd.arrive("next")
        # Both in one turn of the loop: the place is given before the cancellation is noticed.
        crowd._go["inside"].set()
        await asyncio.sleep(0)
        assert crowd.gate.waiting == 1
        await crowd.cancel("cancelled")
        assert crowd.inside() - {"inside"} == {"next"}


async def test_whoever_is_cancelled_just_before_a_place_is_free_does_not_get_it() -> None:
    async with visitors(1, 2) as crowd:
        await crowd.arrive("inside")
        await crowd.arrive("cancelled")
        await crowd.arrive("next")
        crowd._go["inside"].set()
        crowd.tasks["cancelled"].cancel()
        await settle()
        assert crowd.entered == ["inside", "next"]
        await crowd.arrive("last")
        assert crowd.gate.waiting == 1
        await crowd.leave("next")
        assert crowd.entered == ["inside", "next", "last"]


async def test_a_failure_inside_frees_the_place() -> None:
    gate = Gate(1, 0)
    with pytest.raises(ValueError, match="inside"):
        async with gate.enter():
            raise ValueError("inside")
    async with asyncio.timeout(WAIT_S), gate.enter():
        pass


async def test_those_that_give_up_behind_steadier_callers_leave_nothing_behind() -> None:
    async with visitors(1, 2) as crowd:
        await crowd.arrive("inside")
        await crowd.arrive("steady", Priority.HIGH)
        for i in range(100):
            await crowd.arrive(f"{i}", Priority.LOW)
            await crowd.cancel(f"{i}")
        assert crowd.gate.waiting == 1


@pytest.mark.parametrize(("active", "waiting"), [(0, 1), (-1, 1), (1, -1)])
def test_a_gate_needs_a_place(active: int, waiting: int) -> None:
    with pytest.raises(ValueError, match=f"got {active} and {waiting}"):
        Gate(active, waiting)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.integers(0, 8)),
        st.tuples(st.just("leave"), st.integers(0, 20)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("leave and cancel"), st.integers(0, 20)),
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(st.integers(1, 3), st.integers(0, 4), steps)
def test_no_place_is_lost_or_made_up_whatever_happens(
    max_active: int, max_waiting: int, todo: list[tuple[str, int]]
) -> None:
    async def run() -> None:
        crowd = Visitors(Gate(max_active, max_waiting))
        for number, (what, which) in enumerate(todo):
            names = sorted(crowd.tasks)
            inside = sorted(crowd.inside())
            if what == "arrive":
                crowded = len(crowd.tasks) == max_active + max_waiting
                caller = f"caller {which // 3}"
                await crowd.arrive(f"{number:03}", Priority(which % 3), caller=caller)
                # The newcomer, or one who gives way to it.
                assert len(crowd.turned_away()) == crowded
            elif what == "leave" and inside:
                await crowd.leave(inside[which % len(inside)])
            elif what == "cancel" and names:
                await crowd.cancel(names[which % len(names)])
            elif what == "leave and cancel" and inside:
                crowd._go[inside[0]].set()
                await crowd.cancel(names[which % len(names)])
                for name in [name for name, task in crowd.tasks.items() if task.done()]:
                    del crowd.tasks[name]
            # As many are inside as may be, never more; the others wait.
            assert len(crowd.inside()) == min(max_active, len(crowd.tasks))
            assert crowd.gate.waiting == len(crowd.tasks) - len(crowd.inside())
        for name in list(crowd.tasks):
            await crowd.cancel(name)
        for i in range(max_active):
            await crowd.arrive(f"last {i}")
        assert len(crowd.inside()) == max_active
        for i in range(max_active):
            await crowd.leave(f"last {i}")

    asyncio.run(run())
