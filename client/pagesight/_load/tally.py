"""The counts and histograms of a load; those of several processes merge exactly.

    warm-up           measured                        after
    |─────────────────|───────────────────────────────|──────>  seconds from the start
    sent, not counted   sent ──> counted when answered, however late

A message belongs to the time at which it was *due*. Its latency counts from then, too, not from
when the generator actually sent it. Replies are waited for until --timeout, so the rate of an open
loop is that of the answers to what was due in the measured time. In a closed loop the answers
themselves set the pace: there a reply counts by the part of its way from sending to arrival that
lies within the measured time, which is right however short that time is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pagesight._load.blocks import Blocks
from pagesight._load.histogram import Histogram
from pagesight._load.mix import Item

MOST_NAMES = 64
"""Most distinct stages, errors and bundles: an untrusted server could invent any number."""
BUCKETS = 120
"""Most buckets of a timeline: a point for every few pixels of the plot."""
_MESSAGE_CHARS = 300
"""Longest example of an error's message."""


@dataclass(slots=True, kw_only=True)
class Reply:
    """The reply to one message: an answer or an error."""

    at_s: float
    """Time of arrival, by the event loop's clock."""
    code: str = ""
    """Name of the gRPC status code of an error; empty for an answer."""
    message: str = ""
    """Message of an error."""
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds that the server took for each stage, and in `total`."""
    server: str = ""
    """Bundles and gallery revision that gave the answer."""


@dataclass(slots=True)
class Slice:
    """Counts over the messages of one PATH argument, or of one priority."""

    ok: int = 0
    """Number of answers."""
    failed: int = 0
    """Number of errors."""
    latency: Histogram = field(default_factory=Histogram)
    """Latency of answers from their due times."""


@dataclass(slots=True)
class Moment:
    """Counts over one bucket of the timeline."""

    due: int = 0
    """Messages due in this bucket."""
    unsent: int = 0
    """Messages due in this bucket that were not sent."""
    ok: int = 0
    """Answers that arrived in this bucket."""
    failed: int = 0
    """Errors that arrived in this bucket."""
    in_flight: int = 0
    """Largest number of messages in flight."""
    latency: Histogram = field(default_factory=lambda: Histogram(2))
    """Latency of the answers to messages due in this bucket; two digits suffice for a plot."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts and histograms of a run; times are seconds from its start."""

    warmup_s: float
    """Length of the warm-up, whose messages are not counted."""
    bucket_s: float = 1.0
    """Length of a bucket of the timeline."""
    due: int = 0
    """Messages due in the measured time: `sent` + `unsent`."""
    sent: int = 0
    """Messages due in the measured time that were sent."""
    unsent: int = 0
    """Messages not sent because the limit of messages in flight was reached when they were due."""
    warmup_sent: int = 0
    """Messages sent in the warm-up."""
    ok: int = 0
    """Answers to messages due in the measured time."""
    replies_within: float = 0.0
    """Replies, each counted by the share of its latency that lies within the measured time."""
    answers_within: float = 0.0
    """Answers, counted in the same way."""
    bytes_sent: int = 0
    """Encoded bytes of the measured messages' pictures."""
    last_due_s: float = 0.0
    """Latest due time."""
    window_s: float | None = None
    """Length of the measured time; None until it ends."""
    cpu_share: list[float] = field(default_factory=list)
    """CPU seconds a second of each generating process."""
    errors: Counter[str] = field(default_factory=Counter)
    """Number of errors, by status code."""
    examples: dict[str, str] = field(default_factory=dict)
    """An example of a message, by status code."""
    bytes_are: Counter[str] = field(default_factory=Counter)
    """Number of messages, by the values of `mix.Bytes`."""
    servers: Counter[str] = field(default_factory=Counter)
    """Number of answers, by bundles and revision."""
    latency: Histogram = field(default_factory=Histogram)
    """Latency of answers from their due times."""
    service: Histogram = field(default_factory=Histogram)
    """Latency of answers from their send times."""
    late: Histogram = field(default_factory=Histogram)
    """Delay of sending after the due time."""
    loop_lag: Histogram = field(default_factory=Histogram)
    """Lag of the generator's event loop: delay of its timers."""
    outside: Histogram = field(default_factory=Histogram)
    """Latency minus the total time that the server reports."""
    blocks: Blocks = field(default_factory=Blocks)
    """Latency of answers from their due times, by block of the measured time."""
    stages: dict[str, Histogram] = field(default_factory=dict)
    """Times that the server reports, by stage."""
    slices: dict[str, Slice] = field(default_factory=dict)
    """Counts by PATH and by priority, where there are several."""
    timeline: dict[int, Moment] = field(default_factory=dict)
    """Counts over time, by number of the bucket."""

    def on_due(self, due_s: float, *, in_flight: int, sent: bool) -> None:
        """Counts a message at its due time.

        Args:
            due_s: The due time.
            in_flight: Messages in flight, this one included when it is sent.
            sent: Whether it is sent.
        """
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
        """Counts a reply.

        Args:
            item: The message.
            slices: Names of the slices that it belongs to.
            due_s: When it was due.
            sent_s: When it was sent.
            reply: Its reply, `at_s` counting from the start of the run, too.
        """
        took_s = reply.at_s - due_s
        measured = due_s >= self.warmup_s
        then = self._moment(reply.at_s)
        within = self._share_within(due_s, reply.at_s)
        self.replies_within += within
        if reply.code:
            then.failed += 1
        else:
            then.ok += 1
            self.answers_within += within
            self._moment(due_s).latency.record_s(took_s)
        if not measured:
            return
        self.late.record_s(sent_s - due_s)
        self.bytes_sent += len(item.image)
        self.bytes_are[item.bytes_are.value] += 1
        for name in slices:
            if name not in self.slices:
                self.slices[name] = Slice()
            part = self.slices[name]
            if reply.code:
                part.failed += 1
            else:
                part.ok += 1
                part.latency.record_s(took_s)
        if reply.code:
            self.errors[reply.code] += 1
            if len(self.examples) < MOST_NAMES:
                self.examples.setdefault(reply.code, reply.message[:_MESSAGE_CHARS])
            return
        self.ok += 1
        self.latency.record_s(took_s)
        self.service.record_s(reply.at_s - sent_s)
        self.blocks.record_s(due_s - self.warmup_s, took_s)
        if reply.server in self.servers or len(self.servers) < MOST_NAMES:
            self.servers[reply.server] += 1
        for stage, ms in reply.stages_ms.items():
            histogram = self.stages.get(stage)
            if histogram is None and len(self.stages) < MOST_NAMES:
                histogram = self.stages[stage] = Histogram()
            if histogram is not None:
                histogram.record_s(ms / 1000)
        if "total" in reply.stages_ms:
            self.outside.record_s(took_s - reply.stages_ms["total"] / 1000)

    def close(self, at_s: float) -> None:
        """Ends the measured time, if it has not ended yet."""
        if self.window_s is None:
            self.window_s = max(0.0, at_s - self.warmup_s)

    def _share_within(self, due_s: float, at_s: float) -> float:
        """The share of the time from `due_s` to `at_s` that lies within the measured time."""
        # A reply that comes while the measured time goes on cannot lie after it.
        end_s = at_s if self.window_s is None else self.warmup_s + self.window_s
        if at_s <= due_s:
            return float(self.warmup_s <= due_s <= end_s)
        return max(0.0, min(at_s, end_s) - max(due_s, self.warmup_s)) / (at_s - due_s)

    def _moment(self, at_s: float) -> Moment:
        # Replies long after the end, or a clock that jumps, must not make the timeline endless.
        number = max(0, min(int(at_s // self.bucket_s), 2 * BUCKETS))
        if number not in self.timeline:  # not setdefault: a histogram takes long to make
            self.timeline[number] = Moment()
        return self.timeline[number]

    def add(self, other: Tally) -> None:
        """Adds the tally of another process of the same run."""
        for name in _ADDED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.last_due_s = max(self.last_due_s, other.last_due_s)
        self.window_s = max(self.window_s or 0.0, other.window_s or 0.0)
        self.cpu_share += other.cpu_share
        for name in ("errors", "bytes_are", "servers"):
            getattr(self, name).update(getattr(other, name))
        self.examples = other.examples | self.examples
        for name in ("latency", "service", "late", "loop_lag", "outside"):
            getattr(self, name).add(getattr(other, name))
        self.blocks.add(other.blocks)
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
    """Returns a round length of the timeline's buckets, in seconds.

    Args:
        length_s: Length of the run.
    """
    for size in (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0):
        if length_s / size <= BUCKETS:
            return size
    return length_s / BUCKETS


_HISTOGRAMS = ("latency", "service", "late", "loop_lag", "outside")
_ADDED = (
    "due", "sent", "unsent", "warmup_sent", "ok", "replies_within", "answers_within", "bytes_sent",
)  # fmt: skip
"""Counts that add up over processes."""
_PLAIN = (
    *_ADDED, "warmup_s", "bucket_s", "last_due_s", "window_s", "cpu_share", "examples",
)  # fmt: skip


def to_plain(tally: Tally) -> dict[str, Any]:
    """Returns a tally as a JSON object, which `from_plain` reads."""
    return {
        **{name: getattr(tally, name) for name in _PLAIN},
        **{name: dict(getattr(tally, name)) for name in ("errors", "bytes_are", "servers")},
        **{name: getattr(tally, name).encoded() for name in _HISTOGRAMS},
        "blocks": tally.blocks.plain(),
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
    """Builds a tally from its JSON object."""
    read = Histogram.decoded
    fields: dict[str, Any] = {name: plain[name] for name in _PLAIN}
    fields |= {name: Counter(plain[name]) for name in ("errors", "bytes_are", "servers")}
    fields |= {name: read(plain[name]) for name in _HISTOGRAMS}
    return Tally(
        **fields,
        blocks=Blocks.from_plain(plain["blocks"]),
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
