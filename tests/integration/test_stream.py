"""ClassifierService over real sockets: what a stream survives, what is bounded, who hears what."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from pagesight.v1 import classifier_pb2 as pb
from pagesight.v1 import gallery_pb2 as gpb
from pagesight_server.common.arrays import Embedding, Pixels
from pagesight_server.common.priority import Priority, present
from pagesight_server.config_sections import ServerConfig
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.service.server import ENVELOPE_BYTES
from pagesight_server.text.reading import Reading
from tests.support import WAIT_S
from tests.support.parts import FakeModels, mean_colour
from tests.support.pictures import BLUE, GREEN, RED, WHITE, Colour, encoded, shade, solid
from tests.support.serving import (
    Serving,
    complaints,
    details,
    request,
    serving,
    status_of,
    until,
)

Stream = Any


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """Serves a gallery of a red, a green and a blue page."""
    async with serving(tmp_path) as made:
        await teach(made)
        yield made


async def teach(served: Serving) -> None:
    await served.enrol(("red_page", solid(RED)), ("green_page", solid(GREEN)))
    await served.enrol(("blue_page", solid(BLUE)))


async def read(stream: Stream) -> pb.ClassifyStreamResponse:
    reply = await asyncio.wait_for(stream.read(), WAIT_S)
    assert reply is not grpc.aio.EOF, "the stream ended"
    assert isinstance(reply, pb.ClassifyStreamResponse)
    return reply


async def finished(stream: Stream) -> None:
    """Ends the requests and sees the stream end well."""
    await stream.done_writing()
    assert await asyncio.wait_for(stream.read(), WAIT_S) is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK


def failed(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str, float | None]:
    """Code, reason and seconds to wait of a failed call; both ways of telling must agree."""
    status = status_of(error)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    return error.code(), *details(status)


# --- one call ---------------------------------------------------------------------------


async def test_a_screenshot_is_sorted_into_its_page(served: Serving) -> None:
    served.models.texts[RED] = ("借钱",)
    query = pb.Query(image=solid(RED), options=pb.Options(top_k=2, explain=True))
    reply = await served.classifier.Classify(
        pb.ClassifyRequest(request_id="mine", query=query), timeout=WAIT_S
    )
    assert reply.request_id == "mine"
    found = reply.classification
    assert (found.label, found.revision, found.gallery) == ("red_page", 2, "default")
    assert [candidate.label for candidate in found.candidates][:1] == ["red_page"]
    assert len(found.candidates) == 2
    assert found.reasons
    assert set(found.stage_ms) == {
        "queue",
        "decode",
        "encode",
        "read",
        "search",
        "evidence",
        "decide",
        "total",
    }


async def test_the_total_time_counts_from_arrival_and_so_includes_the_wait(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_active=1)
    async with serving(tmp_path, config=config) as served:
        await teach(served)
        served.models.hold(RED)
        first = asyncio.create_task(served.classify(solid(RED)))
        await served.models.until_active(1)
        waiting = asyncio.create_task(served.classify(solid(GREEN)))
        await queued(served, 1)
        await served.models.release()
        await first
        stages = (await waiting).stage_ms
        # The stages run one after the other but for read, so what is left is the wait.
        working = sum(stages[s] for s in ("decode", "encode", "search", "evidence", "decide"))
        assert stages["total"] > working


async def queued(served: Serving, count: int) -> None:
    """Waits until so many screenshots wait at the gate."""
    await until(lambda: served.gate.waiting == count)


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [
        (pb.Query(), "INVALID_ARGUMENT", "IMAGE_UNUSABLE"),
        (pb.Query(image=b"no picture"), "INVALID_ARGUMENT", "IMAGE_UNUSABLE"),
        (pb.Query(image=solid(RED)[:60]), "INVALID_ARGUMENT", "IMAGE_UNUSABLE"),
        (pb.Query(image=solid(RED), gallery="none"), "NOT_FOUND", "NOT_FOUND"),
        (pb.Query(image=solid(RED), gallery="无" * 50_000), "NOT_FOUND", "NOT_FOUND"),
        (
            pb.Query(image=solid(RED), options=pb.Options(top_k=101)),
            "INVALID_ARGUMENT",
            "REQUEST_INVALID",
        ),
    ],
)
async def test_a_failed_call_says_why_in_its_status_and_in_its_details(
    served: Serving, query: pb.Query, code: str, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await served.classifier.Classify(pb.ClassifyRequest(query=query), timeout=WAIT_S)
    assert failed(error.value) == (grpc.StatusCode[code], reason, None)


async def test_a_gallery_without_pages_answers_other(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.enrol(("other_ads", solid(RED)))
        found = await served.classify(solid(RED))
        assert (found.label, found.closest_label) == ("other", "")
        assert (found.score, found.threshold) == (-1.0, 0.0)


# --- streams ----------------------------------------------------------------------------


async def test_each_request_of_a_stream_has_one_reply(served: Serving) -> None:
    stream = served.stream()
    colours = [RED, GREEN, BLUE] * 20
    pages = {RED: "red_page", GREEN: "green_page", BLUE: "blue_page"}
    sender = asyncio.create_task(send(stream, colours))
    replies = [await read(stream) for _ in colours]
    await sender
    await finished(stream)
    found = {int(reply.request_id): reply.classification.label for reply in replies}
    assert found == {i: pages[colour] for i, colour in enumerate(colours)}


async def send(stream: Stream, colours: list[tuple[int, int, int]]) -> None:
    await send_all(stream, [request(str(i), colour) for i, colour in enumerate(colours)])


async def send_all(stream: Stream, messages: list[pb.ClassifyStreamRequest]) -> None:
    for message in messages:
        await stream.write(message)


async def test_replies_overtake_a_slow_screenshot(served: Serving) -> None:
    served.models.hold(RED)
    stream = served.stream()
    await stream.write(request("slow", RED))
    await served.models.until_active(1)
    await stream.write(request("fast", GREEN))
    assert (await read(stream)).request_id == "fast"
    await served.models.release()
    assert (await read(stream)).request_id == "slow"
    await finished(stream)


async def test_replies_come_as_sent_when_asked(served: Serving) -> None:
    served.models.hold(RED)
    stream = served.stream()
    first = request("slow", RED)
    first.reply_order = pb.REPLY_ORDER_AS_SENT
    await stream.write(first)
    await served.models.until_active(1)
    for name in ("bad", "fast"):
        await stream.write(request(name, b"no picture" if name == "bad" else GREEN))
    reading = asyncio.create_task(read(stream))
    # Green has been through the encoder, and red alone is left there.
    await until(lambda: served.models.encoded == 5)
    await served.models.until_active(1)
    assert not reading.done()
    await served.models.release()
    assert (await reading).request_id == "slow"
    assert [(await read(stream)).request_id for _ in range(2)] == ["bad", "fast"]
    await finished(stream)


async def test_a_bad_picture_fails_its_own_reply_and_never_the_stream(served: Serving) -> None:
    stream = served.stream()
    bad = {
        "empty": request("empty", b""),
        "text": request("text", b"no picture"),
        "cut": request("cut", solid(RED)[:60]),
        "ppm": request("ppm", solid(RED, kind="PPM")),
        "gallery": request("gallery", RED, gallery="none"),
        "huge": request("huge", b"x" * (16 * 1024 * 1024 + 1)),
        "priority": pb.ClassifyStreamRequest.FromString(b"\x0a\x08priority\x12\x02\x20\x09"),
    }
    for i, message in enumerate(bad.values()):
        await stream.write(message)
        await stream.write(request(f"good {i}", RED))
    replies = {(reply := await read(stream)).request_id: reply for _ in range(2 * len(bad))}
    await finished(stream)
    for i, name in enumerate(bad):
        assert replies[f"good {i}"].classification.label == "red_page"
        assert replies[name].WhichOneof("outcome") == "error", name
    reasons = {name: details(replies[name].error)[0] for name in bad}
    assert reasons == dict.fromkeys(bad, "IMAGE_UNUSABLE") | {
        "gallery": "NOT_FOUND",
        "priority": "REQUEST_INVALID",
    }


NOT_UTF8 = b"\x0a\x04\xb5\xc7\xc2\xbc"
"""A message whose first field is GBK, as C++ stubs send it."""


async def test_bytes_that_are_no_message_fail_alone_and_never_the_stream(served: Serving) -> None:
    channel: Any = served.channel
    open_stream = channel.stream_stream(
        "/pagesight.v1.ClassifierService/ClassifyStream",
        response_deserializer=pb.ClassifyStreamResponse.FromString,
    )
    served.models.hold(RED)
    stream = open_stream(timeout=3 * WAIT_S)
    await stream.write(request("red", RED).SerializeToString())
    await stream.write(NOT_UTF8)
    reply = await read(stream)
    assert (reply.request_id, details(reply.error)[0]) == ("", "REQUEST_INVALID")
    assert "strings must be UTF-8" in reply.error.message
    await served.models.release()
    assert (await read(stream)).classification.label == "red_page"
    await finished(stream)


@pytest.mark.parametrize(
    "method", ["pagesight.v1.ClassifierService/Classify", "pagesight.v1.GalleryService/Remove"]
)
async def test_a_call_whose_bytes_are_no_message_is_refused(
    served: Serving, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    channel: Any = served.channel
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await channel.unary_unary(f"/{method}")(NOT_UTF8, timeout=WAIT_S)
    assert failed(error.value)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID")
    assert complaints(caplog.records, logging.ERROR) == []


async def test_an_enrolment_whose_bytes_are_no_message_enrols_nothing(served: Serving) -> None:
    channel: Any = served.channel
    enrol = channel.stream_unary("/pagesight.v1.GalleryService/Enrol")
    header = gpb.EnrolRequest(header=gpb.Change(gallery="new")).SerializeToString()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await enrol(iter([header, NOT_UTF8]), timeout=WAIT_S)
    assert failed(error.value)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID")
    assert set(served.store.revisions()) == {"default"}


async def test_a_request_without_an_id_is_told_and_one_with_the_id_of_another_is_answered(
    served: Serving,
) -> None:
    stream = served.stream()
    await stream.write(request("", RED))
    reply = await read(stream)
    assert (reply.request_id, details(reply.error)[0]) == ("", "REQUEST_INVALID")
    for _ in range(2):
        await stream.write(request("same", RED))
    for _ in range(2):
        reply = await read(stream)
        assert (reply.request_id, reply.classification.label) == ("same", "red_page")
    await finished(stream)


async def test_a_stream_without_requests_ends_well(served: Serving) -> None:
    await finished(served.stream())


async def test_a_stream_holds_no_more_in_flight_than_it_may(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_active=16, max_in_flight_per_stream=3)
    async with serving(tmp_path, config=config) as served:
        await teach(served)
        served.models.hold(RED)
        stream = served.stream()
        count = 30
        sender = asyncio.create_task(send(stream, [RED] * count))
        await served.models.until_active(3)
        # Another stream has places of its own; its reply comes after the server had its turn.
        await served.classify(solid(GREEN))
        assert served.models.active == 3
        await served.models.release()
        replies = [await read(stream) for _ in range(count)]
        await sender
        await finished(stream)
        assert {reply.classification.label for reply in replies} == {"red_page"}
        # Green, at last, was a fourth.
        assert served.models.most_active == 4


async def test_whoever_does_not_read_replies_is_not_read_from_while_others_are(
    tmp_path: Path,
) -> None:
    config = ServerConfig(port=0, max_active=4, max_in_flight_per_stream=2)
    async with serving(tmp_path, config=config) as served:
        message = await large_both_ways(served)
        stream = served.stream()
        count = 250

        sender = asyncio.create_task(send_all(stream, [message] * count))
        taught, others = served.models.encoded, 0

        def worked_on() -> int:
            return served.models.encoded - taught - others

        # Stuck is what does not move while others are answered thirty times.
        before = 0
        while worked_on() != before or not before:
            before = worked_on()
            for _ in range(30):
                assert (await served.classify(solid(GREEN))).gallery == "default"
                others += 1
        assert before < count
        assert not sender.done()
        for _ in range(count):
            assert len((await read(stream)).classification.candidates) == 64
        await sender
        await finished(stream)


async def large_both_ways(served: Serving) -> pb.ClassifyStreamRequest:
    """A request of 120 KB whose reply has 30 KB: the buffers of a connection hold only so many."""
    labelled = ((f"{i}" + "页" * 120, solid(shade(i))) for i in range(1, 65))
    await served.enrol(*labelled)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    options = pb.Options(top_k=64, ocr=pb.OCR_MODE_OFF)
    return request("x", encoded(Image.fromarray(noise)), options=options)


async def test_a_client_that_vanishes_with_replies_unread_is_no_error_of_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = ServerConfig(port=0, max_active=4, max_in_flight_per_stream=2)
    async with serving(tmp_path, config=config) as served:
        message = await large_both_ways(served)
        channel = grpc.aio.insecure_channel(served.address)
        stream = type(served.classifier)(channel).ClassifyStream(timeout=WAIT_S)
        taught = served.models.encoded
        sender = asyncio.create_task(send_all(stream, [message] * 1000))
        # Until the server waits for room to write replies: how many fit is the machine's.
        before = taught
        while served.models.encoded != before or before == taught:
            before = served.models.encoded
            for _ in range(30):
                await served.gallery.GetLabels(gpb.GetLabelsRequest())
        await channel.close()
        await asyncio.gather(sender, return_exceptions=True)
        await served.classify(solid(GREEN))
    assert complaints(caplog.records) == []


async def test_beyond_what_may_wait_screenshots_are_shed_with_a_hint(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_active=1, max_waiting=1)
    async with serving(tmp_path, config=config) as served:
        await teach(served)
        served.models.hold(RED)
        stream = served.stream()
        await stream.write(request("inside", RED))
        await served.models.until_active(1)
        await stream.write(request("waits", RED))
        await queued(served, 1)
        encoded = served.models.encoded
        await stream.write(request("shed", RED))
        reply = await read(stream)
        assert reply.request_id == "shed"
        assert reply.error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert details(reply.error) == ("OVERLOADED", 0.1)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await served.classify(solid(GREEN))
        assert failed(error.value) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", 0.1)
        # Before any work.
        assert served.models.encoded == encoded
        await served.models.release()
        assert {(await read(stream)).request_id for _ in range(2)} == {"inside", "waits"}
        await finished(stream)


async def test_whoever_is_in_a_hurry_goes_first(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_active=1)
    async with serving(tmp_path, config=config) as served:
        await teach(served)
        served.models.hold(RED)
        stream = served.stream()
        await stream.write(request("inside", RED))
        await served.models.until_active(1)
        for i, priority in enumerate([pb.PRIORITY_LOW, pb.PRIORITY_NORMAL, pb.PRIORITY_HIGH]):
            await stream.write(request(pb.Priority.Name(priority), GREEN, priority=priority))
            await queued(served, i + 1)
        await served.models.release()
        order = [(await read(stream)).request_id for _ in range(4)]
        assert order == ["inside", "PRIORITY_HIGH", "PRIORITY_NORMAL", "PRIORITY_LOW"]
        await finished(stream)


async def test_what_is_computed_for_a_screenshot_has_its_priority(tmp_path: Path) -> None:
    class Watching(FakeModels):
        async def encode(self, pixels: Pixels) -> Embedding:
            seen[mean_colour(pixels)] = present()
            return await super().encode(pixels)

        async def read(self, pixels: Pixels) -> Reading:
            assert seen[mean_colour(pixels)] is present()
            return await super().read(pixels)

    seen: dict[Colour, Priority] = {}
    async with serving(tmp_path, models=Watching()) as served:
        await teach(served)
        assert set(seen.values()) == {Priority.NORMAL}
        await served.classify(solid(RED), priority=pb.PRIORITY_HIGH)
        stream = served.stream()
        await stream.write(request("low", GREEN, priority=pb.PRIORITY_LOW))
        await stream.write(request("unsaid", BLUE))
        assert {(await read(stream)).request_id for _ in range(2)} == {"low", "unsaid"}
        assert seen == {RED: Priority.HIGH, GREEN: Priority.LOW, BLUE: Priority.NORMAL}
        await finished(stream)


async def test_a_budget_that_runs_out_in_the_queue_is_told_at_once(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_active=1)
    async with serving(tmp_path, config=config) as served:
        await teach(served)
        served.models.hold(RED)
        stream = served.stream()
        await stream.write(request("inside", RED))
        await served.models.until_active(1)
        await stream.write(request("late", GREEN, deadline_ms=30))
        reply = await read(stream)
        assert reply.request_id == "late"
        assert reply.error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert details(reply.error) == ("BUDGET_SPENT", None)
        assert "30 ms" in reply.error.message
        assert served.gate.waiting == 0
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await served.classify(solid(GREEN), deadline_ms=30)
        assert failed(error.value)[:2] == (grpc.StatusCode.DEADLINE_EXCEEDED, "BUDGET_SPENT")
        # Those who gave up left no place behind them.
        await served.models.release()
        assert (await read(stream)).request_id == "inside"
        await stream.write(request("next", GREEN, deadline_ms=60_000))
        assert (await read(stream)).classification.label == "green_page"
        await finished(stream)


@pytest.mark.parametrize("deadline_ms", [0, 10**9])
async def test_the_deadline_of_the_call_is_a_budget_too(tmp_path: Path, deadline_ms: int) -> None:
    config = ServerConfig(port=0, max_active=1)
    async with serving(tmp_path, config=config) as served:
        await teach(served)
        served.gate._work_s = 10 * WAIT_S  # as if that were what a screenshot takes
        served.models.hold(RED)
        stream = served.stream()
        await stream.write(request("inside", RED))
        await served.models.until_active(1)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await served.classify(solid(GREEN), deadline_ms=deadline_ms)
        assert failed(error.value)[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        await stream.write(request("too late", GREEN, deadline_ms=deadline_ms))
        reply = await read(stream)
        assert (reply.request_id, details(reply.error)[0]) == ("too late", "OVERLOADED")
        assert served.gate.waiting == 0
        await served.models.release()
        assert (await read(stream)).request_id == "inside"
        await finished(stream)


async def test_a_budget_that_runs_out_at_work_frees_the_place(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_active=1)
    async with serving(tmp_path, config=config) as served:
        await teach(served)
        served.models.hold(RED)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await served.classify(solid(RED), deadline_ms=30)
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await served.classify(solid(GREEN))).label == "green_page"


@pytest.mark.parametrize("how", ["cancelled", "connection closed"])
async def test_a_client_that_vanishes_frees_its_places(tmp_path: Path, how: str) -> None:
    config = ServerConfig(port=0, max_active=2)
    async with serving(tmp_path, config=config) as served:
        await teach(served)
        served.models.hold(RED)
        async with grpc.aio.insecure_channel(served.address) as channel:
            stream = type(served.classifier)(channel).ClassifyStream(timeout=WAIT_S)
            for i in range(5):
                await stream.write(request(str(i), RED))
            await served.models.until_active(2)
            await queued(served, 3)
            if how == "cancelled":
                stream.cancel()
                await served.models.until_active(0)
        await served.models.until_active(0)
        await queued(served, 0)
        assert (await served.classify(solid(GREEN))).label == "green_page"


async def test_a_unary_caller_that_vanishes_frees_its_place(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_active=1)
    async with serving(tmp_path, config=config) as served:
        await teach(served)
        served.models.hold(RED)
        call = asyncio.create_task(served.classify(solid(RED)))
        await served.models.until_active(1)
        call.cancel()
        await served.models.until_active(0)
        assert (await served.classify(solid(GREEN))).label == "green_page"


async def test_a_message_larger_than_any_picture_may_be_is_refused(tmp_path: Path) -> None:
    limits = ImageLimits(max_bytes=100_000)
    async with serving(tmp_path, limits=limits) as served:
        await teach(served)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await served.classify(b"x" * (limits.max_bytes + ENVELOPE_BYTES + 1))
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        # One that is but a picture too large is told so.
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await served.classify(b"x" * 100_001)
        assert failed(error.value)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_UNUSABLE")
        assert (await served.classify(solid(GREEN))).label == "green_page"


async def test_a_message_beyond_the_limit_of_messages_ends_its_own_stream_alone(
    tmp_path: Path,
) -> None:
    # gRPC drops the message before the server sees whose it is, so no reply can name it.
    limits = ImageLimits(max_bytes=100_000)
    async with serving(tmp_path, limits=limits) as served:
        await teach(served)
        other = served.stream()
        await other.write(request("before", RED))
        assert (await read(other)).request_id == "before"
        stream = served.stream()
        await stream.write(request("too large", b"x" * (limits.max_bytes + ENVELOPE_BYTES + 1)))
        assert await stream.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in await stream.details()
        await other.write(request("after", RED))
        assert (await read(other)).request_id == "after"
        await finished(other)


async def test_a_bug_is_in_the_log_and_not_in_the_reply(
    served: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    served.models.failure = RuntimeError("the secret of the reader")
    stream = served.stream()
    with caplog.at_level(logging.ERROR):
        await stream.write(request("bug", WHITE))
        reply = await read(stream)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await served.classify(solid(WHITE))
    assert failed(error.value)[:2] == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert reply.error.code == grpc.StatusCode.INTERNAL.value[0]
    assert "secret" not in str(reply) + str(error.value)
    assert caplog.text.count("RuntimeError: the secret of the reader") == 2
    served.models.failure = None
    await stream.write(request("next", RED))
    assert (await read(stream)).classification.label == "red_page"
    await finished(stream)


async def test_text_is_not_read_when_the_query_says_so(served: Serving) -> None:
    served.models.failure = RuntimeError("must not be read")
    found = await served.classify(solid(RED), options=pb.Options(ocr=pb.OCR_MODE_OFF))
    assert found.label == "red_page"
    assert found.ocr_bundle == ""
    assert "read" not in found.stage_ms
