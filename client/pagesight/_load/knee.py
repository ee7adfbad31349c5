"""Where the knee is: the highest rate that the server sustains.

    rate, doubled while it holds ──> first that does not ──> halve the gap until it is small

A rate holds when what comes back keeps up with what is sent, next to nothing is lost, and
the tail stays in proportion to that at the lowest rate (or within the SLO, where one is given).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

KEEPS_UP = 0.9
"""Least share of the offered rate that must be answered within the time."""
LOST = 0.01
"""Most that may fail or remain unsent."""
TAIL = 4.0
"""How many times its p99 at the lowest rate the p99 may be, where no SLO is given."""
CLOSE = 1.15
"""The search ends when the lowest rate that failed is so many times the highest that held."""
MOST_STEPS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one rate did."""

    offered: float
    """Sends a second that were due."""
    achieved: float
    """Answers a second within the time."""
    lost: float
    """Share of what was due that has no answer."""
    p50_ms: float | None
    p99_ms: float | None
    slo_met: bool | None = None
    """None: no SLO was given."""


def why_not(step: Step, lowest: Step) -> str:
    """Says why a rate does not hold; empty when it does."""
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
    """Chooses rates, one after the other.

    Args:
        first: The lowest rate, which should be easy.
        most: No rate above it is tried.
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
        """Takes what the rate did, and says why it does not hold if it does not."""
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
            return None  # not even the first one held
        if high is None:
            return min(2 * low, self._most) if low < self._most else None
        return None if high / low <= CLOSE else (low * high) ** 0.5

    @property
    def knee(self) -> float | None:
        """The highest rate that held below all that did not; None when none did."""
        return knee_of([(rate, step) for rate, step in self._steps])


def knee_of(steps: Sequence[tuple[float, Step]]) -> float | None:
    """Returns the highest rate that held below all that did not."""
    best = None
    for rate, step in sorted(steps, key=lambda tried: tried[0]):
        if why_not(step, steps[0][1]):
            return best
        best = rate
    return best
