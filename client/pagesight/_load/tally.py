"""What happened in a load, counted as it goes; several processes' tallies add up exactly.

    warm-up           measured                        after
    |─────────────────|───────────────────────────────|──────>  seconds from the start
    sent, not counted   sent ──> counted when answered, however late
                        answers that come here make rate_achieved

A message belongs to the time at which it was *due*. Its latency begins then, too, not when
the generator came round to sending it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pagesight._load.histogram import Histogram
from pagesight._load.mix import Item

MOST_NAMES = 64
"""Stages, errors and bundles that are told apart; a server could make up any number."""
BUCKETS = 120


@dataclass(slots=True, kw_only=True)
class Reply:
    """What came back for one message."""

    at_s: float
    """When, by the event loop's clock."""
    code: str = ""
    """Name of the gRPC status code; empty for an answer."""
    message: str = ""
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    server: str = ""
    """Bundles and revision that answered."""


@dataclass(slots=True)
class Slice:
    """Some of the messages: those of one PATH, or of one priority."""

    ok: int = 0
    failed: int = 0
    latency: Histogram = field(default_factory=Histogram)


@dataclass(slots=True)
class Moment:
    """A piece of the timeline."""

    due: int = 0
    unsent: int = 0
    ok: int = 0
    """Answers that came in this time."""
    failed: int = 0
    in_flight: int = 0
    """Most that were."""
    latency: Histogram = field(default_factory=lambda: Histogram(2))
    """Of what was due in this time."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts and histograms; times are seconds from the start of the run."""

    warmup_s: float
    bucket_s: float = 1.0
    due: int = 0
    """Sends intended in the measured time."""
    sent: int = 0
    unsent: int = 0
    """Due while as many were in flight as may be."""
    warmup_sent: int = 0
    ok: int = 0
    ok_in_window: int = 0
    bytes_sent: int = 0
    last_due_s: float = 0.0
    last_answer_s: float = 0.0
    window_s: float | None = None
    """Length of the measured time; None as long as it goes on."""
    cpu_share: list[float] = field(default_factory=list)
    """CPU seconds a second of each generating process."""
    errors: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    """One message for each error."""
    bytes_are: Counter[str] = field(default_factory=Counter)
    servers: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    """Of answers, from when they were due."""
    service: Histogram = field(default_factory=Histogram)
    """Of answers, from when they were sent."""
    late: Histogram = field(default_factory=Histogram)
    """How long after it was due a message was sent."""
    loop_lag: Histogram = field(default_factory=Histogram)
    """How long the generator's event loop kept a timer waiting."""
    outside: Histogram = field(default_factory=Histogram)
    """Latency less the server's own total."""
    stages: dict[str, Histogram] = field(default_factory=dict)
    slices: dict[str, Slice] = field(default_factory=dict)
    timeline: dict[int, Moment] = field(default_factory=dict)

    def on_due(self, due_s: float, *, in_flight: int, sent: bool) -> None:
        """Counts a message whose time has come, sent or not."""
        moment = self._moment(due_s)
        moment.due += 1
        moment.in_flight = max(moment.in_flight, in_flight)
        moment.unsent += not sent
        if due_s < self.warmup_s:
            self.warmup_sent += sent
            return
        self.due += 1
        self.sent += sent
        self.unsent += not sent
        self.last_due_s = max(self.last_due_s, due_s)

    def on_reply(
        self, item: Item, slices: tuple[str, ...], *, due_s: float, sent_s: float, reply: Reply
    ) -> None:
        """Counts an answer or an error; all times, the reply's too, from the start of the run."""
        took_s = reply.at_s - due_s
        measured = due_s >= self.warmup_s
        then = self._moment(reply.at_s)
        if reply.code:
            then.failed += 1
        else:
            then.ok += 1
            self.ok_in_window += self.window_s is None and reply.at_s >= self.warmup_s
            self._moment(due_s).latency.record_s(took_s)
        if not measured:
            return
        self.late.record_s(sent_s - due_s)
        self.bytes_sent += len(item.image)
        self.bytes_are[item.bytes_are.value] += 1
        self.last_answer_s = max(self.last_answer_s, reply.at_s)
        for name in slices:
            part = self.slices.setdefault(name, Slice())
            if reply.code:
                part.failed += 1
            else:
                part.ok += 1
                part.latency.record_s(took_s)
        if reply.code:
            self.errors[reply.code] += 1
            if len(self.examples) < MOST_NAMES:
                self.examples.setdefault(reply.code, reply.message[:300])
            return
        self.ok += 1
        self.latency.record_s(took_s)
        self.service.record_s(reply.at_s - sent_s)
        if reply.server in self.servers or len(self.servers) < MOST_NAMES:
            self.servers[reply.server] += 1
        for stage, ms in reply.stages_ms.items():
            known = self.stages.get(stage)
            if known is None and len(self.stages) < MOST_NAMES:
                known = self.stages[stage] = Histogram()
            if known is not None:
                known.record_s(ms / 1000)
        if "total" in reply.stages_ms:
            self.outside.record_s(took_s - reply.stages_ms["total"] / 1000)

    def close(self, at_s: float) -> None:
        """Ends the measured time, if it has not ended yet."""
        if self.window_s is None:
            self.window_s = max(0.0, at_s - self.warmup_s)

    def _moment(self, at_s: float) -> Moment:
        # What comes long after the end, or a clock that jumps, makes no endless timeline.
        number = max(0, min(int(at_s // self.bucket_s), 2 * BUCKETS))
        return self.timeline.setdefault(number, Moment())

    def add(self, other: Tally) -> None:
        """Adds what another process counted at the same time."""
        for name in ("due", "sent", "unsent", "warmup_sent", "ok", "ok_in_window", "bytes_sent"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.last_due_s = max(self.last_due_s, other.last_due_s)
        self.last_answer_s = max(self.last_answer_s, other.last_answer_s)
        self.window_s = max(self.window_s or 0.0, other.window_s or 0.0)
        self.cpu_share += other.cpu_share
        for name in ("errors", "bytes_are", "servers"):
            getattr(self, name).update(getattr(other, name))
        self.examples = other.examples | self.examples
        for name in ("latency", "service", "late", "loop_lag", "outside"):
            getattr(self, name).add(getattr(other, name))
        for stage, histogram in other.stages.items():
            self.stages.setdefault(stage, Histogram()).add(histogram)
        for name, part in other.slices.items():
            mine = self.slices.setdefault(name, Slice())
            mine.ok += part.ok
            mine.failed += part.failed
            mine.latency.add(part.latency)
        for number, moment in other.timeline.items():
            here = self.timeline.setdefault(number, Moment())
            for name in ("due", "unsent", "ok", "failed", "in_flight"):
                setattr(here, name, getattr(here, name) + getattr(moment, name))
            here.latency.add(moment.latency)


def bucket_s(length_s: float) -> float:
    """Length of the timeline's pieces for a run of so many seconds: a round number."""
    for size in (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0):
        if length_s / size <= BUCKETS:
            return size
    return length_s / BUCKETS


_HISTOGRAMS = ("latency", "service", "late", "loop_lag", "outside")
_PLAIN = (
    "warmup_s", "bucket_s", "due", "sent", "unsent", "warmup_sent", "ok", "ok_in_window",
    "bytes_sent", "last_due_s", "last_answer_s", "window_s", "cpu_share", "examples",
)  # fmt: skip


def to_plain(tally: Tally) -> dict[str, Any]:
    """Returns what `from_plain` reads; it goes through JSON unharmed."""
    return {
        **{name: getattr(tally, name) for name in _PLAIN},
        **{name: dict(getattr(tally, name)) for name in ("errors", "bytes_are", "servers")},
        **{name: getattr(tally, name).encoded() for name in _HISTOGRAMS},
        "stages": {name: counts.encoded() for name, counts in tally.stages.items()},
        "slices": {
            name: [part.ok, part.failed, part.latency.encoded()]
            for name, part in tally.slices.items()
        },
        "timeline": {
            number: [m.due, m.unsent, m.ok, m.failed, m.in_flight, m.latency.encoded()]
            for number, m in tally.timeline.items()
        },
    }


def from_plain(plain: Mapping[str, Any]) -> Tally:
    """Reads a tally that another process counted."""
    read = Histogram.decoded
    fields: dict[str, Any] = {name: plain[name] for name in _PLAIN}
    fields |= {name: Counter(plain[name]) for name in ("errors", "bytes_are", "servers")}
    fields |= {name: read(plain[name]) for name in _HISTOGRAMS}
    return Tally(
        **fields,
        stages={name: read(text) for name, text in plain["stages"].items()},
        slices={
            name: Slice(ok, failed, read(text))
            for name, (ok, failed, text) in plain["slices"].items()
        },
        timeline={
            int(number): Moment(due, unsent, ok, failed, in_flight, read(text))
            for number, (due, unsent, ok, failed, in_flight, text) in plain["timeline"].items()
        },
    )
