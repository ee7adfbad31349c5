"""A few answers as one HTML page: each screenshot, its label and the reasons for it.

The page is for the demo and for reviewers; unlike `report` it needs neither true labels nor a run.
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
"""The stages of the pipeline in the order in which they run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRow:
    """Holds one screenshot of the test and its answer."""

    name: str
    """Caption of the screenshot."""
    image: bytes
    """The screenshot, encoded."""
    truth: str | None
    """The true label, or the kind of unknown page (`other_...`); None when not known."""
    label: str
    """The answer: a label or `other`."""
    closest_label: str
    """The label that scored best, whatever the threshold."""
    score: float
    threshold: float
    reasons: tuple[str, ...]
    """The explanation, one sentence each."""
    nearest: bytes | None
    """The best matching gallery picture of the closest label, encoded; None when there is none."""
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds that each stage of the pipeline took, and their `total`."""
    findings: tuple[Finding, ...] = ()
    """Texts that are marked by boxes in both pictures."""

    @property
    def right(self) -> bool | None:
        """Whether the answer is right; None when the truth is not known."""
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
    """The HTML page of some answers.

    Args:
        rows: The answers, in the order in which the page shows them.
        title: The page's heading.
        subtitle: A sentence below the heading.
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
    """The stages in the order of the pipeline, which a reply's map does not have; others last."""
    ordered = [(stage, stage_ms[stage]) for stage in _ORDER if stage in stage_ms]
    others = sorted((k, ms) for k, ms in stage_ms.items() if k not in (*_ORDER, "total"))
    return (*ordered, *others)
