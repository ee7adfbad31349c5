"""Where scores lie: against the threshold, and against what the own pictures of a label score.

    own pictures, left out ──> band from least to greatest, mean ─┐
    test screenshots of the label ──> dots ───────────────────────┴─> one strip per label
    threshold of the gallery ──> mark

A screenshot that is rejected may fit its page as well as the page's own pictures fit each other:
then the page wants more pictures. Or it may fit worse: then it shows something new.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pagesight_server.curation.own_scores import OwnScores
from pagesight_server.evaluation.charts import Scale
from pagesight_server.evaluation.prediction import Prediction
from pagesight_server.gallery.snapshot import OTHER

MAX_LEVELS = 100
"""Labels of a report; those with most false rejections come first."""

MAX_DOTS = 60
"""Test screenshots drawn of one label, those that score least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """What a label's own pictures score, as a stretch of a strip."""

    own: OwnScores
    left_percent: float
    """Where the least score lies, 0 to 100."""
    width_percent: float
    mean_percent: float

    @staticmethod
    def of(own: OwnScores | None, scale: Scale) -> Band | None:
        """The band of some scores; None where there are none."""
        if own is None:
            return None
        left = scale.percent(own.least)
        return Band(
            own=own,
            left_percent=left,
            width_percent=round(scale.percent(own.greatest) - left, 2),
            mean_percent=scale.percent(own.mean),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Compares the scores of one label with the threshold."""

    label: str
    band: Band | None
    """Of its own pictures; None where it has but one, or none."""
    tested: int
    """Test screenshots of it that could be read."""
    rejected: int
    """How many of these were answered `other`."""
    dots: tuple[tuple[float, bool], ...]
    """Where they lie, 0 to 100, and whether they were rejected."""
    threshold_percents: tuple[float, ...]
    """Where the threshold lies; several where the gallery changed during the run."""


def levels(
    labels: frozenset[str],
    own: Mapping[str, OwnScores],
    predictions: Sequence[Prediction],
    scale: Scale,
) -> list[Level]:
    """Every label of the gallery or the test, those with most false rejections first.

    Args:
        labels: Of the gallery.
        own: What its own pictures score.
        predictions: Of images that could be read.
        scale: Of the strips.
    """
    tested: defaultdict[str, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        if prediction.known:
            tested[prediction.truth].append(prediction)
    thresholds = tuple(sorted({scale.percent(p.threshold) for p in predictions}))
    rows = []
    for label in labels | tested.keys():
        images = sorted(tested[label], key=lambda p: p.score)
        rows.append(
            Level(
                label=label,
                band=Band.of(own.get(label), scale),
                tested=len(images),
                rejected=sum(p.label == OTHER for p in images),
                dots=tuple((scale.percent(p.score), p.label == OTHER) for p in images[:MAX_DOTS]),
                threshold_percents=thresholds,
            )
        )
    return sorted(
        rows,
        key=lambda row: (-row.rejected, -(row.band.own.rejected if row.band else 0), row.label),
    )
