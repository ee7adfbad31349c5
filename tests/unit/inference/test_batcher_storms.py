"""The batcher under storms of arrivals and cancellations, in virtual time: every promise holds.

The promises: nothing lost, nothing answered twice, first come first served within a priority,
a higher priority first, a cancelled item never run, and nobody waits longer than those before
it take, plus `max_wait_ms`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pagesight_server.inference.batcher import BatchConfig, Batcher
from tests.support.virtual_time import TimedOwner, run_virtually

EPSILON_S = 1e-6


class Step(NamedTuple):
    """What happens so many milliseconds after the step before."""

    after_ms: int
    cancel: int | None
    """Number of an item; None submits the next one."""
    priority: int


class Ran(NamedTuple):
    """One run of the model."""

    start_s: float
    batch: list[int]
    waiting: list[int]
    """Numbers that waited at the start, those of the batch included, in the order promised."""


@dataclass
class Storm:
    """One run of the batcher over some steps, and all that was seen of it."""

    max_batch: int
    max_wait_ms: int
    run_ms: int
    priorities: list[int] = field(default_factory=list)
    arrived_s: dict[int, float] = field(default_factory=dict)
    ahead: dict[int, int] = field(default_factory=dict)
    """Of each item: how many of its priority or a higher one waited when it came."""
    cancelled: set[int] = field(default_factory=set)
    answers: dict[int, int] = field(default_factory=dict)
    ran: list[Ran] = field(default_factory=list)

    async def rage(self, steps: Sequence[Step]) -> None:
        loop = asyncio.get_running_loop()
        waiting: set[int] = set()
        tasks: list[asyncio.Task[None]] = []

        def model(batch: Sequence[int]) -> list[int]:
            ordered = sorted(waiting, key=lambda item: (self.priorities[item], item))
            self.ran.append(Ran(loop.time(), list(batch), ordered))
            waiting.difference_update(batch)
            return [2 * item for item in batch]

        batcher = Batcher(
            model,
            BatchConfig(max_batch=self.max_batch, max_wait_ms=self.max_wait_ms),
            name="storm",
            clock=loop.time,
            owner=TimedOwner(self.run_ms / 1000),
        )

        async def ask(item: int) -> None:
            priority = self.priorities[item]
            self.arrived_s[item] = loop.time()
            self.ahead[item] = sum(self.priorities[i] <= priority for i in waiting)
            waiting.add(item)
            result, info = await batcher.submit(item, priority=priority)
            assert item not in self.answers
            assert 1 <= info.size <= self.max_batch
            self.answers[item] = result

        for step in steps:
            await asyncio.sleep(step.after_ms / 1000)
            if step.cancel is None:
                item = len(tasks)
                self.priorities.append(step.priority)
                tasks.append(asyncio.create_task(ask(item)))
            elif step.cancel < len(tasks) and tasks[step.cancel].cancel():
                self.cancelled.add(step.cancel)
                waiting.discard(step.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        await batcher.close()


STEPS = st.lists(
    st.builds(
        Step,
        after_ms=st.sampled_from([0, 0, 0, 1, 3, 10, 50]),
        cancel=st.one_of(st.none(), st.none(), st.integers(0, 30)),
        priority=st.integers(0, 2),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(
    steps=STEPS,
    max_batch=st.integers(1, 5),
    max_wait_ms=st.sampled_from([0, 0, 2, 20]),
    run_ms=st.sampled_from([1, 10, 30]),
)
# One waits for company, the other gives up while both do: it must not be run.
@example(
    steps=[Step(0, None, 0), Step(0, None, 0), Step(1, 1, 0)],
    max_batch=3,
    max_wait_ms=20,
    run_ms=10,
)
def test_the_promises_hold_under_any_storm(
    steps: list[Step], max_batch: int, max_wait_ms: int, run_ms: int
) -> None:
    storm = Storm(max_batch, max_wait_ms, run_ms)
    run_virtually(storm.rage(steps))
    items = range(len(storm.priorities))

    # Nothing is lost, nothing is answered for another, and nothing runs twice.
    assert storm.answers == {i: 2 * i for i in items if i not in storm.cancelled}
    everything = [item for ran in storm.ran for item in ran.batch]
    assert len(everything) == len(set(everything))

    free_s = 0.0
    for ran in storm.ran:
        # By priority, then as they came; what was cancelled before is not among them.
        assert ran.batch == ran.waiting[: len(ran.batch)]
        assert len(ran.batch) == min(max_batch, len(ran.waiting))
        # Never idle while something waits, but for max_wait_ms.
        oldest_s = min(storm.arrived_s[item] for item in ran.waiting)
        assert ran.start_s <= max(free_s, oldest_s + max_wait_ms / 1000) + EPSILON_S
        assert ran.start_s >= free_s - EPSILON_S
        free_s = ran.start_s + run_ms / 1000

    started_s = {item: ran.start_s for ran in storm.ran for item in ran.batch}
    for item in storm.answers:
        if storm.priorities[item] == 0:
            # The run under way, and those that the items before it fill.
            runs = 1 + storm.ahead[item] // max_batch
            longest_s = (max_wait_ms + runs * run_ms) / 1000
            assert started_s[item] - storm.arrived_s[item] <= longest_s + EPSILON_S
