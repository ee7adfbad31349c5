"""From what was counted to `report.json`; docs/load-testing.md says what each field means."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pagesight._load.histogram import Histogram
from pagesight._load.plan import Plan
from pagesight._load.slo import Target, judge
from pagesight._load.tally import Moment, Tally

BUSY_SHARE = 0.85
"""CPU share of a generating process from which it may be the bottleneck."""
LAG_MS = 20.0
"""How late the generator may be, at the 99th percentile, before latencies are its own."""
Report = dict[str, Any]


def report(tally: Tally, plan: Plan, targets: Sequence[Target]) -> Report:
    """Builds the report of one load.

    `sent` = `ok` + all `errors`; `latency_ms` is of answers, from when they were due.
    """
    window_s = tally.window_s or 0.0
    lost = lost_share(tally)
    latencies, shares = judge(targets, tally.latency, lost)
    generator = _generator(tally, plan)
    return {
        "duration_s": round(window_s, 3),
        "sent": tally.sent,
        "ok": tally.ok,
        "errors": dict(sorted(tally.errors.items())),
        "unsent": tally.unsent,
        "rate_offered": _rate(tally.due, _sending_s(tally, plan)),
        "rate_achieved": _rate(tally.ok_in_window, window_s),
        "latency_ms": latency(tally.latency),
        "stages_ms": {
            stage: dict(zip(("p50", "p99"), counts.percentiles_ms([50, 99]), strict=True))
            for stage, counts in sorted(tally.stages.items())
        },
        "slo": latencies,
        "slo_shares": shares,
        "slo_met": all(found["met"] for found in (*latencies.values(), *shares.values())),
        "lost_share": round(lost, 6),
        "interrupted": False,
        "interrupted_by": None,
        "warnings": warnings(tally, plan, generator),
        "error_examples": dict(sorted(tally.examples.items())),
        "service_ms": latency(tally.service),
        "outside_ms": dict(
            zip(("p50", "p99"), tally.outside.percentiles_ms([50, 99]), strict=True)
        ),
        "generator": generator,
        "pictures": {
            "files": len({path for group in plan.groups for path in group}),
            "distinct_sends": tally.bytes_are["new"],
            "repeated_sends": tally.bytes_are["repeated"],
            "unchanged_sends": tally.bytes_are["as they are"],
            "mean_bytes": round(tally.bytes_sent / counted) if (counted := _counted(tally)) else 0,
        },
        "slices": {
            name: {"ok": part.ok, "failed": part.failed, "latency_ms": latency(part.latency)}
            for name, part in sorted(tally.slices.items())
        },
        "timeline": [
            _moment(number * tally.bucket_s, tally.timeline[number], tally)
            for number in sorted(tally.timeline)
        ],
        "servers": dict(tally.servers),
        "plan": _plan(plan),
        "hdr": {"latency": tally.latency.encoded(), "service": tally.service.encoded()},
        "machine": {"cores": os.cpu_count(), "system": platform.platform()},
        "pagesight": version("pagesight"),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def latency(counts: Histogram) -> Report:
    """Percentiles in milliseconds; None where nothing was answered."""
    names = ("p50", "p90", "p95", "p99", "p999")
    found = counts.percentiles_ms([50, 90, 95, 99, 99.9])
    mean_ms = counts.mean_ms
    return {
        **dict(zip(names, found, strict=True)),
        "max": counts.max_ms,
        "mean": None if mean_ms is None else round(mean_ms, 3),
    }


def lost_share(tally: Tally) -> float:
    """Share of what was due that has no answer, sent or not."""
    return 1 - tally.ok / tally.due if tally.due else 0.0


def warnings(tally: Tally, plan: Plan, generator: Report) -> list[str]:
    """What a reader must know before believing the figures."""
    said = list(generator["saturated_because"])
    if tally.unsent:
        said.append(
            f"{tally.unsent} messages were due while {plan.most_in_flight * plan.streams} were in "
            "flight and were not sent: they count as lost (--in-flight allows more)"
        )
    if tally.errors:
        said.append("percentiles are of answers alone: hold them together with the errors")
    if 0 < tally.ok < 100:
        said.append(f"p99 and beyond rest on {tally.ok} answers: they are about the slowest one")
    if tally.bytes_are["as they are"]:
        said.append(
            f"{tally.bytes_are['as they are']} sends were of files that are no JPEG, PNG or WebP: "
            "their bytes could not be made different"
        )
    return said


def _generator(tally: Tally, plan: Plan) -> Report:
    late50, late99 = tally.late.percentiles_ms([50, 99])
    lag99 = tally.loop_lag.percentile_ms(99)
    because = []
    if (busiest := max(tally.cpu_share, default=0.0)) > BUSY_SHARE:
        because.append(
            f"the generator used {busiest:.0%} of a core: it may be the bottleneck; "
            "give it more --processes"
        )
    if plan.is_open and (late99 or 0.0) > LAG_MS:
        because.append(
            f"1 % of the messages were sent {late99:.0f} ms or more after they were due, by the "
            "generator itself: part of the latency is its own (service_ms is without it)"
        )
    elif (lag99 or 0.0) > LAG_MS:
        because.append(
            f"the generator's own timers were {lag99:.0f} ms late (p99): latencies may be its own"
        )
    return {
        "processes": len(tally.cpu_share),
        "cpu_share": tally.cpu_share,
        "late_ms": {"p50": late50, "p99": late99, "max": tally.late.max_ms},
        "loop_lag_ms": {"p99": lag99, "max": tally.loop_lag.max_ms},
        "saturated": bool(because),
        "saturated_because": because,
    }


def _moment(at_s: float, moment: Moment, tally: Tally) -> Report:
    p50, p99 = moment.latency.percentiles_ms([50, 99])
    return {
        # Negative in the warm-up.
        "at_s": round(at_s - tally.warmup_s, 3),
        "length_s": tally.bucket_s,
        "due": moment.due,
        "unsent": moment.unsent,
        "ok": moment.ok,
        "failed": moment.failed,
        "in_flight": moment.in_flight,
        "p50_ms": p50,
        "p99_ms": p99,
        "max_ms": moment.latency.max_ms,
    }


def _plan(plan: Plan) -> Report:
    shown = plan.plain()
    shown["groups"] = [len(group) for group in plan.groups]
    shown["loop"] = "open" if plan.is_open else "closed"
    shown["in_flight"] = plan.most_in_flight
    return shown


def _sending_s(tally: Tally, plan: Plan) -> float:
    # Where a count ended the sending, time went on until the last answer.
    if plan.count is not None and plan.is_open and tally.due >= plan.count:
        return tally.last_due_s - tally.warmup_s
    return tally.window_s or 0.0


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 4) if seconds > 0 else 0.0


def _counted(tally: Tally) -> int:
    return sum(tally.bytes_are.values())
