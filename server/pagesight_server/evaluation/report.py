"""A run as one HTML page: first the figures, then the pictures behind the mistakes.

    figures ──> tiles, tables, drawings
    outcomes ──> confused, accepted, rejected, doubtful: pairs of screenshot and gallery picture

A figure says how often; only the pair of pictures says why, so each list of mistakes
begins with the worst and shows what spoke for it.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pagesight_server.common.errors import ImageError
from pagesight_server.evaluation.charts import Scale, distributions, heat_map, histogram, trade_offs
from pagesight_server.evaluation.compare import Comparison
from pagesight_server.evaluation.html import (
    ImageBytes,
    Shot,
    gallery_marks,
    percent,
    query_marks,
    rate,
    render,
    thumbnail,
)
from pagesight_server.evaluation.levels import MAX_LEVELS, Band, levels
from pagesight_server.evaluation.prediction import NO_ANSWER
from pagesight_server.evaluation.run import Outcome, Run
from pagesight_server.gallery.snapshot import OTHER
from pagesight_server.inference.decode import read_file

MAX_PAIRS = 24
"""Pairs of pictures in one section; a pair weighs about 60 kB."""

MAX_PER_CONFUSION = 3
"""Pairs of one truth and answer, so that one bad class does not hide the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A figure of the heading."""

    name: str
    value: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A screenshot beside the gallery picture that spoke for its answer."""

    outcome: Outcome
    query: Shot | None
    nearest: Shot | None
    score_percent: float
    threshold_percent: float
    band: Band | None
    """What the own pictures of the closest page score; None where it has but one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The pairs shown of one kind of mistake."""

    pairs: tuple[Pair, ...]
    total: int
    """Mistakes of this kind in the run."""


def report(run: Run, image_bytes: ImageBytes, comparison: Comparison | None = None) -> str:
    """The page of a run.

    Args:
        run: What to show. Its test images are read again from its folder.
        image_bytes: Gives the gallery's pictures.
        comparison: Of the same images, when there is one.
    """
    readable = [o for o in run.outcomes if not o.prediction.error]
    accepted = [o for o in readable if not o.prediction.known and o.prediction.label != OTHER]
    rejected = [o for o in readable if o.prediction.known and o.prediction.label == OTHER]
    confused = [
        o
        for o in readable
        if o.prediction.known
        and o.prediction.closed_label not in (o.prediction.truth, NO_ANSWER)
        and o.prediction.truth in run.gallery_labels
    ]
    doubtful = [o for o in readable if o.doubtful]
    scores = [o.prediction.score for o in readable]
    thresholds = [o.prediction.threshold for o in readable]
    own = [score for of_label in run.own.values() for score in of_label.scores]
    scale = Scale.of([*scores, *thresholds, *own])
    pairs = _PairMaker(run, image_bytes, scale)
    rows = levels(run.gallery_labels, run.own, [o.prediction for o in readable], scale)
    return render(
        "report.html.j2",
        run=run,
        metrics=run.metrics,
        tiles=_tiles(run),
        heat_map=heat_map(run.metrics.confusion),
        histogram=histogram(
            [o.prediction.score for o in readable if o.prediction.known],
            [o.prediction.score for o in readable if not o.prediction.known],
            thresholds,
        ),
        confusions=Counter((o.prediction.truth, o.prediction.closed_label) for o in confused),
        confused=pairs.section(_worst_confusions(confused), len(confused)),
        accepted=pairs.section(sorted(accepted, key=_margin, reverse=True), len(accepted)),
        rejected=pairs.section(sorted(rejected, key=_margin), len(rejected)),
        levels=rows[:MAX_LEVELS],
        levels_left=max(0, len(rows) - MAX_LEVELS),
        distributions=distributions(
            run.calibrated,
            [o.prediction.score for o in readable if o.prediction.known],
            thresholds,
        ),
        doubtful=pairs.section(sorted(doubtful, key=_margin), len(doubtful)),
        ran_with=list(_flat(run.ran_with)),
        comparison=comparison,
        trade_offs=trade_offs(comparison) if comparison else None,
    )


class _PairMaker:
    """Makes pairs, each gallery picture scaled down once."""

    def __init__(self, run: Run, image_bytes: ImageBytes, scale: Scale) -> None:
        self._run = run
        self._image_bytes = image_bytes
        self._scale = scale
        self._nearest: dict[str, Shot | None] = {}

    def section(self, outcomes: Iterable[Outcome], total: int) -> Section:
        shown = itertools.islice(outcomes, MAX_PAIRS)
        return Section(pairs=tuple(map(self._pair, shown)), total=total)

    def _pair(self, outcome: Outcome) -> Pair:
        picture_id = outcome.picture_id
        if picture_id and picture_id not in self._nearest:
            self._nearest[picture_id] = thumbnail(self._image_bytes(picture_id), self._run.limits)
        findings = outcome.explanation.findings
        query, nearest = self._query(outcome.prediction.path), self._nearest.get(picture_id)
        return Pair(
            outcome=outcome,
            query=query.marked(query_marks(findings)) if query else None,
            nearest=nearest.marked(gallery_marks(findings)) if nearest else None,
            score_percent=self._scale.percent(outcome.prediction.score),
            threshold_percent=self._scale.percent(outcome.prediction.threshold),
            band=Band.of(self._run.own.get(outcome.prediction.closed_label), self._scale),
        )

    def _query(self, path: str) -> Shot | None:
        try:
            data = read_file(self._run.folder / path, self._run.limits)
        except ImageError:
            # Removed since the run: the report can do without.
            return None
        return thumbnail(data, self._run.limits)


def _margin(outcome: Outcome) -> float:
    return outcome.prediction.score - outcome.prediction.threshold


def _worst_confusions(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The commonest confusions first, the surest mistakes of each, a few of each."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.prediction.truth, outcome.prediction.closed_label].append(outcome)
    ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        outcome
        for _, group in ranked
        for outcome in sorted(group, key=_margin, reverse=True)[:MAX_PER_CONFUSION]
    ]


def _tiles(run: Run) -> list[Tile]:
    metrics, opened = run.metrics, run.metrics.open_set
    unknown = sum(kind.n for kind in opened.kinds.values())
    rejected = sum(kind.rejected for kind in opened.kinds.values())
    seconds = run.seconds_per_image
    epsilon = run.ran_with.get("epsilon")
    promised = f", {percent(epsilon)} allowed" if isinstance(epsilon, float) else ""
    return [
        Tile(name="micro F1", value=rate(metrics.micro_f1), note=f"{metrics.n} known images"),
        Tile(name="macro F1", value=rate(metrics.macro_f1), note=f"{len(metrics.per_class)} pages"),
        Tile(name="AUROC", value=rate(opened.auroc), note="known against unknown"),
        Tile(
            name="unknown rejected",
            value=percent(rejected / unknown if unknown else None),
            note=f"{rejected} of {unknown} unknown images",
        ),
        Tile(
            name="false rejection",
            value=percent(opened.false_rejection_rate),
            note=f"of known images{promised}",
        ),
        Tile(
            name="FPR at 95 % TPR",
            value=percent(opened.fpr_at_95tpr),
            note="of unknown images accepted",
        ),
        Tile(
            name="overall accuracy",
            value=rate(opened.overall_accuracy),
            note="other counting as an answer",
        ),
        Tile(
            name="time per image",
            value="–" if seconds is None else f"{seconds:.3f} s",
            note="decode to decision, mean",
        ),
    ]


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested conditions as rows of a table."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
