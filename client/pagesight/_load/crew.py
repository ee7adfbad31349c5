"""The processes that generate a load: this one alone, or several under its command.

    Crew ──plan──> Generator                       1 process: in this one's event loop
      └──plan──> python -m pagesight._load ──┐     more: each its share, all at the same moment
                    └── tally ───────────────┴──> added up, count by count

Commands and tallies are lines of JSON over pipes. A worker whose pipe closes, because we
were killed, ends by itself; Ctrl-C reaches us alone, and we tell the workers.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pagesight import _requests
from pagesight._load.drive import Drive, Part
from pagesight._load.mix import Mix, Weighted
from pagesight._load.plan import Plan
from pagesight._load.tally import Tally, from_plain
from pagesight._load.wire import Access, Lanes

if TYPE_CHECKING:
    from typing import Self

LINE_BYTES = 1 << 28
HEAD_START_S = 0.3
"""From the command to start until all workers do."""
READY_S = 120.0

Progress = Callable[[int, int, int], None]
"""Takes sent, answered and failed so far."""


class WorkerError(Exception):
    """A generating process ended before its work."""


class Generator:
    """Makes one process's share of one load after another."""

    def __init__(self, access: Access, plan: Plan, part: Part | None = None) -> None:
        self._part = part or Part()
        self._mix = mix(plan, self._part)
        self._lanes = Lanes.open(
            plan,
            access.endpoint(plan.timeout_s),
            name=f"load-{self._part.number}",
            count=self._part.share(plan.streams),
        )

    async def run(
        self, plan: Plan, *, start_s: float | None, stop: asyncio.Event, progress: Progress
    ) -> Tally:
        """Runs a load; all but its rate and times must be as in the plan that opened this."""
        drive = Drive(plan, self._lanes.send, self._mix, self._part)
        telling = asyncio.create_task(_tell(drive.tally, progress))
        try:
            return await drive.run(start_s=start_s, stop=stop)
        finally:
            telling.cancel()

    async def close(self) -> None:
        """Closes the connections."""
        await self._lanes.close()


def mix(plan: Plan, part: Part) -> Mix:
    """Reads the pictures.

    Raises:
        UnreadableFileError: One of them cannot be read.
    """
    priorities, deadlines_ms = plan.priorities or {}, plan.deadlines_ms or {}
    return Mix(
        [[_requests.read_image(path) for path in group] for group in plan.groups],
        weights=plan.weights,
        repeat=plan.repeat,
        priorities=Weighted(list(priorities), list(priorities.values())) if priorities else None,
        deadlines_ms=(
            Weighted(list(deadlines_ms), list(deadlines_ms.values())) if deadlines_ms else None
        ),
        seed=f"{plan.seed}/{part.number}/{part.of}",
    )


async def _tell(tally: Tally, progress: Progress) -> None:
    while True:
        await asyncio.sleep(0.25)
        failed = sum(tally.errors.values())
        progress(tally.sent + tally.warmup_sent, tally.ok, failed)


class Crew:
    """Runs loads, one after the other, in one process or several; use with `async with`."""

    def __init__(self, access: Access, plan: Plan) -> None:
        self._access = access
        self._plan = plan
        self._alone: Generator | None = None
        self._workers: list[_Worker] = []

    async def __aenter__(self) -> Self:
        if self._plan.processes == 1:
            self._alone = Generator(self._access, self._plan)
            return self
        try:
            for number in range(self._plan.processes):
                part = Part(number=number, of=self._plan.processes)
                self._workers.append(await _Worker.start(self._access, self._plan, part))
            async with asyncio.timeout(READY_S):
                for worker in self._workers:
                    await worker.hear("ready")
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        if self._alone is not None:
            await self._alone.close()
        for worker in self._workers:
            await worker.end()

    async def run(self, plan: Plan, *, stop: asyncio.Event, progress: Progress) -> Tally:
        """Runs a load and adds up what its processes counted."""
        if self._alone is not None:
            return await self._alone.run(plan, start_s=None, stop=stop, progress=progress)
        start_s = asyncio.get_running_loop().time() + HEAD_START_S
        for worker in self._workers:
            await worker.tell({"run": plan.plain(), "start_s": start_s})
        stopping = asyncio.create_task(self._pass_on(stop))
        told: dict[int, tuple[int, ...]] = {}

        def note(number: int, *counts: int) -> None:
            told[number] = counts
            sent, ok, failed = map(sum, zip(*told.values(), strict=True))
            progress(sent, ok, failed)

        try:
            counted = await asyncio.gather(
                *(
                    worker.hear("tally", partial(note, number))
                    for number, worker in enumerate(self._workers)
                )
            )
        finally:
            stopping.cancel()
        whole, *others = map(from_plain, counted)
        for tally in others:
            whole.add(tally)
        return whole

    async def _pass_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        for worker in self._workers:
            await worker.tell({"stop": True})


class _Worker:
    """One process, as its commander sees it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, access: Access, plan: Plan, part: Part) -> _Worker:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pagesight._load",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            start_new_session=True,  # Ctrl-C is ours to pass on
            cwd=Path.cwd(),
        )
        worker = cls(process)
        await worker.tell(
            {
                "access": {
                    "address": access.address,
                    "token": access.token,
                    "tls_ca": access.tls_ca,
                },
                "plan": plan.plain(),
                "part": [part.number, part.of],
            }
        )
        return worker

    async def tell(self, line: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # whoever listens for its answer learns that it is gone

    async def hear(self, what: str, note: Progress | None = None) -> Any:
        """Returns the next line's value of this name; tells of progress meanwhile.

        Raises:
            WorkerError: The process failed or ended.
        """
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            if "failed" in said:
                raise WorkerError(said["failed"])
            if "progress" in said and note is not None:
                note(*said["progress"])
            if what in said:
                return said[what]
        raise WorkerError(f"a generating process ended early, with {await self._process.wait()}")

    async def end(self) -> None:
        """Closes its pipe, at which it ends; kills it when it does not."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        # Else its pipes warn at the end of the event loop that they are open.
        transport: Any = self._process._transport  # type: ignore[attr-defined]
        transport.close()
