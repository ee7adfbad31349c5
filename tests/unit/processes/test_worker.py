"""A worker's end of the pipes: what it is told, what it reports, and that it is alone or not."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from pagesight_server.processes.worker import Worker
from tests.support import WAIT_S

FIRST = {"number": 2, "leads": False, "may_load": False, "serving": False, "config_json": "{}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipes:
    """The supervisor's ends of both pipes, and the worker's."""

    commands: int
    reports: int
    of_worker: tuple[int, int]

    def say(self, **command: Any) -> None:
        os.write(self.commands, json.dumps(command).encode() + b"\n")

    def heard(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in os.read(self.reports, 65_536).splitlines()]

    def worker(self) -> Worker:
        return Worker.of_supervisor(self.of_worker[1], self.of_worker[0])


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    of_worker, commands = os.pipe()
    reports, to_supervisor = os.pipe()
    yield Pipes(commands=commands, reports=reports, of_worker=(of_worker, to_supervisor))
    for descriptor in (of_worker, reports, to_supervisor):
        os.close(descriptor)


async def test_it_follows_what_the_supervisor_says_to_its_end(
    pipes: Pipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    exits: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(os, "_exit", lambda code: loop.call_soon_threadsafe(exits.put_nowait, code))
    pipes.say(**FIRST)
    worker = pipes.worker()
    assert (worker.number, worker.leads, worker.joins, worker.config_json) == (
        2,
        False,
        False,
        "{}",
    )
    assert not worker.may_load.is_set()
    assert not worker.serving.is_set()
    changes: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
    worker.on_change = lambda gallery, revision: changes.put_nowait((gallery, revision))
    worker.follow(0.0)
    async with asyncio.timeout(WAIT_S):
        pipes.say(kind="load")
        await worker.may_load.wait()
        assert not worker.serving.is_set()
        pipes.say(kind="changed", gallery="页", revision=7)
        assert await changes.get() == ("页", 7)
        pipes.say(kind="serving")
        await worker.serving.wait()
        assert not worker.stop.is_set()
        os.close(pipes.commands)
        await worker.stop.wait()
        # It never listened, so there is nothing to drain.
        assert await exits.get() == 1


def test_its_reports_are_whole_lines_from_any_thread(pipes: Pipes) -> None:
    pipes.say(**FIRST)
    worker = pipes.worker()
    assert not os.get_inheritable(pipes.of_worker[1])
    worker.listening("serving", "localhost:9465")
    worker.loaded()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: worker.changed("g", number), range(100)))
    worker.failed("no bundle")
    first, second, *changed, last = pipes.heard()
    assert first == {"kind": "listening", "line": "serving", "metrics": "localhost:9465"}
    assert second == {"kind": "loaded"}
    assert sorted(change["revision"] for change in changed) == list(range(100))
    assert last == {"kind": "failed", "message": "no bundle"}
    os.close(pipes.commands)


def test_one_that_takes_the_place_of_another_loads_before_it_listens(pipes: Pipes) -> None:
    pipes.say(**FIRST | {"serving": True, "may_load": True})
    worker = pipes.worker()
    assert worker.joins
    assert worker.may_load.is_set()
    assert worker.serving.is_set()
    os.close(pipes.commands)


def test_one_whose_supervisor_is_gone_does_not_begin(pipes: Pipes) -> None:
    os.close(pipes.commands)
    with pytest.raises(SystemExit):
        pipes.worker()


def test_the_only_process_waits_for_nobody_and_reports_nothing() -> None:
    alone = Worker.alone()
    assert (alone.number, alone.leads, alone.joins) == (0, True, False)
    assert alone.may_load.is_set()
    assert alone.serving.is_set()
    alone.listening("serving", "")
    alone.changed("g", 1)
