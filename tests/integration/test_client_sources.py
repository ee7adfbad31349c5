"""Sources of pictures that wait, break or are given up, and what becomes of the call they feed.

Both clients promise the same; where waiting differs, each has a test.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import pagesight
from pagesight import AsyncClient, Client, EnrolItem, Progress
from tests.support import WAIT_S
from tests.support.fake_server import FakeServer

ITEM = EnrolItem(image=b"new page", label="a")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture
def away() -> Iterator[str]:
    """An address at which nobody listens, and nobody else can."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def ends_the_program(item: Any) -> Iterator[Any]:
    """Yields one item, and then would end the program."""
    yield item
    raise SystemExit(3)


async def from_a_cancelled_producer(item: Any) -> AsyncIterator[Any]:
    """Yields one item, and then waits for a task that is cancelled."""
    yield item
    producer = asyncio.ensure_future(asyncio.sleep(WAIT_S))
    producer.cancel()
    await producer


# --- of calls that send pictures one by one ---

SENT: list[Callable[[Any], Any]] = [
    lambda client: client.enrol(iter([ITEM])),
    lambda client: client.discover(iter([ITEM.image])),
    lambda client: client.preview(iter([ITEM])),
]
KINDS = pytest.mark.parametrize("send", SENT, ids=["enrol", "discover", "preview"])


@KINDS
def test_what_a_generator_gives_goes_to_a_server_that_is_there(
    server: FakeServer, away: str, send: Callable[[Client], Any]
) -> None:
    with Client(server.address) as client:
        client.enrol([EnrolItem(image=b"b", label="b")])
    with Client([away, server.address]) as client:
        send(client)


@KINDS
async def test_so_it_does_on_an_event_loop(
    server: FakeServer, away: str, send: Callable[[AsyncClient], Any]
) -> None:
    async with AsyncClient(server.address) as client:
        await client.enrol([EnrolItem(image=b"b", label="b")])
    async with AsyncClient([away, server.address]) as client:
        await send(client)


async def test_closing_the_client_ends_an_enrolment_whose_source_waits(server: FakeServer) -> None:
    client, waiting = AsyncClient(server.address), asyncio.Event()

    async def items() -> AsyncIterator[EnrolItem]:
        yield ITEM
        waiting.set()
        await asyncio.Event().wait()

    enrolling = asyncio.create_task(client.enrol(items()))
    await asyncio.wait_for(waiting.wait(), WAIT_S)
    await client.close()
    with pytest.raises(pagesight.CallCancelledError):
        await asyncio.wait_for(enrolling, WAIT_S)


def test_a_refusal_does_not_wait_for_the_source(server: FakeServer) -> None:
    heard, has_ended = threading.Event(), threading.Event()

    def items() -> Iterator[EnrolItem]:
        yield EnrolItem(image=b"too many", label="a")
        heard.wait(WAIT_S)
        has_ended.set()

    with Client(server.address, retry_for_s=0) as client:
        with pytest.raises(pagesight.ResourceExhaustedError):
            client.enrol(items())
        assert not has_ended.is_set()
        heard.set()


async def test_a_refusal_does_not_wait_for_the_source_on_an_event_loop(
    server: FakeServer,
) -> None:
    async def items() -> AsyncIterator[EnrolItem]:
        yield EnrolItem(image=b"too many", label="a")
        await asyncio.Event().wait()

    async with AsyncClient(server.address, retry_for_s=0) as client:
        with pytest.raises(pagesight.ResourceExhaustedError):
            await asyncio.wait_for(client.enrol(items()), WAIT_S)


def test_progress_is_told_while_the_source_still_gives(server: FakeServer) -> None:
    told = threading.Event()

    def images() -> Iterator[bytes]:
        yield b"a"
        assert told.wait(WAIT_S)
        yield b"b"

    def progress(_: Progress) -> None:
        told.set()

    with Client(server.address) as client:
        client.enrol([ITEM])
        client.discover(images(), progress=progress)


async def test_progress_is_told_while_an_async_source_still_gives(server: FakeServer) -> None:
    told = asyncio.Event()

    async def images() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.wait_for(told.wait(), WAIT_S)
        yield b"b"

    def progress(_: Progress) -> None:
        told.set()

    async with AsyncClient(server.address) as client:
        await client.enrol([ITEM])
        await client.discover(images(), progress=progress)


def test_a_source_that_ends_the_program_does(server: FakeServer) -> None:
    server.gallery.expects_to_be_left = True
    with Client(server.address) as client, pytest.raises(SystemExit):
        client.enrol(ends_the_program(ITEM), timeout_s=WAIT_S)


async def test_a_source_whose_producer_was_cancelled_says_so(server: FakeServer) -> None:
    server.gallery.expects_to_be_left = True
    async with AsyncClient(server.address) as client:
        with pytest.raises(asyncio.CancelledError):
            await client.enrol(from_a_cancelled_producer(ITEM), timeout_s=WAIT_S)


# --- of streams ---


def test_a_stream_whose_source_ends_the_program_does_so_after_its_answers(
    server: FakeServer,
) -> None:
    with Client(server.address) as client:
        stream = client.classify_stream(ends_the_program(b"a"))
        assert next(stream).unwrap().label == "a"
        with pytest.raises(SystemExit):
            next(stream)


@pytest.fixture
def no_cycles() -> Iterator[None]:
    """Has what is in a circle of references kept for as long as the test runs."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_cycles")
def test_a_stream_that_is_left_keeps_neither_its_source_nor_its_pictures(
    server: FakeServer,
) -> None:
    closed = threading.Event()

    def images() -> Iterator[bytes]:
        try:
            while True:
                yield b"a"
        finally:
            closed.set()

    with Client(server.address) as client:
        stream = client.classify_stream(images(), max_in_flight=2)
        next(stream)
        stream.close()
        del stream
        assert closed.wait(WAIT_S)


@pytest.mark.usefixtures("no_cycles")
async def test_a_stream_of_an_event_loop_that_is_left_keeps_neither(server: FakeServer) -> None:
    closed = asyncio.Event()

    async def images() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"a"
        finally:
            closed.set()

    async with AsyncClient(server.address) as client:
        stream = client.classify_stream(images(), max_in_flight=2)
        await anext(stream)
        await stream.aclose()
        del stream
        await asyncio.wait_for(closed.wait(), WAIT_S)


async def test_a_stream_whose_producer_was_cancelled_says_so_after_its_answers(
    server: FakeServer,
) -> None:
    async with AsyncClient(server.address) as client:
        stream = client.classify_stream(from_a_cancelled_producer(b"a"))
        assert (await asyncio.wait_for(anext(stream), WAIT_S)).unwrap().label == "a"
        with pytest.raises(asyncio.CancelledError):
            await anext(stream)
