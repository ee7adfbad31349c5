"""Health, reflection and drain over real sockets."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from pagesight_server.common.errors import SetupError
from pagesight_server.config import ServerConfig
from pagesight_server.gallery import Gallery
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.service.health import MOST_READ
from pagesight_server.workflows.knowledge import StoppedError, load_knowledge
from tests.support import WAIT_S
from tests.support.half_sent import HalfSent
from tests.support.pictures import GREEN, RED, solid
from tests.support.serving import (
    Serving,
    complaints,
    details,
    request,
    serving,
    status_of,
    until,
)
from tests.support.stores import enrol

SERVICES = [
    "",
    "pagesight.v1.ClassifierService",
    "pagesight.v1.GalleryService",
    "pagesight.v1.ReviewService",
]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def state(served: Serving, service: str) -> Any:
    stub = health_pb2_grpc.HealthStub(served.channel)
    reply = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=WAIT_S)
    return reply.status


@pytest.mark.parametrize("service", SERVICES)
async def test_a_server_that_answers_is_serving(tmp_path: Path, service: str) -> None:
    async with serving(tmp_path) as served:
        assert await state(served, service) == SERVING


async def test_an_unknown_service_is_not_found(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await state(served, "none")
        assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_services(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        stub = reflection_pb2_grpc.ServerReflectionStub(served.channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        replies = [r async for r in stub.ServerReflectionInfo(iter([asked]), timeout=WAIT_S)]
        (reply,) = replies
        assert [service.name for service in reply.list_services_response.service] == [
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
            "pagesight.v1.ClassifierService",
            "pagesight.v1.GalleryService",
            "pagesight.v1.ReviewService",
        ]


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("/grpc.health.v1.Health/Check", "unary_unary"),
        ("/grpc.health.v1.Health/Watch", "unary_stream"),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "stream_stream"),
    ],
)
async def test_bytes_that_are_no_message_are_the_callers_mistake_here_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, method: str, kind: str
) -> None:
    async with serving(tmp_path) as served:
        multicallable = getattr(served.channel, kind)(method)
        garbage: Any = iter([b"\xff"]) if kind == "stream_stream" else b"\xff"
        call = multicallable(garbage, timeout=WAIT_S)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await (call if kind == "unary_unary" else call.read())
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert details(status_of(error.value)) == ("REQUEST_INVALID", None)
        assert await state(served, "") == SERVING
    assert complaints(caplog.records, logging.ERROR) == []


async def test_who_stops_half_way_in_a_large_request_keeps_nobody_from_asking(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as served:
        calls = [HalfSent(size=10**6, sent=10**5) for _ in range(MOST_READ + 3)]
        try:
            for call in calls:
                await call.start(served.address, "/grpc.health.v1.Health/Check", {})
            for call in calls[:3]:
                await asyncio.wait_for(call.ended.wait(), WAIT_S)
            assert await state(served, "") == SERVING
            stub = health_pb2_grpc.HealthStub(served.channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
            assert (await watch.read()).status == SERVING
        finally:
            for call in calls:
                await call.close()


async def test_a_call_without_a_request_is_the_callers_mistake(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        call: Any = served.channel.stream_unary("/grpc.health.v1.Health/Check")(timeout=WAIT_S)
        await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert details(status_of(error.value)) == ("REQUEST_INVALID", None)


async def test_one_connection_has_no_more_calls_at_once_than_it_may(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_streams_per_connection=2)
    async with serving(tmp_path, config=config) as served:
        await served.enrol(("a", solid(RED)), ("b", solid(GREEN)))
        served.models.hold(RED)
        calls = [asyncio.create_task(served.classify(solid(RED))) for _ in range(3)]
        await served.models.until_active(2)
        # Over another connection there is room; by then the third would be at work as well.
        own = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(served.address, own) as channel:
            other = type(served.classifier)(channel)
            reply = await other.Classify(_query(), timeout=WAIT_S)
            assert reply.classification.label == "b"
        assert served.models.active == 2
        await served.models.release()
        assert [(await call).label for call in calls] == ["a"] * 3


async def test_a_server_listens_at_once_and_is_serving_when_all_galleries_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held_up(store: Gallery, name: str, *rest: Any, **more: Any) -> Knowledge:
        assert name == "small" or go_on.wait(WAIT_S)
        return load_knowledge(store, name, *rest, **more)

    go_on = threading.Event()
    monkeypatch.setattr("pagesight_server.workflows.refresh.load_knowledge", held_up)
    monkeypatch.setattr("pagesight_server.workflows.refresh.LARGE_PICTURES", 2)
    monkeypatch.setattr("pagesight_server.service.classifier.BEHIND_S", 0.01)
    store = Gallery(tmp_path / "gallery.db")
    enrol(store, {"a1": "a", "a2": "a", "b": "b"})
    enrol(store, {"one": "a"}, gallery="small")
    store.close()
    async with serving(tmp_path, load=True) as served:
        stub = health_pb2_grpc.HealthStub(served.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=3 * WAIT_S)
        assert (await watch.read()).status == NOT_SERVING
        for service in SERVICES:
            assert await state(served, service) == NOT_SERVING
        assert await served.registry.wait_for_revision("small", 1, WAIT_S)
        assert (await served.classify(solid(RED), gallery="small")).revision == 1
        for query in ({}, {"deadline_ms": 60_000}):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await served.classify(solid(RED), **query)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            assert details(status_of(error.value)) == ("REVISION_BEHIND", 1.0)
        stream = served.stream()
        await stream.write(request("too early", RED))
        reply = await asyncio.wait_for(stream.read(), WAIT_S)
        assert details(reply.error) == ("REVISION_BEHIND", 1.0)
        assert await state(served, "") == NOT_SERVING

        monkeypatch.setattr("pagesight_server.service.classifier.BEHIND_S", WAIT_S)
        early = asyncio.create_task(served.classify(solid(RED)))
        await until(lambda: len(served.service._behind) == 1)
        go_on.set()
        assert (await asyncio.wait_for(watch.read(), WAIT_S)).status == SERVING
        assert await state(served, "") == SERVING
        assert (await early).revision == 1
        assert (await served.classify(solid(RED))).revision == 1
        stream.cancel()


async def test_a_server_that_is_stopped_before_it_serves_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held_up(store: Gallery, name: str, *rest: Any, **more: Any) -> Knowledge:
        stop = more["stop"]
        assert stop.wait(WAIT_S)
        raise StoppedError

    monkeypatch.setattr("pagesight_server.workflows.refresh.load_knowledge", held_up)
    monkeypatch.setattr("pagesight_server.workflows.refresh.LARGE_PICTURES", 2)
    store = Gallery(tmp_path / "gallery.db")
    enrol(store, {"a": "a", "b": "b"})
    store.close()
    async with serving(tmp_path, load=True) as served:
        stub = health_pb2_grpc.HealthStub(served.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
        assert (await watch.read()).status == NOT_SERVING
        served.stopping.set()
        assert (await watch.read()).status == NOT_SERVING
        await asyncio.wait_for(served.stopped, WAIT_S)


async def test_a_gallery_that_cannot_be_loaded_ends_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: Any, **_more: Any) -> Knowledge:
        raise ValueError("broken")

    monkeypatch.setattr("pagesight_server.workflows.refresh.load_knowledge", broken)
    store = Gallery(tmp_path / "gallery.db")
    enrol(store, {"a": "a"})
    store.close()
    with pytest.raises(ValueError, match="broken"):
        async with serving(tmp_path, load=True) as served:
            await asyncio.wait([served.stopped], timeout=WAIT_S)


async def test_a_draining_server_finishes_what_it_has_read_and_reads_no_more(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as served:
        await served.enrol(("a", solid(RED)), ("b", solid(GREEN)))
        health = health_pb2_grpc.HealthStub(served.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
        assert (await watch.read()).status == SERVING
        served.models.hold(RED)
        call = asyncio.create_task(served.classify(solid(RED)))
        stream = served.stream()
        await stream.write(request("in flight", RED))
        await served.models.until_active(2)

        served.stopping.set()
        assert (await watch.read()).status == NOT_SERVING
        # Whoever watches is let go, and does not hold up the end.
        with pytest.raises(grpc.aio.AioRpcError) as let_go:
            await asyncio.wait_for(watch.read(), WAIT_S)
        assert let_go.value.code() is grpc.StatusCode.UNAVAILABLE
        # What comes now is not read: it has no answer, so that its caller sends it elsewhere.
        await stream.write(request("new", GREEN))
        # A new call is told to go elsewhere.
        async with grpc.aio.insecure_channel(served.address) as channel:
            fresh = type(served.classifier)(channel)
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await fresh.Classify(_query(), timeout=WAIT_S)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not served.stopped.done()

        await served.models.release()
        assert (await call).label == "a"
        reply = await asyncio.wait_for(stream.read(), WAIT_S)
        assert (reply.request_id, reply.classification.label) == ("in flight", "a")
        # With nothing in flight the stream ends, so that its caller goes elsewhere.
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await asyncio.wait_for(stream.read(), WAIT_S)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert details(status_of(ended.value)) == ("SHUTTING_DOWN", None)
        await asyncio.wait_for(served.stopped, WAIT_S)


async def test_whoever_has_sent_all_it_has_gets_its_answers_and_a_good_end_from_a_draining_server(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as served:
        await served.enrol(("a", solid(RED)))
        served.models.hold(RED)
        stream = served.stream()
        await stream.write(request("one", RED))
        await served.models.until_active(1)
        served.stopping.set()
        await stream.done_writing()
        await served.models.release()
        assert (await asyncio.wait_for(stream.read(), WAIT_S)).request_id == "one"
        assert await asyncio.wait_for(stream.read(), WAIT_S) is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK


async def test_a_lame_duck_says_that_it_is_not_serving_and_answers_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = asyncio.Event()

    async def wait(seconds: float) -> None:
        assert seconds == 7.0
        await over.wait()

    monkeypatch.setattr("pagesight_server.service.server.be_a_lame_duck", wait)
    config = ServerConfig(port=0, drain_seconds=WAIT_S, lame_duck_seconds=7.0)
    async with serving(tmp_path, config=config) as served:
        await served.enrol(("a", solid(RED)), ("b", solid(GREEN)))
        watch = health_pb2_grpc.HealthStub(served.channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=WAIT_S
        )
        assert (await watch.read()).status == SERVING
        stream = served.stream()
        served.stopping.set()
        assert (await watch.read()).status == NOT_SERVING
        await stream.write(request("old", GREEN))
        assert (await stream.read()).classification.label == "b"
        async with grpc.aio.insecure_channel(served.address) as channel:
            fresh = type(served.classifier)(channel)
            answer = await fresh.Classify(_query(), timeout=WAIT_S)
            assert answer.classification.label == "b"
        over.set()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await asyncio.wait_for(stream.read(), WAIT_S)
        assert details(status_of(ended.value)) == ("SHUTTING_DOWN", None)
        await asyncio.wait_for(served.stopped, WAIT_S)


async def test_a_stream_of_a_certain_age_ends_well_once_what_was_read_is_answered(
    tmp_path: Path,
) -> None:
    config = ServerConfig(port=0, drain_seconds=WAIT_S, max_connection_age_seconds=0.2)
    async with serving(tmp_path, config=config) as served:
        await served.enrol(("a", solid(RED)))
        served.models.hold(RED)
        stream = served.stream()
        await stream.write(request("one", RED))
        await served.models.until_active(1)
        await served.models.release()
        assert (await asyncio.wait_for(stream.read(), WAIT_S)).request_id == "one"
        assert await asyncio.wait_for(stream.read(), WAIT_S) is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK


async def test_an_open_stream_with_nothing_in_flight_does_not_hold_up_the_end(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as served:
        await served.enrol(("a", solid(RED)), ("b", solid(GREEN)))
        stream = served.stream()
        await stream.write(request("one", RED))
        assert (await asyncio.wait_for(stream.read(), WAIT_S)).request_id == "one"
        served.stopping.set()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await asyncio.wait_for(stream.read(), WAIT_S)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        await asyncio.wait_for(served.stopped, WAIT_S / 2)


async def test_those_who_watch_do_not_hold_up_the_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        health = health_pb2_grpc.HealthStub(served.channel)
        watches = [
            health.Watch(health_pb2.HealthCheckRequest(service=name), timeout=3 * WAIT_S)
            for name in (*SERVICES, "none")
        ]
        first = [(await asyncio.wait_for(watch.read(), WAIT_S)).status for watch in watches]
        unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        assert first == [*[SERVING] * len(SERVICES), unknown]
        served.stopping.set()
        # The drain may take WAIT_S.
        await asyncio.wait_for(served.stopped, WAIT_S / 2)
        last = [await asyncio.wait_for(watch.read(), WAIT_S) for watch in watches[:-1]]
        assert [reply.status for reply in last] == [NOT_SERVING] * len(SERVICES)


def _query() -> Any:
    from pagesight.v1 import classifier_pb2

    return classifier_pb2.ClassifyRequest(query=classifier_pb2.Query(image=solid(GREEN)))


async def test_whoever_is_not_done_when_the_drain_ends_is_cut_off(tmp_path: Path) -> None:
    config = ServerConfig(port=0, drain_seconds=0.1)
    async with serving(tmp_path, config=config) as served:
        await served.enrol(("a", solid(RED)))
        served.models.hold(RED)
        call = asyncio.create_task(served.classify(solid(RED)))
        await served.models.until_active(1)
        served.stopping.set()
        await asyncio.wait_for(served.stopped, WAIT_S)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call
        assert error.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        await served.models.until_active(0)


async def test_an_idle_server_stops_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.enrol(("a", solid(RED)))
        served.stopping.set()
        # Its drain would take as long as the longest wait.
        await asyncio.wait_for(served.stopped, WAIT_S / 2)


async def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        port = int(served.address.rpartition(":")[2])
        (tmp_path / "second").mkdir()
        with pytest.raises(SetupError, match=f"cannot listen on 127.0.0.1:{port}"):
            async with serving(tmp_path / "second", config=ServerConfig(port=port)):
                pass


async def test_a_server_under_load_leaves_no_task_and_no_complaint_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = asyncio.all_tasks()
    with caplog.at_level(logging.WARNING):
        async with serving(tmp_path) as served:
            await served.enrol(("a", solid(RED)))
            served.models.hold(RED)
            stream = served.stream()
            for i in range(4):
                await stream.write(request(str(i), RED))
            await served.models.until_active(4)
            stream.cancel()
            await served.models.until_active(0)
            await served.models.release()
            await served.classify(solid(RED))
        await until(lambda: not {t for t in asyncio.all_tasks() - before if is_ours(t)})
    assert complaints(caplog.records) == []


def is_ours(task: asyncio.Task[Any]) -> bool:
    """GRPC keeps a task of its own for as long as the loop runs: it polls."""
    return "poller" not in repr(task).lower()
