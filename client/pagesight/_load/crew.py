"""The processes that generate a load: this one alone, or several workers under its control.

    Crew ──plan──> Generator                       1 process: in this one's event loop
      └──plan──> python -m pagesight._load ──┐     more: each its share, started simultaneously
                    └── tally ───────────────┴──> merged, count by count

Commands and tallies are JSON lines over pipes. A worker whose input pipe closes, because the
parent was killed, ends by itself; Ctrl-C reaches only the parent, which stops the workers.
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
"""Longest line over a pipe, 256 MiB: far above a tally with all its histograms."""
HEAD_START_S = 0.3
"""Delay from the command to run until all workers start, so that each has received it."""
READY_S = 120.0
"""How long workers may take to start and to read all pictures; big folders take a while."""
_PROGRESS_S = 0.25
"""Interval of progress reports, which a person sees as steady."""
_EXIT_S = 10
"""How long a worker may take to end before it is killed; it only closes connections."""

Progress = Callable[[int, int, int], None]
"""Takes the numbers of messages sent, answered and failed so far."""


class WorkerError(Exception):
    """A worker process failed, or ended before its work was done."""


class Generator:
    """Generates one process's share of the load, in one run after another."""

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
        """Runs a load.

        Args:
            plan: The load; all but its rate and times must equal the plan that opened this.
            start_s: When to start, by the event loop's clock; None: now.
            stop: Ends the run early.
            progress: Called several times a second.
        """
        await self._lanes.renew()
        drive = Drive(plan, self._lanes.send, self._mix, self._part)
        reporting = asyncio.create_task(_report_progress(drive.tally, progress))
        try:
            return await drive.run(start_s=start_s, stop=stop)
        finally:
            reporting.cancel()

    async def close(self) -> None:
        """Closes the connections."""
        await self._lanes.close()


def mix(plan: Plan, part: Part) -> Mix:
    """Reads the pictures of a plan and returns how one process draws from them.

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


async def _report_progress(tally: Tally, progress: Progress) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_S)
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
                    await worker.receive("ready")
        except TimeoutError:
            await self._end()
            raise WorkerError(
                f"the processes were not ready within {READY_S:g} s: give it fewer pictures or "
                "--processes"
            ) from None
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
        """Runs a load and returns the merged tally of its processes."""
        if self._alone is not None:
            return await self._alone.run(plan, start_s=None, stop=stop, progress=progress)
        start_s = asyncio.get_running_loop().time() + HEAD_START_S
        for worker in self._workers:
            await worker.send({"run": plan.plain(), "start_s": start_s})
        stopping = asyncio.create_task(self._forward(stop))
        latest: dict[int, tuple[int, ...]] = {}

        def update(number: int, *counts: int) -> None:
            latest[number] = counts
            sent, ok, failed = map(sum, zip(*latest.values(), strict=True))
            progress(sent, ok, failed)

        try:
            tallies = await asyncio.gather(
                *(
                    worker.receive("tally", partial(update, number))
                    for number, worker in enumerate(self._workers)
                )
            )
        finally:
            stopping.cancel()
        merged, *others = map(from_plain, tallies)
        for tally in others:
            merged.add(tally)
        return merged

    async def _forward(self, stop: asyncio.Event) -> None:
        """Stops the workers when the run is stopped."""
        await stop.wait()
        for worker in self._workers:
            await worker.send({"stop": True})


class _Worker:
    """One worker process, seen from the parent."""

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
            start_new_session=True,  # so that Ctrl-C reaches only the parent
            cwd=Path.cwd(),
        )
        worker = cls(process)
        await worker.send(
            {
                "access": access.plain(),
                "plan": plan.plain(),
                "part": [part.number, part.of],
            }
        )
        return worker

    async def send(self, line: Mapping[str, Any]) -> None:
        """Sends a command."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # `receive` raises that the worker has ended

    async def receive(self, key: str, progress: Progress | None = None) -> Any:
        """Waits for a line with this key and returns its value.

        Args:
            key: The key to wait for.
            progress: Called for each progress report until then.

        Raises:
            WorkerError: The process failed or ended.
        """
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            message = json.loads(line)
            if "failed" in message:
                raise WorkerError(message["failed"])
            if "progress" in message and progress is not None:
                progress(*message["progress"])
            if key in message:
                return message[key]
        code = await self._process.wait()
        raise WorkerError(f"a worker process ended early, with exit code {code}")

    async def end(self) -> None:
        """Closes its input, upon which it ends; kills it when it does not."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(_EXIT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        # Otherwise its pipes warn, when the event loop ends, that they are still open.
        transport: Any = self._process._transport  # type: ignore[attr-defined]
        transport.close()
