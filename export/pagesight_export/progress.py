"""Progress of an export: the steps that a recipe reports, and how the terminal shows them.

    recipes, encoders ── progress("quantising to INT8") ──> steps ──> stderr

A recipe takes any `Progress`, so that tests and benchmarks pass a function of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console

Progress: TypeAlias = Callable[[str], None]
"""Receives the name of each step as it begins; details that change follow a comma."""

QUIET_SECONDS = 15.0
"""Where stderr is no terminal, a step that goes on is mentioned again after this long: rarely
enough for a log, often enough to tell a slow export from one that hangs."""


@contextmanager
def steps() -> Iterator[Progress]:
    """Show the current step on stderr: in place on a terminal, else a line now and then."""
    stderr = Console(stderr=True)
    shown = ("", 0.0)
    with stderr.status("reading the source") as status:

        def progress(step: str) -> None:
            nonlocal shown
            status.update(step)
            kind, now = step.partition(",")[0], time.monotonic()
            if not stderr.is_terminal and (kind != shown[0] or now > shown[1] + QUIET_SECONDS):
                shown = (kind, now)
                stderr.print(f"{step} …", highlight=False)

        yield progress
