"""Observable metrics, read when somebody collects: queues, galleries, caches, drift.

collector thread ──> callback ──> a number of the running server

Nothing here is counted while screenshots are answered, so it costs nothing between collections.
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
READ = "pagesight.read"
DRIFT = "pagesight.drift"

Value = tuple[float, dict[str, str]]
"""A measurement and its attributes."""


class Cache(Protocol):
    """A cache that counts its lookups."""

    hits: int
    misses: int


def watch(
    meter: Meter,
    telemetry: Telemetry,
    *,
    queues: Mapping[str, Callable[[], int]],
    caches: Mapping[str, Cache],
    lines: Callable[[], Mapping[str, int]],
    known: Callable[[], Mapping[str, Knowledge]],
    store_age_s: Callable[[], float],
) -> None:
    """Registers the observable metrics of a server.

    Args:
        meter: What they are registered with.
        telemetry: Knows the messages that wait for admission, and the drift of each gallery.
        queues: For each queue, by its name, a function that gives how many items wait in it. It is
            called from the collector's thread.
        caches: The caches by name.
        lines: Gives how many lines of text were read so far, by how often.
        known: Gives the present knowledge of each gallery, by its name.
        store_age_s: Gives the seconds since the state of the store was last known.
    """
    telemetry.forget_all_but(known)

    def depths() -> Iterable[Value]:
        for name, depth in queues.items():
            yield depth(), {QUEUE: name}
        yield telemetry.waiting, {QUEUE: "admission"}

    def lookups() -> Iterable[Value]:
        for name, cache in caches.items():
            yield cache.hits, {MEMORY: name, RESULT: "hit"}
            yield cache.misses, {MEMORY: name, RESULT: "miss"}

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
        description="Waiting items: messages (admission), screenshots (encode), lines (recognise)",
    )
    meter.create_observable_gauge(
        "pagesight.queue.oldest_age",
        [_read(lambda: [(telemetry.oldest_s(), {QUEUE: "admission"})])],
        unit="s",
        description="Age of the message that has waited longest for admission",
    )
    meter.create_observable_gauge(
        "pagesight.gallery.revision",
        [_read(lambda: [(k.snapshot.revision, {GALLERY: name}) for name, k in snapshots()])],
        description="The revision of the gallery that queries are answered from",
    )
    meter.create_observable_gauge(
        "pagesight.gallery.age",
        [_read(lambda: [(store_age_s(), {})])],
        unit="s",
        description="Time since the state of the store was last known, of all galleries",
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
        "pagesight.lines",
        [_read(lambda: [(count, {READ: times}) for times, count in lines().items()])],
        unit="{line}",
        description="Lines of text: read once, or twice as the first reading was unsure",
    )
    meter.create_observable_counter(
        "pagesight.memory.lookups",
        [_read(lookups)],
        unit="{lookup}",
        description="Lookups in the caches of screenshots and of lines of text, hits and misses",
    )


_ATTEMPTS = 5
"""Walks through a dictionary that the event loop changes now and then; each takes microseconds."""


def _read(values: Callable[[], Iterable[Value]]) -> Callable[[CallbackOptions], list[Observation]]:
    """A callback that reads the values, or none if they change at every attempt."""

    def observe(_options: CallbackOptions) -> list[Observation]:
        for _ in range(_ATTEMPTS):
            try:
                return [Observation(value, labels) for value, labels in values()]
            except RuntimeError:
                # The event loop changed a dictionary while this thread walked through it.
                continue
        return []

    return observe
