"""The plan of a load: everything but the server's address and the credentials.

A plan consists of plain values, so it can be sent to other processes and stored in the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pagesight._load.arrivals import Arrivals

PRIORITIES = ("low", "normal", "high")
LONGEST_RUN_S = 24 * 3600.0
"""Longest run, a day: a longer one is a mistyped option."""
MOST_SENDS = 10_000_000
"""Largest --count, for the same reason."""
MOST_IN_FLIGHT = 100_000
"""Most messages in flight; each holds its picture in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One load: its rate, its duration and its messages."""

    groups: Sequence[Sequence[str]]
    """Files to send, grouped by PATH argument."""
    names: Sequence[str]
    """Name of each group, as in the report."""
    weights: Sequence[float] = ()
    """Relative weight of each group; equal when empty."""
    repeat: float = 0.0
    """Share of messages whose bytes were sent before, 0 to 1."""
    rate: float | None = None
    """Open loop: offered messages a second. None: closed loop."""
    arrivals: Arrivals = "poisson"
    """Arrival process of the open loop."""
    duration_s: float = 30.0
    """Length of the measured time, which follows the warm-up."""
    warmup_s: float = 5.0
    """Length of the warm-up, whose messages are not counted. 0: none."""
    count: int | None = None
    """Most messages to measure; None: as many as the time allows."""
    calls: Literal["stream", "unary"] = "stream"
    """Whether messages are sent over ClassifyStream, or as Classify calls."""
    streams: int = 1
    """Number of connections, each with one stream where `calls` says so."""
    in_flight: int | None = None
    """Messages in flight on each connection. Closed loop: kept constant, 8 when None. Open loop: a
    limit above which due messages are counted as not sent, 256 when None."""
    timeout_s: float = 60.0
    """Timeout of a message, after which it counts as DEADLINE_EXCEEDED."""
    gallery: str = ""
    """Name of the gallery; empty: the server's default."""
    ocr: bool | None = None
    """Whether text is read; None: the server's default."""
    priorities: Mapping[str, float] | None = None
    """Weights of "low", "normal" and "high"; None: all normal."""
    deadlines_ms: Mapping[int, float] | None = None
    """Weights of deadlines in milliseconds, 0 being none; None: no deadlines."""
    processes: int = 1
    """Number of generating processes."""
    seed: int = 0
    """Seed of all random draws."""

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
        """Whether this is an open loop, which sends without waiting for answers."""
        return self.rate is not None

    @property
    def most_in_flight(self) -> int:
        """Messages in flight on each connection, in effect."""
        return self.in_flight or (256 if self.is_open else 8)

    def plain(self) -> dict[str, Any]:
        """Returns the plan as a JSON object, which `from_plain` reads."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Plan:
        """Builds a plan from its JSON object."""
        deadlines = plain["deadlines_ms"]
        return cls(
            **{
                **plain,
                # JSON has only strings as keys.
                "deadlines_ms": deadlines
                and {int(ms): float(weight) for ms, weight in deadlines.items()},
            }
        )


def parse_weighted(text: str, option: str) -> dict[str, float]:
    """Parses `a`, `a,b` or `a=1,b=9` into weights by name; the default weight is 1.

    Args:
        text: The value of the option.
        option: Name of the option, for the error message.

    Raises:
        ValueError: A weight is not a number, or all are 0.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        try:
            weights[name.strip()] = float(weight) if weight else 1.0
        except ValueError:
            raise ValueError(f"{option}: {part.strip()!r} is not NAME=WEIGHT") from None
    valid = all(0 <= weight < float("inf") for weight in weights.values())
    if not valid or not any(weights.values()):
        raise ValueError(f"{option}: weights are 0 or more, and not all 0")
    return weights
