"""What a stream may hold and wait for: bounds, priorities, budgets, clients that vanish."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
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
from pagesight_server.recognition.explanation import Explanation
from pagesight_server.service import convert
from pagesight_server.service.server import ENVELOPE_BYTES
from pagesight_server.text.reading import Reading
from tests.support import WAIT_S
from tests.support.parts import FakeModels, mean_colour
from tests.support.pictures import BLUE, GREEN, RED, Colour, encoded, shade, solid
from tests.support.serving import (
    Serving,
    complaints,
    details,
    request,
    serving,
    until,
)
from tests.support.streams import Stream, failed, finished, read, send, send_all, teach


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


@asynccontextmanager
async def one_at_work(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[Serving, Stream]]:
    """Serves one screenshot at a time, which is one that a stream has sent, held until released."""
    config = ServerConfig(port=0, max_active=1, **settings)
    async with serving(tmp_path, config=config) as served:
        await teach(served)
        served.models.hold(RED)
        stream = served.stream()
        await stream.write(request("inside", RED))
        await served.models.until_active(1)
        yield served, stream


async def queued(served: Serving, count: int) -> None:
    """Waits until so many screenshots wait at the gate."""
    await until(lambda: served.gate.waiting == count)


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
    async with one_at_work(tmp_path, max_waiting=1) as (served, stream):
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
    async with one_at_work(tmp_path) as (served, stream):
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
    async with one_at_work(tmp_path) as (served, stream):
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
    async with one_at_work(tmp_path) as (served, stream):
        served.gate._work_s = 10 * WAIT_S  # as if that were what a screenshot takes
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


async def test_an_answer_keeps_its_place_until_it_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def explain(*_args: object, **_kwargs: object) -> Explanation:
        begun.set()
        assert go_on.wait(WAIT_S)
        return Explanation(reasons=("because",))

    monkeypatch.setattr(convert, "explain", explain)
    async with serving(tmp_path, config=ServerConfig(port=0, max_active=1)) as served:
        await teach(served)
        explained = asyncio.create_task(
            served.classify(solid(RED), options=pb.Options(explain=True))
        )
        await until(begun.is_set)
        waiting = asyncio.create_task(served.classify(solid(GREEN)))
        await queued(served, 1)
        go_on.set()
        assert list((await explained).reasons) == ["because"]
        assert (await waiting).label == "green_page"


async def test_an_explanation_ends_with_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def explain(*_args: object, step: Callable[[], None], **_kwargs: object) -> Explanation:
        try:
            while True:
                step()
        finally:
            ended.set()

    monkeypatch.setattr(convert, "explain", explain)
    async with serving(tmp_path, config=ServerConfig(port=0, max_active=1)) as served:
        await teach(served)
        # On a slow machine the first of them may be over before anything is explained.
        for deadline_ms in (1_000, 5_000, 25_000):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await served.classify(
                    solid(RED), deadline_ms=deadline_ms, options=pb.Options(explain=True)
                )
            assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            if ended.is_set():
                break
        assert ended.is_set()
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
