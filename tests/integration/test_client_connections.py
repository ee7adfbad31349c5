"""A client of several connections: calls take turns at them, and a stream is spread over them."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from pagesight import AsyncClient, Client
from pagesight._spread import Places, places_of
from pagesight.v1.classifier_pb2_grpc import add_ClassifierServiceServicer_to_server
from tests.support import WAIT_S
from tests.support.fake_classifier import FakeClassifier


class Peers(FakeClassifier):
    """A classifier that notes over which connection each call came."""

    def __init__(self) -> None:
        super().__init__(lambda _: 1)
        self.calls: Counter[str] = Counter()
        self.streams: Counter[str] = Counter()

    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """As it was."""
        self.calls[context.peer()] += 1
        return super().Classify(request, context)

    def ClassifyStream(  # noqa: N802
        self, request_iterator: Any, context: grpc.ServicerContext
    ) -> Any:
        """As it was."""
        self.streams[context.peer()] += 1
        return super().ClassifyStream(request_iterator, context)


def until_ready(places: Places) -> None:
    """Waits until every connection takes calls: until then they take no turns."""
    ready = threading.Event()

    def look() -> None:
        if all(places.is_ready(place) for place in range(len(places))):
            ready.set()

    places.listen(ready, look)
    look()
    assert ready.wait(WAIT_S)
    places.unlisten(ready)


@pytest.fixture
def server() -> Iterator[tuple[Peers, str]]:
    peers = Peers()
    with ThreadPoolExecutor(16, thread_name_prefix="fake-server") as threads:
        running = grpc.server(threads)
        add_ClassifierServiceServicer_to_server(peers, running)
        port = running.add_insecure_port("127.0.0.1:0")
        running.start()
        yield peers, f"127.0.0.1:{port}"
        running.stop(None).wait(WAIT_S)


@pytest.mark.parametrize("connections", [1, 3])
def test_calls_take_turns_and_a_stream_is_spread(
    server: tuple[Peers, str], connections: int
) -> None:
    peers, address = server
    with Client(address, connections=connections) as client:
        until_ready(places_of(client._open().channel))
        for _ in range(6):
            assert client.classify(b"login").label == "login"
        assert len(list(client.classify_stream([b"a"] * 300, max_in_flight=6))) == 300
    assert sorted(peers.calls.values()) == [6 // connections] * connections
    assert sorted(peers.streams.values()) == [1] * connections


@pytest.mark.parametrize("connections", [1, 3])
async def test_so_they_do_on_an_event_loop(server: tuple[Peers, str], connections: int) -> None:
    peers, address = server
    async with AsyncClient(address, connections=connections) as client:
        await asyncio.to_thread(until_ready, places_of(client._channel))
        for _ in range(6):
            assert (await client.classify(b"login")).label == "login"
        pictures = [b"a"] * 300
        results = [r async for r in client.classify_stream(pictures, max_in_flight=6)]
        assert len(results) == 300
    assert sorted(peers.calls.values()) == [6 // connections] * connections
    assert sorted(peers.streams.values()) == [1] * connections


def test_a_client_has_a_connection() -> None:
    with pytest.raises(ValueError, match="connections must be at least 1, got 0"):
        Client("127.0.0.1:1", connections=0)
