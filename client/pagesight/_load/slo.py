"""What a load must hold, and whether it did.

    p99=150ms   p50=2s   max=5s   mean=80ms      latency of answers, from when they were due
    errors=1%                                    share of what was due that had no answer

Percentiles are of answers alone: a server that sheds what it cannot do in time keeps them
low. So ask for both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pagesight._load.histogram import Histogram

_UNITS_MS = {"us": 0.001, "µs": 0.001, "ms": 1.0, "s": 1000.0}
_LATENCY = re.compile(r"(p\d{1,2}(?:\.\d+)?|p999|p100|max|mean)=(\d+(?:\.\d+)?)(us|µs|ms|s)")
_ERRORS = re.compile(r"errors=(\d+(?:\.\d+)?)%")


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to hold."""

    name: str
    limit: float
    """Milliseconds, or for `errors` a share from 0 to 1."""

    @property
    def is_share(self) -> bool:
        """Whether the limit is a share, not a time."""
        return self.name == "errors"


def parse(text: str) -> Target:
    """Reads one `--slo`.

    Raises:
        ValueError: It is none.
    """
    plain = text.strip().replace(" ", "")
    if found := _LATENCY.fullmatch(plain):
        return Target(found[1], float(found[2]) * _UNITS_MS[found[3]])
    if (found := _ERRORS.fullmatch(plain)) and float(found[1]) <= 100:
        return Target("errors", float(found[1]) / 100)
    raise ValueError(
        f"{text!r} is no target: write p99=150ms, p50=2s, max=5s, mean=80ms, errors=1%"
    )


def value_of(name: str, latency: Histogram, lost_share: float) -> float | None:
    """Returns what a target of this name is held against; None where nothing was answered."""
    match name:
        case "errors":
            return lost_share
        case "max":
            return latency.max_ms
        case "mean":
            return latency.mean_ms
        case "p999":
            return latency.percentile_ms(99.9)
        case _:
            return latency.percentile_ms(float(name.removeprefix("p")))


def judge(
    targets: Iterable[Target], latency: Histogram, lost_share: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Holds targets against what happened.

    Returns:
        Latencies by name, `limit_ms value_ms met`, and shares, `limit value met`. Where
        nothing was answered no latency is met.
    """
    latencies: dict[str, Any] = {}
    shares: dict[str, Any] = {}
    for target in targets:
        value = value_of(target.name, latency, lost_share)
        met = value is not None and value <= target.limit
        if target.is_share:
            shares[target.name] = {"limit": target.limit, "value": value, "met": met}
        else:
            latencies[target.name] = {"limit_ms": target.limit, "value_ms": value, "met": met}
    return latencies, shares
