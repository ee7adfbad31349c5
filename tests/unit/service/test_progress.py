"""Progress is told while work goes on, from whatever thread, and its end always."""

from __future__ import annotations

import asyncio

import pytest

from pagesight.v1 import gallery_pb2 as pb
from pagesight_server.service.progress import Report, reporting


class Told:
    """Takes what is told."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, int]] = []
        self.came = asyncio.Event()

    async def __call__(self, progress: pb.Progress) -> None:
        self.messages.append((progress.done, progress.total))
        self.came.set()


async def test_what_is_reported_last_is_told_although_the_work_is_done_at_once() -> None:
    told = Told()

    async def work(report: Report) -> str:
        for done in range(4):
            report(done, 3)
        return "done"

    assert await reporting(work, told) == "done"
    assert told.messages[-1] == (3, 3)


async def test_reports_of_a_thread_are_told() -> None:
    told = Told()

    async def work(report: Report) -> None:
        def steps() -> None:
            for done in range(3):
                report(done, 2)

        await asyncio.to_thread(steps)

    await reporting(work, told)
    assert told.messages[-1] == (2, 2)


async def test_work_without_a_report_tells_nothing() -> None:
    told = Told()

    async def work(_: Report) -> int:
        return 3

    assert await reporting(work, told) == 3
    assert told.messages == []


async def test_between_two_messages_reports_are_left_out() -> None:
    told = Told()

    async def work(report: Report) -> None:
        report(0, 1_000)
        await told.came.wait()
        for done in range(1, 1_001):
            report(done, 1_000)
            await asyncio.sleep(0)

    await reporting(work, told, interval_s=3_600)
    assert told.messages == [(0, 1_000), (1_000, 1_000)]


async def test_work_does_not_wait_for_whoever_is_told() -> None:
    read = asyncio.Event()
    finished = asyncio.Event()

    async def slowly(_: pb.Progress) -> None:
        await read.wait()

    async def work(report: Report) -> None:
        report(0, 1)
        await asyncio.sleep(0)
        report(1, 1)
        finished.set()

    running = asyncio.create_task(reporting(work, slowly))
    await finished.wait()
    assert not running.done()
    read.set()
    await running


async def test_an_error_of_the_work_is_its_own() -> None:
    told = Told()

    async def work(report: Report) -> None:
        report(0, 1)
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        await reporting(work, told)
    assert told.messages == [(0, 1)]


async def test_whoever_is_told_and_is_gone_ends_neither_the_work_nor_its_error() -> None:
    async def gone(_: pb.Progress) -> None:
        raise asyncio.CancelledError

    async def work(report: Report) -> str:
        report(0, 1)
        await asyncio.sleep(0)
        return "kept"

    assert await reporting(work, gone) == "kept"
