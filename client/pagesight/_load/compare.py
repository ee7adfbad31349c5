"""Regression check of two reports: which figures changed significantly.

    A.json, B.json ──> figures of each ──> rows: name, A, B, B / A, verdict
                                             └──> exit code 0, or 3 when B is worse

A percentile changed when the 95 % confidence intervals of the two, from the ranks of their
histograms, are disjoint and the ratio exceeds the tolerance; with too few answers (p99 needs 500)
it is shown without a verdict. Runs vary more than samples within a run: compare several runs
before believing a small change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from pagesight._load.histogram import Histogram

T = TypeVar("T")
Verdict = Literal["same", "better", "worse"]
_PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}
_SAME_LOAD = (
    "rate", "arrivals", "loop", "calls", "streams", "in_flight", "repeat", "ocr", "priorities",
    "deadlines_ms",
)  # fmt: skip
LOST_MORE = 0.005
"""Change of the share of lost messages that counts: half of the 1 % that a rate may lose at most to
be sustained (`knee.LOST`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of both reports."""

    name: str
    before: float | None
    after: float | None
    verdict: Verdict
    judged: bool = True
    """Whether it has a verdict; False: it is only shown."""

    @property
    def ratio(self) -> float | None:
        """Ratio of after to before; None where a value is missing or the first is 0."""
        return None if not self.before or self.after is None else self.after / self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All figures, and the differences of the loads, which make them less comparable."""

    rows: tuple[Row, ...]
    differences: tuple[str, ...]
    """Differences of the loads, one sentence each."""

    @property
    def is_worse(self) -> bool:
        """Whether any figure is worse."""
        return any(row.verdict == "worse" for row in self.rows)

    def plain(self) -> dict[str, Any]:
        """Returns the comparison as a JSON object."""
        return {
            "worse": self.is_worse,
            "rows": [asdict(row) | {"ratio": row.ratio} for row in self.rows],
            "differences": list(self.differences),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """The figures of one report that are compared."""

    latency: Histogram
    max_ms: float | None
    rate_achieved: float
    lost_share: float
    stages_p50_ms: Mapping[str, float | None]
    load: Mapping[str, Any]
    """Settings of the load, by the names in `_SAME_LOAD`."""
    interrupted: bool

    @classmethod
    def of(cls, report: object) -> _Measured:
        stages = _field(report, dict, "stages_ms")
        return cls(
            latency=Histogram.decoded(_field(report, str, "hdr", "latency")),
            max_ms=_ms(report, "latency_ms", "max"),
            rate_achieved=float(_field(report, (int, float), "rate_achieved")),
            lost_share=float(_field(report, (int, float), "lost_share")),
            stages_p50_ms={stage: _ms(report, "stages_ms", stage, "p50") for stage in stages},
            load={name: _field(report, object, "plan", name) for name in _SAME_LOAD},
            interrupted=_field(report, bool, "interrupted"),
        )


def compare(before: object, after: object, tolerance: float) -> Comparison:
    """Compares two reports.

    Args:
        before: The earlier report, as read from its report.json.
        after: The later report.
        tolerance: Least relative change that counts, such as 0.1.

    Raises:
        ValueError: One of them is not a report; the message says which, and what it lacks.
    """
    first, second = _read(before, "the first"), _read(after, "the second")
    rows = [
        _percentile(name, share, first.latency, second.latency, tolerance)
        for name, share in _PERCENTILES.items()
    ]
    rows.append(_shown("max", first.max_ms, second.max_ms))
    rows.append(_rate(first, second, tolerance))
    rows.append(_lost(first.lost_share, second.lost_share))
    was, now = first.stages_p50_ms, second.stages_p50_ms
    rows += [
        _shown(f"{stage} p50", was[stage], now[stage]) for stage in sorted(was.keys() & now.keys())
    ]
    differences = [
        f"{name}: {first.load[name]} before, {second.load[name]} after"
        for name in _SAME_LOAD
        if first.load[name] != second.load[name]
    ]
    differences += [
        f"the {which} was interrupted"
        for which, side in (("first", first), ("second", second))
        if side.interrupted
    ]
    return Comparison(rows=tuple(rows), differences=tuple(differences))


def _read(report: object, which: str) -> _Measured:
    try:
        return _Measured.of(report)
    except ValueError as error:
        raise ValueError(f"{which} is no report.json of `pagesight load`: {error}") from None


def _field(value: object, kind: type[T] | tuple[type[T], ...], *path: str) -> T:
    """Returns a nested field of a report, checked to be of this type."""
    for name in path:
        if not isinstance(value, dict) or name not in value:
            raise ValueError(f"it has no {'.'.join(path)}")
        value = value[name]
    if not isinstance(value, kind):
        raise ValueError(f"its {'.'.join(path)} is {value!r:.40}")
    return value


def _ms(report: object, *path: str) -> float | None:
    """Returns a nested latency; None in a report without answers."""
    value: float | None = _field(report, (int, float, type(None)), *path)
    return value


def _percentile(
    name: str, share: float, before: Histogram, after: Histogram, tolerance: float
) -> Row:
    was, now = before.percentile_ms(share), after.percentile_ms(share)
    interval_was, interval_now = before.interval_ms(share), after.interval_ms(share)
    if was is None or now is None or interval_was is None or interval_now is None:
        return Row(name=f"{name} ms", before=was, after=now, verdict="same", judged=False)
    verdict: Verdict = "same"
    if now > was * (1 + tolerance) and interval_now[0] > interval_was[1]:
        verdict = "worse"
    elif now * (1 + tolerance) < was and interval_now[1] < interval_was[0]:
        verdict = "better"
    return Row(name=f"{name} ms", before=was, after=now, verdict=verdict)


def _rate(before: _Measured, after: _Measured, tolerance: float) -> Row:
    was, now = before.rate_achieved, after.rate_achieved
    verdict: Verdict = "same"
    # An open loop offers a given rate; a server that does not keep up shows in latencies
    # and losses.
    closed = before.load["loop"] == after.load["loop"] == "closed"
    if closed and now * (1 + tolerance) < was:
        verdict = "worse"
    elif closed and now > was * (1 + tolerance):
        verdict = "better"
    return Row(name="answered / s", before=was, after=now, verdict=verdict, judged=closed)


def _lost(was: float, now: float) -> Row:
    verdict: Verdict = "same"
    if abs(now - was) > LOST_MORE:
        verdict = "worse" if now > was else "better"
    return Row(name="lost %", before=100 * was, after=100 * now, verdict=verdict)


def _shown(name: str, was: float | None, now: float | None) -> Row:
    return Row(name=f"{name} ms", before=was, after=now, verdict="same", judged=False)
