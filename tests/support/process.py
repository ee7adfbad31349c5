"""A real server in a process of its own, for the demo and the load test."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

STOP_SECONDS = 30
"""Longest time for the server to drain (20 s by default) and end."""


def end_by_exception() -> None:
    """Makes SIGTERM end this program by an exception, so that its server is stopped, too."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)


@contextmanager
def served(command: Sequence[str], log: Path) -> Iterator[str]:
    """Runs a server; yields its address, and stops it by SIGTERM afterwards.

    Args:
        command: The command line, `pagesight-server serve ... --port 0 --json`.
        log: File for its standard error.

    Raises:
        SystemExit: it did not start, or ended with an error; the message names the log.
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as server,
    ):
        try:
            line = server.stdout.readline() if server.stdout else ""
            if not line:
                raise SystemExit(f"the server did not start; see {log}")
            listening = json.loads(line)
            yield f"{listening['host']}:{listening['port']}"
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                code = server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                raise
    if code != 0:
        raise SystemExit(f"the server ended with {code}; see {log}")
