"""Where `other` begins: thresholds from the gallery itself, each picture left out once.

    gallery, each picture left out once ──> scores of known pages ───┐
      the same, its own page left out ────> scores of unknown ones ──┴─place_threshold─> threshold

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
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from pagesight_server.gallery.snapshot import Snapshot, is_reserved
from pagesight_server.recognition.evidence import Method, MethodName
from pagesight_server.recognition.leave_one_out import LeftOutScores, left_out_scores, unread_scores

EPSILON = 0.05
"""Share of known pages that may be rejected."""

CALIBRATION_VERSION = 12
"""Rises when the same gallery would be calibrated otherwise; stored ones are then made anew."""

MAX_CALIBRATION_PICTURES = 2_000
"""Pictures that are left out in turn; more would sharpen the threshold by under 0.5 %."""

STEP_PICTURES = 25
"""Pictures left out in one step: of 10,000 pictures, 1.5 s of a core."""

GUARANTEE_PICTURES = 10
"""Pictures of the typical label from which leaving one out leaves a like gallery. With three
deliberately different ones it does not: the left-out one is what the others are least like,
scores far below traffic, and a threshold below it rejects nothing."""

PICTURES_FOR_HALF = 3
"""Pictures of the typical label at which half of the pages taken for unknown are rejected: of n
pictures, a share of n / (n + 3). Few pictures say little of what their page may look like, and in a
gallery of look-alike families a page taken for unknown is half of the time as near as a known one;
so the less is known, the less is rejected. docs/recognition.md has 1.5 to 6."""

OWN_REJECTED = 0.1
"""Share of the gallery's own left-out pictures that the threshold may reject where labels have too
few pictures for `epsilon` to be kept: with three different ones, the one left out is what the
others are least like, so traffic is rejected less."""

EMPTY_THRESHOLD = 0.0
"""Threshold where nothing says what a page scores: without a known page, or by looks alone with a
single picture of a single page. What is accepted then asks for review (`decision.py`)."""

MAX_QUANTILES = 101
"""Numbers that a distribution is kept as: a step of 1 %, finer than any decision on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Where `other` begins, for queries with text and for queries without.

    Made by `calibrate` or `from_scores`, so that both sources fill every field.
    """

    epsilon: float
    pictures: int
    """Calibration set: left-out pictures, or screenshots of labelled traffic."""
    guaranteed: bool
    """Whether at most a share epsilon of known pages is rejected where traffic looks like the
    calibration set. Not so with few pictures of each page: then only pages taken for unknown
    place the threshold."""
    threshold_with_text: float
    threshold_without_text: float
    looks: tuple[float, ...] = ()
    """Quantiles of how alike pictures of known pages looked to their own page, ascending."""
    leads: tuple[float, ...] = ()
    """Quantiles of the lead over the runner-up that pictures of known pages had, ascending."""
    scores_with_text: tuple[float, ...] = ()
    """Quantiles of what known pages scored, ascending: what traffic is held against. Empty where no
    picture could be left out."""
    scores_without_text: tuple[float, ...] = ()
    unknown_scores_with_text: tuple[float, ...] = ()
    """Quantiles of what unknown pages scored, or pages taken for unknown."""
    unknown_scores_without_text: tuple[float, ...] = ()
    source: Literal["gallery", "validation"] = "gallery"
    """Whether the gallery's own pictures placed the threshold, or labelled traffic."""
    revision: int = 0
    """Of the gallery when labelled traffic placed the threshold; 0 where the gallery did."""

    @staticmethod
    def from_scores(
        with_text: LeftOutScores,
        without_text: LeftOutScores,
        *,
        thresholds: tuple[float, float],
        epsilon: float,
        guaranteed: bool,
        source: Literal["gallery", "validation"] = "gallery",
        revision: int = 0,
    ) -> Calibration:
        """A calibration from the scores behind it, the only way to make one.

        Args:
            with_text: Scores of the calibration set where text was read.
            without_text: Scores of the same pictures by looks alone.
            thresholds: With text and without.
            epsilon: Share of known pages that may be rejected.
            guaranteed: Whether that share is promised.
            source: What the calibration set is.
            revision: Of the gallery, for `source="validation"`.
        """
        return Calibration(
            epsilon=epsilon,
            pictures=len(with_text.own),
            guaranteed=guaranteed,
            threshold_with_text=thresholds[0],
            threshold_without_text=thresholds[1],
            looks=quantiles(with_text.looks),
            leads=quantiles(with_text.leads),
            scores_with_text=quantiles(with_text.own),
            scores_without_text=quantiles(without_text.own),
            unknown_scores_with_text=quantiles(with_text.pseudo_unknown),
            unknown_scores_without_text=quantiles(without_text.pseudo_unknown),
            source=source,
            revision=revision,
        )

    def threshold(self, *, with_text: bool) -> float:
        """The least score of a known page."""
        return self.threshold_with_text if with_text else self.threshold_without_text

    def share_scoring_higher(self, score: float, *, with_text: bool) -> float:
        """Share of known pages of the calibration set that score above a score, 0 to 1."""
        scores = self.scores_with_text if with_text else self.scores_without_text
        return share_above(scores, score)

    def share_of_unknown_scoring_lower(self, score: float, *, with_text: bool) -> float:
        """Share of unknown pages of the calibration set that score below a score, 0 to 1."""
        scores = self.unknown_scores_with_text if with_text else self.unknown_scores_without_text
        return share_above([-score for score in reversed(scores)], -score)

    def share_leading_more(self, lead: float) -> float:
        """Share of known pages of the calibration set with a greater lead, 0 to 1."""
        return share_above(self.leads, lead)

    def share_looking_more_alike(self, visual: float) -> float:
        """Share of known pages of the calibration set that look more like their page, 0 to 1."""
        return share_above(self.looks, visual)

    def share_rejected(self, *, with_text: bool) -> float:
        """Share of the calibration set's known pages that the threshold rejects, 0 to 1."""
        scores = self.scores_with_text if with_text else self.scores_without_text
        return bisect_left(scores, self.threshold(with_text=with_text)) / max(1, len(scores))

    def to_json(self) -> str:
        """Serialises for the store; `from_json` is its inverse."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(data: str) -> Calibration:
        """Reads what `to_json` wrote."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in json.loads(data).items()
        }
        return Calibration(**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What the pictures of a calibration set score, as far as they were left out yet."""

    done: int
    """Pictures that were left out."""
    of: int
    """Pictures of the calibration set."""
    with_text: LeftOutScores
    without_text: LeftOutScores
    """The same pictures by looks alone."""

    def to_json(self) -> str:
        """Serialises for the store; `from_json` is its inverse."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(data: str) -> Scores:
        """Reads what `to_json` wrote."""
        fields = json.loads(data)
        with_text, without_text = (
            LeftOutScores(**{name: tuple(values) for name, values in fields[which].items()})
            for which in ("with_text", "without_text")
        )
        return Scores(
            done=fields["done"], of=fields["of"], with_text=with_text, without_text=without_text
        )


def calibrate(
    name: MethodName,
    snapshot: Snapshot,
    method: Method,
    epsilon: float = EPSILON,
    *,
    begun: Scores | None = None,
    step: Callable[[Scores], None] = lambda _scores: None,
) -> Calibration:
    """Leaves each picture out in turn, and sees how its own page and all others then fit.

    Of a label with more pictures than are learnt from, those of its sample.

    Args:
        name: Of the method. The published one has a rule of its own, the epsilon quantile.
        snapshot: The gallery.
        method: Over that snapshot.
        epsilon: Share of known pages that may be rejected.
        begun: What an earlier call over the same snapshot had come to; goes on from there.
        step: Called every `STEP_PICTURES`; what it raises ends the calibration.
    """
    sample = snapshot.sample
    counts = {label: n for label, n in sample.counts.items() if not is_reserved(label)}
    rows = sorted(row for label in counts for row in sample[label])
    if len(rows) > MAX_CALIBRATION_PICTURES:
        rows = sorted(
            np.random.Generator(np.random.PCG64(0))
            .choice(rows, MAX_CALIBRATION_PICTURES, replace=False)
            .tolist()
        )
    nothing = LeftOutScores(own=(), pseudo_unknown=(), looks=(), leads=())
    if begun is None or begun.of != len(rows):
        begun = Scores(done=0, of=len(rows), with_text=nothing, without_text=nothing)
    with_text, without_text = begun.with_text, begun.without_text
    for first in range(begun.done, len(rows), STEP_PICTURES):
        left_out = rows[first : first + STEP_PICTURES]
        with_text += left_out_scores(method, snapshot, left_out, with_text=True)
        without_text += left_out_scores(method, snapshot, left_out, with_text=False)
        done = first + len(left_out)
        step(Scores(done=done, of=len(rows), with_text=with_text, without_text=without_text))
    pictures = list(counts.values())
    if name == "seed":
        thresholds = quantile(with_text.own, epsilon), quantile(without_text.own, epsilon)
        enough = True
    else:
        if not with_text.own and not with_text.pseudo_unknown:
            # The only picture of the only page: what reads nothing like it is not that page.
            unread = unread_scores(method, snapshot, rows)
            with_text = replace(with_text, pseudo_unknown=unread)
        enough = has_enough_pictures(pictures)
        thresholds = (
            place_threshold(with_text, epsilon, pictures=pictures),
            place_threshold(without_text, epsilon, pictures=pictures),
        )
    return Calibration.from_scores(
        with_text,
        without_text,
        thresholds=thresholds,
        epsilon=epsilon,
        guaranteed=enough and len(with_text.own) >= 1 / epsilon - 1,
    )


def has_enough_pictures(pictures: Sequence[int]) -> bool:
    """Whether the typical label has pictures enough for left-out ones to speak for traffic.

    Args:
        pictures: How many each label has.
    """
    return bool(pictures) and float(np.median(pictures)) >= GUARANTEE_PICTURES


def place_threshold(scores: LeftOutScores, epsilon: float, *, pictures: Sequence[int]) -> float:
    """Where `other` begins, seen from both sides; the one rule for every score (decision 0005).

    Args:
        scores: What left-out pictures score against their own label and against all others.
        epsilon: Share of known pages that may be rejected.
        pictures: How many pictures each label has.
    """
    own, pseudo_unknown = scores.own, scores.pseudo_unknown
    if not pseudo_unknown:
        return conformal(own, epsilon)
    rich = has_enough_pictures(pictures)
    typical = float(np.median(pictures))
    between = float(np.quantile(pseudo_unknown, typical / (typical + PICTURES_FOR_HALF)))
    if not own:
        return between
    rejected = epsilon if rich else max(epsilon, OWN_REJECTED)
    highest = conformal(own, rejected)
    if highest <= between:
        # Of fewer pictures the bound is the worst of them, which may be any outlier.
        return highest if rich or len(own) >= 1 / rejected - 1 else between
    # The fewer kinds of page stand for the unknown, the less they tell of it.
    return between + (highest - between) / len(pictures)


def quantile(scores: Sequence[float], epsilon: float) -> float:
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


def quantiles(scores: Sequence[float], most: int = MAX_QUANTILES) -> tuple[float, ...]:
    """The scores in order, thinned out evenly to at most `most`, the ends among them."""
    ordered = sorted(scores)
    if len(ordered) > most:
        ordered = np.quantile(ordered, np.linspace(0, 1, most)).tolist()
    return tuple(ordered)


def share_above(ascending: Sequence[float], value: float) -> float:
    """Share of ascending numbers that are greater than a value; 0 of none."""
    if not ascending:
        return 0.0
    return 1 - bisect_right(ascending, value) / len(ascending)
