"""Comparison of two reports: a verdict on each figure, and one on all of them.

    A.json, B.json ──> the same load? ──no──> no verdict
                          └─yes──> figures: before, after, change with its 95 % interval
                                     └──> better / same / worse ──> one verdict

A figure changed when the change exceeds the tolerance and the 95 % intervals of the two are
disjoint, which happens by chance in less than one of a hundred comparisons. The interval of a
percentile is that of `blocks`, which takes into account that messages near in time are alike. Runs
vary more than the blocks within a run: compare several runs before believing a small change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from pagesight._load.blocks import Blocks
from pagesight._load.histogram import student_t

T = TypeVar("T")
Verdict: TypeAlias = Literal["better", "same", "worse"]
Interval: TypeAlias = tuple[float, float]
_PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}
_SAME_LOAD = (
    "loop", "arrivals", "calls", "streams", "in_flight", "timeout_s", "gallery", "ocr", "repeat",
    "weights", "priorities", "deadlines_ms",
)  # fmt: skip
"""Settings in which a difference makes another load. The rate is one as well, within the
tolerance."""
_NOTED = ("duration_s", "warmup_s", "count", "processes", "groups", "names")
"""Settings that may change figures, and whose differences are pointed out."""
LOST_MORE = 0.005
"""Change of the share of lost messages that counts: half of the 1 % that a rate may lose at most to
be sustained (`knee.LOST`)."""
SIZE = 1.1
"""Ratio of the mean sizes of pictures above which others were sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Compares one figure of two reports."""

    name: str
    before: float | None
    after: float | None
    change: float | None = None
    """Ratio of after to before; of a share, the difference. None where it is undefined."""
    interval: Interval | None = None
    """What the change is between the ends of the 95 % confidence intervals of the two; None where
    the answers are too few for one."""
    verdict: Verdict | None = None
    """None: it is only shown."""
    is_share: bool = False
    """Whether it is a share of messages, whose change is a difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All figures, and what they say together."""

    rows: tuple[Row, ...]
    differences: tuple[str, ...]
    """Differences of the loads, for which there is no verdict."""
    notes: tuple[str, ...]
    """Other differences of the conditions, which may explain a change."""

    @property
    def verdict(self) -> Verdict | Literal["none"]:
        """Worse if any figure is, else better if any is; none where the reports allow no verdict.

        They allow none where the loads differ, and where the answers are too few to judge any
        latency (or the knee).
        """
        if self.differences:
            return "none"
        verdicts = {row.verdict for row in self.rows}
        if "worse" in verdicts:
            return "worse"
        if not any(row.verdict for row in self.rows if not row.is_share):
            return "none"
        return "better" if "better" in verdicts else "same"

    @property
    def in_words(self) -> str:
        """Says the verdict as a sentence."""
        if self.differences:
            return f"no verdict: the loads differ ({'; '.join(self.differences)})"
        if self.verdict == "none":
            return (
                "no verdict: too few answers to judge any latency (p50 takes 10 in each report, "
                "and more where they vary)"
            )
        changed = [
            f"{row.name} {row.verdict}" for row in self.rows if row.verdict in ("worse", "better")
        ]
        unjudged = [
            row.name
            for row in self.rows
            if row.verdict is None and row.name.removesuffix(" ms") in _PERCENTILES
        ]
        words = self.verdict + (f": {', '.join(changed)}" if changed else "")
        few = f" (too few answers for {', '.join(unjudged)})" if unjudged else ""
        return words + (few if self._judges_latency else "")

    @property
    def _judges_latency(self) -> bool:
        return any(row.verdict for row in self.rows if row.name.endswith(" ms"))

    def plain(self) -> dict[str, Any]:
        """Returns the comparison as a JSON object."""
        return {
            "verdict": self.verdict,
            "in_words": self.in_words,
            "rows": [asdict(row) for row in self.rows],
            "differences": list(self.differences),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What is compared of one report."""

    blocks: Blocks
    max_ms: float | None
    rate_achieved: float
    due: int
    lost: int
    stages_p50_ms: Mapping[str, float | None]
    plan: Mapping[str, Any]
    knee: Mapping[str, Any] | None
    targets: Mapping[str, object]
    """Limits of the SLO, by name."""
    mean_bytes: float
    conditions: Mapping[str, object]
    interrupted: bool

    @classmethod
    def of(cls, report: object) -> _Measured:
        stages = _field(report, dict, "stages_ms")
        sent, unsent = _field(report, int, "sent"), _field(report, int, "unsent")
        steps = isinstance(report, dict) and "steps" in report
        return cls(
            blocks=Blocks.from_plain(_field(report, dict, "hdr", "blocks")),
            max_ms=_ms(report, "latency_ms", "max"),
            rate_achieved=float(_field(report, (int, float), "rate_achieved")),
            due=sent + unsent,
            lost=sent + unsent - _field(report, int, "ok"),
            stages_p50_ms={stage: _ms(report, "stages_ms", stage, "p50") for stage in stages},
            plan={
                name: _field(report, object, "plan", name)
                for name in ("rate", *_SAME_LOAD, *_NOTED)
            },
            knee={
                name: _field(report, (int, float, type(None)), "knee", name)
                for name in ("rate", "fails_at")
            }
            if steps
            else None,
            targets={
                name: _field(targets, (int, float), name, limit)
                for targets, limit in (
                    (_field(report, dict, "slo"), "limit_ms"),
                    (_field(report, dict, "slo_shares"), "limit"),
                )
                for name in targets
            },
            mean_bytes=float(_field(report, (int, float), "pictures", "mean_bytes")),
            conditions={
                "machine": _field(report, object, "machine"),
                "pagesight": _field(report, object, "pagesight"),
                "answered by": sorted(_field(report, dict, "servers")),
            },
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
    differences = _differences(first, second, tolerance)
    judged = not differences
    rows = [
        _percentile(name, share, first.blocks, second.blocks, tolerance, judged)
        for name, share in _PERCENTILES.items()
    ]
    rows.append(_shown("max ms", first.max_ms, second.max_ms))
    rows.append(_rate(first, second, tolerance, judged))
    rows.append(_lost(first, second, judged))
    if first.knee is not None and second.knee is not None:
        # The rest is of the two knees, so of two different loads.
        rows = [_shown(row.name, row.before, row.after) for row in rows]
        rows.insert(0, _knee(first.knee, second.knee, judged))
    was, now = first.stages_p50_ms, second.stages_p50_ms
    rows += [
        _shown(f"{stage} p50 ms", was[stage], now[stage])
        for stage in sorted(was.keys() & now.keys())
    ]
    return Comparison(rows=tuple(rows), differences=differences, notes=_notes(first, second))


def _differences(first: _Measured, second: _Measured, tolerance: float) -> tuple[str, ...]:
    """Says in what the loads differ, one clause each."""
    if (first.knee is None) != (second.knee is None):
        return ("one is of several rates, the other of one",)
    said = [
        f"{name.removesuffix('_s').replace('_', ' ')}: {first.plan[name]} before, "
        f"{second.plan[name]} after"
        for name in _SAME_LOAD
        if first.plan[name] != second.plan[name]
    ]
    was, now = first.plan["rate"], second.plan["rate"]
    same_rate = was == now
    if isinstance(was, (int, float)) and isinstance(now, (int, float)):
        same_rate = max(was, now) <= (1 + tolerance) * min(was, now)
    if first.knee is None and not same_rate:
        rates = ["none" if rate is None else f"{rate:.4g}" for rate in (was, now)]
        said.insert(0, f"rate: {rates[0]} before, {rates[1]} after")
    if first.knee is not None and first.targets != second.targets:
        said.append(f"targets: {first.targets or 'none'} before, {second.targets or 'none'} after")
    sizes = sorted((first.mean_bytes, second.mean_bytes))
    if sizes[1] > SIZE * sizes[0]:
        said.append(
            f"pictures of {first.mean_bytes:,.0f} bytes before, {second.mean_bytes:,.0f} after"
        )
    said += [
        f"the {which} was interrupted"
        for which, side in (("first", first), ("second", second))
        if side.interrupted and side.knee is not None
    ]
    return tuple(said)


def _notes(first: _Measured, second: _Measured) -> tuple[str, ...]:
    said = [
        f"{name.removesuffix('_s')}: {first.plan[name]} before, {second.plan[name]} after"
        for name in _NOTED
        if first.plan[name] != second.plan[name]
    ]
    said += [
        f"{name}: {_short(first.conditions[name])} before, {_short(second.conditions[name])} after"
        for name in first.conditions
        if first.conditions[name] != second.conditions[name]
    ]
    said += [
        f"the {which} was interrupted"
        for which, side in (("first", first), ("second", second))
        if side.interrupted
    ]
    return tuple(said)


def _short(value: object) -> str:
    text = str(value)
    if isinstance(value, dict):
        text = ", ".join(str(part) for part in value.values())
    elif isinstance(value, list):
        text = ", ".join(str(part) for part in value)
    return text if len(text) <= 80 else text[:79] + "…"


def _read(report: object, which: str) -> _Measured:
    try:
        return _Measured.of(report)
    except ValueError as error:
        raise ValueError(
            f"{which} is no report.json of this version of `pagesight load`: {error}"
        ) from None


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
    name: str, share: float, before: Blocks, after: Blocks, tolerance: float, judged: bool
) -> Row:
    was, now = before.whole().percentile_ms(share), after.whole().percentile_ms(share)
    return _ratio(
        f"{name} ms", was, before.interval_ms(share), now, after.interval_ms(share),
        lambda ratio: _judge(ratio, math.log, math.log1p(tolerance)) if judged else None,
    )  # fmt: skip


def _rate(before: _Measured, after: _Measured, tolerance: float, judged: bool) -> Row:
    # An open loop offers a given rate; a server that does not keep up shows in latencies
    # and losses.
    judged = judged and before.plan["loop"] == after.plan["loop"] == "closed"

    def verdict(ratio: tuple[float, Interval]) -> Verdict | None:
        slower = (1 / ratio[0], (1 / ratio[1][1], 1 / ratio[1][0]))
        return _judge(slower, math.log, math.log1p(tolerance)) if judged else None

    return _ratio(
        "answered / s", before.rate_achieved, before.blocks.rate_interval(),
        after.rate_achieved, after.blocks.rate_interval(), verdict,
    )  # fmt: skip


def _ratio(
    name: str,
    was: float | None,
    interval_was: Interval | None,
    now: float | None,
    interval_now: Interval | None,
    verdict: Callable[[tuple[float, Interval]], Verdict | None],
) -> Row:
    """A figure whose change is a ratio."""
    if not was or now is None:
        return Row(name=name, before=was, after=now)
    ratio = now / was
    if interval_was is None or interval_now is None or not min(interval_was[0], interval_now[0]):
        return Row(name=name, before=was, after=now, change=ratio)
    interval = (interval_now[0] / interval_was[1], interval_now[1] / interval_was[0])
    return Row(
        name=name,
        before=was,
        after=now,
        change=ratio,
        interval=interval,
        verdict=verdict((ratio, interval)),
    )


def _judge(
    change: tuple[float, Interval], scale: Callable[[float], float], least: float
) -> Verdict:
    """Judges a figure of which more is worse.

    Args:
        change: The change with its interval.
        scale: Makes a change that is none to 0.
        least: Least change that counts, on that scale.
    """
    value, low, high = (scale(end) for end in (change[0], *change[1]))
    if value > least and low > 0:
        return "worse"
    return "better" if value < -least and high < 0 else "same"


def _lost(before: _Measured, after: _Measured, judged: bool) -> Row:
    if not before.due or not after.due:
        return Row(name="lost", before=None, after=None, is_share=True)
    shares = [side.lost / side.due for side in (before, after)]
    low_was, high_was = _wilson(before.lost, before.due)
    low_now, high_now = _wilson(after.lost, after.due)
    interval = (low_now - high_was, high_now - low_was)
    change = shares[1] - shares[0]
    return Row(
        name="lost",
        before=shares[0],
        after=shares[1],
        change=change,
        interval=interval,
        verdict=_judge((change, interval), float, LOST_MORE) if judged else None,
        is_share=True,
    )


def _wilson(count: int, of: int) -> Interval:
    """The 95 % interval of a share (Wilson, 1927)."""
    z = student_t(None)
    share, spread = count / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    reach = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _knee(before: Mapping[str, Any], after: Mapping[str, Any], judged: bool) -> Row:
    """The knee lies between a rate that holds and one that does not: disjoint ranges differ."""
    was, now = before["rate"], after["rate"]
    ends = [
        (side["rate"] or 0.0, math.inf if side["fails_at"] is None else side["fails_at"])
        for side in (before, after)
    ]
    verdict: Verdict = "same"
    if ends[1][1] <= ends[0][0]:
        verdict = "worse"
    elif ends[0][1] <= ends[1][0]:
        verdict = "better"
    return Row(
        name="knee / s",
        before=was,
        after=now,
        change=now / was if was and now else None,
        verdict=verdict if judged and (0.0, math.inf) not in ends else None,
    )


def _shown(name: str, was: float | None, now: float | None) -> Row:
    change = now / was if was and now is not None else None
    return Row(name=name, before=was, after=now, change=change)
