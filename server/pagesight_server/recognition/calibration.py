"""Where `other` begins: thresholds from the gallery itself, each picture left out once.

    gallery, each picture left out once ──> scores of known pages ───┐
      the same, its own page left out ────> scores of unknown ones ──┴─> threshold

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

from pagesight_server.gallery.snapshot import Snapshot, is_reserved
from pagesight_server.recognition.evidence import Candidate, Method, MethodName, Query

EPSILON = 0.05
"""Share of known pages that may be rejected."""

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
