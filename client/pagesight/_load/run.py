"""A whole `pagesight load`: reach the server, one load or one after the other, the report.

one load     ──────────────────────────────────> report
--steps      rates as given, one load each ────> report of the highest that held, and steps
--find-knee  rates that `knee.Search` chooses ──> the same
SIGINT, SIGTERM while one is measured ─────────> report of what was measured so far
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from pagesight._load import knee
from pagesight._load.crew import Crew, Progress
from pagesight._load.plan import Plan
from pagesight._load.slo import Target
from pagesight._load.summary import Report, report
from pagesight._load.wire import Access, reach

SILENT: Callable[[str], None] = lambda _: None  # noqa: E731


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Loads at several rates."""

    rates: Sequence[float] = ()
    """In this order; empty: the knee is looked for, from the plan's rate on."""


def run(
    access: Access,
    plan: Plan,
    targets: Sequence[Target],
    *,
    steps: Steps | None = None,
    progress: Progress = lambda *_: None,
    say: Callable[[str], None] = SILENT,
) -> Report:
    """Runs it, until it is done or the first SIGINT (Ctrl-C) or SIGTERM.

    Returns:
        The report; its `interrupted_by` names the signal that broke it off.

    Raises:
        PagesightError: The server cannot be reached, or a picture not be read.
        OSError, ValueError: What proves the caller cannot be used.
        WorkerError: A generating process failed.
    """

    async def whole() -> Report:
        await reach(access.endpoint(plan.timeout_s))
        async with Crew(access, plan) as crew:
            with _breaking_off() as broken:
                if steps is None:
                    tally = await crew.run(plan, stop=broken.off, progress=progress)
                    found = report(tally, plan, targets)
                else:
                    found = await climb(crew, plan, targets, steps, broken.off, progress, say)
            return found | {"interrupted": broken.off.is_set(), "interrupted_by": broken.by}

    return asyncio.run(whole())


async def climb(
    crew: Crew,
    plan: Plan,
    targets: Sequence[Target],
    steps: Steps,
    stop: asyncio.Event,
    progress: Progress,
    say: Callable[[str], object],
) -> Report:
    """Runs loads at one rate after the other; returns the report of the knee, with all steps.

    What `stop` broke off shows nothing of its rate and is left out, unless it is all there is.
    """
    search = knee.Search(plan.rate or 1.0)
    given = list(steps.rates)
    done: list[tuple[float, knee.Step, Report]] = []
    rows: list[dict[str, Any]] = []
    while not (stop.is_set() and done):
        rate = search.rate if not steps.rates else (given.pop(0) if given else None)
        if rate is None:
            break
        at_rate = replace(plan, rate=rate, seed=plan.seed + len(done))
        tally = await crew.run(at_rate, stop=stop, progress=progress)
        found = report(tally, at_rate, targets)
        if stop.is_set() and done:
            break  # part of a step shows nothing of its rate
        step = _step(found, judged=bool(targets))
        done.append((rate, step, found))
        why = knee.why_not(step, done[0][1]) if steps.rates else search.add(step)
        rows.append({"rate": rate, "held": not why, "why_not": why, **_row(found)})
        say(_said(rows[-1]))
    best = knee.knee_of([(rate, step) for rate, step, _ in done])
    # The report is of the knee; where nothing held, of the lowest rate that was tried.
    shown = next((found for rate, _, found in done if rate == best), done[0][2])
    return {
        **shown,
        "steps": sorted(rows, key=lambda row: float(row["rate"])),
        "knee": {
            "rate": best,
            "holds_when": _holds_when(judged=bool(targets)),
        },
    }


def _holds_when(*, judged: bool) -> str:
    tail = "the SLO is met"
    if not judged:
        tail = f"p99 is at most {knee.TAIL:g} times that at the lowest rate"
    return (
        f"at least {100 * knee.KEEPS_UP:g} % of it is answered within the time, "
        f"at most {100 * knee.LOST:g} % is lost and {tail}"
    )


def _step(found: Report, *, judged: bool) -> knee.Step:
    return knee.Step(
        offered=found["rate_offered"],
        achieved=found["rate_achieved"],
        lost=found["lost_share"],
        p50_ms=found["latency_ms"]["p50"],
        p99_ms=found["latency_ms"]["p99"],
        slo_met=found["slo_met"] if judged else None,
    )


def _row(found: Report) -> Report:
    return {
        "rate_offered": found["rate_offered"],
        "rate_achieved": found["rate_achieved"],
        "sent": found["sent"],
        "ok": found["ok"],
        "lost_share": found["lost_share"],
        "p50_ms": found["latency_ms"]["p50"],
        "p99_ms": found["latency_ms"]["p99"],
        "saturated_generator": found["generator"]["saturated"],
    }


def _said(row: Report) -> str:
    p99 = "-" if row["p99_ms"] is None else f"{row['p99_ms']:.0f} ms"
    verdict = "holds" if row["held"] else f"does not hold: {row['why_not']}"
    return f"{row['rate']:.4g}/s: {row['rate_achieved']:.4g}/s answered, p99 {p99}; {verdict}"


@dataclass(slots=True)
class _Broken:
    """Whether, and by which signal, a run was broken off."""

    off: asyncio.Event
    by: str | None = None


@contextmanager
def _breaking_off() -> Iterator[_Broken]:
    """Makes the first SIGINT or SIGTERM end the run in good order, and the second one at once."""
    broken = _Broken(asyncio.Event())
    if threading.current_thread() is not threading.main_thread():
        yield broken
        return
    loop = asyncio.get_running_loop()
    before: dict[int, Any] = {}

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    def first(number: int, _frame: FrameType | None) -> None:
        restore()
        broken.by = signal.Signals(number).name
        loop.call_soon_threadsafe(broken.off.set)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, first)
    try:
        yield broken
    finally:
        restore()
