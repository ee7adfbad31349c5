"""Search for the knee, the highest offered rate that the server sustains.

    rate, doubled while it holds ──> first that does not ──> bisect on a logarithmic scale

    a rate  ├── holds
            ├── does not hold: the server loses messages, falls behind, or answers too late
            └── says nothing of the server, as the generator was the bottleneck: ends the search

Only what the server does counts, however short the load is beside its latency: answers are waited
for after the sending has ended, and a difference that chance explains fails no rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pagesight._load.blocks import Blocks
from pagesight._load.summary import BUSY_SHARE, GROWS, growing

LOST = 0.01
"""Largest share of messages that may fail or remain unsent, where no SLO limits errors. One message
may always: single failures end no search."""
TAIL = 4.0
"""Largest ratio of p99 to that at the lowest rate, where no SLO is given: queueing delay then
dominates the service time."""
TAILS = (99.0, 95.0, 90.0, 75.0, 50.0)
"""Percentiles that may stand for p99: the highest one that both rates have enough answers for."""
CLOSE = 1.15
"""Ratio of the lowest rate that failed to the highest that held at which the search ends: within
15 %, which is close enough to plan capacity with."""
MOST_STEPS = 16
"""Most rates to try: enough to double ten times (from 1 to 1 000 a second) and to bisect."""
SHED = "RESOURCE_EXHAUSTED"
"""Code of the errors by which an overloaded server sheds messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Holds what one rate came to."""

    due: int
    """Messages that were due."""
    ok: int
    """Answers to them, whenever they came."""
    unsent: int = 0
    """Messages that were not sent, as too many were in flight."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """Numbers of errors, by status code."""
    blocks: Blocks
    """Latencies of the answers."""
    slo_missed: tuple[str, ...] | None = None
    """Names of the targets that were missed; None: no SLO was given."""
    limits_errors: bool = False
    """Whether the SLO limits the errors, in place of `LOST`."""
    late_ms: float = 0.0
    """Delay of the generator's own sending, 99th percentile."""
    generator_share: float = 0.0
    """CPU share of the busiest generating process, of one core."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a rate holds."""

    why_not: str = ""
    """Why it does not hold, or says nothing; empty when it holds."""
    is_overload: bool = False
    """Whether the server was offered more than it can do."""
    by_generator: bool = False
    """Whether the generator was the bottleneck, so that the step says nothing of the server."""

    @property
    def holds(self) -> bool:
        """Whether the server sustains the rate."""
        return not self.why_not


def judge(step: Step, lowest: Step) -> Judgement:
    """Judges one rate.

    Args:
        step: The result of the rate.
        lowest: The result of the lowest rate.
    """
    failed = sum(step.errors.values())
    overload = step.errors.get(SHED, 0) > 0
    most = max(1.0, LOST * step.due)
    unsent = f"{step.unsent} of {step.due} were not sent, as too many were in flight"
    if not step.ok:
        if not failed and step.unsent:
            return Judgement(unsent, by_generator=True)
        return Judgement(f"nothing was answered{_listed(step.errors)}", overload)
    if failed > most and not step.limits_errors:
        return Judgement(
            f"{failed / step.due:.1%} had no answer{_listed(step.errors)}", is_overload=overload
        )
    slower = _slower(step, lowest)
    growth = step.blocks.growth() or 0.0
    late = _generator_limit(step)
    if growth > GROWS:
        why = f"it falls behind: {growing(growth)}"
        return Judgement(late or why, is_overload=not late, by_generator=bool(late))
    if step.unsent > most:
        # A slow server has as many in flight as a quick one that is offered more.
        hint = f"{unsent} (--in-flight allows more)"
        return Judgement(f"{unsent}: {slower}", True) if slower else Judgement(hint, False, True)
    if step.slo_missed is None:
        return Judgement(late or slower, by_generator=bool(late)) if slower else Judgement()
    if step.slo_missed:
        why = f"the SLO is missed: {', '.join(step.slo_missed)}"
        late = late if step.slo_missed != ("errors",) else ""
        return Judgement(late or why, overload, bool(late))
    return Judgement()


def _listed(errors: Mapping[str, int]) -> str:
    return "".join(f", {count} x {code}" for code, count in sorted(errors.items()))


def _slower(step: Step, lowest: Step) -> str:
    """Says that answers come clearly later than at the lowest rate; empty when they do not."""
    for share in TAILS:
        now, was = step.blocks.interval_ms(share), lowest.blocks.interval_ms(share)
        if now is None or was is None:
            continue
        if now[0] > TAIL * was[1]:
            return f"p{share:g} is more than {TAIL:g} times that at the lowest rate"
        return ""
    return ""


def _generator_limit(step: Step) -> str:
    """Says that the generator and not the server made answers late; empty when it did not."""
    if step.generator_share > BUSY_SHARE:
        return f"the generator used {step.generator_share:.0%} of a core (--processes gives more)"
    p99_ms = step.blocks.whole().percentile_ms(99) or 0.0
    if step.late_ms > p99_ms / 2:
        return f"the generator sent {step.late_ms:.0f} ms late by itself (--processes gives more)"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knee:
    """What the rates that were tried say together."""

    rate: float | None
    """Highest rate that held, below all that did not; None when none held."""
    fails_at: float | None
    """Lowest rate above that which the server did not sustain; None when none was found."""
    in_words: str
    """The same, as a sentence."""


class Search:
    """Chooses the rates to try, one after the other.

    Args:
        first: The lowest rate, a second, which the server should easily sustain.
        most: The highest rate to try, a second.
    """

    def __init__(self, first: float, *, most: float = 1e6) -> None:
        self._next: float | None = first
        self._most = most
        self._judged: list[tuple[float, Judgement]] = []
        self._lowest: Step | None = None

    @property
    def rate(self) -> float | None:
        """The rate to try next; None when the search is over."""
        return self._next

    def add(self, step: Step) -> Judgement:
        """Adds the result of the present rate; returns its judgement."""
        if self._next is None:
            raise ValueError("the search is over")
        self._lowest = self._lowest or step
        judgement = judge(step, self._lowest)
        self._judged.append((self._next, judgement))
        self._next = None if judgement.by_generator else self._choose()
        return judgement

    def _choose(self) -> float | None:
        high = min((rate for rate, found in self._judged if not found.holds), default=None)
        low = knee_of(self._judged).rate
        if low is None or len(self._judged) >= MOST_STEPS:
            return None  # not even the lowest rate held, or the search takes too long
        if high is None:
            return min(2 * low, self._most) if low < self._most else None
        return None if high / low <= CLOSE else (low * high) ** 0.5

    @property
    def knee(self) -> Knee:
        """What was found so far."""
        return knee_of(self._judged)


def knee_of(judged: Sequence[tuple[float, Judgement]]) -> Knee:
    """Returns what the rates that were tried say together.

    Args:
        judged: The rates with their judgements, in any order.
    """
    best: float | None = None
    for rate, judgement in sorted(judged, key=lambda pair: pair[0]):
        if judgement.holds:
            best = rate
            continue
        fails_at = None if judgement.by_generator else rate
        return Knee(rate=best, fails_at=fails_at, in_words=_in_words(best, rate, judgement))
    if best is None:
        return Knee(rate=None, fails_at=None, in_words="no rate was tried")
    words = f"the knee was not reached: the highest rate that was tried, {best:.4g} a second, holds"
    return Knee(rate=best, fails_at=None, in_words=words)


def _in_words(best: float | None, rate: float, judgement: Judgement) -> str:
    why = judgement.why_not
    if best is None:
        if judgement.by_generator:
            return f"the lowest rate, {rate:.4g} a second, says nothing of the server: {why}"
        first = "the server is overloaded at" if judgement.is_overload else "no rate holds:"
        return f"{first} the lowest rate, {rate:.4g} a second: {why}; begin lower, with --rate"
    if judgement.by_generator:
        return (
            f"the knee was not reached up to {best:.4g} a second: {rate:.4g} says nothing of the "
            f"server, as {why}"
        )
    return f"the knee is at {best:.4g} a second: {rate:.4g} does not hold ({why})"
