"""Rates of a method on a set, each with its 95 % interval.

    predictions ──evaluation.metrics──> the rates
        └──drawn anew 1,000 times──> the same rates of each draw ──> 2.5 % and 97.5 % quantiles

Pictures of one page are alike, so a draw takes known pages with all their pictures; unknown
pictures, each of a page of its own, it takes one by one (a bootstrap clustered by page). What a
draw has is its weight: how often each picture was taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagesight_server.evaluation import Prediction, measure

Floats = NDArray[np.float64]

DRAWS = 1_000
"""The ends of a 95 % interval rest on 25 draws each: their own error is a tenth of its width."""

HINDSIGHT = 0.08
"""False rejection at which methods are compared by a threshold placed with the test in sight: what
is asked of the product on real pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A rate and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How right one method is on one set; None where a rate has nothing to count."""

    known: int
    unknown: int
    micro_f1: Rate | None
    auroc: Rate | None
    false_rejection: Rate | None
    rejected: Rate | None
    """Share of unknown screenshots rejected."""
    rejected_by_kind: dict[str, tuple[int, int]]
    """For each kind of unknown page, how many were rejected of how many."""
    rejected_in_hindsight: Rate | None
    """Share of unknown screenshots rejected by the threshold that rejects `HINDSIGHT` of known."""


def figures(predictions: Sequence[Prediction], *, draws: int = DRAWS, seed: int = 0) -> Figures:
    """The rates of a method on a set.

    Args:
        predictions: What became of each test screenshot.
        draws: How often pictures are drawn anew.
        seed: Of the draws; the same for all methods, so that they are judged on the same draws.
    """
    metrics = measure(predictions)
    known = [p for p in predictions if p.known]
    unknown = [p for p in predictions if not p.known]
    rng = np.random.Generator(np.random.PCG64(seed))
    rates = _Rates(
        known_scores=np.asarray([p.score for p in known], np.float64),
        unknown_scores=np.asarray([p.score for p in unknown], np.float64),
        right=np.asarray([p.closed_label == p.truth for p in known], np.float64),
        threshold=predictions[0].threshold,
        known_weights=clustered_weights([p.truth for p in known], draws, rng),
        unknown_weights=clustered_weights([p.path for p in unknown], draws, rng),
    )
    kinds = metrics.open_set.kinds
    rejected = sum(kind.rejected for kind in kinds.values())
    return Figures(
        known=len(known),
        unknown=len(unknown),
        micro_f1=_rate(metrics.micro_f1, rates.micro_f1),
        auroc=_rate(metrics.open_set.auroc, rates.auroc),
        false_rejection=_rate(metrics.open_set.false_rejection_rate, rates.false_rejection),
        rejected=_rate(rejected / len(unknown) if unknown else None, rates.rejected),
        rejected_by_kind={kind: (one.rejected, one.n) for kind, one in kinds.items()},
        rejected_in_hindsight=_rate(
            rejected_at(HINDSIGHT, [p.score for p in known], [p.score for p in unknown]),
            rates.rejected_in_hindsight,
        ),
    )


def clustered_weights(
    clusters: Sequence[str], draws: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """How often each draw takes each picture: shape (draws, pictures).

    Args:
        clusters: Of each picture; pictures of one cluster are taken together.
        draws: How many.
        rng: Where they come from.
    """
    names = sorted(set(clusters))
    if not names:
        return np.zeros((draws, 0))
    place = {name: i for i, name in enumerate(names)}
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    weights: Floats = times[:, [place[cluster] for cluster in clusters]].astype(np.float64)
    return weights


def rejected_at(
    false_rejection: float, known: Sequence[float], unknown: Sequence[float]
) -> float | None:
    """Share of unknown scores below the highest known score that keeps false rejections so few.

    Args:
        false_rejection: Share of known scores that may lie below the threshold.
        known: Scores of known pages.
        unknown: Scores of unknown pages.
    """
    if not known or not unknown:
        return None
    threshold = sorted(known)[math.floor(false_rejection * len(known))]
    return sum(score < threshold for score in unknown) / len(unknown)


def rejection_for(rejected: int, known: Sequence[float], unknown: Sequence[float]) -> float:
    """Share of known scores that must go when so many unknown ones are to be rejected.

    Args:
        rejected: How many unknown scores must lie below the threshold.
        known: Scores of known pages.
        unknown: Scores of unknown pages, at least `rejected` of them.
    """
    if rejected == 0:
        return 0.0
    highest = sorted(unknown)[rejected - 1]
    return sum(score <= highest for score in known) / len(known)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rates:
    """The rates of every draw, by weights; all of shape (draws,)."""

    known_scores: Floats
    unknown_scores: Floats
    right: Floats
    """1 where the page was named rightly, whatever the threshold; for each known score."""
    threshold: float
    known_weights: Floats
    """Shape (draws, known)."""
    unknown_weights: Floats
    """Shape (draws, unknown)."""

    @property
    def micro_f1(self) -> Floats:
        return _mean(self.known_weights, self.right)

    @property
    def auroc(self) -> Floats:
        known, unknown = self.known_scores[:, None], self.unknown_scores[None, :]
        wins = (known > unknown) + 0.5 * (known == unknown)
        pairs = self.known_weights.sum(1) * self.unknown_weights.sum(1)
        return _divided(((self.known_weights @ wins) * self.unknown_weights).sum(1), pairs)

    @property
    def false_rejection(self) -> Floats:
        return _mean(self.known_weights, self.known_scores < self.threshold)

    @property
    def rejected(self) -> Floats:
        return _mean(self.unknown_weights, self.unknown_scores < self.threshold)

    @property
    def rejected_in_hindsight(self) -> Floats:
        if not self.known_scores.size:
            return np.zeros(len(self.known_weights))
        order = np.argsort(self.known_scores, kind="stable")
        weights = self.known_weights[:, order]
        # As in `rejected_at`: the score at place floor(share x n) of those that were taken.
        place = np.floor(HINDSIGHT * weights.sum(1))
        at = (np.cumsum(weights, axis=1) > place[:, None]).argmax(1)
        thresholds = self.known_scores[order][at]
        below = self.unknown_scores[None, :] < thresholds[:, None]
        return _divided((self.unknown_weights * below).sum(1), self.unknown_weights.sum(1))


def _mean(weights: Floats, values: NDArray[np.float64] | NDArray[np.bool_]) -> Floats:
    return _divided(weights @ values.astype(np.float64), weights.sum(1))


def _divided(part: Floats, whole: Floats) -> Floats:
    quotient: Floats = part / np.maximum(whole, 1e-9)
    return quotient


def _rate(value: float | None, drawn: Floats) -> Rate | None:
    if value is None:
        return None
    low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
    return Rate(value=value, low=low, high=high)
