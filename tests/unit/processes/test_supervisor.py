"""The supervisor over real processes that only speak its protocol."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pagesight_server.common.errors import SetupError
from pagesight_server.processes import supervisor as module
from pagesight_server.processes.restarts import Restarts
from pagesight_server.processes.supervisor import Plan, Slot, Supervisor
from tests.support import WAIT_S

WORKER = """
import json, os, signal, sys
folder, behaviour, reports = sys.argv[1], sys.argv[2], int(sys.argv[4])
signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "deaf" else lambda *_: os._exit(0))
first = json.loads(sys.stdin.readline())
number = first["number"]

def note(what):
    with open(f"{folder}/notes", "a") as notes:
        notes.write(json.dumps([number, what]) + "\\n")

def report(kind, **values):
    line = json.dumps({"kind": kind, **values}).encode() + b"\\n"
    assert os.write(reports, line) == len(line)

note("started, may load" if first["may_load"] else "started")
assert first["leads"] == (number == 1)
server = json.loads(first["config_json"])["server"]
assert server == {"drain_seconds": 0, "lame_duck_seconds": 0, "port": 7}
if behaviour == "fails":
    report("failed", message="no bundle")
    os._exit(1)
if behaviour == "crashes":
    os._exit(3)
if behaviour == "is cut":
    os.write(reports, b'{"kind": "listening", "line": "serv')
    os._exit(3)
many = ", and more" * (100_000 if behaviour == "says much" else 0)
report("listening", line=f"serving from {number}{many}", metrics=f"localhost:{number}")
if first["may_load"]:
    report("loaded")
for line in sys.stdin:
    command = json.loads(line)
    note(command)
    if command["kind"] == "load" and number != 1:
        report("loaded")
    if command["kind"] == "serving" and number == 2:
        report("changed", gallery="g", revision=3)
"""


def plan(folder: Path, behaviour: str, processes: int = 3) -> Plan:
    return Plan(
        command=[sys.executable, "-c", WORKER, str(folder), behaviour],
        processes=processes,
        config={"server": {"drain_seconds": 0, "lame_duck_seconds": 0, "port": 0}},
        as_json=False,
    )


def notes(folder: Path) -> list[tuple[int, Any]]:
    file = folder / "notes"
    lines = file.read_text().splitlines() if file.exists() else []
    return [tuple(json.loads(line)) for line in lines]


@asynccontextmanager
async def running(
    supervisor: Supervisor,
) -> AsyncIterator[tuple[asyncio.Event, asyncio.Task[None]]]:
    stop = asyncio.Event()
    async with asyncio.timeout(WAIT_S):
        task = asyncio.create_task(supervisor.run(stop))
        try:
            yield stop, task
        finally:
            stop.set()
            await asyncio.wait({task})


async def noted(folder: Path, wanted: Sequence[tuple[int, Any]]) -> None:
    """Waits until workers have noted all of these."""
    while not all(note in notes(folder) for note in wanted):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_all_are_told_to_load_after_the_first_and_to_serve_when_all_have(
    tmp_path: Path,
) -> None:
    ready: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

    def note_ready(slots: Sequence[Slot]) -> None:
        assert [slot.line for slot in slots] == [f"serving from {n}" for n in (1, 2, 3)]
        assert [slot.metrics for slot in slots] == [f"localhost:{n}" for n in (1, 2, 3)]
        ready.set_result([slot.pid for slot in slots])

    async with running(Supervisor(plan(tmp_path, "serves"), 7, note_ready)) as (stop, task):
        assert len(set(await ready)) == 3
        serving = {"kind": "serving"}
        changed = {"kind": "changed", "gallery": "g", "revision": 3}
        await noted(tmp_path, [(1, serving), (2, serving), (3, serving), (1, changed)])
        stop.set()
        await task
    of_all = notes(tmp_path)
    assert of_all[0] == (1, "started, may load")
    # What a worker was told, in its order; who has started after the first had loaded may load too.
    told = {n: [what for number, what in of_all if number == n] for n in (1, 2, 3)}
    load = {"kind": "load"}
    assert told[1] == ["started, may load", load, serving, changed]
    for number in (2, 3):
        assert told[number] in (
            ["started", load, serving],
            ["started, may load", serving],
        )


async def test_a_report_may_be_of_any_length(tmp_path: Path) -> None:
    ready: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

    def note_ready(slots: Sequence[Slot]) -> None:
        ready.set_result([slot.line for slot in slots])

    supervisor = Supervisor(plan(tmp_path, "says much", processes=2), 7, note_ready)
    async with running(supervisor) as (stop, task):
        many = ", and more" * 100_000
        waiting: list[asyncio.Future[Any]] = [ready, task]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert ready.result() == [f"serving from 1{many}", f"serving from 2{many}"]
        stop.set()
        await task


async def test_half_a_report_is_none(tmp_path: Path) -> None:
    supervisor = Supervisor(
        plan(tmp_path, "is cut"), 7, lambda _: None, lambda: Restarts(most=2, first_s=0.01)
    )
    async with running(supervisor) as (_, task):
        with pytest.raises(SetupError, match=r"ended 2 times .* at last with exit code 3: its log"):
            await task


async def test_what_a_worker_says_before_all_serve_ends_the_whole_at_once(tmp_path: Path) -> None:
    async with running(Supervisor(plan(tmp_path, "fails"), 7, lambda _: None)) as (_, task):
        with pytest.raises(SetupError, match=r"^no bundle$"):
            await task
    assert notes(tmp_path) == [(1, "started, may load")]


async def test_a_worker_that_ends_again_and_again_is_given_up(tmp_path: Path) -> None:
    supervisor = Supervisor(
        plan(tmp_path, "crashes"), 7, lambda _: None, lambda: Restarts(most=3, first_s=0.01)
    )
    async with running(supervisor) as (_, task):
        expected = r"^process 1 ended 3 times within 300 s, at last with exit code 3: its log"
        with pytest.raises(SetupError, match=expected):
            await task
    assert notes(tmp_path) == [(1, "started, may load")] * 3


async def test_a_worker_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KILL_AFTER_S", 0.0)
    ready = asyncio.Event()
    supervisor = Supervisor(plan(tmp_path, "deaf", 1), 7, lambda _: ready.set())
    async with running(supervisor) as (stop, task):
        await ready.wait()
        stop.set()
        with pytest.raises(SetupError, match=r"^process 1 did not end in time"):
            await task


async def test_one_that_was_killed_is_started_again_and_loads_and_serves_at_once(
    tmp_path: Path,
) -> None:
    ready: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
    supervisor = Supervisor(
        plan(tmp_path, "serves", 2),
        7,
        lambda slots: ready.set_result(slots[1]),
        lambda: Restarts(first_s=0.01),
    )
    async with running(supervisor):
        second = await ready
        await noted(tmp_path, [(1, {"kind": "serving"}), (2, {"kind": "serving"})])
        before = second.pid
        second.signal(signal.SIGKILL)
        while second.pid in (0, before) or not second.loaded:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert [what for number, what in notes(tmp_path) if number == 2][-1] == "started, may load"


async def test_a_worker_that_cannot_be_started_is_given_up_in_one_line(tmp_path: Path) -> None:
    nothing = Plan(
        command=[str(tmp_path / "gone")],
        processes=2,
        config={"server": {"drain_seconds": 0, "lame_duck_seconds": 0, "port": 0}},
        as_json=False,
    )
    supervisor = Supervisor(nothing, 7, lambda _: None, lambda: Restarts(most=2, first_s=0.01))
    async with running(supervisor) as (_, task):
        expected = r"process 1 ended 2 times .*, at last before it began: No such file"
        with pytest.raises(SetupError, match=expected):
            await task
