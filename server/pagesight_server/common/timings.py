"""What happened to one screenshot: how long each stage took, and in which model runs it was.

    service ──recording──> StageTimes <──measure── pipeline, OCR engine
                               ^
    batcher, OCR pool ──Run────┘  each item remembers whose it is

Neutral ground. Whoever does the work writes here and whoever watches reads, so that neither
the hot path nor the batchers know what telemetry is. What belongs to the screenshot at hand is
found through a context variable: tasks and worker threads inherit it, and no signature between
the pipeline and a model has to carry it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias


class Interval(NamedTuple):
    """When a stage ran, in seconds of `time.perf_counter`."""

    stage: str
    start_s: float
    end_s: float


class StageTimes(dict[str, float]):
    """Milliseconds by stage, and the intervals behind them."""

    def __init__(self, **stage_ms: float) -> None:
        super().__init__(**stage_ms)
        self.intervals: list[Interval] = []

    def add(self, stage: str, start_s: float, end_s: float) -> None:
        """Adds what a stage took; a stage that runs twice adds up."""
        self[stage] = self.get(stage, 0.0) + 1000 * (end_s - start_s)
        self.intervals.append(Interval(stage, start_s, end_s))

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Adds the time that its block takes."""
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, start_s, time.perf_counter())


_current: ContextVar[StageTimes | None] = ContextVar("stage_times", default=None)


def current() -> StageTimes | None:
    """The record of the screenshot at hand; None where nobody keeps one."""
    return _current.get()


@contextmanager
def recording(times: StageTimes | None = None) -> Iterator[StageTimes]:
    """Makes a record the one of the screenshot at hand while its block runs.

    Args:
        times: The record. None: the one that is kept already, or a new one.
    """
    mine = times if times is not None else current()
    if mine is None:
        mine = StageTimes()
    token = _current.set(mine)
    try:
        yield mine
    finally:
        _current.reset(token)


@contextmanager
def measure(stage: str) -> Iterator[None]:
    """Adds the time of its block to the record of the screenshot at hand, if one is kept."""
    times = current()
    if times is None:
        yield
        return
    with times.measure(stage):
        yield


class Share(NamedTuple):
    """One item of a run."""

    owner: StageTimes | None
    """The record of its screenshot."""
    since_s: float
    """When it was submitted, in seconds of `time.perf_counter`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """One run of a model over a batch of items."""

    stage: str
    """The stage of the screenshots that it was part of: encode or recognise."""
    start_s: float
    end_s: float
    """In seconds of `time.perf_counter`, like `start_s`."""
    shares: Sequence[Share]
    """The items; a screenshot may have several."""
    closed: str
    """Why the batch went when it did: see `batcher.CloseReason`."""
    failed: str = ""
    """The name of what it raised; empty when it succeeded."""


Observe: TypeAlias = Callable[[Run], None]
"""Told of each run when it is over, before its results are. Must neither block nor raise."""


def ignore(_run: Run) -> None:
    """Watches nothing."""
