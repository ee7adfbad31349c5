"""From evidence to a label or `other`, with the reasons.

    candidates ──> acceptance score of the closest page
    gallery, each picture left out once ──> calibration ──> threshold
    score >= threshold ──> the label, else `other`

The threshold is placed from two sides. From above, split-conformal: when a page's
queries look like its gallery, at most a share epsilon of them scores below it
(Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005). From
below, by what the gallery's own pictures score when their page is taken for unknown.
Nothing is promised about how many unknown pages stay below it: that is measured,
see `evaluation`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from pagesight_server.evidence import (
    METHODS,
    Candidate,
    Method,
    MethodName,
    PagesightMethod,
    Query,
    matching_lines,
)
from pagesight_server.names import NameEvidence
from pagesight_server.snapshot import OTHER, Snapshot, is_reserved

EPSILON = 0.05
"""Share of known pages that may be rejected."""

MAX_REASONS, WORTH_TELLING = 3, 0.05
"""Replaced names that a reviewer is told of, and the weight of one worth telling."""

CALIBRATION_VERSION = 8
"""Rises when the same gallery would be calibrated otherwise; stored ones are then made anew."""

MAX_CALIBRATION_PICTURES = 2_000
"""Pictures that are left out in turn; more would sharpen the threshold by under 0.5 %."""

GUARANTEE_PICTURES = 10
"""Pictures of the typical label from which leaving one out leaves a like gallery. With three
deliberately different ones it does not: the left-out one is what the others are least like,
scores far below traffic, and a threshold below it rejects nothing."""

PSEUDO_QUANTILE = 0.8
"""Share of pages taken for unknown that is rejected. On 24 pages of real apps, 3 pictures each,
0.8 rejected 94 % of unknown and 2 % of known screenshots, 0.5 rejected 86 % and 1 %, 0.95
rejected 96 % and 9 %; on drawn finance pages, 10 each, 0.8 rejected all unknown pages but white
labels and 1 % of known ones. Hard to be wrong by: the plateau is wide."""

EXPECTED_NATS = math.log(2)
"""Surprise at a missing brand name from which an accepted answer asks for review: most pictures of
the label show one. Scrolled away or another bank's page: that cannot be told."""

EMPTY_SCORE, EMPTY_THRESHOLD = -1.0, 0.0
"""Of an answer from a gallery that holds no known page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Where `other` begins, for queries with text and for queries without."""

    epsilon: float
    pictures: int
    """Left-out pictures behind it."""
    guaranteed: bool
    """Whether at most a share epsilon of known pages is rejected where traffic looks like the
    gallery. Not so with few pictures of each page: then only `pseudo-unknown` pages place it."""
    threshold_with_text: float
    threshold_without_text: float
    lead: float = 0.0
    """Lead over the runner-up that all but a share epsilon of the left-out pictures had; a smaller
    one asks for review."""
    scores_with_text: tuple[float, ...] = ()
    """What known pages scored here, at most 101 quantiles in order: what traffic is held against.
    Empty where no picture could be left out."""
    scores_without_text: tuple[float, ...] = ()
    source: Literal["gallery", "validation"] = "gallery"
    """Whether the gallery's own pictures placed the threshold, or labelled traffic."""
    revision: int = 0
    """Of the gallery when labelled traffic placed the threshold; 0 where the gallery did."""

    def threshold(self, *, with_text: bool) -> float:
        """The least acceptance score of a known page."""
        return self.threshold_with_text if with_text else self.threshold_without_text

    def to_json(self) -> str:
        """Serialises for the store; `from_json` is its inverse."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(data: str) -> Calibration:
        """Reads what `to_json` wrote."""
        fields = json.loads(data)
        for name in ("scores_with_text", "scores_without_text"):
            fields[name] = tuple(fields.get(name, ()))
        return Calibration(**fields)


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


def acceptance(candidates: Sequence[Candidate]) -> float:
    """How well the closest known page fits; an example of an unknown page that fits better counts.

    The lead of such an example is subtracted, so that scores stay comparable.
    """
    known = next((c for c in candidates if not is_reserved(c.label)), None)
    if known is None:
        return EMPTY_SCORE
    against = next((c for c in candidates if is_reserved(c.label)), None)
    lead = max(0.0, against.score - known.score) if against else 0.0
    return known.acceptance - lead


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
        review=score >= threshold and (tie or known[0].names.missing > EXPECTED_NATS),
    )


def calibrate(
    name: MethodName, snapshot: Snapshot, method: Method, epsilon: float = EPSILON
) -> Calibration:
    """Leaves each picture out in turn, and sees how its own page and all others then fit.

    A label's only picture cannot be left out and still be known: it speaks only for
    how well the other pages fit it.
    """
    counts = Counter(p.label for p in snapshot.pictures if not is_reserved(p.label))
    rows = [row for row, p in enumerate(snapshot.pictures) if p.label in counts]
    if len(rows) > MAX_CALIBRATION_PICTURES:
        rows = sorted(
            np.random.Generator(np.random.PCG64(0))
            .choice(rows, MAX_CALIBRATION_PICTURES, replace=False)
            .tolist()
        )
    known = [row for row in rows if counts[snapshot.pictures[row].label] > 1]
    typical = float(np.median(list(counts.values()))) if counts else 0.0
    guaranteed = typical >= GUARANTEE_PICTURES
    thresholds, scores = [], []
    leads: list[float] = []
    for with_text in (True, False):
        found = {row: _left_out(snapshot, method, row, with_text=with_text) for row in rows}
        own = [acceptance(found[row]) for row in known]
        scores.append(quantiles(own))
        if with_text:
            leads = [
                lead for row in known if 0 < (lead := _lead(snapshot, row, found[row])) < math.inf
            ]
        if name == "seed":
            thresholds.append(_quantile(own, epsilon))
            continue
        # An unknown page of a like kind may bear the name: what names forbid must not count here.
        others = (
            [
                replace(c, acceptance=c.fit)
                for c in found[row]
                if c.label != snapshot.pictures[row].label
            ]
            for row in rows
        )
        pseudo = [
            acceptance(candidates)
            for candidates in others
            if any(not is_reserved(c.label) for c in candidates)
        ]
        thresholds.append(_placed(own, pseudo, epsilon, labels=len(counts), guaranteed=guaranteed))
    return Calibration(
        epsilon=epsilon,
        pictures=len(known),
        guaranteed=len(known) >= 1 / epsilon - 1 and (guaranteed or name == "seed"),
        threshold_with_text=thresholds[0],
        threshold_without_text=thresholds[1],
        lead=_quantile(leads, epsilon),
        scores_with_text=scores[0],
        scores_without_text=scores[1],
    )


def _lead(snapshot: Snapshot, row: int, candidates: Sequence[Candidate]) -> float:
    """By how much a left-out picture's own label leads; below 0 where another does."""
    label = snapshot.pictures[row].label
    own = next((c.score for c in candidates if c.label == label), None)
    rest = (c.score for c in candidates if c.label != label and not is_reserved(c.label))
    best = max(rest, default=None)
    return math.inf if best is None else -1.0 if own is None else own - best


def _left_out(
    snapshot: Snapshot, method: Method, row: int, *, with_text: bool
) -> tuple[Candidate, ...]:
    reading = snapshot.pictures[row].reading if with_text else None
    query = Query(embedding=snapshot.embeddings[row], reading=reading)
    hits = method.search(query.embedding, without=row)
    return method.weigh(query, hits, without=row)


def _placed(
    own: Sequence[float],
    pseudo: Sequence[float],
    epsilon: float,
    *,
    labels: int,
    guaranteed: bool,
) -> float:
    """Where `other` begins, seen from both sides.

    Args:
        own: Scores of left-out pictures.
        pseudo: Scores that the same pictures reach against other pages: what an unknown page
            of a like kind would score.
        epsilon: Share of `own` that may be rejected.
        labels: How many known pages there are.
        guaranteed: Whether the labels have pictures enough for `own` to speak for traffic.
    """
    if not pseudo:
        return conformal(own, epsilon)
    between = float(np.quantile(pseudo, PSEUDO_QUANTILE))
    if not own:
        return between
    highest = conformal(own, epsilon)
    if highest <= between:
        return highest if guaranteed else between
    # The fewer kinds of page stand for the unknown, the less they tell of it.
    return between + (highest - between) / labels


def _quantile(scores: Sequence[float], epsilon: float) -> float:
    """The epsilon quantile, as the published method takes it."""
    return float(np.quantile(scores, epsilon)) if scores else EMPTY_THRESHOLD


def conformal(scores: Sequence[float], epsilon: float) -> float:
    """The greatest threshold that rejects an exchangeable score with probability <= epsilon.

    That is the k-th smallest of n scores with k = floor(epsilon (n + 1)). With too few
    scores for any rejection to be safe, the smallest is taken: better than accepting all.
    """
    if not scores:
        return EMPTY_THRESHOLD
    k = max(1, math.floor(epsilon * (len(scores) + 1)))
    return sorted(scores)[k - 1]


def quantiles(scores: Sequence[float], most: int = 101) -> tuple[float, ...]:
    """The scores in order, thinned out evenly to at most `most`, the ends among them."""
    ordered = sorted(scores)
    if len(ordered) > most:
        ordered = np.quantile(ordered, np.linspace(0, 1, most)).tolist()
    return tuple(ordered)


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
                if best.names.missing > EXPECTED_NATS
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
        if names.brand:
            said.append(f"brand {names.brand}: visible, as in {seen}")
        else:
            said.append(f"brand: not visible, visible in {seen}")
    return said + [
        f"{one.new!r} where this page shows {one.old!r}: {one.weight:.2f}"
        for one in names.replacements[:MAX_REASONS]
        if one.weight >= WORTH_TELLING
    ]
