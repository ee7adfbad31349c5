"""A worker's end of the pipes to its supervisor.

    standard input ──thread──> load, serving, changed by another worker; its end: drain
    listening, loaded, changed, failed ──lines of JSON──> a pipe, whose descriptor `--worker` names

`Worker.alone()` is the one process of a server without supervisor: nothing is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

ORPHAN_GRACE_S = 15.0
"""How long a worker without supervisor may take to end, beside its drain: flushing telemetry takes
at most five seconds. Then it is ended: it would hold the port of the next server."""


class Worker:
    """What one process knows of the others that serve the same port.

    Args:
        number: Which it is, from 1; 0: there is no other.
        leads: Whether it does what is to be done once for all, such as calibrating.
        may_load: Whether it may read the galleries at once, and need not wait for the leader.
        serving: Whether all others are ready.
        config_json: The settings, as `Config.model_dump_json` wrote them.
        reports: A descriptor that lines for the supervisor are written to; None without one.
        commands: Lines of the supervisor; they end with it.
    """

    def __init__(
        self,
        *,
        number: int = 0,
        leads: bool = True,
        may_load: bool = True,
        serving: bool = True,
        config_json: str = "",
        reports: int | None = None,
        commands: Iterable[bytes] = (),
    ) -> None:
        self.number = number
        self.leads = leads
        self.joins = number > 0 and serving
        """Whether it takes the place of one that ended, beside others that serve."""
        self.config_json = config_json
        self.may_load = asyncio.Event()
        """Set once the leader has loaded every gallery, and made what the store lacked."""
        self.serving = asyncio.Event()
        """Set once all processes have loaded every gallery."""
        self.stop = asyncio.Event()
        """Set when this process should drain: at the latest when the supervisor is gone."""
        self.on_change: Callable[[str, int], None] = lambda _gallery, _revision: None
        """Called with gallery and revision of a change that another worker made."""
        self._reports = reports
        self._commands = commands
        self._writing = threading.Lock()
        self._listening = False
        for is_set, event in ((may_load, self.may_load), (serving, self.serving)):
            if is_set:
                event.set()

    @classmethod
    def alone(cls) -> Worker:
        """The only process of its server."""
        return cls()

    @classmethod
    def of_supervisor(cls, reports: int, commands: int = 0) -> Worker:
        """The worker that a supervisor has started; reads the first line that it was sent.

        Args:
            reports: A descriptor that lines for the supervisor are written to.
            commands: A descriptor that its lines come from.

        Raises:
            SystemExit: the supervisor has ended meanwhile.
        """
        os.set_inheritable(reports, False)
        lines = _lines(commands)
        first = next(lines, None)
        if first is None:
            raise SystemExit(1)
        return cls(reports=reports, commands=lines, **json.loads(first))

    def follow(self, drain_s: float) -> None:
        """Begins to follow what the supervisor says, in a thread; call it in the event loop.

        Args:
            drain_s: How long this process may answer what is in flight once it is told to end.
        """
        if self._reports is not None:
            loop = asyncio.get_running_loop()
            threading.Thread(
                target=self._follow, args=(loop, drain_s), name="supervisor", daemon=True
            ).start()

    def listening(self, line: str, metrics: str) -> None:
        """Reports that calls are taken.

        Args:
            line: What is served, and where, for people.
            metrics: host:port of the metrics of this process; empty without.
        """
        self._listening = True
        self._report("listening", line=line, metrics=metrics)

    def loaded(self) -> None:
        """Reports that every gallery is known."""
        self._report("loaded")

    def changed(self, gallery: str, revision: int) -> None:
        """Reports that this process has changed a gallery; from any thread."""
        self._report("changed", gallery=gallery, revision=revision)

    def failed(self, message: str) -> None:
        """Reports why this process cannot serve."""
        self._report("failed", message=message)

    def _report(self, kind: str, **values: object) -> None:
        if self._reports is not None:
            line = json.dumps({"kind": kind, **values}).encode() + b"\n"
            # Without a supervisor, the other pipe ends too.
            with self._writing, contextlib.suppress(BrokenPipeError):
                os.write(self._reports, line)

    def _follow(self, loop: asyncio.AbstractEventLoop, drain_s: float) -> None:
        with contextlib.suppress(RuntimeError):  # The loop was closed: the process ends.
            for line in self._commands:
                loop.call_soon_threadsafe(self._command, json.loads(line))
            loop.call_soon_threadsafe(self.stop.set)
        if self._listening:
            time.sleep(drain_s + ORPHAN_GRACE_S)
        os._exit(1)

    def _command(self, command: dict[str, Any]) -> None:
        if command["kind"] == "load":
            self.may_load.set()
        elif command["kind"] == "serving":
            self.serving.set()
        elif command["kind"] == "changed":
            self.on_change(command["gallery"], command["revision"])


def _lines(descriptor: int) -> Iterator[bytes]:
    """The lines of a pipe, to its end.

    Not by `sys.stdin`: a thread that waits in it keeps its lock, without which Python cannot end.
    """
    rest = b""
    while data := os.read(descriptor, 65_536):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
