"""A client of several servers: who gets its calls and streams, by what their health says."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import pagesight
from pagesight import AsyncClient, Client, RetryPolicy, StreamResult
from pagesight._channel import Endpoint
from pagesight._cli import app
from pagesight._spread import Places, places_of
from pagesight_server.config_sections import ServerConfig
from pagesight_server.service.classifier import ClassifierService
from tests.support import WAIT_S
from tests.support.fake_server import FakeServer
from tests.support.names import NameServer
from tests.support.pictures import RED, shade, solid
from tests.support.serving import serving

QUICK = RetryPolicy(first_delay_s=0.01, longest_delay_s=0.05)


@pytest.fixture
def servers() -> Iterator[list[FakeServer]]:
    with FakeServer() as first, FakeServer() as second, FakeServer() as third:
        yield [first, second, third]


def addresses(servers: list[FakeServer]) -> list[str]:
    return [server.address for server in servers]


def asked(servers: list[FakeServer]) -> list[int]:
    return [len(server.classifier.queries) for server in servers]


def until(places: Places, true: Callable[[], bool]) -> None:
    """Waits until the states of connections are as they should be."""
    came = threading.Event()

    def look() -> None:
        if true():
            came.set()

    places.listen(came, look)
    look()
    assert came.wait(WAIT_S)
    places.unlisten(came)


def until_ready(places: Places, *numbers: int) -> None:
    """Waits until exactly these connections take calls."""
    until(
        places,
        lambda: [n for n in range(len(places)) if places.is_ready(n)] == list(numbers),
    )


def test_calls_go_to_those_that_serve_in_turn(servers: list[FakeServer]) -> None:
    with Client(addresses(servers), retry_for_s=0) as client:
        places = places_of(client._open().channel)
        until_ready(places, 0, 1, 2)
        for _ in range(6):
            client.classify(b"login")
        assert asked(servers) == [2, 2, 2]
        servers[1].serve(False)
        until_ready(places, 0, 2)
        for _ in range(6):
            client.classify(b"login")
        assert asked(servers) == [5, 2, 5]
        servers[1].serve(True)
        until_ready(places, 0, 1, 2)
        for _ in range(6):
            client.classify(b"login")
        assert asked(servers) == [7, 4, 7]


async def test_so_they_do_on_an_event_loop(servers: list[FakeServer]) -> None:
    async with AsyncClient(",".join(addresses(servers)), retry_for_s=0) as client:
        places = places_of(client._channel)
        await asyncio.to_thread(until_ready, places, 0, 1, 2)
        servers[1].serve(False)
        await asyncio.to_thread(until_ready, places, 0, 2)
        for _ in range(6):
            await client.classify(b"login")
        assert asked(servers) == [3, 0, 3]
        results = client.classify_stream([b"a"] * 60, max_in_flight=4)
        assert len([result.unwrap() async for result in results]) == 60
        assert asked(servers)[1] == 0


@pytest.mark.parametrize("ordered", [False, True])
def test_a_stream_goes_over_all_that_serve(servers: list[FakeServer], ordered: bool) -> None:
    pictures = [b"%d" % number for number in range(300)]
    with Client(addresses(servers), retry_for_s=0) as client:
        until_ready(places_of(client._open().channel), 0, 1, 2)
        results = client.classify_stream(pictures, max_in_flight=6, ordered=ordered)
        labels = [result.unwrap().label for result in results]
    expected = [str(number) for number in range(300)]
    assert (labels if ordered else sorted(labels, key=int)) == expected
    assert sum(asked(servers)) == 300
    assert min(asked(servers)) > 0


def test_a_stream_moves_from_a_server_that_breaks_and_comes_back_to_it(
    servers: list[FakeServer],
) -> None:
    goes_on = threading.Event()

    def pictures() -> Iterator[bytes]:
        yield from [b"a"] * 60
        assert goes_on.wait(WAIT_S)
        yield from [b"b"] * 200

    second = FakeServer()
    with Client([servers[0].address, second.address], retry=QUICK) as client:
        places = places_of(client._open().channel)
        with second:
            until_ready(places, 0, 1)
            labels = []
            for result in client.classify_stream(pictures(), max_in_flight=4):
                labels.append(result.unwrap().label)
                if len(labels) == 30:
                    second.stop()
                    until_ready(places, 0)
                if len(labels) == 60:
                    third = FakeServer(second.port)
                    third.__enter__()
                    until_ready(places, 0, 1)
                    goes_on.set()
        try:
            assert (labels.count("a"), labels.count("b")) == (60, 200)
            assert len(third.classifier.queries) > 0
        finally:
            third.stop()


@pytest.mark.parametrize("address", ["dns:///localhost:{0}", "127.0.0.1:{1},127.0.0.1:{0}"])
def test_names_and_servers_that_are_away(servers: list[FakeServer], address: str) -> None:
    with FakeServer() as gone:
        pass
    where = address.format(servers[0].port, gone.port)
    with Client(where, retry_for_s=0) as client:
        assert client.classify(b"login").label == "login"
        results = client.classify_stream([b"a"] * 20, max_in_flight=4)
        assert [result.unwrap().label for result in results] == ["a"] * 20


@pytest.mark.parametrize("threads", [False, True])
async def test_no_picture_is_lost_where_one_of_two_servers_is_told_to_stop(
    tmp_path: Path, threads: bool
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    config = ServerConfig(port=0, drain_seconds=WAIT_S)
    pictures = [solid(shade(number)) for number in range(200)]
    labels: list[str] = []

    def note(result: StreamResult[Any], stop: Callable[[], object]) -> None:
        labels.append(result.unwrap().closest_label)
        if len(labels) == 50:
            stop()

    async with (
        serving(tmp_path / "a", config=config) as first,
        serving(tmp_path / "b", config=config) as second,
    ):
        for server in (first, second):
            await server.enrol(("page", solid(RED)))
        where = [first.address, second.address]
        if threads:
            loop = asyncio.get_running_loop()

            def stream() -> None:
                with Client(where, retry_for_s=0) as client:
                    for result in client.classify_stream(pictures):
                        note(result, lambda: loop.call_soon_threadsafe(first.stopping.set))

            await asyncio.to_thread(stream)
        else:
            async with AsyncClient(where, retry_for_s=0) as client:
                async for result in client.classify_stream(pictures):
                    note(result, first.stopping.set)
        await asyncio.wait_for(first.stopped, WAIT_S)
    assert labels == ["page"] * 200


async def test_a_stream_goes_on_where_its_server_ends_calls_of_a_certain_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[float] = []

    def age_s(_: object) -> float:
        begun.append(0.02)
        return begun[-1]

    monkeypatch.setattr("pagesight_server.service.classifier.LINGER_S", 0.02)
    monkeypatch.setattr(ClassifierService, "_stream_age_s", age_s)

    async def pictures() -> AsyncIterator[bytes]:
        number = 0
        while len(begun) < 5:
            yield solid(shade(number))
            number += 1
            await asyncio.sleep(0)

    async with serving(tmp_path) as server:
        await server.enrol(("page", solid(RED)))
        async with AsyncClient(server.address, retry=QUICK) as client:
            results = client.classify_stream(pictures(), ordered=True, max_in_flight=4)
            keys = [result.key async for result in results if result.error is None]
    assert keys == list(range(len(keys)))
    assert len(begun) >= 5


def test_servers_that_all_are_away_are_one_error(servers: list[FakeServer]) -> None:
    for server in servers:
        server.stop()
    with Client(addresses(servers), retry_for_s=0.2, retry=QUICK) as client:
        with pytest.raises(pagesight.UnavailableError, match=r"no server answers at .*; tried"):
            client.classify(b"login")
        with pytest.raises(pagesight.UnavailableError, match=r"no server answers at .*; tried"):
            list(client.classify_stream([b"a"] * 20))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_name_stands_for_several_servers_and_for_more_later(
    monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    # How many lanes a stream has, this machine's own resolver says, which knows no such name.
    monkeypatch.setattr(Endpoint, "count_servers", lambda _: 2)
    often = [("grpc.dns_min_time_between_resolutions_ms", 50)]

    def ask_until(server: FakeServer) -> None:
        give_up_s = time.monotonic() + WAIT_S
        before = len(server.classifier.queries)
        while len(server.classifier.queries) == before:
            assert time.monotonic() < give_up_s
            if streamed:
                results = list(client.classify_stream([b"a"] * 8))
                assert [result.error for result in results] == [None] * 8
            else:
                client.classify(b"a")

    first = FakeServer()
    others = [FakeServer(first.port, f"127.0.0.{number}") for number in (2, 3)]
    with ExitStack() as stack:
        second, third = others
        for server in (first, second, third):
            stack.enter_context(server)
        names = stack.enter_context(NameServer("127.0.0.1", "127.0.0.2"))
        where = f"dns://{names.address}/pages.test:{first.port}"
        client = stack.enter_context(Client(where, channel_options=often, retry=QUICK))
        ask_until(first)
        ask_until(second)
        assert third.classifier.queries == []
        # Names are asked for again when a connection ends.
        names.addresses = ("127.0.0.1", "127.0.0.3")
        second.stop()
        ask_until(third)
        ask_until(first)


def test_a_name_has_a_call_of_a_stream_for_each_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: None, **_: object) -> list[tuple[object, ...]]:
        assert (host, port) == ("pages.internal", None)
        return [(0, 0, 0, "", (f"10.0.0.{number}", 0)) for number in (1, 2, 3, 3)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert Endpoint(address="dns://10.0.0.9:53/pages.internal:1", timeout_s=1).count_servers() == 3
    assert Endpoint(address="dns:///pages.internal:50051", timeout_s=1).count_servers() == 3
    assert Endpoint(address="pages.internal:50051", timeout_s=1).count_servers() == 1


def slow_names(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Has names known at once for the first call, and for later ones when this is set."""
    told, asked = threading.Event(), threading.Event()

    def count_servers(_: Endpoint) -> int:
        if asked.is_set():
            assert told.wait(WAIT_S)
        asked.set()
        return 1

    monkeypatch.setattr(Endpoint, "count_servers", count_servers)
    return told


def test_a_slow_name_server_holds_back_no_answer(
    servers: list[FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = slow_names(monkeypatch)
    servers[0].classifier.breaks = 1
    with Client(f"dns:///{servers[0].address}", retry=QUICK) as client:
        results = client.classify_stream([b"a", b"break", b"b"], ordered=True, max_in_flight=1)
        labels = [next(results).unwrap().label for _ in range(3)]
        told.set()
        assert labels == ["a", "break", "b"]
        assert list(results) == []


async def test_a_slow_name_server_holds_back_no_answer_on_an_event_loop(
    servers: list[FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = slow_names(monkeypatch)
    servers[0].classifier.breaks = 1
    async with AsyncClient(f"dns:///{servers[0].address}", retry=QUICK) as client:
        results = client.classify_stream([b"a", b"break", b"b"], ordered=True, max_in_flight=1)
        labels = [(await anext(results)).unwrap().label for _ in range(3)]
        told.set()
        assert labels == ["a", "break", "b"]
        assert [result async for result in results] == []


@pytest.mark.parametrize("address", ["", [], [""], "127.0.0.1:1,", ["127.0.0.1:1", ""]])
def test_an_empty_address_is_refused(address: str | list[str]) -> None:
    with pytest.raises(ValueError, match="address is empty"):
        Client(address)


def test_a_token_goes_to_no_other_machine_in_the_clear() -> None:
    with pytest.raises(ValueError, match=r"a token to 10\.0\.0\.1:1 needs TLS"):
        Client(["127.0.0.1:1", "10.0.0.1:1"], token="secret")


@pytest.mark.parametrize("repeated", [False, True])
def test_a_command_takes_several_addresses(
    servers: list[FakeServer], tmp_path: Path, repeated: bool
) -> None:
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(b"login")
    servers[2].stop()
    where = addresses(servers)
    options = [text for one in where for text in ("--address", one)]
    arguments = options if repeated else ["--address", ",".join(where)]
    result = CliRunner().invoke(app, ["classify", str(tmp_path), *arguments])
    assert result.exit_code == 0, result.output
    assert "8 pictures: 8 known" in result.stdout
    assert sum(asked(servers)) == 8
