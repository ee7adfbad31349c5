"""Starts the workers of one server, watches, restarts and drains them; imports nothing heavy.

    port reserved ──> worker 1 ──listening──> workers 2 ... N ──all listening──> `serve`'s line
                         └──loaded──> "load" to all ──all loaded──> "serving" to all
    a worker ends ──> started again after 1, 2, 4 ... s, beside the others ──5 times──> give up
    SIGTERM, SIGINT ──> SIGTERM to all ──> all ended, or SIGKILL after the drain and a little

It answers no call itself. The kernel spreads connections over the workers that listen on the port
(SO_REUSEPORT); the supervisor has bound it too and never listens, so that no other server takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pagesight_server.common.errors import SetupError
from pagesight_server.processes.restarts import Restarts
from pagesight_server.service.listening import reserved

log = logging.getLogger(__name__)

KILL_AFTER_S = 15.0
"""Beside its drain, what a worker may take to end: flushing telemetry takes at most five seconds,
and a calibration ends at its next step. Then it is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the supervisor has to know of the settings."""

    command: Sequence[str]
    """The command of a worker; `--worker` and a descriptor are added to it."""
    processes: int
    """How many workers."""
    config: dict[str, Any]
    """The settings, which the workers are sent."""
    as_json: bool
    """Whether the line that says where the server listens is JSON."""

    @property
    def drain_s(self) -> float:
        """Seconds that a worker may answer what is in flight once it is told to end."""
        server = self.config["server"]
        return float(server["lame_duck_seconds"]) + float(server["drain_seconds"])


@dataclass(slots=True, kw_only=True, eq=False)
class Slot:
    """The place of one worker, which is filled again when it ends."""

    number: int
    restarts: Restarts = field(default_factory=Restarts)
    metrics: str = ""
    """host:port of its metrics; empty without."""
    line: str = ""
    """What it serves, for people."""
    listening: bool = False
    loaded: bool = False
    failure: str = ""
    """Why it cannot serve, if it said so."""
    _process: subprocess.Popen[bytes] | None = None
    _pidfd: int = -1

    @property
    def name(self) -> str:
        """Names the worker in the log."""
        return f"process {self.number}"

    @property
    def pid(self) -> int:
        """Its process id; 0 while none runs."""
        return self._process.pid if self._process else 0

    def start(self, command: Sequence[str], descriptor: int) -> None:
        """Starts the worker, which inherits a descriptor."""
        self.listening, self.loaded, self.failure = False, False, ""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            pass_fds=(descriptor,),
            # Ctrl-C in a terminal is for the supervisor, which drains the workers.
            process_group=0,
        )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self._pidfd = os.pidfd_open(self._process.pid)

    def send(self, **values: object) -> None:
        """Sends a line to the worker, if it runs."""
        if self._process is not None and self._process.stdin is not None:
            # It may have ended just now, which is heard of elsewhere. One that has read nothing of
            # some hundred changes misses some: at the worst, they have a second line in the log.
            with contextlib.suppress(BrokenPipeError, BlockingIOError):
                os.write(self._process.stdin.fileno(), json.dumps(values).encode() + b"\n")

    def signal(self, number: signal.Signals) -> bool:
        """Sends a signal to the worker; returns whether it runs."""
        if self._process is None:
            return False
        self._process.send_signal(number)
        return True

    async def ended(self) -> int:
        """Waits for the end of the worker; returns its exit code, negative for a signal."""
        process = self._process
        assert process is not None
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        try:
            loop.add_reader(self._pidfd, gone.set)
            await gone.wait()
        finally:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        code = process.wait()
        if process.stdin is not None:
            process.stdin.close()
        self._process = None
        self.listening = self.loaded = False
        return code


class Supervisor:
    """The workers of one server, for one event loop.

    Args:
        plan: What to run.
        port: The port, reserved already.
        ready: Called once, when all listen.
        restarts: Makes the record of a worker's restarts.
    """

    def __init__(
        self,
        plan: Plan,
        port: int,
        ready: Callable[[Sequence[Slot]], None],
        restarts: Callable[[], Restarts] = Restarts,
    ) -> None:
        self._plan = plan
        self._config_json = json.dumps(
            plan.config | {"server": plan.config["server"] | {"port": port}}
        )
        self._ready: Callable[[Sequence[Slot]], None] | None = ready
        numbers = range(1, plan.processes + 1)
        self._slots = [Slot(number=number, restarts=restarts()) for number in numbers]
        self._leader = self._slots[0]
        self._first_listens = asyncio.Event()
        """Set once the leader listens: what is wrong with the settings, it has found by then, and
        is told once."""
        self._may_load = False
        self._serving = False
        self._stopping = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Runs the workers until `stop` is set, or one cannot run, and drains them then.

        Raises:
            SetupError: a worker could not start, ended too often, or had to be killed in the end.
        """
        keeping = {asyncio.create_task(self._keep(slot)) for slot in self._slots}
        stopped = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait({*keeping, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if stopped in done:
            log.info("draining for at most %g s", self._plan.drain_s)
        stopped.cancel()
        killed = await self._drain(keeping)
        for task in done & keeping:
            task.result()  # A worker is kept until all are drained, unless it cannot run.
        if killed:
            raise SetupError(f"{killed} did not end in time, and had to be killed")

    async def _drain(self, keeping: set[asyncio.Task[None]]) -> str:
        """Ends all workers: by SIGTERM, and in the end by SIGKILL; returns which needed that."""
        self._stopping.set()
        self._first_listens.set()
        for slot in self._slots:
            slot.signal(signal.SIGTERM)
        await asyncio.wait(keeping, timeout=self._plan.drain_s + KILL_AFTER_S)
        late = [slot for slot in self._slots if slot.signal(signal.SIGKILL)]
        await asyncio.wait(keeping)
        return ", ".join(slot.name for slot in late)

    async def _keep(self, slot: Slot) -> None:
        """Has a worker running until all are drained.

        Raises:
            SetupError: it cannot start, or ended too often.
        """
        if slot is not self._leader:
            await self._first_listens.wait()
        while not self._stopping.is_set():
            why = await self._live(slot)
            if self._stopping.is_set():
                return
            if slot.failure and not self._serving:
                raise SetupError(slot.failure)
            delay_s = slot.restarts.delay_s(asyncio.get_running_loop().time())
            if delay_s is None:
                raise SetupError(
                    f"{slot.name} ended {slot.restarts.most} times within "
                    f"{slot.restarts.window_s:g} s, at last {why}: its log says more"
                )
            log.error("%s ended %s; it is started again in %g s", slot.name, why, delay_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()

    async def _live(self, slot: Slot) -> str:
        """Starts a worker and listens to it until it has ended; returns how it did, in words."""
        reports, of_worker = os.pipe()
        try:
            slot.start([*self._plan.command, "--worker", str(of_worker)], of_worker)
        except OSError as error:  # such as a lack of memory, or of process ids
            os.close(reports)
            return f"before it began: {error.strerror}"
        finally:
            os.close(of_worker)
        slot.send(
            number=slot.number,
            leads=slot is self._leader,
            may_load=self._may_load or slot is self._leader,
            serving=self._serving,
            config_json=self._config_json,
        )
        async for line in _lines(reports):
            self._hear(slot, json.loads(line))
        code = await slot.ended()
        return f"saying: {slot.failure}" if slot.failure else _in_words(code)

    def _hear(self, slot: Slot, report: dict[str, Any]) -> None:
        """Acts on what a worker reports."""
        kind = report.pop("kind")
        if kind == "failed":
            slot.failure = report["message"]
        elif kind == "changed":
            if slot is not self._leader:
                self._leader.send(kind=kind, **report)
        elif kind == "listening":
            slot.listening, slot.metrics, slot.line = True, report["metrics"], report["line"]
            self._first_listens.set()
            if self._ready and all(each.listening for each in self._slots):
                self._ready(self._slots)
                self._ready = None
        elif kind == "loaded":
            slot.loaded = True
            if not self._may_load:  # only the leader may so far
                self._may_load = True
                self._tell_all("load")
            if not self._serving and all(each.loaded for each in self._slots):
                self._serving = True
                self._tell_all("serving")

    def _tell_all(self, kind: str) -> None:
        for slot in self._slots:
            slot.send(kind=kind)


async def _lines(descriptor: int) -> AsyncIterator[bytes]:
    """The lines of a pipe, however long, to its end; closes it.

    What follows the last line is of a worker that was killed while it wrote, and is left out.
    """
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    try:
        rest = b""
        while data := await reader.read(65_536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line
    finally:
        transport.close()


def _in_words(code: int) -> str:
    """Says how a process ended."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


async def supervise(plan: Plan) -> None:
    """Reserves the port and runs the workers until SIGTERM or SIGINT.

    Raises:
        SetupError: the port cannot be had, or a worker cannot run.
    """
    server = plan.config["server"]
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with reserved(server["host"], server["port"]) as port:

        def ready(slots: Sequence[Slot]) -> None:
            line = f"{slots[0].line} by {len(slots)} processes"
            if plan.as_json:
                line = json.dumps(_where(server["host"], port, slots))
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

        await Supervisor(plan, port, ready).run(stop)


def _where(host: str, port: int, slots: Sequence[Slot]) -> dict[str, object]:
    """Says for programs where the server listens, and what its processes are."""

    def metrics(slot: Slot) -> dict[str, object]:
        return {"metrics": slot.metrics} if slot.metrics else {}

    each = [{"number": slot.number, "pid": slot.pid} | metrics(slot) for slot in slots]
    return {"host": host, "port": port} | metrics(slots[0]) | {"processes": each}
