"""Two reports side by side: what changed, and whether it is more than chance.

    A.json, B.json ──> rows: name, A, B, B / A, verdict ──> exit code 0, or 3 when B is worse

A percentile changed when the 95 % confidence intervals of the two, from the ranks of their
histograms, do not meet and the ratio is beyond the tolerance; of too few answers (p99 needs
500) it is shown and not judged. Runs differ by more than chance within each: compare several
before believing a small change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pagesight._load.histogram import Histogram

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


def compare(before: Mapping[str, Any], after: Mapping[str, Any], tolerance: float) -> Comparison:
    """Compares two reports.

    Args:
        before: What report.json held before.
        after: And after.
        tolerance: Ratio less 1 from which a change counts, such as 0.1.

    Raises:
        KeyError, TypeError, ValueError: One of them is no report.
    """
    rows = [
        _percentile(name, share, before, after, tolerance) for name, share in _PERCENTILES.items()
    ]
    rows.append(_plain("max", before["latency_ms"]["max"], after["latency_ms"]["max"]))
    rows.append(_rate(before, after, tolerance))
    rows.append(_lost(before, after))
    was, now = before["stages_ms"], after["stages_ms"]
    rows += [
        _plain(f"{stage} p50", was[stage]["p50"], now[stage]["p50"])
        for stage in sorted(was.keys() & now.keys())
    ]
    return Comparison(rows=tuple(rows), differences=tuple(_differences(before, after)))


def _percentile(
    name: str, share: float, before: Mapping[str, Any], after: Mapping[str, Any], tolerance: float
) -> Row:
    a, b = (Histogram.decoded(one["hdr"]["latency"]) for one in (before, after))
    was, now = a.percentile_ms(share), b.percentile_ms(share)
    around_a, around_b = a.interval_ms(share), b.interval_ms(share)
    if was is None or now is None or around_a is None or around_b is None:
        return Row(name=f"{name} ms", before=was, after=now, verdict="same", judged=False)
    verdict: Verdict = "same"
    if now > was * (1 + tolerance) and around_b[0] > around_a[1]:
        verdict = "worse"
    elif now * (1 + tolerance) < was and around_b[1] < around_a[0]:
        verdict = "better"
    return Row(name=f"{name} ms", before=was, after=now, verdict=verdict)


def _rate(before: Mapping[str, Any], after: Mapping[str, Any], tolerance: float) -> Row:
    was, now = float(before["rate_achieved"]), float(after["rate_achieved"])
    verdict: Verdict = "same"
    # An open loop offers what it was told to; what a server did not keep up with shows
    # in latencies and losses.
    closed = before["plan"]["loop"] == after["plan"]["loop"] == "closed"
    if closed and now * (1 + tolerance) < was:
        verdict = "worse"
    elif closed and now > was * (1 + tolerance):
        verdict = "better"
    return Row(name="answered / s", before=was, after=now, verdict=verdict, judged=closed)


def _lost(before: Mapping[str, Any], after: Mapping[str, Any]) -> Row:
    was, now = float(before["lost_share"]), float(after["lost_share"])
    verdict: Verdict = "same"
    if abs(now - was) > LOST_MORE:
        verdict = "worse" if now > was else "better"
    return Row(name="lost %", before=100 * was, after=100 * now, verdict=verdict)


def _plain(name: str, was: float | None, now: float | None) -> Row:
    return Row(name=f"{name} ms", before=was, after=now, verdict="same", judged=False)


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {before['plan'][name]} before, {after['plan'][name]} after"
        for name in _SAME_LOAD
        if before["plan"][name] != after["plan"][name]
    ]
