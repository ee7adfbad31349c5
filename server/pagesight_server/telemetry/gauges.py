"""What is looked at when somebody collects: queues, galleries, what is remembered.

collector thread ──> callback ──> a number of the running server

Nothing here is counted while screenshots are answered, so it costs nothing between looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from pagesight_server.decision import Knowledge
from pagesight_server.telemetry.instruments import GALLERY, QUEUE
from pagesight_server.telemetry.messages import Telemetry
from pagesight_server.telemetry.recent import Recent

MEMORY = "pagesight.memory"
RESULT = "pagesight.result"

Value = tuple[float, dict[str, str]]


class Counted(Protocol):
    """What a memo tells of itself."""

    hits: int
    misses: int


def watch(
    meter: Meter,
    telemetry: Telemetry,
    *,
    queues: Mapping[str, Callable[[], int]],
    memories: Mapping[str, Counted],
    known: Callable[[], Mapping[str, Knowledge]],
) -> None:
    """Offers the state of a server to whoever collects.

    Args:
        meter: Where to.
        telemetry: Knows who waits at the door.
        queues: By name: how many wait in it. Read by another thread than the event loop's.
        memories: By name.
        known: What is known now, by gallery.
    """

    def depths() -> Iterable[Value]:
        for name, depth in queues.items():
            yield depth(), {QUEUE: name}
        yield telemetry.waiting, {QUEUE: "admission"}

    def lookups() -> Iterable[Value]:
        for name, memo in memories.items():
            yield memo.hits, {MEMORY: name, RESULT: "hit"}
            yield memo.misses, {MEMORY: name, RESULT: "miss"}

    def snapshots() -> Iterable[tuple[str, Knowledge]]:
        return known().items()

    def of_galleries(value: Callable[[Recent], float | None]) -> Iterable[Value]:
        for name, recent in telemetry.recent().items():
            if (number := value(recent)) is not None:
                yield number, {GALLERY: name}

    meter.create_observable_gauge(
        "pagesight.queue.depth",
        [_read(depths)],
        unit="{item}",
        description="What waits: messages (admission), screenshots (encode), lines (recognise)",
    )
    meter.create_observable_gauge(
        "pagesight.queue.oldest_age",
        [_read(lambda: [(telemetry.oldest_s(), {QUEUE: "admission"})])],
        unit="s",
        description="How long the message has waited that has waited longest",
    )
    meter.create_observable_gauge(
        "pagesight.gallery.revision",
        [_read(lambda: [(k.snapshot.revision, {GALLERY: name}) for name, k in snapshots()])],
        description="The revision that answers",
    )
    meter.create_observable_gauge(
        "pagesight.gallery.size",
        [_read(lambda: [(len(k.snapshot.pictures), {GALLERY: name}) for name, k in snapshots()])],
        unit="{picture}",
        description="Pictures of the gallery",
    )
    # No unit: with "1" a collector's Prometheus exporter says `_ratio`, and ours does not.
    meter.create_observable_gauge(
        "pagesight.other.share",
        [_read(lambda: of_galleries(lambda recent: recent.other_share))],
        description="Share of `other` among the last answers, at most 1000",
    )
    meter.create_observable_gauge(
        "pagesight.score.drift",
        [_read(lambda: of_galleries(lambda recent: recent.score_drift))],
        description="How far the scores of accepted screenshots have moved from those of the "
        "calibration: 0 not at all, 1 entirely; from 50 of them on, over the last 1000 answers",
    )
    meter.create_observable_counter(
        "pagesight.memory.lookups",
        [_read(lookups)],
        unit="{lookup}",
        description="Screenshots and lines of text that were looked up among what was seen lately",
    )


def _read(values: Callable[[], Iterable[Value]]) -> Callable[[CallbackOptions], list[Observation]]:
    def observe(_options: CallbackOptions) -> list[Observation]:
        for _ in range(5):
            try:
                return [Observation(value, labels) for value, labels in values()]
            except RuntimeError:
                # A dictionary of the event loop changed while this thread walked through it.
                continue
        return []

    return observe
