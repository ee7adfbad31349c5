"""What the end of a client does to its calls, streams and threads: the same for both clients."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import pagesight
from pagesight import AsyncClient, Client, EnrolItem
from pagesight.v1 import gallery_pb2
from tests.support import WAIT_S
from tests.support.fake_server import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


def test_no_thread_outlives_the_client(server: FakeServer) -> None:
    with Client(server.address) as client:
        client.classify(b"login")  # the server has its threads now
        before = set(threading.enumerate())
        list(client.classify_stream([b"a", b"b"]))
        next(client.classify_stream([b"a", b"hold"] * 20, max_in_flight=2))
        client.enrol([EnrolItem(image=b"a", label="a")])
    for thread in set(threading.enumerate()) - before:
        if not thread.name.startswith("fake-server"):
            thread.join(WAIT_S)
            assert not thread.is_alive(), thread


def test_a_closed_client_ends_its_streams(server: FakeServer) -> None:
    client = Client(server.address)
    results = client.classify_stream([b"a", b"mute"])
    assert next(results).unwrap().label == "a"
    client.close()
    with pytest.raises(pagesight.CallCancelledError, match="the client was closed"):
        next(results)


@pytest.mark.parametrize("streamed", [False, True])
def test_closing_the_client_ends_a_call_under_way(server: FakeServer, streamed: bool) -> None:
    client = Client(server.address)
    with ThreadPoolExecutor(1) as pool:
        if streamed:
            asking: Future[Any] = pool.submit(list, client.classify_stream([b"mute"]))
            server.classifier.wait_until_owed(1)
        else:
            asking = pool.submit(client.classify, b"mute")
            server.classifier.wait_until_asked(1)
        client.close()
        with pytest.raises(pagesight.CallCancelledError, match="the client was closed"):
            asking.result(WAIT_S)


@pytest.mark.parametrize("streamed", [False, True])
async def test_closing_the_client_ends_a_call_under_way_on_an_event_loop(
    server: FakeServer, streamed: bool
) -> None:
    client = AsyncClient(server.address)
    if streamed:
        asking: asyncio.Future[Any] = asyncio.ensure_future(
            anext(client.classify_stream([b"mute"]))
        )
        await asyncio.to_thread(server.classifier.wait_until_owed, 1)
    else:
        asking = asyncio.ensure_future(client.classify(b"mute"))
        await asyncio.to_thread(server.classifier.wait_until_asked, 1)
    await client.close()
    with pytest.raises(pagesight.CallCancelledError, match="the client was closed"):
        await asyncio.wait_for(asking, WAIT_S)


async def test_a_closed_client_ends_its_streams_on_an_event_loop(server: FakeServer) -> None:
    client = AsyncClient(server.address)
    results = client.classify_stream([b"a", b"mute"])
    assert (await anext(results)).unwrap().label == "a"
    await client.close()
    with pytest.raises(pagesight.CallCancelledError):
        await anext(results)


async def test_a_closed_client_makes_no_call_and_no_stream(server: FakeServer) -> None:
    client, aclient = Client(server.address), AsyncClient(server.address)
    client.classify(b"login")
    await aclient.classify(b"login")
    client.close()
    await aclient.close()
    with pytest.raises(pagesight.CallCancelledError):
        client.classify(b"login")
    with pytest.raises(pagesight.CallCancelledError):
        client.classify_stream([b"a"])
    with pytest.raises(pagesight.CallCancelledError):
        await aclient.classify(b"login")
    with pytest.raises(pagesight.CallCancelledError):
        aclient.classify_stream([b"a"])


def test_a_call_that_the_end_of_its_client_overtakes_was_cancelled(server: FakeServer) -> None:
    client = Client(server.address)
    method = client._gallery.GetGallery

    def overtaken(*arguments: Any, **options: Any) -> Any:
        client.close()
        return method(*arguments, **options)

    with pytest.raises(pagesight.CallCancelledError):
        client._call(overtaken, gallery_pb2.GetGalleryRequest(), id)  # type: ignore[arg-type]


def test_no_channel_is_opened_after_the_end_of_the_client(server: FakeServer) -> None:
    client = Client(server.address)

    class Overtaken(contextlib.ExitStack):
        """A lock that `close` has held just before."""

        def __enter__(self) -> Any:
            client._closed.set()
            return super().__enter__()

    client._lock = Overtaken()  # type: ignore[assignment]
    with pytest.raises(pagesight.CallCancelledError):
        client.classify(b"login")
    assert client._opened is None


async def test_a_source_may_close_its_own_client(server: FakeServer) -> None:
    client = AsyncClient(server.address)

    async def images() -> AsyncIterator[bytes]:
        yield b"mute"
        await client.close()
        yield b"a"

    with pytest.raises(pagesight.CallCancelledError):
        await asyncio.wait_for(anext(client.classify_stream(images())), WAIT_S)


async def test_a_stream_that_a_closed_client_has_not_read_to_its_end_does_not_end_quietly(
    server: FakeServer,
) -> None:
    """All that the source has given so far is answered, and it has more to give."""
    more = asyncio.Event()

    async def images() -> AsyncIterator[bytes]:
        yield b"a"
        await more.wait()
        yield b"b"

    client = AsyncClient(server.address)
    results = client.classify_stream(images())
    assert (await anext(results)).unwrap().label == "a"
    await client.close()
    with pytest.raises(pagesight.CallCancelledError, match="the client was closed"):
        await asyncio.wait_for(anext(results), WAIT_S)


async def test_a_loop_over_a_stream_that_closes_its_client_hears_of_it(server: FakeServer) -> None:
    async def images() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.Event().wait()

    client = AsyncClient(server.address)
    labels = []

    async def read() -> None:
        async for result in client.classify_stream(images()):
            labels.append(result.unwrap().label)
            await client.close()

    with pytest.raises(pagesight.CallCancelledError, match="the client was closed"):
        await asyncio.wait_for(read(), WAIT_S)
    assert labels == ["a"]
