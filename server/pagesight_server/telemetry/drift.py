"""Drift: whether traffic still looks like the pictures that placed the threshold.

    answers of one gallery ──> sliding window, as counts ──> share of `other`
                                                       ├──> shift of the scores
                                                       └──> a warning in words, logged once

`serve` and `evaluate` watch with the same class, so a figure on a dashboard and one in a report
mean the same.

Traffic has no labels, so the false rejection rate cannot be watched. What can be watched is the
share of answers that are `other`, and how high accepted screenshots score. The second does not
depend on rejected unknown pages, and falls towards the threshold when known pages change; it is
compared with the scores that the calibration keeps, above the same threshold.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pagesight_server.gallery.snapshot import OTHER
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.decision import Decision

log = logging.getLogger(__name__)

WINDOW = 2_000
"""Answers in the sliding window: a few kilobytes per gallery, whatever the traffic."""

CHECK_EVERY = 100
"""Answers between two checks for a warning: a check costs as much as ten answers."""

BINS = 50
"""Bins of the score histogram above the threshold; each holds 2 % of those of
the calibration."""

MIN_ANSWERS = 100
"""Fewest answers that a warning is based on: fewer can only show shifts above 0.19 at ALPHA."""

ALPHA = 1e-3
"""Significance level: the probability of a false warning at one check, for each kind."""

LEAST_SHIFT, LEAST_RISE = 0.10, 0.05
"""Least effect that is worth a warning, however significant: shift of the scores, and rise of the
share of `other`."""

_OTHER, _EARLIER = -1, -2
"""Marks of answers that are in no bin: `other`, and accepted under an earlier calibration."""

Kind = Literal["scores", "other"]
"""What a warning is about: the scores of accepted screenshots, or the share of `other`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFigures:
    """Figures of the window, against the calibration."""

    answers: int
    """Answers in the window."""
    share_other: float
    """Share of the answers that are `other`, 0 to 1."""
    accepted: int
    """Answers accepted under the present calibration, which the shift is computed from."""
    score_shift: float
    """How much lower accepted screenshots score than the calibration's, 0 to 1: the one-sided
    Kolmogorov-Smirnov statistic of the two distributions. 0: nowhere lower."""
    warning: str
    """What no longer holds and what to do; empty while nothing has changed."""


class Drift:
    """The drift of one gallery under one calibration; for one thread at a time.

    An answer costs a binary search among at most 101 numbers; memory does not grow.

    Args:
        calibration: What the answers are compared with.
        window: Answers in the sliding window.
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
        """The drift under another calibration: the share of `other` goes on, scores begin anew."""
        after = Drift(calibration, window=self._window.maxlen or WINDOW)
        after._window.extend(place if place == _OTHER else _EARLIER for place in self._window)
        after._others = self._others
        return after

    @property
    def calibration(self) -> Calibration:
        """What the answers are compared with."""
        return self._calibration

    def add(self, decision: Decision, *, with_text: bool) -> None:
        """Counts one answer.

        Args:
            decision: The answer.
            with_text: Whether text was read: its scores are compared with their like.
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
        """The figures of the present window."""
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
        """The bin of an accepted answer, or `_OTHER`.

        Each bin holds the same share of the calibration's scores above the threshold.
        """
        if decision.label == OTHER:
            return _OTHER
        scores = (
            self._calibration.scores_with_text
            if with_text
            else self._calibration.scores_without_text
        )
        if len(scores) < 2:
            return BINS - 1
        quantile = _quantile_of(decision.score, scores)
        at_threshold = _quantile_of(decision.threshold, scores)
        if at_threshold >= 1:
            return BINS - 1
        return max(0, min(BINS - 1, int(BINS * (quantile - at_threshold) / (1 - at_threshold))))

    def _shift(self) -> float:
        """The one-sided Kolmogorov-Smirnov statistic of the binned scores, 0 to 1."""
        observed = np.cumsum(self._counts) / self._accepted
        expected = np.arange(1, BINS + 1) / BINS
        return max(0.0, float((observed - expected).max()))

    def warnings(self) -> dict[Kind, str]:
        """What has changed and what to do, in words; empty texts while nothing has."""
        few = len(self._window) < MIN_ANSWERS
        return {
            "scores": "" if few else self._lower_scores(),
            "other": "" if few else self._more_others(),
        }

    def _lower_scores(self) -> str:
        """The warning that accepted screenshots score lower, or an empty text."""
        accepted = self._accepted
        pictures = self._calibration.pictures
        if accepted < MIN_ANSWERS or not pictures:
            return ""
        # Critical value of the one-sided two-sample Kolmogorov-Smirnov test at ALPHA.
        critical = math.sqrt(-math.log(ALPHA) / 2 * (1 / accepted + 1 / pictures))
        shift = self._shift()
        if shift <= max(LEAST_SHIFT, critical):
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
        """The warning that more answers are `other` than at first, or an empty text."""
        answers, first = len(self._window), self._first_answers
        if first < (self._window.maxlen or 0):
            return ""
        then, now = self._first_others / first, self._others / answers
        mean = (then + now) / 2
        # Two-proportion z-test: a normal variable exceeds 3.1 once in a thousand (ALPHA).
        critical = 3.1 * math.sqrt(mean * (1 - mean) * (1 / first + 1 / answers))
        if now - then <= max(LEAST_RISE, critical):
            return ""
        return (
            f"{now:.0%} of the last {answers} answers are {OTHER}, {then:.0%} were when this "
            "calibration began: pages are new or have changed; look at the rejected ones and enrol "
            "those that should be known."
        )


def _quantile_of(score: float, scores: Sequence[float]) -> float:
    """The quantile level of a score among ascending scores, 0 to 1, interpolated linearly."""
    place = bisect_right(scores, score)
    if place in (0, len(scores)):
        return float(place > 0)
    below, above = scores[place - 1], scores[place]
    return (place - 1 + (score - below) / (above - below)) / (len(scores) - 1)


@dataclass(slots=True)
class _Watch:
    """The drift of one gallery, and the state of its warning."""

    drift: Drift
    answers: int = 0
    """Answers so far."""
    warned: bool = False
    """Whether the last line in the log was a warning."""
    silent_until: int = 0
    """Number of answers before which nothing more is logged."""


class Drifts:
    """One `Drift` per gallery; logs when a warning begins and when it ends.

    After each line it is silent for a whole window of answers, so that traffic around the limit
    does not fill the log. For one event loop; figures may be read by any thread.

    Args:
        window: Answers in the sliding window of each gallery.
    """

    def __init__(self, *, window: int = WINDOW) -> None:
        self._window = window
        self._watched: dict[str, _Watch] = {}
        self.known: Callable[[], Container[str]] | None = None
        """Gives the names of the galleries that there are, for those that were deleted to be
        forgotten; None: all of them."""

    def add(
        self, gallery: str, calibration: Calibration, decision: Decision, *, with_text: bool
    ) -> None:
        """Counts one answer of a gallery.

        Args:
            gallery: Its name; it must exist, so that callers cannot fill the memory with names.
            calibration: The calibration that the answer was decided by.
            decision: The answer.
            with_text: Whether text was read.
        """
        watch = self._watched.get(gallery)
        if watch is None:
            watch = _Watch(Drift(calibration, window=self._window))
            # Replaced whole: another thread may be reading it.
            self._watched = self._present() | {gallery: watch}
        elif watch.drift.calibration != calibration:
            watch.drift = watch.drift.under(calibration)
        watch.drift.add(decision, with_text=with_text)
        watch.answers += 1
        if watch.answers % CHECK_EVERY == 0:
            self._log_changes(gallery, watch)

    def of_galleries(self) -> dict[str, Drift]:
        """The drift of each gallery that was not deleted, by name."""
        return {gallery: watch.drift for gallery, watch in self._present().items()}

    def _present(self) -> dict[str, _Watch]:
        """What is watched of galleries that were not deleted."""
        if self.known is None:
            return dict(self._watched)
        known = self.known()
        return {name: watch for name, watch in self._watched.items() if name in known}

    def _log_changes(self, gallery: str, watch: _Watch) -> None:
        """Logs a warning that has begun or ended."""
        warning = watch.drift.figures().warning
        if bool(warning) == watch.warned or watch.answers < watch.silent_until:
            return
        watch.warned, watch.silent_until = bool(warning), watch.answers + self._window
        if warning:
            log.warning("gallery %s: %s", gallery, warning)
        else:
            log.info("gallery %s: screenshots fit their pages as they should again", gallery)
