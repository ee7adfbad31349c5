"""Screenshots over real sockets: one reply to each, and each mistake alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pagesight.v1 import classifier_pb2 as pb
from pagesight.v1 import gallery_pb2 as gpb
from tests.support import WAIT_S
from tests.support.pictures import BLUE, GREEN, RED, WHITE, solid
from tests.support.serving import (
    Serving,
    complaints,
    details,
    request,
    serving,
    until,
)
from tests.support.streams import failed, finished, read, send, teach


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """Serves a gallery of a red, a green and a blue page."""
    async with serving(tmp_path) as made:
        await teach(made)
        yield made


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
