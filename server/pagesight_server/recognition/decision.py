"""From evidence to a label or `other`, with how doubtful that is.

    candidates ──> score of the closest page ─┬─ >= threshold ──> the label, else `other`
    calibration ─> threshold                  └─ distance from the other answer ──> doubt

Where the threshold lies, and what that promises, is in `calibration.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pagesight_server.gallery.snapshot import OTHER, is_reserved
from pagesight_server.recognition.calibration import (
    EMPTY_THRESHOLD,
    Calibration,
)
from pagesight_server.recognition.candidates import Candidate, Term, lead_over
from pagesight_server.recognition.leave_one_out import EMPTY_SCORE, unknown_lead

EXPECTED_NATS = math.log(2)
"""Surprise at a missing brand name from which it was expected: most pictures of the label show
one. Scrolled away or another bank's page: that cannot be told."""

REVIEW_ABOVE = 0.95
"""Doubt above which a person should look: where traffic is like the gallery, at most 5 % of known
pages for each reason."""

FORBIDDEN_BY = 1e-9
"""How far below the threshold an example of an unknown page that ranks higher pushes the score:
more than the rounding of a sum, less than any difference that means anything."""

ReviewReason = Literal[
    "near_threshold", "close_runner_up", "brand_not_visible", "looks_unlike", "uncalibrated"
]
"""Why an accepted answer may be wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Says which page a screenshot shows, or `other`, and how doubtful that is."""

    label: str
    """A known page or `other`."""
    closest_label: str
    """The page ranked first whatever the threshold; empty when no page is known."""
    score: float
    """The score of the first candidate."""
    threshold: float
    """label == closest_label exactly when score >= threshold."""
    candidates: tuple[Candidate, ...]
    """Known pages, best first."""
    against: Candidate | None
    """The example of an unknown page that fits best, if any was near."""
    doubt: float = 0.0
    """Share of the calibration set that was farther from the other answer than this one is, 0 to 1;
    1 also where the page's brand name was expected and is not visible, and where an accepted answer
    has no calibration set to be held against."""
    review_reasons: tuple[ReviewReason, ...] = ()
    """Why a person should look; none for `other`."""

    @property
    def review(self) -> bool:
        """Whether a person should look."""
        return bool(self.review_reasons)


def decide(
    candidates: Sequence[Candidate],
    calibration: Calibration,
    *,
    with_text: bool,
    review_above: float = REVIEW_ABOVE,
) -> Decision:
    """The closest known page if it fits well enough, else `other`.

    Args:
        candidates: Best first, examples of unknown pages among them.
        calibration: Of the gallery.
        with_text: Whether text was read.
        review_above: Doubt from which an accepted answer asks for review.
    """
    known = tuple(c for c in candidates if not is_reserved(c.label))
    against = next((c for c in candidates if is_reserved(c.label)), None)
    if not known:
        return Decision(
            label=OTHER,
            closest_label="",
            score=EMPTY_SCORE,
            threshold=EMPTY_THRESHOLD,
            candidates=(),
            against=against,
        )
    threshold = calibration.threshold(with_text=with_text)
    if lead := unknown_lead(candidates):
        # The page looks most like one that an operator said is unknown: never accepted.
        most = threshold - FORBIDDEN_BY * max(1.0, abs(threshold))
        cost = max(lead, known[0].score - most)
        known = (known[0].with_terms(Term("unknown_example", -cost, 0.0)), *known[1:])
    score = known[0].score
    if score < threshold:
        return Decision(
            label=OTHER,
            closest_label=known[0].label,
            score=score,
            threshold=threshold,
            candidates=known,
            against=against,
            doubt=calibration.share_of_unknown_scoring_lower(score, with_text=with_text),
        )
    doubts = _doubts(known, calibration, threshold, with_text=with_text)
    return Decision(
        label=known[0].label,
        closest_label=known[0].label,
        score=score,
        threshold=threshold,
        candidates=known,
        against=against,
        doubt=max(doubts.values()),
        review_reasons=tuple(reason for reason, doubt in doubts.items() if doubt > review_above),
    )


def _doubts(
    known: Sequence[Candidate], calibration: Calibration, threshold: float, *, with_text: bool
) -> dict[ReviewReason, float]:
    """How doubtful an accepted answer is, by what the other answer would be."""
    best = known[0]
    # A runner-up that would be rejected is no other answer.
    runner_up = len(known) > 1 and known[1].score >= threshold
    return {
        "near_threshold": calibration.share_scoring_higher(best.score, with_text=with_text),
        "close_runner_up": calibration.share_leading_more(lead_over(best.label, known))
        if runner_up
        else 0.0,
        "looks_unlike": calibration.share_looking_more_alike(best.visual),
        "brand_not_visible": 1.0 if best.names.missing_nats > EXPECTED_NATS else 0.0,
        "uncalibrated": 0.0 if calibration.pictures else 1.0,
    }
