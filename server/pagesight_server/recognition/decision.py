"""From evidence to a label or `other`, with the reasons.

    candidates ──> acceptance score of the closest page
    calibration ─> threshold
    score >= threshold ──> the label, else `other`

Where the threshold lies, and what that promises, is in `calibration.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pagesight_server.gallery.snapshot import OTHER, Snapshot, is_reserved
from pagesight_server.recognition.calibration import (
    EMPTY_SCORE,
    EMPTY_THRESHOLD,
    EPSILON,
    GUARANTEE_PICTURES,
    Calibration,
    acceptance,
    calibrate,
)
from pagesight_server.recognition.entity_names import NameEvidence
from pagesight_server.recognition.evidence import (
    METHODS,
    Candidate,
    Method,
    MethodName,
    PagesightMethod,
    Query,
)
from pagesight_server.text.matching import matching_lines

MAX_REASONS, WORTH_TELLING = 3, 0.05
"""Replaced names that a reviewer is told of, and the weight of one worth telling."""

EXPECTED_NATS = math.log(2)
"""Surprise at a missing brand name from which an accepted answer asks for review: most pictures of
the label show one. Scrolled away or another bank's page: that cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a screenshot shows."""

    label: str
    """A known page or `other`."""
    closest_label: str
    """The page ranked first whatever the threshold; empty when no page is known."""
    score: float
    threshold: float
    """label == closest_label exactly when score >= threshold."""
    candidates: tuple[Candidate, ...]
    """Known pages, best first."""
    against: Candidate | None
    """The example of an unknown page that fits best, if any was near."""
    review: bool = False
    """A person should look: the runner-up is as good, or the page's brand name is not visible."""


def decide(
    candidates: Sequence[Candidate], calibration: Calibration, *, with_text: bool
) -> Decision:
    """The closest known page if it fits well enough, else `other`."""
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
    score = acceptance(candidates)
    threshold = calibration.threshold(with_text=with_text)
    second = known[1] if len(known) > 1 else None
    tie = (
        second is not None
        and second.acceptance >= threshold
        and (known[0].score - second.score < calibration.lead)
    )
    if against is not None and against.score > known[0].score:
        # The page looks most like one that an operator said is unknown.
        score = min(score, math.nextafter(threshold, -math.inf))
    return Decision(
        label=known[0].label if score >= threshold else OTHER,
        closest_label=known[0].label,
        score=score,
        threshold=threshold,
        candidates=known,
        against=against,
        review=score >= threshold and (tie or known[0].names.missing_nats > EXPECTED_NATS),
    )


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
        if decision.review:
            reasons.append(
                "review: none of its brand names is visible"
                if best.names.missing_nats > EXPECTED_NATS
                else "review: the runner-up fits nearly as well"
            )
        if decision.against is not None and decision.against.score > best.score:
            reasons.append(
                f"more like an example of {decision.against.label}: "
                f"score {decision.against.score:.3f}"
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
