"""Background tasks: one for each key, ended when their owner ends."""

from __future__ import annotations

import asyncio

from pagesight_server.common.tasks import SingleFlightTasks


class Work:
    """Work that ends when the test lets it."""

    def __init__(self) -> None:
        self.runs = 0
        self.cancelled = 0
        self.go = asyncio.Event()

    async def __call__(self) -> None:
        self.runs += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def test_work_is_not_started_again_while_its_key_is_running() -> None:
    tasks, work = SingleFlightTasks(), Work()
    tasks.start("a", work)
    tasks.start("a", work)
    tasks.start("b", work)
    assert len(tasks) == 2
    work.go.set()
    await tasks.settled()
    assert (work.runs, len(tasks)) == (2, 0)


async def test_a_key_can_be_started_again_in_the_moment_its_work_ends() -> None:
    tasks, second = SingleFlightTasks(), Work()
    ended = asyncio.Event()

    async def first() -> None:
        ended.set()

    tasks.start("a", first)
    await ended.wait()
    assert not tasks.is_running("a")
    tasks.start("a", second)
    second.go.set()
    await tasks.settled()
    assert second.runs == 1


async def test_settled_waits_for_work_that_was_started_meanwhile() -> None:
    tasks, late = SingleFlightTasks(), Work()
    late.go.set()

    async def first() -> None:
        tasks.start("b", late)

    tasks.start("a", first)
    await tasks.settled()
    assert late.runs == 1


async def test_cancelling_ends_what_is_running() -> None:
    tasks, work = SingleFlightTasks(), Work()
    tasks.start("a", work)
    await asyncio.sleep(0)
    await tasks.cancel()
    assert (work.cancelled, len(tasks)) == (1, 0)
