"""Targets of a load (SLO), and whether they were met.

    p99=150ms   p50=2s   max=5s   mean=80ms      latency of answers, from their due times
    errors=1%                                    share of the messages due that have no answer

Percentiles are over answers alone: a server that sheds load keeps them low. So set a target for
errors as well.
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
    """An upper limit of one figure."""

    name: str
    """A percentile such as `p99`, `max`, `mean`, or `errors`."""
    limit: float
    """Limit in milliseconds, or for `errors` a share from 0 to 1."""

    @property
    def is_share(self) -> bool:
        """Whether the limit is a share instead of a time."""
        return self.name == "errors"


def parse(text: str) -> Target:
    """Parses the value of one `--slo` option.

    Raises:
        ValueError: It is not a target.
    """
    compact = text.strip().replace(" ", "")
    if match := _LATENCY.fullmatch(compact):
        return Target(match[1], float(match[2]) * _UNITS_MS[match[3]])
    if (match := _ERRORS.fullmatch(compact)) and float(match[1]) <= 100:
        return Target("errors", float(match[1]) / 100)
    raise ValueError(
        f"{text!r} is no target: write p99=150ms, p50=2s, max=5s, mean=80ms, errors=1%"
    )


def value_of(name: str, latency: Histogram, lost_share: float) -> float | None:
    """Returns the measured value of a target's figure; None of a latency without answers."""
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
    """Compares targets with the measured figures.

    Returns:
        The results of latencies by name, with the keys `limit_ms`, `value_ms` and `met`, and those
        of shares, with `limit`, `value` and `met`. Without answers no latency target is met.
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
