"""Whether traffic still looks like what the threshold was placed by.

    answers of one gallery ──> the last few thousand, as counts ──> share of `other`
                                                              ├──> shift of the scores
                                                              └──> a warning in words

Nobody tells a server which screenshots showed known pages, so the false rejection
rate cannot be watched. What can be: how much is answered `other`, and how well the
screenshots that were accepted fit. The second is not moved by unknown pages that are
rejected, and sinks towards the threshold when known pages change; it is compared with
the scores that the calibration keeps, above the same threshold.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from pagesight_server.decision import Calibration, Decision
from pagesight_server.snapshot import OTHER

WINDOW = 2_000
"""Answers that are looked back on: half a kilobyte a gallery, whatever the traffic."""

BINS = 50
"""Places above the threshold that are told apart."""

MIN_ANSWERS = 100
"""Fewer say nothing: no warning before."""

ALPHA = 1e-3
"""Chance of a warning where nothing has changed, of each kind."""

LEAST_SHIFT, LEAST_RISE = 0.10, 0.05
"""What is worth a warning, however sure: of the scores, and of the share of `other`."""

_OTHER = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFigures:
    """Where traffic stands against the calibration."""

    answers: int
    """In the window."""
    share_other: float
    """Of them, 0 to 1."""
    score_shift: float
    """How much lower accepted screenshots lie than those of the calibration, 0 to 1: the greatest
    difference of the two distributions (Kolmogorov and Smirnov, one-sided). 0: nowhere lower."""
    warning: str
    """What no longer holds and what to do; empty while all is well."""


class Drift:
    """Watches the answers of one gallery under one calibration; for one thread at a time.

    An answer costs a binary search among at most 101 numbers; memory does not grow.

    Args:
        calibration: What the answers are held against.
        window: Answers that are looked back on.
    """

    def __init__(self, calibration: Calibration, *, window: int = WINDOW) -> None:
        if window < 1:
            raise ValueError(f"need window >= 1, got {window}")
        self._calibration = calibration
        self._window: deque[int] = deque(maxlen=window)
        self._counts = np.zeros(BINS, np.int64)
        self._others = 0
        self._first_answers = 0
        self._first_others = 0

    @property
    def calibration(self) -> Calibration:
        """What the answers are held against."""
        return self._calibration

    def add(self, decision: Decision, *, with_text: bool) -> None:
        """Counts one answer.

        Args:
            decision: The answer.
            with_text: Whether text was read.
        """
        place = self._place(decision, with_text=with_text)
        if len(self._window) == self._window.maxlen:
            self._count(self._window[0], -1)
        self._window.append(place)
        self._count(place, +1)
        if self._first_answers < (self._window.maxlen or 0):
            self._first_answers += 1
            self._first_others += place == _OTHER

    def figures(self) -> DriftFigures:
        """Where traffic stands now."""
        answers = len(self._window)
        return DriftFigures(
            answers=answers,
            share_other=self._others / answers if answers else 0.0,
            score_shift=self._shift(),
            warning=self._warning(),
        )

    def _count(self, place: int, step: int) -> None:
        if place == _OTHER:
            self._others += step
        else:
            self._counts[place] += step

    def _place(self, decision: Decision, *, with_text: bool) -> int:
        """Which of the bins above the threshold a score lies in; `_OTHER` below it.

        Each bin holds the same share of the calibration's scores.
        """
        if decision.label == OTHER:
            return _OTHER
        known = (
            self._calibration.scores_with_text
            if with_text
            else self._calibration.scores_without_text
        )
        if len(known) < 2:
            return BINS - 1
        score, threshold = np.interp(
            [decision.score, decision.threshold], known, np.linspace(0, 1, len(known))
        ).tolist()
        if threshold >= 1:
            return BINS - 1
        return min(BINS - 1, int(BINS * (score - threshold) / (1 - threshold)))

    def _shift(self) -> float:
        accepted = len(self._window) - self._others
        if not accepted:
            return 0.0
        seen = np.cumsum(self._counts) / accepted
        expected = np.arange(1, BINS + 1) / BINS
        return max(0.0, float((seen - expected).max()))

    def _warning(self) -> str:
        answers = len(self._window)
        if answers < MIN_ANSWERS:
            return ""
        return " ".join(filter(None, (self._lower_scores(), self._more_others())))

    def _lower_scores(self) -> str:
        accepted = len(self._window) - self._others
        pictures = self._calibration.pictures
        if accepted < MIN_ANSWERS or not pictures:
            return ""
        # Two-sample bound of Kolmogorov and Smirnov, one-sided.
        chance = math.sqrt(-math.log(ALPHA) / 2 * (1 / accepted + 1 / pictures))
        shift = self._shift()
        if shift <= max(LEAST_SHIFT, chance):
            return ""
        promise = (
            f"that at most {self._calibration.epsilon:.0%} of known pages are rejected no longer "
            "holds"
            if self._calibration.guaranteed
            else "the threshold no longer rests on what it was placed by"
        )
        return (
            f"screenshots fit their pages less well than when the threshold was placed (shift "
            f"{shift:.2f} over {accepted} accepted ones): {promise}; enrol newer pictures, or "
            "calibrate with labelled traffic (calibrate --validation)."
        )

    def _more_others(self) -> str:
        answers, first = len(self._window), self._first_answers
        if first < (self._window.maxlen or 0):
            return ""
        then, now = self._first_others / first, self._others / answers
        mean = (then + now) / 2
        # 3.1 standard deviations are passed by chance once in a thousand.
        chance = 3.1 * math.sqrt(mean * (1 - mean) * (1 / first + 1 / answers))
        if now - then <= max(LEAST_RISE, chance):
            return ""
        return (
            f"{now:.0%} of the last {answers} answers are {OTHER}, {then:.0%} were when this "
            "calibration began: pages are new or have changed; look at the rejected ones and enrol "
            "those that should be known."
        )


class Drifts:
    """One `Drift` for each gallery, begun anew when its calibration changes."""

    def __init__(self, *, window: int = WINDOW) -> None:
        self._window = window
        self._drifts: dict[str, Drift] = {}

    def add(
        self, gallery: str, calibration: Calibration, decision: Decision, *, with_text: bool
    ) -> None:
        """Counts one answer of a gallery.

        Args:
            gallery: Its name: one that exists, so that strangers cannot fill the memory.
            calibration: What answered.
            decision: The answer.
            with_text: Whether text was read.
        """
        drift = self._drifts.get(gallery)
        if drift is None or drift.calibration != calibration:
            drift = self._drifts[gallery] = Drift(calibration, window=self._window)
        drift.add(decision, with_text=with_text)

    def figures(self) -> dict[str, DriftFigures]:
        """Where the traffic of each gallery stands, by name."""
        return {gallery: drift.figures() for gallery, drift in self._drifts.items()}
