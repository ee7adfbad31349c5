"""Two reports side by side: what changed, and whether it is more than chance.

    A.json, B.json ──> what is compared of each ──> rows: name, A, B, B / A, verdict
                                                       └──> exit code 0, or 3 when B is worse

A percentile changed when the 95 % confidence intervals of the two, from the ranks of their
histograms, do not meet and the ratio is beyond the tolerance; of too few answers (p99 needs
500) it is shown and not judged. Runs differ by more than chance within each: compare several
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
"""A share of lost messages that grows by more is worse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of both reports."""

    name: str
    before: float | None
    after: float | None
    verdict: Verdict
    judged: bool = True
    """False: only shown."""

    @property
    def ratio(self) -> float | None:
        """After to before; None where one is missing or 0."""
        return None if not self.before or self.after is None else self.after / self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All figures, and what makes them hard to compare."""

    rows: tuple[Row, ...]
    differences: tuple[str, ...]
    """How the loads differ, in words."""

    @property
    def is_worse(self) -> bool:
        """Whether anything is."""
        return any(row.verdict == "worse" for row in self.rows)

    def plain(self) -> dict[str, Any]:
        """Returns it for machines."""
        return {
            "worse": self.is_worse,
            "rows": [asdict(row) | {"ratio": row.ratio} for row in self.rows],
            "differences": list(self.differences),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What is compared of one report."""

    latency: Histogram
    max_ms: float | None
    rate_achieved: float
    lost_share: float
    stages_p50_ms: Mapping[str, float | None]
    load: Mapping[str, Any]
    """What was sent, by the names of `_SAME_LOAD`."""
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
        before: What report.json held before.
        after: And after.
        tolerance: Ratio less 1 from which a change counts, such as 0.1.

    Raises:
        ValueError: One of them is no report; says which of the two, and what it lacks.
    """
    one, other = _read(before, "the first"), _read(after, "the second")
    rows = [
        _percentile(name, share, one.latency, other.latency, tolerance)
        for name, share in _PERCENTILES.items()
    ]
    rows.append(_shown("max", one.max_ms, other.max_ms))
    rows.append(_rate(one, other, tolerance))
    rows.append(_lost(one.lost_share, other.lost_share))
    was, now = one.stages_p50_ms, other.stages_p50_ms
    rows += [
        _shown(f"{stage} p50", was[stage], now[stage]) for stage in sorted(was.keys() & now.keys())
    ]
    differences = [
        f"{name}: {one.load[name]} before, {other.load[name]} after"
        for name in _SAME_LOAD
        if one.load[name] != other.load[name]
    ]
    broken = [which for which, side in (("first", one), ("second", other)) if side.interrupted]
    differences += [f"the {which} was broken off" for which in broken]
    return Comparison(rows=tuple(rows), differences=tuple(differences))


def _read(report: object, which: str) -> _Measured:
    try:
        return _Measured.of(report)
    except ValueError as error:
        raise ValueError(f"{which} is no report.json of `pagesight load`: {error}") from None


def _field(found: object, kind: type[T] | tuple[type[T], ...], *path: str) -> T:
    for name in path:
        if not isinstance(found, dict) or name not in found:
            raise ValueError(f"it has no {'.'.join(path)}")
        found = found[name]
    if not isinstance(found, kind):
        raise ValueError(f"its {'.'.join(path)} is {found!r:.40}")
    return found


def _ms(report: object, *path: str) -> float | None:
    # Of nothing there is no latency.
    value: float | None = _field(report, (int, float, type(None)), *path)
    return value


def _percentile(
    name: str, share: float, before: Histogram, after: Histogram, tolerance: float
) -> Row:
    was, now = before.percentile_ms(share), after.percentile_ms(share)
    around_was, around_now = before.interval_ms(share), after.interval_ms(share)
    if was is None or now is None or around_was is None or around_now is None:
        return Row(name=f"{name} ms", before=was, after=now, verdict="same", judged=False)
    verdict: Verdict = "same"
    if now > was * (1 + tolerance) and around_now[0] > around_was[1]:
        verdict = "worse"
    elif now * (1 + tolerance) < was and around_now[1] < around_was[0]:
        verdict = "better"
    return Row(name=f"{name} ms", before=was, after=now, verdict=verdict)


def _rate(before: _Measured, after: _Measured, tolerance: float) -> Row:
    was, now = before.rate_achieved, after.rate_achieved
    verdict: Verdict = "same"
    # An open loop offers what it was told to; what a server did not keep up with shows
    # in latencies and losses.
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
