"""The last answers from one gallery: how many were `other`, and how far their scores have moved.

    accepted scores of traffic ──────────────┐
    what known pages scored at calibration ──┴─> largest gap between the two distributions

A drift of 0 means that accepted screenshots score as the gallery's own pages did, 1 that the two
have nothing in common (Kolmogorov and Smirnov's distance). Only scores at or above the threshold
are held against each other: how much is rejected is the share of `other`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence

from pagesight_server.pipeline import Answer
from pagesight_server.snapshot import OTHER

WINDOW = 1_000
"""Answers that are looked at."""

MIN_SCORES = 50
"""Fewer say nothing: 50 of the same distribution are 0.19 apart once in twenty times."""


class Recent:
    """What the last answers from a gallery were; for one event loop, read by any thread."""

    def __init__(self) -> None:
        self._others: deque[bool] = deque(maxlen=WINDOW)
        self._scores: deque[float] = deque(maxlen=WINDOW)
        self._expected: tuple[float, ...] = ()

    def add(self, answer: Answer) -> None:
        """Notes an answer. Another calibration begins its scores anew, as the scale is its own."""
        decision, calibration = answer.decision, answer.knowledge.calibration
        is_other = decision.label == OTHER
        self._others.append(is_other)
        with_text = answer.query.reading is not None
        known = calibration.scores_with_text if with_text else calibration.scores_without_text
        expected = known[bisect_left(known, decision.threshold) :]
        if expected != self._expected:
            self._expected = expected
            self._scores.clear()
        if not is_other:
            self._scores.append(decision.score)

    @property
    def other_share(self) -> float | None:
        """Share of `other`, 0 to 1; None before the first answer."""
        others = list(self._others)
        return sum(others) / len(others) if others else None

    @property
    def score_drift(self) -> float | None:
        """Drift, 0 to 1; None where there is too little to tell."""
        scores, expected = sorted(self._scores.copy()), self._expected
        if len(scores) < MIN_SCORES or len(expected) < 2:
            return None
        return distance(scores, expected)


def distance(first: Sequence[float], second: Sequence[float]) -> float:
    """The largest gap between the distributions of two ascending samples, 0 to 1."""
    return max(
        abs(bisect_right(first, x) / len(first) - bisect_right(second, x) / len(second))
        for x in (*first, *second)
    )
