"""Traces and metrics of the real gRPC server with fake models: what belongs to whom."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id

from pagesight.v1 import classifier_pb2 as pb
from pagesight_server.common.logs import JsonLines, TextLines
from pagesight_server.config_sections import ServerConfig
from pagesight_server.gallery import Change
from pagesight_server.telemetry import trace_of_now, watch
from tests.support import WAIT_S
from tests.support.pictures import BLUE, GREEN, RED, solid
from tests.support.serving import Serving, request, serving, until
from tests.support.watching import BatchedModels, Watching, batcher

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER_TRACE = int("0af7651916cd43dd8448eb211c80319c", 16)
MESSAGE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MESSAGE_TRACE = int("4bf92f3577b34da6a3ce929d0e0e4736", 16)
UNSAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
STREAM = "pagesight.v1.ClassifierService/ClassifyStream"
UNARY = "pagesight.v1.ClassifierService/Classify"
ID_NUMBER = "11010119900307853X"


async def ask(
    served: Serving, *messages: pb.ClassifyStreamRequest, traceparent: str = ""
) -> dict[str, pb.ClassifyStreamResponse]:
    """Sends all at once, closes, and gives the replies by request id."""
    metadata = (("traceparent", traceparent),) if traceparent else ()
    call = served.classifier.ClassifyStream(iter(messages), metadata=metadata, timeout=WAIT_S)
    replies = {reply.request_id: reply async for reply in call}
    assert await call.code() is grpc.StatusCode.OK
    return replies


def stages(watching: Watching, message: ReadableSpan) -> list[str]:
    return sorted(span.name for span in watching.children(message))


def interval(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


async def ended(watching: Watching, name: str, count: int = 1) -> Sequence[ReadableSpan]:
    """The spans of a name once so many have ended: replies arrive before calls end."""
    await until(lambda: len(watching.named(name)) >= count)
    return watching.named(name)


async def test_a_message_of_a_stream_is_a_child_of_its_call_with_a_span_for_each_stage(
    tmp_path: Path,
) -> None:
    watching, models = Watching(), BatchedModels()
    async with serving(tmp_path, models=models, telemetry=watching.telemetry) as served:
        await served.enrol(("red_page", solid(RED)))
        await ask(served, request("one", RED), traceparent=CALLER)
        (call,) = await ended(watching, STREAM)
        await models.batcher.close()
    assert (call.kind, call.context.trace_id) == (SpanKind.SERVER, CALLER_TRACE)
    assert call.parent is not None
    assert call.parent.span_id == int("b7ad6b7169203331", 16)
    (message,) = watching.children(call)
    assert message.name == "pagesight.classify"
    assert stages(watching, message) == [
        *("decide", "decode", "detect", "encode", "evidence", "queue.wait", "recognise", "search")
    ]
    assert {span.context.trace_id for span in watching.children(message)} == {CALLER_TRACE}
    attributes = message.attributes or {}
    assert attributes["pagesight.request_id"] == "one"
    assert attributes["pagesight.outcome"] == "known"
    assert attributes["pagesight.label"] == "red_page"
    assert attributes["pagesight.gallery.revision"] == 1
    begin, end = interval(message)
    for span in watching.children(message):
        assert begin <= interval(span)[0] <= interval(span)[1] <= end


async def test_a_message_with_a_traceparent_belongs_to_that_trace_and_links_to_its_call(
    tmp_path: Path,
) -> None:
    watching = Watching()
    async with serving(tmp_path, telemetry=watching.telemetry) as served:
        await served.enrol(("red_page", solid(RED)))
        await ask(served, request("one", RED, traceparent=MESSAGE), traceparent=CALLER)
        (call,) = await ended(watching, STREAM)
    (message,) = watching.named("pagesight.classify")
    assert message.context.trace_id == MESSAGE_TRACE
    assert message.parent is not None
    assert message.parent.span_id == int("00f067aa0ba902b7", 16)
    assert message.kind is SpanKind.SERVER
    assert [link.context for link in message.links] == [call.context]


@pytest.mark.parametrize("nonsense", ["none", "00-zz-zz-01", "00-" + "0" * 32 + "-" + "0" * 16])
async def test_a_traceparent_that_is_none_is_not_followed(tmp_path: Path, nonsense: str) -> None:
    watching = Watching()
    async with serving(tmp_path, telemetry=watching.telemetry) as served:
        await served.enrol(("red_page", solid(RED)))
        await ask(served, request("one", RED, traceparent=nonsense), traceparent=CALLER)
        (call,) = await ended(watching, STREAM)
    (message,) = watching.named("pagesight.classify")
    assert message in watching.children(call)


async def test_a_batch_is_a_span_of_its_own_linked_with_the_sampled_messages_in_it(
    tmp_path: Path,
) -> None:
    # What nobody asked to sample is not: the callers decide.
    watching = Watching(ParentBased(ALWAYS_OFF))
    models = BatchedModels()
    async with serving(tmp_path, models=models, telemetry=watching.telemetry) as served:
        red, green, blue = solid(RED), solid(GREEN), solid(BLUE)
        await served.enrol(("red", red), ("green", green), ("blue", blue))
        await models.batcher.close()
        models.batcher = batcher(max_batch=3, max_wait_ms=1000 * WAIT_S)
        models.batcher.observe = watching.telemetry.ran
        await ask(
            served,
            request("sampled", RED, traceparent=MESSAGE),
            request("also", GREEN, traceparent=CALLER),
            request("not", BLUE, traceparent=UNSAMPLED),
        )
        await ended(watching, "pagesight.classify", 2)
        await models.batcher.close()
    (batch,) = watching.named("encode batch")
    assert batch.parent is None
    assert batch.context.trace_id not in (MESSAGE_TRACE, CALLER_TRACE)
    assert dict(batch.attributes or {}) == {
        "pagesight.batch.size": 3,
        "pagesight.batch.closed": "full",
    }
    messages = watching.named("pagesight.classify")
    assert {m.context.trace_id for m in messages} == {MESSAGE_TRACE, CALLER_TRACE}
    assert {link.context.span_id for link in batch.links} == {m.context.span_id for m in messages}
    for message in messages:
        (encode,) = (span for span in watching.children(message) if span.name == "encode")
        attributes = encode.attributes or {}
        assert attributes["pagesight.batch.size"] == 3
        assert attributes["pagesight.batch.closed"] == "full"
        waited_ms = attributes["pagesight.batch.wait_ms"]
        assert isinstance(waited_ms, float)
        assert 0 <= waited_ms < 1000 * WAIT_S
        assert [link.context.span_id for link in encode.links] == [batch.context.span_id]


async def test_a_batch_without_a_sampled_message_is_no_span_but_is_counted(tmp_path: Path) -> None:
    watching, models = Watching(ParentBased(ALWAYS_OFF)), BatchedModels()
    models.batcher.observe = watching.telemetry.ran
    async with serving(tmp_path, models=models, telemetry=watching.telemetry) as served:
        await served.enrol(("red", solid(RED)))
        await ask(served, request("not", RED, traceparent=UNSAMPLED))
        await models.batcher.close()
    assert watching.spans == ()
    sizes = watching.points("pagesight.batch.size")
    # One for the enrolment, one for the query.
    assert sizes[(("pagesight.stage", "encode"),)].count == 2


async def test_every_way_to_end_has_its_outcome(tmp_path: Path) -> None:
    watching = Watching()
    config = ServerConfig(port=0, max_active=1, max_waiting=1)
    async with serving(tmp_path, config=config, telemetry=watching.telemetry) as served:
        await served.enrol(("red", solid(RED)), ("green", solid(GREEN)))
        replies = await ask(
            served,
            request("bad", b"no picture"),
            request("nowhere", GREEN, gallery="nowhere"),
        )
        assert {i: r.error.code for i, r in replies.items()} == {"bad": 3, "nowhere": 5}
        served.models.hold(RED)
        busy = asyncio.create_task(served.classify(solid(RED)))
        await served.models.until_active(1)
        # One waits until its budget has run out; while the next waits another is turned away.
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await served.classify(solid(GREEN), deadline_ms=30)
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        patient = asyncio.create_task(served.classify(solid(GREEN)))
        await until(lambda: watching.telemetry.waiting == served.gate.waiting == 1)
        assert watching.telemetry.oldest_s() > 0
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await served.classify(solid(GREEN))
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        busy.cancel()
        assert (await patient).label == "green"
        await served.models.until_active(0)
        await until(lambda: len(watching.named("pagesight.classify")) == 6)
        assert watching.telemetry.oldest_s() == 0
        await served.models.release()
    counted = {
        (dict(key)["pagesight.outcome"], dict(key).get("error.type", "")): point.value
        for key, point in watching.points("pagesight.outcome").items()
    }
    assert counted == {
        ("error", "IMAGE_UNUSABLE"): 1,
        ("error", "NOT_FOUND"): 1,
        ("known", ""): 1,
        ("shed", "OVERLOADED"): 1,
        ("expired", "BUDGET_SPENT"): 1,
        ("cancelled", "CANCELLED"): 1,
    }
    # What callers make up must not become a series: only of galleries that there are.
    galleries = {dict(key).get("pagesight.gallery") for key in watching.points("pagesight.outcome")}
    assert galleries == {None, "default"}
    # A caller's mistake is no fault of the server: no span is red.
    assert {span.status.status_code for span in watching.spans} == {StatusCode.UNSET}


async def test_calls_are_measured_by_method_and_status_and_health_checks_are_not(
    tmp_path: Path,
) -> None:
    watching = Watching()
    async with serving(tmp_path, telemetry=watching.telemetry) as served:
        await served.enrol(("red", solid(RED)))
        await served.classify(solid(RED))
        with pytest.raises(grpc.aio.AioRpcError):
            await served.classify(b"no picture")
        await ended(watching, UNARY, 2)
    calls = {
        (dict(key)["rpc.method"], dict(key)["rpc.response.status_code"]): point.count
        for key, point in watching.points("rpc.server.call.duration").items()
    }
    assert calls == {
        ("pagesight.v1.GalleryService/Enrol", "OK"): 1,
        (UNARY, "OK"): 1,
        (UNARY, "INVALID_ARGUMENT"): 1,
    }


async def test_a_sampled_request_is_the_exemplar_of_its_bucket(tmp_path: Path) -> None:
    watching = Watching()
    async with serving(tmp_path, telemetry=watching.telemetry) as served:
        await served.enrol(("red", solid(RED)))
        await ask(served, request("one", RED, traceparent=MESSAGE))
    collected = watching.collect()
    for metric in ("pagesight.request.duration", "pagesight.stage.duration", "pagesight.outcome"):
        exemplars = [e for point in collected[metric].values() for e in point.exemplars]
        assert {e.trace_id for e in exemplars} == {MESSAGE_TRACE}, metric


async def test_gauges_tell_of_galleries_queues_and_the_share_of_other(tmp_path: Path) -> None:
    watching = Watching()
    async with serving(tmp_path, telemetry=watching.telemetry) as served:
        watch(
            watching.meter,
            watching.telemetry,
            queues={"encode": lambda: 3},
            caches={},
            lines=lambda: {"once": 7, "twice": 2},
            known=served.registry.known,
            store_age_s=lambda: served.registry.watch.age_s,
        )
        await served.enrol(("red", solid(RED)), ("green", solid(GREEN)))
        await served.enrol(("red", solid((254, 0, 0))))
        for colour, label in ((RED, "red"), (GREEN, "green"), (BLUE, "other")):
            assert (await served.classify(solid(colour))).label == label
        await served.enrol(("blue", solid(BLUE)), gallery="short-lived")
        await served.classify(solid(BLUE), gallery="short-lived")
        of_another = (("pagesight.gallery", "short-lived"),)
        assert of_another in watching.points("pagesight.other.share")
        served.store.delete(Change(gallery="short-lived"))
        await served.registry.refresh()
        # A gallery that is gone warns of nothing any more.
        for metric in (
            "pagesight.other.share",
            "pagesight.drift.warning",
            "pagesight.gallery.size",
        ):
            assert not [point for point in watching.points(metric) if of_another[0] in point]
    of_default = (("pagesight.gallery", "default"),)
    assert watching.points("pagesight.gallery.revision")[of_default].value == 2
    assert watching.points("pagesight.gallery.size")[of_default].value == 3
    assert watching.points("pagesight.other.share")[of_default].value == pytest.approx(1 / 3)
    assert watching.points("pagesight.lines")[(("pagesight.read", "twice"),)].value == 2
    assert watching.points("pagesight.score.drift") == {}, "three answers tell of no drift"
    warnings = watching.points("pagesight.drift.warning")
    for kind in ("scores", "other"):
        assert warnings[(("pagesight.drift", kind), *of_default)].value == 0
    depths = watching.points("pagesight.queue.depth")
    assert depths[(("pagesight.queue", "encode"),)].value == 3
    assert depths[(("pagesight.queue", "admission"),)].value == 0


class ReaderFailedError(Exception):
    """As a library might: it quotes what it could not handle."""


@pytest.mark.parametrize("fails", [False, True])
async def test_an_id_number_on_a_screenshot_is_in_no_span_no_metric_and_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fails: bool
) -> None:
    watching, models = Watching(), BatchedModels()
    models.batcher.observe = watching.telemetry.ran
    lines = ("姓名 王小明", f"身份证号 {ID_NUMBER}")
    models.texts = {RED: lines}
    with caplog.at_level(logging.DEBUG, "pagesight_server"):
        async with serving(tmp_path, models=models, telemetry=watching.telemetry) as served:
            await served.enrol(("red", solid(RED)))
            models.failure = ReaderFailedError(f"cannot read {lines}") if fails else None
            replies = await ask(served, request("one", b"x" + solid(RED)), request("two", RED))
            assert replies["one"].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
            if fails:
                assert replies["two"].error.code == grpc.StatusCode.INTERNAL.value[0]
            else:
                query = pb.Query(image=solid(RED), options=pb.Options(explain=True, top_k=1))
                reply = await served.classifier.Classify(pb.ClassifyRequest(query=query))
                (candidate,) = reply.classification.candidates
                # It was read: whoever asks for the evidence gets it.
                assert ID_NUMBER in candidate.matching_lines[1].query_text
            await models.batcher.close()
    told = [span.to_json() for span in watching.spans]
    told.append(watching.metrics())
    for formatter in (JsonLines(trace_of_now), TextLines("%(message)s")):
        told += map(formatter.format, caplog.records)
    assert len(told) > 10
    for text in told:
        readable = json.dumps(json.loads(text), ensure_ascii=False) if text[:1] == "{" else text
        for secret in (ID_NUMBER, ID_NUMBER[:-1], "身份证", "王小明"):
            assert secret not in readable


async def test_text_is_recorded_where_the_operator_said_so_with_its_digits_masked(
    tmp_path: Path,
) -> None:
    watching = Watching(record_text=True)
    async with serving(tmp_path, telemetry=watching.telemetry) as served:
        served.models.texts = {RED: (f"身份证号 {ID_NUMBER}", "余额 ¥１２.３４")}
        await served.enrol(("red", solid(RED)))
        await ask(served, request("one", RED))
    (message,) = watching.named("pagesight.classify")
    lines = (message.attributes or {})["pagesight.text"]
    assert lines == ("身份证号 #################X", "余额 ¥##.##")
    assert not any(character.isdigit() for character in watching.metrics() if ord(character) > 127)


async def test_a_bug_is_logged_with_the_trace_of_its_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watching = Watching()
    lines: list[str] = []
    handler = logging.Handler()
    formatter = JsonLines(trace_of_now)
    handler.emit = lambda record: lines.append(formatter.format(record))  # type: ignore[method-assign]
    logger = logging.getLogger("pagesight_server")
    logger.addHandler(handler)
    try:
        async with serving(tmp_path, telemetry=watching.telemetry) as served:
            await served.enrol(("red", solid(RED)))
            served.models.failure = ReaderFailedError("of code 7")
            await ask(served, request("one", RED, traceparent=MESSAGE))
    finally:
        logger.removeHandler(handler)
    (message,) = watching.named("pagesight.classify")
    assert message.status.status_code is StatusCode.ERROR
    assert (message.attributes or {})["error.type"] == "ReaderFailedError"
    (line,) = (json.loads(line) for line in lines if "bug" in line)
    assert line["trace_id"] == format_trace_id(MESSAGE_TRACE)
    assert line["exception_type"] == "ReaderFailedError"
    assert line["exception"].endswith("ReaderFailedError: of code #")
    assert "in read" in line["exception"]
