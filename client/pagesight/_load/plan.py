"""What a load is: everything but the server's address and what callers prove who they are with.

A plan is plain values, so it travels to other processes and into the report as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pagesight._load.arrivals import Arrivals

PRIORITIES = ("low", "normal", "high")
LONGEST_RUN_S = 24 * 3600.0
MOST_SENDS = 10_000_000
MOST_IN_FLIGHT = 100_000
"""Each holds its picture in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One load of one shape: how fast, for how long, with what."""

    groups: Sequence[Sequence[str]]
    """Files to send, by the PATH they were named with."""
    names: Sequence[str]
    """What the groups are called."""
    weights: Sequence[float] = ()
    """How often each group is drawn; equal when empty."""
    repeat: float = 0.0
    """Share of sends whose bytes were sent before."""
    rate: float | None = None
    """Open loop: intended sends a second. None: closed loop."""
    arrivals: Arrivals = "poisson"
    duration_s: float = 30.0
    """Of what is measured, after the warm-up."""
    warmup_s: float = 5.0
    count: int | None = None
    """Sends that are measured, at most; None: as many as the time allows."""
    calls: Literal["stream", "unary"] = "stream"
    streams: int = 1
    """Streams, or connections of unary calls; each has a connection of its own."""
    in_flight: int | None = None
    """Closed loop: kept in flight on each stream (8). Open loop: what is due beyond it is
    counted as not sent (256)."""
    timeout_s: float = 60.0
    """What has no answer by then counts as DEADLINE_EXCEEDED."""
    gallery: str = ""
    ocr: bool | None = None
    priorities: Mapping[str, float] | None = None
    """Weights of "low", "normal" and "high"; None: all normal."""
    deadlines_ms: Mapping[int, float] | None = None
    """Weights of budgets; None: none has one."""
    processes: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for wrong, message in (
            (not self.groups or not all(self.groups), "there is no picture to send"),
            (
                bool(self.weights) and len(self.weights) != len(self.groups),
                f"{len(self.weights)} weights for {len(self.groups)} PATHs: give one for each",
            ),
            (
                any(weight < 0 for weight in self.weights)
                or (bool(self.weights) and not sum(self.weights)),
                "weights are 0 or more, and not all 0",
            ),
            (not 0 <= self.repeat <= 1, f"--repeat is a share from 0 to 1, got {self.repeat:g}"),
            (
                self.rate is not None and not 0 < self.rate <= 1e6,
                f"--rate is above 0 and at most 1,000,000 a second, got {self.rate}",
            ),
            (
                not 0 < self.duration_s <= LONGEST_RUN_S,
                f"--duration is above 0 and at most {LONGEST_RUN_S:,.0f} s",
            ),
            (not 0 <= self.warmup_s <= LONGEST_RUN_S, "--warmup is 0 or more seconds"),
            (
                self.count is not None and not 1 <= self.count <= MOST_SENDS,
                f"--count is 1 to {MOST_SENDS:,}",
            ),
            (self.streams < self.processes, "--streams is at least 1 for each of --processes"),
            (not 1 <= self.processes <= 64, "--processes is 1 to 64"),
            (
                self.in_flight is not None
                and not 1 <= self.in_flight * self.streams <= MOST_IN_FLIGHT,
                f"--streams x --in-flight is 1 to {MOST_IN_FLIGHT:,}",
            ),
            (not self.timeout_s > 0, "--timeout is above 0 seconds"),
            (
                not set(self.priorities or ()) <= set(PRIORITIES),
                f"--priority is {', '.join(PRIORITIES)}",
            ),
            (
                any(not 0 <= ms < 2**32 for ms in self.deadlines_ms or ()),
                "--deadline-ms is 0 or more milliseconds",
            ),
        ):
            if wrong:
                raise ValueError(message)

    @property
    def is_open(self) -> bool:
        """Whether sends wait for no answer."""
        return self.rate is not None

    @property
    def most_in_flight(self) -> int:
        """On one stream."""
        return self.in_flight or (256 if self.is_open else 8)

    def plain(self) -> dict[str, Any]:
        """Returns what `from_plain` reads; it goes through JSON unharmed."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Plan:
        """Builds a plan from what JSON made of it."""
        deadlines = plain["deadlines_ms"]
        return cls(
            **{
                **plain,
                # JSON knows no numbers as keys.
                "deadlines_ms": deadlines
                and {int(ms): float(weight) for ms, weight in deadlines.items()},
            }
        )


def parse_weighted(text: str, option: str) -> dict[str, float]:
    """Reads `a`, `a,b` or `a=1,b=9` into weights; what has none weighs 1.

    Raises:
        ValueError: A weight is no number, or all are 0.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        try:
            found[name.strip()] = float(weight) if weight else 1.0
        except ValueError:
            raise ValueError(f"{option}: {part.strip()!r} is not NAME=WEIGHT") from None
    if any(not 0 <= weight < float("inf") for weight in found.values()) or not any(found.values()):
        raise ValueError(f"{option}: weights are 0 or more, and not all 0")
    return found
