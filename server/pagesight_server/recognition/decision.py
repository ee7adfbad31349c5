"""From evidence to a label or `other`, with how doubtful that is.

    candidates ──> score of the closest page ─┬─ >= threshold ──> the label, else `other`
    calibration ─> threshold                  └─ distance from the other answer ──> doubt

Where the threshold lies, and what that promises, is in `calibration.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pagesight_server.gallery.snapshot import OTHER, Snapshot, is_reserved
from pagesight_server.recognition.calibration import (
    EMPTY_THRESHOLD,
    EPSILON,
    GUARANTEE_PICTURES,
    Calibration,
    calibrate,
)
from pagesight_server.recognition.candidates import Candidate, Query, Term, lead_over
from pagesight_server.recognition.entity_names import NameEvidence
from pagesight_server.recognition.evidence import METHODS, Method, MethodName, PagesightMethod
from pagesight_server.recognition.leave_one_out import EMPTY_SCORE, unknown_lead
from pagesight_server.text.matching import matching_lines

MAX_REASONS, WORTH_TELLING = 3, 0.05
"""Replaced names that a reviewer is told of, and the weight of one worth telling."""

EXPECTED_NATS = math.log(2)
"""Surprise at a missing brand name from which it was expected: most pictures of the label show
one. Scrolled away or another bank's page: that cannot be told."""

REVIEW_ABOVE = 0.95
"""Doubt above which a person should look: where traffic is like the gallery, at most 5 % of known
pages for each reason."""

FORBIDDEN_BY = 1e-9
"""How far below the threshold an example of an unknown page that ranks higher pushes the score:
more than the rounding of a sum, less than any difference that means anything."""

ReviewReason = Literal["near_threshold", "close_runner_up", "brand_not_visible"]
"""Why an accepted answer may be wrong."""

REVIEW_TEXT: Mapping[ReviewReason, str] = {
    "near_threshold": "it fits hardly well enough",
    "close_runner_up": "the runner-up fits nearly as well",
    "brand_not_visible": "none of its brand names is visible",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a screenshot shows."""

    label: str
    """A known page or `other`."""
    closest_label: str
    """The page ranked first whatever the threshold; empty when no page is known."""
    score: float
    """Of the first candidate."""
    threshold: float
    """label == closest_label exactly when score >= threshold."""
    candidates: tuple[Candidate, ...]
    """Known pages, best first."""
    against: Candidate | None
    """The example of an unknown page that fits best, if any was near."""
    doubt: float = 0.0
    """Share of the calibration set that was farther from the other answer than this one is, 0 to 1;
    1 also where the page's brand name was expected and is not visible."""
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
        "brand_not_visible": 1.0 if best.names.missing_nats > EXPECTED_NATS else 0.0,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """All that answers need of one gallery at one revision; immutable, so swapped whole."""

    snapshot: Snapshot
    method_name: MethodName
    method: Method
    calibration: Calibration
    settled: bool = True
    """Whether all of it was learnt of this revision; else how pictures vary, of an earlier one."""

    @staticmethod
    def of(
        snapshot: Snapshot,
        name: MethodName = "pagesight",
        *,
        epsilon: float = EPSILON,
        calibration: Calibration | None = None,
        before: Knowledge | None = None,
        refit: bool = True,
    ) -> Knowledge:
        """Prepares a snapshot for queries, calibrating unless a calibration is given.

        Args:
            snapshot: What is known.
            name: How evidence is weighed.
            epsilon: Share of known pages that may be rejected.
            calibration: To answer by.
            before: Of an earlier revision; what is still true of it is not computed again.
            refit: Whether to learn anew how pictures of one page vary. Not: what `before` knows
                of that serves on, so that a page that is new is found at once.
        """
        method: Method
        earlier = before.method if before is not None else None
        if name == "pagesight" and isinstance(earlier, PagesightMethod):
            method = PagesightMethod(snapshot, before=earlier, refit=refit)
        else:
            method = METHODS[name](snapshot)
        return Knowledge(
            snapshot=snapshot,
            method_name=name,
            method=method,
            calibration=calibration or calibrate(name, snapshot, method, epsilon),
            settled=refit or earlier is None,
        )

    def reasons(self, query: Query, decision: Decision) -> tuple[str, ...]:
        """The decision in words for a reviewer, one finding each."""
        if not decision.candidates:
            return ("the gallery knows no page yet",)
        best = decision.candidates[0]
        picture = self.snapshot.pictures[best.row]
        verdict = "accepted" if decision.label != OTHER else "rejected"
        reasons = [
            f"closest to {best.label} ({picture.image_id[:12]}): score {decision.score:.3f}, "
            f"{verdict} at {decision.threshold:.3f}",
            f"looks alike {best.visual:.3f}"
            + (f", reads alike {best.textual:.3f}" if query.reading is not None else ""),
        ]
        reasons += _about_names(best.names)
        if query.reading is None:
            reasons.append("text was not read: pages that differ in words alone look the same")
        elif not query.reading.lines:
            reasons.append("the screenshot shows no text")
        else:
            matches = matching_lines(query.reading, picture.reading)
            reasons.append(
                f"{len(matches)} of {len(query.reading.lines)} lines are on that picture too"
            )
        if len(decision.candidates) > 1:
            second = decision.candidates[1]
            reasons.append(f"runner-up {second.label}: score {second.score:.3f}")
            reasons += self.method.differences(query, best.label, second.label)
        reasons += [f"review: {REVIEW_TEXT[reason]}" for reason in decision.review_reasons]
        if decision.against is not None and decision.against.rank_score > best.rank_score:
            reasons.append(
                f"more like an example of {decision.against.label}: "
                f"score {decision.against.rank_score:.3f}"
            )
        if not self.calibration.guaranteed:
            reasons.append(
                f"threshold estimated: fewer than {GUARANTEE_PICTURES} pictures of the typical page"
            )
        return tuple(reasons)


def _about_names(names: NameEvidence) -> list[str]:
    """What names said, in words."""
    said = []
    if names.pictures:
        seen = f"{names.pictures_with_brand} of {names.pictures} gallery pictures"
        if names.visible_brand:
            said.append(f"brand {names.visible_brand}: visible, as in {seen}")
        else:
            said.append(f"brand: not visible, visible in {seen}")
    return said + [
        f"{one.observed!r} where this page shows {one.expected!r}: {one.weight:.2f}"
        for one in names.replacements[:MAX_REASONS]
        if one.weight >= WORTH_TELLING
    ]
