"""The spans and metrics of one screenshot: begun, admitted, answered or failed, ended.

    call span ──┐
    traceparent ┴> message span ──> queue.wait, decode, encode, detect, recognise, search, ...
                                              │ linked
                        batch span <──────────┘  one per run, if one of its messages is sampled

A message's span begins when it arrives, which is when sampling is decided. The spans of its
stages are made from timestamps when it ends, and only if it is sampled: any other message costs a
few histogram entries and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NoOpTracer,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pagesight_server.common.errors import (
    DeadlineError,
    OverloadedError,
    RequestError,
    reasons,
)
from pagesight_server.common.logs import masked
from pagesight_server.common.timings import Interval, Run, StageTimes, current, recording
from pagesight_server.gallery.snapshot import OTHER
from pagesight_server.recognition.answer import Answer
from pagesight_server.telemetry.drift import Drift, Drifts
from pagesight_server.telemetry.instruments import (
    GALLERY,
    METHOD,
    OUTCOME,
    QUEUE,
    REASON,
    STAGE,
    Instruments,
    Outcome,
)

MAX_ID_CHARS = 128
"""Characters of a request id that a span keeps: the caller may send any length."""

_W3C = TraceContextTextMapPropagator()
_NOWHERE = Context()
_SPAN_NAMES = {"queue": "queue.wait"}
_BATCHED = ("encode", "recognise")

Metadata = Mapping[str, str]
_call: ContextVar[Span] = ContextVar("call_span", default=INVALID_SPAN)


class Watched(StageTimes):
    """The timings of a message, with its span."""

    def __init__(self, span: Span, began_s: float, began_ns: int) -> None:
        super().__init__()
        self.span = span
        self.context = set_span_in_context(span, _NOWHERE)
        self.runs: list[tuple[Run, SpanContext]] = []
        """The model runs that it was part of, each with the span of its batch."""
        self._began_s = began_s
        self._began_ns = began_ns

    @property
    def sampled(self) -> bool:
        """Whether its spans are recorded."""
        return self.span.get_span_context().trace_flags.sampled

    def unix_ns(self, at_s: float) -> int:
        """A `time.perf_counter` as Unix time in ns, unaffected by jumps of the system clock."""
        return self._began_ns + int(1e9 * (at_s - self._began_s))


def trace_of_now() -> SpanContext | None:
    """The trace of the current message or call; None outside of one."""
    times = current()
    span = times.span if isinstance(times, Watched) else _call.get()
    context = span.get_span_context()
    return context if context.is_valid else None


class Message:
    """One screenshot from its arrival to its end; the gRPC edge reports its steps."""

    def __init__(self, telemetry: Telemetry, method: str, times: Watched, began_s: float) -> None:
        self.method = method
        self.times = times
        self.began_s = began_s
        self.outcome: Outcome = "error"
        self.reason = ""
        """Why it has no answer: `reason` of google.rpc.ErrorInfo, or the type of a bug."""
        self.answer: Answer | None = None
        self._telemetry = telemetry

    def admitted(self) -> None:
        """Notes that it has passed admission."""
        self.times.add("queue", self.began_s, time.perf_counter())
        self._telemetry.admitted(self)

    def answered(self, answer: Answer) -> None:
        """Notes its answer."""
        self.outcome = "other" if answer.decision.label == OTHER else "known"
        self.answer = answer
        self._telemetry.answered(answer)

    def failed(self, error: BaseException) -> None:
        """Notes that it failed; the first error counts."""
        if not self.reason:
            self.outcome, self.reason = _outcome_of(error)


class Telemetry:
    """Records calls, messages and model runs; without arguments it records nothing.

    For one event loop. `ran` is called by the batchers, in any thread; the rest by the gRPC edge.

    Args:
        tracer: Makes the spans of calls and messages, and decides which are sampled.
        always: Makes the spans of stages and batches of messages that are sampled.
        instruments: What metrics are recorded with. None: no metrics.
        record_text: Whether spans carry the text of screenshots, digits masked.
    """

    def __init__(
        self,
        *,
        tracer: Tracer | None = None,
        always: Tracer | None = None,
        instruments: Instruments | None = None,
        record_text: bool = False,
    ) -> None:
        self._tracer = tracer or NoOpTracer()
        self._always = always or NoOpTracer()
        self._to = instruments
        self._record_text = record_text
        self._waiting: dict[int, float] = {}
        """When each message arrived that is not admitted yet, oldest first."""
        self._drifts = Drifts()

    @contextmanager
    def call(self, method: str, metadata: Metadata) -> Iterator[Span]:
        """Makes the span of a gRPC call, which lasts as long as the block.

        Args:
            method: Fully qualified, without the leading slash.
            metadata: The metadata of the call; its `traceparent` is the parent.
        """
        parent = _W3C.extract(metadata, _NOWHERE)
        attributes = {"rpc.system.name": "grpc", METHOD: method}
        span = self._tracer.start_span(method, parent, SpanKind.SERVER, attributes)
        token = _call.set(span)
        try:
            yield span
        finally:
            _call.reset(token)
            span.end()

    def called(self, span: Span, method: str, code: str, seconds: float) -> None:
        """Notes the status and duration of a call that has ended."""
        failed = code in _SERVER_FAULTS
        if span.is_recording():
            span.set_attribute("rpc.response.status_code", code)
            if failed:
                span.set_attribute(REASON, code)
                span.set_status(StatusCode.ERROR)
        if self._to is not None:
            attributes = {
                "rpc.system.name": "grpc",
                METHOD: method,
                "rpc.response.status_code": code,
            }
            context = set_span_in_context(span, _NOWHERE)
            self._to.call_duration.record(seconds, attributes, context)

    @contextmanager
    def message(
        self, method: str, *, traceparent: str = "", request_id: str = "", image_bytes: int = 0
    ) -> Iterator[Message]:
        """Makes the span of one screenshot, which lasts as long as the block.

        An exception that leaves the block is noted as its failure.

        Args:
            method: `Classify` or `ClassifyStream`.
            traceparent: W3C trace context of the message; empty means that of the call.
            request_id: The caller's id of the message.
            image_bytes: Encoded size of the picture.
        """
        began_s, began_ns = time.perf_counter(), time.time_ns()
        span = self._begin(method, traceparent, began_ns)
        if span.is_recording():
            span.set_attribute("pagesight.request_id", request_id[:MAX_ID_CHARS])
            span.set_attribute("pagesight.image.bytes", image_bytes)
        times = Watched(span, began_s, began_ns)
        message = Message(self, method, times, began_s)
        self._waiting[id(message)] = began_s
        try:
            with recording(times):
                yield message
        except BaseException as error:
            message.failed(error)
            raise
        finally:
            self._waiting.pop(id(message), None)
            self._end(message)

    def admitted(self, message: Message) -> None:
        """Takes a message out of those that wait for admission."""
        self._waiting.pop(id(message), None)

    def answered(self, answer: Answer) -> None:
        """Counts an answer towards the share of `other` and the drift of scores."""
        knowledge = answer.knowledge
        self._drifts.add(
            knowledge.snapshot.gallery,
            knowledge.calibration,
            answer.decision,
            with_text=answer.query.reading is not None,
        )

    def ran(self, run: Run) -> None:
        """Records a run of a model: size and wait of the batch, and its span if one is sampled."""
        owners = {id(i.owner): i.owner for i in run.items if isinstance(i.owner, Watched)}
        sampled = [owner for owner in owners.values() if owner.sampled]
        batch = self._batch(run, sampled) if sampled else None
        for owner in sampled:
            if batch is not None:
                owner.runs.append((run, batch))
        if self._to is not None:
            context = sampled[0].context if sampled else _NOWHERE
            self._to.batch_size.record(len(run.items), {STAGE: run.stage}, context)
            longest_s = max((run.start_s - item.submitted_s for item in run.items), default=0.0)
            self._to.queue_wait.record(max(0.0, longest_s), {QUEUE: run.stage}, context)

    @property
    def waiting(self) -> int:
        """How many messages wait for admission."""
        return len(self._waiting)

    def oldest_s(self) -> float:
        """Age in seconds of the message that waits longest; 0 when none waits."""
        since_s = next(iter(list(self._waiting.values())), None)
        return 0.0 if since_s is None else time.perf_counter() - since_s

    def forget_all_but(self, known: Callable[[], Container[str]]) -> None:
        """Watches the drift of these galleries alone from now on.

        Args:
            known: Gives the names of the galleries that there are now, in any thread.
        """
        self._drifts.known = known

    def drifts(self) -> dict[str, Drift]:
        """The drift of each gallery, by name."""
        return self._drifts.of_galleries()

    def _begin(self, method: str, traceparent: str, began_ns: int) -> Span:
        """Makes the span of a message, with its own parent or that of the call."""
        call = _call.get()
        parent, kind = set_span_in_context(call, _NOWHERE), SpanKind.INTERNAL
        links: list[Link] = []
        if traceparent:
            own = _W3C.extract({"traceparent": traceparent}, _NOWHERE)
            if own:  # A malformed trace context is ignored: the message then belongs to the call.
                parent, kind = own, SpanKind.SERVER
                links += [Link(call.get_span_context())] if call is not INVALID_SPAN else []
        attributes = {METHOD: method}
        return self._tracer.start_span(
            "pagesight.classify", parent, kind, attributes, links, began_ns
        )

    def _end(self, message: Message) -> None:
        """Records the metrics of a message and, if it is sampled, its spans."""
        times = message.times
        end_s = time.perf_counter()
        if "queue" not in times:
            times.add("queue", message.began_s, end_s)
        if self._to is not None:
            self._measure(message, self._to, end_s)
        if times.span.is_recording():
            for interval in times.intervals:
                self._stage(times, interval)
            self._describe(message)
        times.span.end(times.unix_ns(end_s))

    def _measure(self, message: Message, to: Instruments, end_s: float) -> None:
        times, context = message.times, message.times.context
        to.request_duration.record(
            end_s - message.began_s, {METHOD: message.method, OUTCOME: message.outcome}, context
        )
        counted = {METHOD: message.method, OUTCOME: message.outcome}
        if message.answer is not None:
            # Only of galleries that exist: what callers make up must not become a series.
            counted[GALLERY] = message.answer.knowledge.snapshot.gallery
        if message.reason:
            counted[REASON] = message.reason
        to.outcome.add(1, counted, context)
        to.queue_wait.record(times["queue"] / 1000, {QUEUE: "admission"}, context)
        for stage, stage_ms in times.items():
            if stage not in ("total", "queue"):
                to.stage_duration.record(stage_ms / 1000, {STAGE: stage}, context)

    def _stage(self, times: Watched, interval: Interval) -> None:
        stage = interval.stage
        if stage == "total" or (stage == "read" and "detect" in times):
            # `total` is the message's own span; `detect` and `recognise` are `read` in detail.
            return
        runs = [(run, batch) for run, batch in times.runs if run.stage == stage]
        span = self._always.start_span(
            _SPAN_NAMES.get(stage, stage),
            times.context,
            attributes=_batched(times, [run for run, _ in runs]),
            links=[Link(batch) for _, batch in runs],
            start_time=times.unix_ns(interval.start_s),
        )
        span.end(times.unix_ns(interval.end_s))

    def _describe(self, message: Message) -> None:
        span, answer = message.times.span, message.answer
        span.set_attribute(OUTCOME, message.outcome)
        if message.reason:
            span.set_attribute(REASON, message.reason)
        if message.outcome == "error" and message.reason not in _CALLER_FAULTS:
            span.set_status(StatusCode.ERROR)
        if answer is None:
            return
        decision, snapshot = answer.decision, answer.knowledge.snapshot
        span.set_attributes(
            {
                GALLERY: snapshot.gallery,
                "pagesight.gallery.revision": snapshot.revision,
                "pagesight.label": decision.label,
                "pagesight.closest_label": decision.closest_label,
                "pagesight.score": decision.score,
                "pagesight.threshold": decision.threshold,
                # Not decoded here: its features were cached, or in flight.
                "pagesight.remembered": "decode" not in message.times,
            }
        )
        if self._record_text and answer.query.reading is not None:
            lines = [masked(line.text) for line in answer.query.reading.lines]
            span.set_attribute("pagesight.text", lines)

    def _batch(self, run: Run, sampled: list[Watched]) -> SpanContext:
        """Makes the span of a batch, in a trace of its own, as it belongs to several messages."""
        clock = sampled[0]
        span = self._always.start_span(
            f"{run.stage} batch",
            _NOWHERE,
            attributes={
                "pagesight.batch.size": len(run.items),
                "pagesight.batch.closed": run.closed,
            },
            links=[Link(owner.span.get_span_context()) for owner in sampled],
            start_time=clock.unix_ns(run.start_s),
        )
        if run.failed:
            span.set_attribute(REASON, run.failed)
            span.set_status(StatusCode.ERROR)
        span.end(clock.unix_ns(run.end_s))
        return span.get_span_context()


_SERVER_FAULTS = frozenset({"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNIMPLEMENTED"})
"""Status codes that are errors of the server (OpenTelemetry's semantic conventions for gRPC)."""

_CALLER_FAULTS = reasons("caller")
"""Reasons that are no error of this server."""


def _batched(times: Watched, runs: list[Run]) -> dict[str, str | int | float]:
    """Attributes of a stage's span: the last of its batches to end, and the longest wait."""
    if not runs:
        return {}
    since_s = [
        run.start_s - item.submitted_s for run in runs for item in run.items if item.owner is times
    ]
    return {
        "pagesight.batch.size": len(runs[-1].items),
        "pagesight.batch.closed": runs[-1].closed,
        "pagesight.batch.wait_ms": 1000 * max(since_s),
        "pagesight.batch.runs": len(runs),
    }


def _outcome_of(error: BaseException) -> tuple[Outcome, str]:
    """The outcome and the reason that an error stands for."""
    if isinstance(error, OverloadedError):
        return "shed", error.reason
    if isinstance(error, DeadlineError):
        return "expired", error.reason
    if isinstance(error, asyncio.CancelledError):
        return "cancelled", "CANCELLED"
    if isinstance(error, RequestError):
        return "error", error.reason
    return "error", type(error).__name__
