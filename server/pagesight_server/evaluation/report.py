"""A run as one HTML page: first the figures, then the pictures behind the errors.

    figures ──> tiles, tables, charts
    outcomes ──> confused, accepted, rejected, doubtful: pairs of screenshot and gallery picture

A figure tells how often an error occurs, only the pictures tell why: so each list of errors
begins with the worst, and shows each beside the gallery picture that matched best.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pagesight_server.common.errors import ImageError
from pagesight_server.evaluation.charts import Scale, distributions, histogram, trade_offs
from pagesight_server.evaluation.compare import Comparison
from pagesight_server.evaluation.heat_map import heat_map
from pagesight_server.evaluation.html import (
    ImageBytes,
    Shot,
    gallery_marks,
    query_marks,
    render,
    thumbnail,
)
from pagesight_server.evaluation.levels import MAX_LEVELS, Band, levels
from pagesight_server.evaluation.mistakes import Mistakes
from pagesight_server.evaluation.prediction import NO_ANSWER
from pagesight_server.evaluation.rounding import percent, rate
from pagesight_server.evaluation.run import Outcome, Run
from pagesight_server.gallery.snapshot import OTHER
from pagesight_server.inference.decode import read_file

MAX_PAIRS = 24
"""Most pairs of pictures in one section: at about 60 kB a pair, four sections have 6 MB."""

MAX_PER_CONFUSION = 3
"""Most pairs of the same truth and answer, so that one bad class does not hide the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A figure at the head of the page."""

    name: str
    value: str
    note: str
    """Small print below the value."""
    bad: bool = False
    """Whether it is a figure to put right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A screenshot beside the gallery picture that matched it best."""

    outcome: Outcome
    query: Shot | None
    """The screenshot; None when its file can no longer be read."""
    nearest: Shot | None
    """The gallery picture; None when there is none or it is not stored."""
    score_percent: float
    """Position of the score on the common scale, 0 to 100."""
    threshold_percent: float
    """Position of the threshold on the common scale, 0 to 100."""
    band: Band | None
    """What the own pictures of the closest page score; None where it has but one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The pairs shown for one kind of error."""

    pairs: tuple[Pair, ...]
    total: int
    """Number of errors of this kind in the run."""


def report(run: Run, image_bytes: ImageBytes, comparison: Comparison | None = None) -> str:
    """The HTML page of a run.

    Args:
        run: The run. Its test images are read again from its folder.
        image_bytes: Returns the gallery's pictures.
        comparison: A comparison on the same images, if one was made.
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
    mistakes = Mistakes.of(run.predictions)
    rows = levels(run.gallery_labels, run.own, [o.prediction for o in readable], scale)
    return render(
        "report.html.j2",
        run=run,
        metrics=run.metrics,
        mistakes=mistakes,
        tiles=_tiles(run, mistakes),
        heat_map=heat_map(run.metrics.confusion),
        histogram=histogram(
            [o.prediction.score for o in readable if o.prediction.known],
            [o.prediction.score for o in readable if not o.prediction.known],
            thresholds,
        ),
        confusions=Counter((o.prediction.truth, o.prediction.closed_label) for o in confused),
        unreadable=Counter(p.truth for p in run.unreadable if not p.known),
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
    """Makes the pairs of a page; each gallery picture is scaled down once."""

    def __init__(self, run: Run, image_bytes: ImageBytes, scale: Scale) -> None:
        self._run = run
        self._image_bytes = image_bytes
        self._scale = scale
        self._nearest: dict[str, Shot | None] = {}

    def section(self, outcomes: Iterable[Outcome], total: int) -> Section:
        first = itertools.islice(outcomes, MAX_PAIRS)
        return Section(pairs=tuple(map(self._pair, first)), total=total)

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
            return None  # it was removed after the run
        return thumbnail(data, self._run.limits)


def _margin(outcome: Outcome) -> float:
    return outcome.prediction.score - outcome.prediction.threshold


def _worst_confusions(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The most frequent confusions first, of each the few errors with the largest margin."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.prediction.truth, outcome.prediction.closed_label].append(outcome)
    ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        outcome
        for _, group in ranked
        for outcome in sorted(group, key=_margin, reverse=True)[:MAX_PER_CONFUSION]
    ]


def _tiles(run: Run, mistakes: Mistakes) -> list[Tile]:
    metrics, opened = run.metrics, run.metrics.open_set
    unknown = sum(kind.n for kind in opened.kinds.values())
    rejected = sum(kind.rejected for kind in opened.kinds.values())
    seconds = run.seconds_per_image
    epsilon = run.ran_with.get("epsilon")
    target = ""
    if isinstance(epsilon, float):
        target = f", {percent(epsilon)} allowed".replace(" %", "\N{NO-BREAK SPACE}%")
    return [
        Tile(
            name="wrong answers",
            value=f"{mistakes.wrong} of {mistakes.answers}",
            note="of all images, as the threshold decides",
            bad=mistakes.wrong > 0,
        ),
        Tile(
            name="micro F1",
            value=rate(metrics.micro_f1),
            note=f"{metrics.n} known images, whatever the threshold",
        ),
        Tile(
            name="macro F1",
            value=rate(metrics.macro_f1),
            note=f"{len(metrics.per_class)} pages, whatever the threshold",
        ),
        Tile(name="AUROC", value=rate(opened.auroc), note="known against unknown"),
        Tile(
            name="unknown rejected",
            value=percent(rejected / unknown if unknown else None),
            note=f"{rejected} of {unknown} unknown images",
        ),
        Tile(
            name="false rejection",
            value=percent(opened.false_rejection_rate),
            note=f"of known images{target}",
        ),
        Tile(
            name="FPR at 95 % TPR",
            value=percent(opened.fpr_at_95tpr),
            note="of unknown images accepted",
        ),
        Tile(
            name="overall accuracy",
            value=rate(opened.overall_accuracy),
            note="other is right for unknown images",
        ),
        Tile(
            name="time per image",
            value="–" if seconds is None else f"{seconds:.3f} s",
            note="decode to decision"
            + (f", mean of {run.timed_alone} alone" if run.timed_alone else ""),
        ),
    ]


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested mappings as rows of a table, with dotted keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
