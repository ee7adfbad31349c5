"""Whether traffic still looks like what the threshold was placed by.

    answers of one gallery ──> the last few thousand, as counts ──> share of `other`
                                                              ├──> shift of the scores
                                                              └──> a warning in words, logged once

`serve` and `evaluate` watch with the same class, so a figure on a dashboard and one in a report
mean the same.

Nobody tells a server which screenshots showed known pages, so the false rejection
rate cannot be watched. What can be: how much is answered `other`, and how well the
screenshots that were accepted fit. The second is not moved by unknown pages that are
rejected, and sinks towards the threshold when known pages change; it is compared with
the scores that the calibration keeps, above the same threshold.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pagesight_server.gallery.snapshot import OTHER
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.decision import Decision

log = logging.getLogger(__name__)

WINDOW = 2_000
"""Answers that are looked back on: a few kilobytes a gallery, whatever the traffic."""

CHECK_EVERY = 100
"""Answers between two looks at whether to warn: a look costs as much as ten answers."""

BINS = 50
"""Places above the threshold that are told apart."""

MIN_ANSWERS = 100
"""Fewer say nothing: no warning before."""

ALPHA = 1e-3
"""Chance of a warning where nothing has changed, of each kind."""

LEAST_SHIFT, LEAST_RISE = 0.10, 0.05
"""What is worth a warning, however sure: of the scores, and of the share of `other`."""

_OTHER, _EARLIER = -1, -2
"""Places in no bin: answered `other`; accepted, but scored under another calibration."""


Kind = Literal["scores", "other"]
"""What may have changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFigures:
    """Where traffic stands against the calibration."""

    answers: int
    """In the window."""
    share_other: float
    """Of them, 0 to 1."""
    accepted: int
    """Of them under the present calibration: what the shift is of."""
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
        self._counts = [0] * BINS
        self._others = 0
        self._accepted = 0
        self._first_answers = 0
        self._first_others = 0

    def under(self, calibration: Calibration) -> Drift:
        """Goes on under another calibration: what was `other` still is, but scores begin anew."""
        after = Drift(calibration, window=self._window.maxlen or WINDOW)
        after._window.extend(place if place == _OTHER else _EARLIER for place in self._window)
        after._others = self._others
        return after

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
            accepted=self._accepted,
            score_shift=self._shift() if self._accepted else 0.0,
            warning=" ".join(filter(None, self.warnings().values())),
        )

    def _count(self, place: int, step: int) -> None:
        if place == _OTHER:
            self._others += step
        elif place != _EARLIER:
            self._accepted += step
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
        score, threshold = _share(known, decision.score), _share(known, decision.threshold)
        if threshold >= 1:
            return BINS - 1
        return max(0, min(BINS - 1, int(BINS * (score - threshold) / (1 - threshold))))

    def _shift(self) -> float:
        seen = np.cumsum(self._counts) / self._accepted
        expected = np.arange(1, BINS + 1) / BINS
        return max(0.0, float((seen - expected).max()))

    def warnings(self) -> dict[Kind, str]:
        """What has changed and what to do, in words; empty texts while all is well."""
        few = len(self._window) < MIN_ANSWERS
        return {
            "scores": "" if few else self._lower_scores(),
            "other": "" if few else self._more_others(),
        }

    def _lower_scores(self) -> str:
        accepted = self._accepted
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


def _share(known: Sequence[float], score: float) -> float:
    """Share of some ascending numbers that lies below another one, what is between two shared."""
    place = bisect_right(known, score)
    if place in (0, len(known)):
        return float(place > 0)
    below, above = known[place - 1], known[place]
    return (place - 1 + (score - below) / (above - below)) / (len(known) - 1)


@dataclass(slots=True)
class _Watch:
    """One gallery, and what was said of it."""

    drift: Drift
    answers: int = 0
    warned: bool = False
    silent_until: int = 0


class Drifts:
    """One `Drift` for each gallery; tells the log when one no longer holds, and when it does again.

    A state is told once, and another not before as many answers as are looked back on: traffic that
    lies on the limit fills no log. For one event loop; figures are read by any thread.
    """

    def __init__(self, *, window: int = WINDOW) -> None:
        self._window = window
        self._watched: dict[str, _Watch] = {}

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
        watch = self._watched.get(gallery)
        if watch is None:
            watch = self._watched[gallery] = _Watch(Drift(calibration, window=self._window))
        elif watch.drift.calibration != calibration:
            watch.drift = watch.drift.under(calibration)
        watch.drift.add(decision, with_text=with_text)
        watch.answers += 1
        if watch.answers % CHECK_EVERY == 0:
            self._tell(gallery, watch)

    def of_galleries(self) -> dict[str, Drift]:
        """The traffic of each gallery, by name."""
        return {gallery: watch.drift for gallery, watch in self._watched.items()}

    def _tell(self, gallery: str, watch: _Watch) -> None:
        warning = watch.drift.figures().warning
        if bool(warning) == watch.warned or watch.answers < watch.silent_until:
            return
        watch.warned, watch.silent_until = bool(warning), watch.answers + self._window
        if warning:
            log.warning("gallery %s: %s", gallery, warning)
        else:
            log.info("gallery %s: screenshots fit their pages as they should again", gallery)
