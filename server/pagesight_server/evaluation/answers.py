"""A few answers as one HTML page: what was asked, what was said, and why.

For the demo and for reviewers; unlike `report` it needs no truth and no run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pagesight_server.evaluation.charts import Scale
from pagesight_server.evaluation.html import Shot, gallery_marks, query_marks, render, thumbnail
from pagesight_server.gallery.snapshot import OTHER, is_reserved
from pagesight_server.recognition.explanation import Explanation
from pagesight_server.recognition.findings import Finding
from pagesight_server.text.reading import Box

NOTHING = Explanation()

_ORDER = ("decode", "encode", "read", "search", "evidence", "decide")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRow:
    """One screenshot and its answer."""

    name: str
    """What to call the screenshot."""
    image: bytes
    truth: str | None
    """The page that it shows or a kind of `other`; None when nobody knows."""
    label: str
    closest_label: str
    score: float
    threshold: float
    reasons: tuple[str, ...]
    nearest: bytes | None
    """The gallery picture that spoke for the closest page; None when there is none."""
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    """Texts to box in both pictures."""

    @property
    def right(self) -> bool | None:
        """Whether the answer is right; None when nobody knows."""
        if self.truth is None:
            return None
        return self.label == (OTHER if is_reserved(self.truth) else self.truth)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Card:
    row: AnswerRow
    query: Shot | None
    nearest: Shot | None
    score_percent: float
    threshold_percent: float
    stages: tuple[tuple[str, float], ...]
    total_ms: float | None


def answers_report(rows: Sequence[AnswerRow], title: str, *, subtitle: str = "") -> str:
    """The page of some answers, in the order given.

    Args:
        rows: The answers.
        title: The page's heading.
        subtitle: One sentence below it.
    """
    scale = Scale.of([value for row in rows for value in (row.score, row.threshold)])
    judged = [row.right for row in rows if row.right is not None]
    return render(
        "answers.html.j2",
        title=title,
        subtitle=subtitle,
        other=OTHER,
        rejected=sum(row.label == OTHER for row in rows),
        judged=len(judged),
        right=sum(judged),
        cards=[
            _Card(
                row=row,
                query=_shot(row.image, query_marks(row.findings)),
                nearest=_shot(row.nearest, gallery_marks(row.findings)),
                score_percent=scale.percent(row.score),
                threshold_percent=scale.percent(row.threshold),
                stages=_stages(row.stage_ms),
                total_ms=row.stage_ms.get("total"),
            )
            for row in rows
        ],
    )


def _shot(image: bytes | None, boxes: Sequence[tuple[Box, Finding]]) -> Shot | None:
    shot = thumbnail(image)
    return shot.marked(boxes) if shot else None


def _stages(stage_ms: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """Stages in the order of the pipeline: a reply's map has none. Unknown ones come last."""
    known = [(stage, stage_ms[stage]) for stage in _ORDER if stage in stage_ms]
    rest = sorted((k, ms) for k, ms in stage_ms.items() if k not in (*_ORDER, "total"))
    return (*known, *rest)
