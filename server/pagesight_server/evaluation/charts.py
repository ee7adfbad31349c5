"""Geometry of the report's charts, in SVG user units; the templates only render it.

scores ─────> histogram: known pages upwards, unknown ones downwards
calibration > cumulative distributions: scores of the calibration set and of the test set
comparison ─> trade-offs: one dot per method, rejection of unknown against of known pages
score ──────> bar: score and threshold as percentages of a common scale
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pagesight_server.evaluation.compare import Comparison, rejected_share
from pagesight_server.evaluation.rounding import percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A labelled position on an axis."""

    at: float
    """Position along the axis."""
    text: str
    title: str = ""
    """Tooltip: the unabridged text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """The rectangle of one bin of a histogram."""

    x: float
    """Left edge."""
    y: float
    """Upper edge."""
    width: float
    height: float
    title: str
    """Tooltip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Two histograms of scores: known pages above a common axis, unknown pages below it."""

    width: float
    """Width of the whole chart."""
    height: float
    """Height of the whole chart."""
    axis: float
    """Vertical position of the line on which the bars of known pages stand."""
    images: tuple[int, int]
    """Number of known and of unknown images."""
    known: tuple[Bar, ...]
    unknown: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    """Scores at horizontal positions."""
    threshold: tuple[float, float]
    """Horizontal positions of the least and the greatest threshold; equal where there is one."""
    threshold_text: str


WIDTH, HALF, BINS = 760.0, 120.0, 48
"""Width of a histogram, height of its tallest bar, number of bins: about 15 units to a bin."""
_MARGIN = 18.0
"""Space left and right of the bins, for half the width of a tick's text."""
_TICK_BAND = 18
"""Height of the band between the two histograms in which the ticks are written."""


def histogram(
    known: Sequence[float], unknown: Sequence[float], thresholds: Sequence[float]
) -> Histogram | None:
    """Lays out the score distributions; None when there is no score."""
    values = [*known, *unknown, *thresholds]
    if not known and not unknown:
        return None
    scale = Scale.of(values)
    histograms = [_binned(scores, scale) for scores in (known, unknown)]
    tallest = max((share for side in histograms for share, _ in side), default=1.0) or 1.0
    width = (WIDTH - 2 * _MARGIN) / BINS
    axis = HALF + 30.0
    sides: list[tuple[Bar, ...]] = []
    for name, side, up in (("known", histograms[0], True), ("unknown", histograms[1], False)):
        bars = []
        for b, (share, count) in enumerate(side):
            if not count:
                continue
            height = max(1.0, HALF * share / tallest)
            low, high = (scale.low + scale.span * edge / BINS for edge in (b, b + 1))
            bars.append(
                Bar(
                    x=_MARGIN + width * b,
                    y=axis - height if up else axis + _TICK_BAND,
                    width=width - 1,
                    height=height,
                    title=f"{count} {name} ({percent(share)}) at {low:.3f} to {high:.3f}",
                )
            )
        sides.append(tuple(bars))
    low, high = (min(thresholds), max(thresholds)) if thresholds else (0.0, 0.0)
    return Histogram(
        width=WIDTH,
        height=axis + _TICK_BAND + HALF + 12,
        axis=axis,
        images=(len(known), len(unknown)),
        known=sides[0],
        unknown=sides[1],
        ticks=tuple(Tick(at=_x(v, scale), text=f"{v:g}") for v in scale.ticks()),
        threshold=(_x(low, scale), _x(high, scale)),
        threshold_text=f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}",
    )


def _x(value: float, scale: Scale) -> float:
    """Horizontal position of a score in a histogram."""
    return _MARGIN + (WIDTH - 2 * _MARGIN) * (value - scale.low) / scale.span


def _binned(scores: Sequence[float], scale: Scale) -> list[tuple[float, int]]:
    """Share and count of the scores in each of `BINS` bins; no bins without scores."""
    counts = [0] * BINS
    for score in scores:
        counts[min(BINS - 1, int(BINS * (score - scale.low) / scale.span))] += 1
    return [(count / len(scores), count) for count in counts] if scores else []


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of scores shared by several charts."""

    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Scale:
        """The range of the values, widened by 3 % at either end so that none lies on its edge."""
        low, high = min(values, default=0.0), max(values, default=1.0)
        # Equal values have no range to take 3 % of.
        spare = 0.03 * (high - low) or 0.05
        return Scale(low - spare, high + spare)

    @property
    def span(self) -> float:
        """Length of the range, positive."""
        return self.high - self.low

    def percent(self, value: float) -> float:
        """Position of a value within the range, 0 to 100; values outside are clipped."""
        return round(100 * min(1.0, max(0.0, (value - self.low) / self.span)), 2)

    def ticks(self) -> list[float]:
        """Five to ten round numbers within the range, ascending."""
        step = 10 ** math.floor(math.log10(self.span / 5))
        step *= next(m for m in (1, 2, 5, 10) if self.span / (step * m) <= 10)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(k * step, 10) for k in range(first, last + 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """The operating point of one row of a comparison."""

    x: float
    """Horizontal position of its centre."""
    y: float
    """Vertical position of its centre."""
    number: int
    """Number of the row in the table, from 1."""
    family: str
    """Family of the method, which is its colour."""
    title: str
    """Tooltip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeOffs:
    """Operating points: unknown pages rejected (y) against known pages rejected (x)."""

    width: float
    """Width of the whole chart."""
    height: float
    """Height of the whole chart."""
    left: float
    """Left edge of the plot area."""
    bottom: float
    """Lower edge of the plot area."""
    side: tuple[float, float]
    """Width and height of the plot area."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    epsilon: float
    """Horizontal position of epsilon, the target false rejection rate."""
    dots: tuple[Dot, ...]


MOST_REJECTED = 0.3
"""False rejection rate at the right edge, beyond which no method is useful; dots are clipped."""


def trade_offs(comparison: Comparison) -> TradeOffs | None:
    """Lays out the rows' operating points at the threshold `both_sides`; None without any."""
    left, top, width, height = 52.0, 14.0, 690.0, 300.0
    dots = []
    for number, row in enumerate(comparison.rows, start=1):
        rule = row.both_sides
        true_rejections = rejected_share(rule, comparison.unknown) if rule else None
        false_rejections = rule.false_rejection_rate if rule else None
        if false_rejections is None or true_rejections is None:
            continue
        dots.append(
            Dot(
                x=left + width * min(1.0, false_rejections / MOST_REJECTED),
                y=top + height * (1 - true_rejections),
                number=number,
                family=row.family,
                title=f"{row.name}: {percent(false_rejections)} of known, "
                f"{percent(true_rejections)} of unknown pages rejected",
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
        epsilon=left + width * min(1.0, comparison.epsilon / MOST_REJECTED),
        dots=tuple(dots),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Distributions:
    """Cumulative distributions of scores: of the calibration set, and of the known test images."""

    width: float
    """Width of the whole chart."""
    height: float
    """Height of the whole chart."""
    left: float
    """Left edge of the plot area."""
    bottom: float
    """Lower edge of the plot area."""
    side: tuple[float, float]
    """Width and height of the plot area."""
    calibrated: str
    """The calibration set's curve, as the `points` of an SVG polyline."""
    tested: str
    """The test images' curve, as the `points` of an SVG polyline."""
    ticks: tuple[Tick, ...]
    """Scores at horizontal positions."""
    shares: tuple[Tick, ...]
    """Cumulative shares at vertical positions."""
    threshold: float
    """Horizontal position of the least threshold."""


def distributions(
    calibrated: Sequence[float], tested: Sequence[float], thresholds: Sequence[float]
) -> Distributions | None:
    """Lays out both distributions; None when either has fewer than two scores.

    Args:
        calibrated: Scores of the calibration set, or their quantiles.
        tested: Scores of known test images.
        thresholds: The thresholds of their answers.
    """
    if len(calibrated) < 2 or len(tested) < 2:
        return None
    left, top, width, height = 52.0, 12.0, 690.0, 220.0
    scale = Scale.of([*calibrated, *tested, *thresholds])

    def x_of(value: float) -> float:
        return left + width * (value - scale.low) / scale.span

    def polyline(values: Sequence[float]) -> str:
        ordered = sorted(values)
        last = len(ordered) - 1
        return " ".join(
            f"{x_of(value):.1f},{top + height * (1 - rank / last):.1f}"
            for rank, value in enumerate(ordered)
        )

    return Distributions(
        width=left + width + 18,
        height=top + height + 24,
        left=left,
        bottom=top + height,
        side=(width, height),
        calibrated=polyline(calibrated),
        tested=polyline(tested),
        ticks=tuple(Tick(at=x_of(value), text=f"{value:g}") for value in scale.ticks()),
        shares=tuple(
            Tick(at=top + height * (1 - share), text=f"{100 * share:.0f} %")
            for share in (0.0, 0.25, 0.5, 0.75, 1.0)
        ),
        threshold=x_of(min(thresholds)),
    )
