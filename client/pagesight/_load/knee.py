"""Search for the knee, the highest rate that the server sustains.

    rate, doubled while it holds ──> first that does not ──> bisect on a logarithmic scale

A rate holds when the answered rate keeps up with the offered one, at most 1 % of the messages are
lost, and p99 is not far above that at the lowest rate (or the SLO is met, where one is given).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

KEEPS_UP = 0.9
"""Least ratio of answered to offered rate in the measured time. Below it a backlog grows; it is
less than 1 because at the end of a short run some messages are still in flight."""
LOST = 0.01
"""Largest share of messages that may fail or remain unsent: single failures end no search."""
TAIL = 4.0
"""Largest ratio of p99 to that at the lowest rate, where no SLO is given: queueing delay then
dominates the service time."""
CLOSE = 1.15
"""Ratio of the lowest rate that failed to the highest that held at which the search ends: within
15 %, which is close enough to plan capacity with."""
MOST_STEPS = 16
"""Most rates to try: enough to double ten times (from 1 to 1 000 a second) and to bisect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The result of one rate."""

    offered: float
    """Messages that were due, a second."""
    achieved: float
    """Answers within the measured time, a second."""
    lost: float
    """Share of the messages due that have no answer, 0 to 1."""
    p50_ms: float | None
    """Median latency; None without answers."""
    p99_ms: float | None
    """99th percentile of latency; None without answers."""
    slo_met: bool | None = None
    """Whether the SLO was met; None: none was given."""


def why_not(step: Step, lowest: Step) -> str:
    """Returns why a rate does not hold; empty when it does.

    Args:
        step: The result of the rate.
        lowest: The result of the lowest rate.
    """
    if step.p99_ms is None or lowest.p99_ms is None:
        return "nothing was answered"
    if step.lost > LOST:
        return f"{step.lost:.1%} had no answer"
    if step.achieved < KEEPS_UP * step.offered:
        return f"{step.achieved:.3g} of {step.offered:.3g} a second were answered"
    if step.slo_met is not None:
        return "" if step.slo_met else "the SLO is missed"
    if step.p99_ms > TAIL * lowest.p99_ms:
        return f"p99 is {step.p99_ms / lowest.p99_ms:.1f} times that at the lowest rate"
    return ""


class Search:
    """Chooses the rates to try, one after the other.

    Args:
        first: The lowest rate, a second, which the server should easily sustain.
        most: The highest rate to try, a second.
    """

    def __init__(self, first: float, *, most: float = 1e6) -> None:
        self._next: float | None = first
        self._most = most
        self._steps: list[tuple[float, Step]] = []

    @property
    def rate(self) -> float | None:
        """The rate to try next; None when the search is over."""
        return self._next

    def add(self, step: Step) -> str:
        """Adds the result of the present rate; returns why it does not hold, empty when it does."""
        if self._next is None:
            raise ValueError("the search is over")
        self._steps.append((self._next, step))
        lowest = self._steps[0][1]
        held = [rate for rate, step in self._steps if not why_not(step, lowest)]
        failed = [rate for rate, step in self._steps if why_not(step, lowest)]
        high = min(failed, default=None)
        low = max((rate for rate in held if high is None or rate < high), default=None)
        self._next = self._choose(low, high)
        return why_not(step, lowest)

    def _choose(self, low: float | None, high: float | None) -> float | None:
        if low is None or len(self._steps) >= MOST_STEPS:
            return None  # not even the lowest rate held, or the search takes too long
        if high is None:
            return min(2 * low, self._most) if low < self._most else None
        return None if high / low <= CLOSE else (low * high) ** 0.5

    @property
    def knee(self) -> float | None:
        """The highest rate that held, below all that did not; None when none held."""
        return knee_of([(rate, step) for rate, step in self._steps])


def knee_of(steps: Sequence[tuple[float, Step]]) -> float | None:
    """Returns the highest rate that held, below all that did not; None when none held.

    Args:
        steps: The rates that were tried with their results, the lowest rate first.
    """
    best = None
    for rate, step in sorted(steps, key=lambda item: item[0]):
        if why_not(step, steps[0][1]):
            return best
        best = rate
    return best
