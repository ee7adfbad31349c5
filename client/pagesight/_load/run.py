"""A whole `pagesight load`: connecting, one or several loads, the report.

one load     ──────────────────────────────────> report
--steps      rates as given, one load each ────> report of the highest that held, and all steps
--find-knee  rates that `knee.Search` chooses ──> the same
SIGINT, SIGTERM during a load ─────────────────> report of what was measured so far
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
from pagesight._load.summary import GROWS, Report, report
from pagesight._load.tally import Tally
from pagesight._load.wire import Access, reach

SILENT: Callable[[str], None] = lambda _: None  # noqa: E731


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Loads at several rates, one after the other."""

    rates: Sequence[float] = ()
    """Rates a second, in this order; empty: search for the knee, from the plan's rate on."""


def run(
    access: Access,
    plan: Plan,
    targets: Sequence[Target],
    *,
    steps: Steps | None = None,
    progress: Progress = lambda *_: None,
    say: Callable[[str], None] = SILENT,
) -> Report:
    """Runs loads to their end, or until the first SIGINT (Ctrl-C) or SIGTERM.

    Args:
        access: The server and the credentials.
        plan: The load.
        targets: The SLO; may be empty.
        steps: Rates to try instead of the plan's; None: a single load.
        progress: Called several times a second.
        say: Called with a line about each step when it is done.

    Returns:
        The report; its `interrupted_by` names the signal that interrupted it.

    Raises:
        PagesightError: The server cannot be reached, or a picture cannot be read.
        OSError, ValueError: The credentials cannot be used.
        WorkerError: A worker process failed.
    """

    async def whole() -> Report:
        await reach(access.endpoint(plan.timeout_s))
        async with Crew(access, plan) as crew:
            with _interruptible() as interruption:
                stop = interruption.event
                if steps is None:
                    tally = await crew.run(plan, stop=stop, progress=progress)
                    result = report(tally, plan, targets)
                else:
                    result = await climb(crew, plan, targets, steps, stop, progress, say)
            return result | {"interrupted": stop.is_set(), "interrupted_by": interruption.by}

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

    An interrupted load says nothing about its rate and is left out, unless it is the only one.
    """
    search = knee.Search(plan.rate or 1.0)
    given = list(steps.rates)
    done: list[tuple[float, knee.Step, Report]] = []
    judged: list[tuple[float, knee.Judgement]] = []
    rows: list[dict[str, Any]] = []
    while not (stop.is_set() and done):
        rate = search.rate if not steps.rates else (given.pop(0) if given else None)
        if rate is None:
            break
        at_rate = replace(plan, rate=rate, seed=plan.seed + len(done))
        tally = await crew.run(at_rate, stop=stop, progress=progress)
        result = report(tally, at_rate, targets)
        if stop.is_set() and done:
            break  # part of a load says nothing about its rate
        step = _step(tally, result)
        done.append((rate, step, result))
        judgement = knee.judge(step, done[0][1]) if steps.rates else search.add(step)
        judged.append((rate, judgement))
        rows.append({"rate": rate, **_judged(judgement), **_row(result)})
        say(_in_words(rows[-1]))
    found = knee.knee_of(judged)
    # The report is that of the knee; where no rate held, of the first that was tried.
    knee_report = next((result for rate, _, result in done if rate == found.rate), done[0][2])
    return {
        **knee_report,
        "steps": sorted(rows, key=lambda row: float(row["rate"])),
        "knee": {
            "rate": found.rate,
            "fails_at": found.fails_at,
            "in_words": found.in_words,
            "holds_when": _holds_when(targets),
        },
    }


def _holds_when(targets: Sequence[Target]) -> str:
    """The condition under which a rate holds, in words for the report."""
    tail = "the SLO is met"
    if not targets:
        tail = f"answers come no later than {knee.TAIL:g} times p99 at the lowest rate"
    lost = ""
    if not any(target.is_share for target in targets):
        lost = f"at most {100 * knee.LOST:g} % of it (or one message) is lost, "
    return f"{lost}latency grows by at most {GROWS:g} s in each second of the load, and {tail}"


def _step(tally: Tally, result: Report) -> knee.Step:
    """The figures by which a rate is judged."""
    targets = result["slo"] | result["slo_shares"]
    missed = tuple(name for name, target in targets.items() if not target["met"])
    return knee.Step(
        due=tally.due,
        ok=tally.ok,
        unsent=tally.unsent,
        errors=dict(tally.errors),
        blocks=tally.blocks,
        slo_missed=missed if targets else None,
        limits_errors=bool(result["slo_shares"]),
        late_ms=result["generator"]["late_ms"]["p99"] or 0.0,
        generator_share=max(tally.cpu_share, default=0.0),
    )


def _judged(judgement: knee.Judgement) -> Report:
    """What the report lists of a judgement."""
    return {
        "held": judgement.holds,
        "why_not": judgement.why_not,
        "limited_by_generator": judgement.by_generator,
    }


def _row(result: Report) -> Report:
    """The figures of a report that are listed for its step."""
    return {
        "rate_offered": result["rate_offered"],
        "rate_achieved": result["rate_achieved"],
        "sent": result["sent"],
        "ok": result["ok"],
        "lost_share": result["lost_share"],
        "p50_ms": result["latency_ms"]["p50"],
        "p99_ms": result["latency_ms"]["p99"],
        "latency_growth": result["latency_growth"],
    }


def _in_words(row: Report) -> str:
    """One line about a step, for the terminal."""
    p99 = "-" if row["p99_ms"] is None else f"{row['p99_ms']:.0f} ms"
    verdict = "holds"
    if not row["held"]:
        verdict = "says nothing" if row["limited_by_generator"] else "does not hold"
        verdict += f": {row['why_not']}"
    return f"{row['rate']:.4g}/s: {row['rate_achieved']:.4g}/s answered, p99 {p99}; {verdict}"


@dataclass(slots=True)
class _Interruption:
    """Whether, and by which signal, a run was interrupted."""

    event: asyncio.Event
    """Set by the first signal."""
    by: str | None = None
    """Name of the signal."""


@contextmanager
def _interruptible() -> Iterator[_Interruption]:
    """Makes the first SIGINT or SIGTERM end the run gracefully, and a second one at once."""
    interruption = _Interruption(asyncio.Event())
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    loop = asyncio.get_running_loop()
    handlers: dict[int, Any] = {}

    def restore() -> None:
        while handlers:
            signal.signal(*handlers.popitem())

    def first(number: int, _frame: FrameType | None) -> None:
        restore()
        interruption.by = signal.Signals(number).name
        loop.call_soon_threadsafe(interruption.event.set)

    for number in (signal.SIGINT, signal.SIGTERM):
        handlers[number] = signal.signal(number, first)
    try:
        yield interruption
    finally:
        restore()
