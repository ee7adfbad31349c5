"""Geometry of the drawings, in SVG user units; the templates only write it down.

confusion ──> heat map: one cell per count that is not zero
calibration > distributions: what known pages scored then, and score now
comparison ─> trade-offs: one dot per row, known pages lost against unknown ones kept out
scores ─────> histogram: known pages upwards, unknown ones downwards
score ──────> bar: score and threshold as percentages of a common scale
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pagesight_server.evaluation.compare import Comparison, rejected_share
from pagesight_server.evaluation.display_names import label_name, shorten, width_cells
from pagesight_server.evaluation.metrics import Confusion

MAX_CLASSES = 60
"""Rows of a heat map that can still be read; of more classes the most confused are drawn."""

CELL = 26
_CELL_WIDTH = 6.4
_SLANT = math.radians(60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A name at a place along an axis."""

    at: float
    text: str
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One count of a heat map."""

    x: float
    y: float
    count: int
    right: bool
    opacity: float
    """How much of its row it is, as ink."""
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """A confusion matrix, truth downwards, answer to the right."""

    width: float
    height: float
    left: float
    top: float
    side: float
    """Of the square of cells."""
    ticks: tuple[Tick, ...]
    """Centres, along both axes alike, from the square's corner."""
    cells: tuple[Cell, ...]
    omitted: int
    """Classes left out because there are too many."""


def heat_map(confusion: Confusion) -> HeatMap:
    """Lays out a confusion matrix."""
    kept = _most_confused(confusion)
    names = [shorten(label_name(confusion.labels[i])) for i in kept]
    longest = max(map(width_cells, names), default=0) * _CELL_WIDTH
    left, top, side = longest + 26, math.sin(_SLANT) * longest + 34, CELL * len(kept)
    cells = []
    for y, i in enumerate(kept):
        row = sum(confusion.matrix[i])
        truth = label_name(confusion.labels[i])
        for x, j in enumerate(kept):
            if count := confusion.matrix[i][j]:
                answer = label_name(confusion.labels[j])
                share = f"{count} of {row} images of {truth}"
                cells.append(
                    Cell(
                        x=left + CELL * x,
                        y=top + CELL * y,
                        count=count,
                        right=i == j,
                        opacity=round(0.18 + 0.82 * count / row, 3),
                        title=f"{share}: right" if i == j else f"{share} taken for {answer}",
                    )
                )
    return HeatMap(
        # The last column's slanted name leans out to the right.
        width=left + side + math.cos(_SLANT) * longest + 8,
        height=top + side + 4,
        left=left,
        top=top,
        side=side,
        ticks=tuple(
            Tick(at=CELL * (k + 0.5), text=name, title=label_name(confusion.labels[i]))
            for k, (i, name) in enumerate(zip(kept, names, strict=True))
        ),
        cells=tuple(cells),
        omitted=len(confusion.labels) - len(kept),
    )


def _most_confused(confusion: Confusion) -> list[int]:
    matrix, size = confusion.matrix, len(confusion.labels)
    if size <= MAX_CLASSES:
        return list(range(size))
    mistakes = [sum(matrix[i]) - matrix[i][i] for i in range(size)]
    for row in range(size):
        for column in range(size):
            mistakes[column] += matrix[row][column] * (row != column)
    return sorted(sorted(range(size), key=lambda i: -mistakes[i])[:MAX_CLASSES])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bin of a histogram."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Scores of known pages above the axis, of unknown pages below it."""

    width: float
    height: float
    axis: float
    """Where the axis lies."""
    images: tuple[int, int]
    """Known and unknown."""
    known: tuple[Bar, ...]
    unknown: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    threshold: tuple[float, float]
    """The least and the greatest threshold; equal where all answers share one."""
    threshold_text: str


WIDTH, HALF, BINS = 760.0, 120.0, 48
_MARGIN = 18.0


def histogram(
    known: Sequence[float], unknown: Sequence[float], thresholds: Sequence[float]
) -> Histogram | None:
    """Lays out the score distributions; None when there is no score."""
    values = [*known, *unknown, *thresholds]
    if not known and not unknown:
        return None
    scale = Scale.of(values)
    shares = [_shares(scores, scale) for scores in (known, unknown)]
    tallest = max((share for side in shares for share, _ in side), default=1.0) or 1.0
    width = (WIDTH - 2 * _MARGIN) / BINS
    axis = HALF + 30.0
    sides: list[tuple[Bar, ...]] = []
    for name, side, up in (("known", shares[0], True), ("unknown", shares[1], False)):
        bars = []
        for b, (share, count) in enumerate(side):
            if not count:
                continue
            height = max(1.0, HALF * share / tallest)
            low, high = (scale.low + scale.span * edge / BINS for edge in (b, b + 1))
            bars.append(
                Bar(
                    x=_MARGIN + width * b,
                    y=axis - height if up else axis + 18,
                    width=width - 1,
                    height=height,
                    title=f"{count} {name} ({share:.1%}) at {low:.3f} to {high:.3f}",
                )
            )
        sides.append(tuple(bars))
    low, high = (min(thresholds), max(thresholds)) if thresholds else (0.0, 0.0)
    return Histogram(
        width=WIDTH,
        height=axis + 18 + HALF + 12,
        axis=axis,
        images=(len(known), len(unknown)),
        known=sides[0],
        unknown=sides[1],
        ticks=tuple(Tick(at=_place(v, scale), text=f"{v:g}") for v in scale.ticks()),
        threshold=(_place(low, scale), _place(high, scale)),
        threshold_text=f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}",
    )


def _place(value: float, scale: Scale) -> float:
    return _MARGIN + (WIDTH - 2 * _MARGIN) * (value - scale.low) / scale.span


def _shares(scores: Sequence[float], scale: Scale) -> list[tuple[float, int]]:
    counts = [0] * BINS
    for score in scores:
        counts[min(BINS - 1, int(BINS * (score - scale.low) / scale.span))] += 1
    return [(count / len(scores), count) for count in counts] if scores else []


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of scores shared by several drawings."""

    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Scale:
        """The range of the values, a little wider so that none lies on its edge."""
        low, high = min(values, default=0.0), max(values, default=1.0)
        spare = 0.03 * (high - low) or 0.05
        return Scale(low - spare, high + spare)

    @property
    def span(self) -> float:
        """Its length, positive."""
        return self.high - self.low

    def percent(self, value: float) -> float:
        """Where a value lies, 0 to 100."""
        return round(100 * min(1.0, max(0.0, (value - self.low) / self.span)), 2)

    def ticks(self) -> list[float]:
        """Five to ten round numbers within it."""
        step = 10 ** math.floor(math.log10(self.span / 5))
        step *= next(m for m in (1, 2, 5, 10) if self.span / (step * m) <= 10)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(k * step, 10) for k in range(first, last + 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One row of a comparison."""

    x: float
    y: float
    number: int
    """Of the row, 1 first."""
    family: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeOffs:
    """Unknown pages rejected (upwards) against known pages rejected (to the right)."""

    width: float
    height: float
    left: float
    bottom: float
    side: tuple[float, float]
    """Width and height of the square of dots."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    promised: float
    """Where epsilon lies."""
    dots: tuple[Dot, ...]


MOST_REJECTED = 0.3
"""Share of known pages at the right edge; whoever rejects more stands there."""


def trade_offs(comparison: Comparison) -> TradeOffs | None:
    """Lays out the rows by what their own threshold does; None when none has both figures."""
    left, top, width, height = 52.0, 14.0, 690.0, 300.0
    dots = []
    for number, row in enumerate(comparison.rows, start=1):
        rule = row.both_sides
        kept_out = rejected_share(rule, comparison.unknown) if rule else None
        lost = rule.false_rejection_rate if rule else None
        if lost is None or kept_out is None:
            continue
        dots.append(
            Dot(
                x=left + width * min(1.0, lost / MOST_REJECTED),
                y=top + height * (1 - kept_out),
                number=number,
                family=row.family,
                title=f"{row.name}: {lost:.1%} of known, {kept_out:.1%} of unknown pages rejected",
            )
        )
    if not dots:
        return None
    marks = [0.0, 0.25, 0.5, 0.75, 1.0]
    steps = range(round(MOST_REJECTED / 0.05) + 1)
    return TradeOffs(
        width=left + width + 18,
        height=top + height + 40,
        left=left,
        bottom=top + height,
        side=(width, height),
        x_ticks=tuple(
            Tick(at=left + width * 0.05 * k / MOST_REJECTED, text=f"{5 * k} %") for k in steps
        ),
        y_ticks=tuple(
            Tick(at=top + height * (1 - mark), text=f"{100 * mark:.0f} %") for mark in marks
        ),
        promised=left + width * min(1.0, comparison.epsilon / MOST_REJECTED),
        dots=tuple(dots),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Distributions:
    """Shares of scores at or below each score: of the calibration, and of known test images."""

    width: float
    height: float
    left: float
    bottom: float
    side: tuple[float, float]
    calibrated: str
    """Points of a line."""
    tested: str
    ticks: tuple[Tick, ...]
    shares: tuple[Tick, ...]
    threshold: float
    """The least of them."""


def distributions(
    calibrated: Sequence[float], tested: Sequence[float], thresholds: Sequence[float]
) -> Distributions | None:
    """Lays out both distributions; None when there is nothing to compare."""
    if len(calibrated) < 2 or len(tested) < 2:
        return None
    left, top, width, height = 52.0, 12.0, 690.0, 220.0
    scale = Scale.of([*calibrated, *tested, *thresholds])

    def place(value: float) -> float:
        return left + width * (value - scale.low) / scale.span

    def line(values: Sequence[float]) -> str:
        ordered = sorted(values)
        last = len(ordered) - 1
        return " ".join(
            f"{place(value):.1f},{top + height * (1 - rank / last):.1f}"
            for rank, value in enumerate(ordered)
        )

    return Distributions(
        width=left + width + 18,
        height=top + height + 24,
        left=left,
        bottom=top + height,
        side=(width, height),
        calibrated=line(calibrated),
        tested=line(tested),
        ticks=tuple(Tick(at=place(value), text=f"{value:g}") for value in scale.ticks()),
        shares=tuple(
            Tick(at=top + height * (1 - share), text=f"{100 * share:.0f} %")
            for share in (0.0, 0.25, 0.5, 0.75, 1.0)
        ),
        threshold=place(min(thresholds)),
    )
