"""From the tally of a load to `report.json`, whose fields docs/load-testing.md defines."""

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
"""CPU share of a generating process, of one core, above which it may be the bottleneck."""
LAG_MS = 20.0
"""Delay of the generator, at the 99th percentile, above which it distorts latencies: a new
screenshot takes hundreds of milliseconds (docs/benchmarks.md)."""
GROWS = 0.1
"""Growth of latency, in seconds each second, above which a server does not keep up: served in the
order of arrival, it answers less than 1 / 1.1 = 91 % of what is offered. Below it, arrivals at
random and a load that is short beside its latencies look the same."""
Report = dict[str, Any]
"""The JSON object of a report."""


def report(tally: Tally, plan: Plan, targets: Sequence[Target]) -> Report:
    """Builds the report of one load.

    `sent` = `ok` + all `errors`; `latency_ms` is over answers, from their due times.

    Args:
        tally: The merged counts of all processes.
        plan: The load.
        targets: The SLO; may be empty.
    """
    window_s = tally.window_s or 0.0
    lost = lost_share(tally)
    latencies, shares = judge(targets, tally.latency, lost)
    generator = _generator(tally, plan)
    due, answered = (tally.due, tally.ok) if plan.is_open else _closed_counts(tally)
    sending_s = _sending_s(tally, plan)
    growth = tally.blocks.growth() if plan.is_open else None
    return {
        "duration_s": round(window_s, 3),
        "sent": tally.sent,
        "ok": tally.ok,
        "errors": dict(sorted(tally.errors.items())),
        "unsent": tally.unsent,
        "rate_offered": _rate(due, sending_s),
        "rate_achieved": _rate(answered, sending_s),
        "latency_growth": None if growth is None else round(growth, 4),
        "latency_ms": latency(tally.latency),
        "stages_ms": {
            stage: dict(zip(("p50", "p99"), counts.percentiles_ms([50, 99]), strict=True))
            for stage, counts in sorted(tally.stages.items())
        },
        "slo": latencies,
        "slo_shares": shares,
        "slo_met": all(result["met"] for result in (*latencies.values(), *shares.values())),
        "lost_share": round(lost, 6),
        "interrupted": False,
        "interrupted_by": None,
        "warnings": warnings(tally, plan, generator, growth),
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
        "hdr": {
            "latency": tally.latency.encoded(),
            "service": tally.service.encoded(),
            "blocks": tally.blocks.plain(),
        },
        "machine": {"cores": os.cpu_count(), "system": platform.platform()},
        "pagesight": version("pagesight"),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def latency(counts: Histogram) -> Report:
    """Percentiles, maximum and mean in milliseconds; None without answers."""
    names = ("p50", "p90", "p95", "p99", "p999")
    percentiles = counts.percentiles_ms([50, 90, 95, 99, 99.9])
    mean_ms = counts.mean_ms
    return {
        **dict(zip(names, percentiles, strict=True)),
        "max": counts.max_ms,
        "mean": None if mean_ms is None else round(mean_ms, 3),
    }


def lost_share(tally: Tally) -> float:
    """Share of the messages due that have no answer, whether sent or not, 0 to 1."""
    return 1 - tally.ok / tally.due if tally.due else 0.0


def warnings(tally: Tally, plan: Plan, generator: Report, growth: float | None) -> list[str]:
    """Reasons to distrust the figures, one sentence each."""
    texts = list(generator["saturated_because"])
    if growth is not None and growth > GROWS:
        texts.append(
            f"{growing(growth)}: the server does not keep up with this rate, and a longer load has "
            "longer latencies"
        )
    if tally.unsent:
        texts.append(
            f"{tally.unsent} messages were not sent, as {plan.most_in_flight * plan.streams} were "
            "in flight when they were due: they count as lost (--in-flight allows more)"
        )
    if tally.errors:
        texts.append("percentiles are of answers alone: read them together with the errors")
    if 0 < tally.ok < 100:
        texts.append(
            f"p99 and above are estimated from {tally.ok} answers: they depend on the slowest one"
        )
    if tally.bytes_are["as they are"]:
        texts.append(
            f"{tally.bytes_are['as they are']} messages had files that are not JPEG, PNG or WebP: "
            "their bytes could not be made distinct, so the server may have cached them"
        )
    return texts


def _generator(tally: Tally, plan: Plan) -> Report:
    """How busy the generator was, and whether it may have been the bottleneck."""
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
            f"the generator sent 1 % of the messages {late99:.0f} ms or more after they were due: "
            "latency_ms includes that delay (service_ms does not)"
        )
    elif (lag99 or 0.0) > LAG_MS:
        because.append(
            f"the generator's event loop lagged by {lag99:.0f} ms (p99): latencies may include that"
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
    """The plan as the report has it: with numbers of files instead of their names."""
    body = plan.plain()
    body["groups"] = [len(group) for group in plan.groups]
    body["loop"] = "open" if plan.is_open else "closed"
    body["in_flight"] = plan.most_in_flight
    return body


def growing(growth: float) -> str:
    """Says in words by how much latency grew."""
    return f"latency grew by {growth:.2g} s in each second of the load"


def _closed_counts(tally: Tally) -> tuple[float, float]:
    """Replies and answers of a closed loop, by their parts within the measured time."""
    return tally.replies_within, tally.answers_within


def _sending_s(tally: Tally, plan: Plan) -> float:
    """Length of the part of the measured time in which messages were due."""
    # --count ends the sending, while the measured time goes on until the last answer.
    if plan.rate is not None and plan.count is not None and tally.due >= plan.count:
        # A random gap lies before each message, an equal one after it: the first is due at once.
        gap_s = 1 / plan.rate if plan.arrivals == "constant" else 0.0
        return tally.last_due_s - tally.warmup_s + gap_s
    return tally.window_s or 0.0


def _rate(count: float, seconds: float) -> float:
    return round(count / seconds, 4) if seconds > 0 else 0.0


def _counted(tally: Tally) -> int:
    """Number of measured messages."""
    return sum(tally.bytes_are.values())
