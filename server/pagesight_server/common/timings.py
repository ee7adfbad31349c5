"""Timings of one screenshot: how long each stage took, and which model runs it was part of.

    service ──recording──> StageTimes <──measure── pipeline, OCR engine
                               ^
    batcher, line pool ──Run───┘  each item of a run refers to the record of its screenshot

The pipeline and the batchers write here and telemetry reads, so that the hot path does not know
telemetry. The record of the current screenshot is in a context variable: tasks and worker threads
inherit it, and no signature between the pipeline and a model has to carry it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias


class Interval(NamedTuple):
    """When a stage ran; both times in seconds of `time.perf_counter`."""

    stage: str
    start_s: float
    end_s: float


class StageTimes(dict[str, float]):
    """The milliseconds that each stage took, by its name, and the intervals they sum up."""

    def __init__(self, **stage_ms: float) -> None:
        super().__init__(**stage_ms)
        self.intervals: list[Interval] = []

    def add(self, stage: str, start_s: float, end_s: float) -> None:
        """Adds one interval; a stage that runs twice adds up."""
        self[stage] = self.get(stage, 0.0) + 1000 * (end_s - start_s)
        self.intervals.append(Interval(stage, start_s, end_s))

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Adds the time that the block takes."""
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, start_s, time.perf_counter())


_current: ContextVar[StageTimes | None] = ContextVar("stage_times", default=None)


def current() -> StageTimes | None:
    """The record of the current screenshot; None where none is kept."""
    return _current.get()


@contextmanager
def recording(times: StageTimes | None = None) -> Iterator[StageTimes]:
    """Makes a record the current one while the block runs.

    Args:
        times: The record. None: the one that is current already, or else a new one.
    """
    record = times if times is not None else current()
    if record is None:
        record = StageTimes()
    token = _current.set(record)
    try:
        yield record
    finally:
        _current.reset(token)


@contextmanager
def measure(stage: str) -> Iterator[None]:
    """Adds the time that the block takes to the current record, if there is one."""
    times = current()
    if times is None:
        yield
        return
    with times.measure(stage):
        yield


class RunItem(NamedTuple):
    """One item of a batch: a screenshot, or a line of one."""

    owner: StageTimes | None
    """The record of its screenshot; None where none is kept."""
    submitted_s: float
    """When it was submitted, in seconds of `time.perf_counter`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """One run of a model over a batch."""

    stage: str
    """The stage that it is part of: `encode` or `recognise`."""
    start_s: float
    """When it began, in seconds of `time.perf_counter`."""
    end_s: float
    """When it ended, on the same clock."""
    items: Sequence[RunItem]
    """The items of the batch; a screenshot may have several."""
    closed: str
    """Why the batch was closed when it was: see `batcher.CloseReason`."""
    failed: str = ""
    """The type of the exception that it raised; empty when it succeeded."""


Observe: TypeAlias = Callable[[Run], None]
"""Called with each run when it is over, before its results are given out, in any thread. It must
neither block nor raise."""


def ignore(_run: Run) -> None:
    """Does nothing, as the observer where nobody observes."""
