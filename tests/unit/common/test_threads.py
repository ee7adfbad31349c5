"""Threads that own a resource each."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from pagesight_server.common.threads import NICENESS, WorkerPool, lower_priority
from tests.support import WAIT_S


class Resource:
    """Notices when two threads use it at once."""

    def __init__(self) -> None:
        self.uses = 0
        self._lock = threading.Lock()

    def use(self) -> int:
        assert self._lock.acquire(blocking=False), "two threads in one resource"
        self.uses += 1
        self._lock.release()
        return self.uses


async def test_each_resource_is_used_by_one_thread_at_a_time() -> None:
    made: list[Resource] = []

    def make() -> Resource:
        made.append(Resource())
        return made[-1]

    workers = WorkerPool(make, 3, name="test")
    try:
        await asyncio.gather(*(workers.run(Resource.use) for _ in range(200)))
    finally:
        workers.close()
    assert len(made) == 3
    assert sum(resource.uses for resource in made) == 200


async def test_as_many_run_at_once_as_there_are_resources() -> None:
    together = threading.Barrier(2)
    workers = WorkerPool(object, 2, name="test")
    try:
        await asyncio.gather(*(workers.run(lambda _: together.wait(WAIT_S)) for _ in range(2)))
    finally:
        workers.close()


async def test_a_failure_reaches_the_caller_and_the_resource_stays_in_use() -> None:
    workers = WorkerPool(Resource, 1, name="test")

    def fail(resource: Resource) -> None:
        raise ValueError("too bad")

    try:
        with pytest.raises(ValueError, match="too bad"):
            await workers.run(fail)
        assert await workers.run(Resource.use) == 1
    finally:
        workers.close()


async def test_cancelled_work_that_has_not_begun_is_never_done() -> None:
    workers = WorkerPool(object, 1, name="test")
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def first(_: object) -> None:
        begun.set()
        assert go_on.wait(WAIT_S)

    try:
        running = asyncio.create_task(workers.run(first))
        assert await asyncio.to_thread(begun.wait, WAIT_S)
        waiting = asyncio.create_task(workers.run(lambda _: done.append("cancelled")))
        await asyncio.sleep(0)  # lets the task hand its work to the threads
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go_on.set()
        await running
        await workers.run(lambda _: done.append("after"))
    finally:
        go_on.set()
        workers.close()
    assert done == ["after"]


def test_a_resource_that_cannot_be_made_fails_at_once() -> None:
    def make() -> object:
        raise ValueError("no model")

    with pytest.raises(ValueError, match="no model"):
        WorkerPool(make, 2, name="test")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process has one niceness")
async def test_threads_that_step_back_leave_the_others_as_they_were() -> None:
    def niceness(_: object) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness(None)
    waiting = WorkerPool(object, 1, name="waiting", first=lower_priority)
    urgent = WorkerPool(object, 1, name="urgent")
    try:
        assert await waiting.run(niceness) == NICENESS
        assert await urgent.run(niceness) == before
    finally:
        waiting.close()
        urgent.close()
    assert niceness(None) == before


def test_work_that_is_started_runs_with_a_resource_and_none_after_closing() -> None:
    workers, used, ended = WorkerPool(Resource, 1, name="test"), list[int](), threading.Event()
    workers.start(lambda resource: used.append(resource.use()))
    workers.start(lambda _resource: ended.set())
    assert ended.wait(WAIT_S)
    assert used == [1]
    workers.close()
    with pytest.raises(RuntimeError):
        workers.start(Resource.use)
