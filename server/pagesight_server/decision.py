"""From evidence to a label or `other`, with the reasons.

    candidates ──> acceptance score of the closest page
    gallery, each picture left out once ──> calibration ──> threshold
    score >= threshold ──> the label, else `other`

The threshold is split-conformal: when a page's queries look like its gallery, at
most a share epsilon of them scores below it (Vovk, Gammerman and Shafer,
"Algorithmic Learning in a Random World", 2005). Nothing is promised about how
many unknown pages stay below it: that is measured, see `evaluation.py`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from pagesight_server.evidence import (
    METHODS,
    Candidate,
    Method,
    MethodName,
    Query,
    matching_lines,
)
from pagesight_server.snapshot import OTHER, Snapshot, is_reserved

EPSILON = 0.05
"""Share of known pages that may be rejected."""

MAX_CALIBRATION_PICTURES = 2_000
"""Pictures that are left out in turn; more would sharpen the threshold by under 0.5 %."""

EMPTY_SCORE, EMPTY_THRESHOLD = -1.0, 0.0
"""Of an answer from a gallery that holds no known page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Where `other` begins, for queries with text and for queries without."""

    epsilon: float
    pictures: int
    """Left-out pictures behind it; fewer than 1/epsilon - 1 give no 1 - epsilon guarantee."""
    threshold_with_text: float
    threshold_without_text: float

    def threshold(self, *, with_text: bool) -> float:
        """The least acceptance score of a known page."""
        return self.threshold_with_text if with_text else self.threshold_without_text

    def to_json(self) -> str:
        """Serialises for the store; `from_json` is its inverse."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(data: str) -> Calibration:
        """Reads what `to_json` wrote."""
        return Calibration(**json.loads(data))


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


def acceptance(candidates: Sequence[Candidate]) -> float:
    """How well the closest known page fits; an example of an unknown page that fits better counts.

    The lead of such an example is subtracted, so that scores stay comparable.
    """
    known = next((c for c in candidates if not is_reserved(c.label)), None)
    if known is None:
        return EMPTY_SCORE
    against = next((c for c in candidates if is_reserved(c.label)), None)
    lead = max(0.0, against.score - known.score) if against else 0.0
    return known.score - lead


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
    )


def calibrate(
    name: MethodName, snapshot: Snapshot, method: Method, epsilon: float = EPSILON
) -> Calibration:
    """Leaves each picture out in turn and sees how well its own page still fits.

    Labels with a single picture are passed over: without it the page is unknown.
    """
    counts = Counter(picture.label for picture in snapshot.pictures)
    rows = [
        row
        for row, picture in enumerate(snapshot.pictures)
        if counts[picture.label] > 1 and not is_reserved(picture.label)
    ]
    if len(rows) > MAX_CALIBRATION_PICTURES:
        rows = sorted(
            np.random.Generator(np.random.PCG64(0))
            .choice(rows, MAX_CALIBRATION_PICTURES, replace=False)
            .tolist()
        )
    quantile = _quantile if name == "seed" else _conformal
    thresholds = [
        quantile([_left_out(snapshot, method, row, with_text=with_text) for row in rows], epsilon)
        for with_text in (True, False)
    ]
    return Calibration(
        epsilon=epsilon,
        pictures=len(rows),
        threshold_with_text=thresholds[0],
        threshold_without_text=thresholds[1],
    )


def _left_out(snapshot: Snapshot, method: Method, row: int, *, with_text: bool) -> float:
    embedding = snapshot.embeddings[row]
    reading = snapshot.pictures[row].reading if with_text else None
    hits = method.search(embedding, without=row)
    return acceptance(method.weigh(Query(embedding=embedding, reading=reading), hits))


def _quantile(scores: Sequence[float], epsilon: float) -> float:
    """The epsilon quantile, as the published method takes it."""
    return float(np.quantile(scores, epsilon)) if scores else EMPTY_THRESHOLD


def _conformal(scores: Sequence[float], epsilon: float) -> float:
    """The greatest threshold that rejects an exchangeable score with probability <= epsilon.

    That is the k-th smallest of n scores with k = floor(epsilon (n + 1)). With too few
    scores for any rejection to be safe, the smallest is taken: better than accepting all.
    """
    if not scores:
        return EMPTY_THRESHOLD
    k = max(1, math.floor(epsilon * (len(scores) + 1)))
    return sorted(scores)[k - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """All that answers need of one gallery at one revision; immutable, so swapped whole."""

    snapshot: Snapshot
    method_name: MethodName
    method: Method
    calibration: Calibration

    @staticmethod
    def of(
        snapshot: Snapshot,
        name: MethodName = "pagesight",
        *,
        epsilon: float = EPSILON,
        calibration: Calibration | None = None,
    ) -> Knowledge:
        """Prepares a snapshot for queries, calibrating unless a calibration is given."""
        method = METHODS[name](snapshot)
        return Knowledge(
            snapshot=snapshot,
            method_name=name,
            method=method,
            calibration=calibration or calibrate(name, snapshot, method, epsilon),
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
        if decision.against is not None and decision.against.score > best.score:
            reasons.append(
                f"more like an example of {decision.against.label}: "
                f"score {decision.against.score:.3f}"
            )
        if self.calibration.pictures < 1 / self.calibration.epsilon - 1:
            reasons.append(
                f"the threshold rests on {self.calibration.pictures} pictures only: "
                "enrol more of each page"
            )
        return tuple(reasons)
