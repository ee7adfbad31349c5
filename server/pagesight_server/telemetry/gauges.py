"""What is looked at when somebody collects: queues, galleries, what is remembered.

collector thread ──> callback ──> a number of the running server

Nothing here is counted while screenshots are answered, so it costs nothing between looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.telemetry.drift import MIN_ANSWERS, WINDOW, DriftFigures
from pagesight_server.telemetry.instruments import GALLERY, QUEUE
from pagesight_server.telemetry.messages import Telemetry

MEMORY = "pagesight.memory"
RESULT = "pagesight.result"
DRIFT = "pagesight.drift"

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

    def figures() -> Iterable[tuple[str, DriftFigures]]:
        for name, drift in telemetry.drifts().items():
            yield name, drift.figures()

    def warnings() -> Iterable[Value]:
        for name, drift in telemetry.drifts().items():
            for kind, text in drift.warnings().items():
                yield float(bool(text)), {GALLERY: name, DRIFT: kind}

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
        [_read(lambda: [(f.share_other, {GALLERY: name}) for name, f in figures()])],
        description=f"Share of `other` among the last answers, at most {WINDOW}",
    )
    meter.create_observable_gauge(
        "pagesight.score.drift",
        [
            _read(
                lambda: [
                    (f.score_shift, {GALLERY: name})
                    for name, f in figures()
                    if f.accepted >= MIN_ANSWERS
                ]
            )
        ],
        description="How much lower the scores of accepted screenshots lie than those of the "
        f"calibration, 0 to 1 (Kolmogorov and Smirnov, one-sided), over the last {WINDOW} answers",
    )
    meter.create_observable_gauge(
        "pagesight.drift.warning",
        [_read(warnings)],
        description="1 while accepted screenshots score lower than the calibration promised "
        "(scores), or more are `other` than when it began (other), beyond chance",
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
