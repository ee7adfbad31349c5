"""Forks, gevent and proxies: what keeps gRPC from working around it is said, or made harmless."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import pagesight
from pagesight import AsyncClient, Client
from pagesight._environment import is_loopback, proxy_of, to_connect
from tests.support import WAIT_S
from tests.support.fake_server import FakeServer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


def python(code: str, *arguments: str) -> str:
    """What a program prints that ends well."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- forks ---

FORK = """
import asyncio, os, sys
from pagesight import AsyncClient, Client

def in_a_fork(use):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            use()
        except RuntimeError as error:
            print(error)
        sys.stdout.flush()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""

USED = """
client = Client(sys.argv[1])
print(client.classify(b"parent").label)
in_a_fork(lambda: client.classify(b"child"))
in_a_fork(lambda: client.classify_stream([b"child"]))
in_a_fork(lambda: client.get_gallery())
in_a_fork(lambda: (client.close(), print("closed")))
print(client.classify(b"parent again").label)
client.close()
"""

USED_BY_A_LOOP = """
client = AsyncClient(sys.argv[1])
loop = asyncio.new_event_loop()
print(loop.run_until_complete(client.classify(b"parent")).label)
in_a_fork(lambda: asyncio.run(client.classify(b"child")))
in_a_fork(lambda: (asyncio.run(client.close()), print("closed")))
print(loop.run_until_complete(client.classify(b"parent again")).label)
loop.run_until_complete(client.close())
"""

UNUSED = """
client = Client(sys.argv[1])
in_a_fork(lambda: print(client.classify(b"child").label))
aclient = AsyncClient(sys.argv[1])
in_a_fork(lambda: print(asyncio.run(aclient.classify(b"child")).label))
print(client.classify(b"parent").label)
client.close()
"""

REFUSED = r"this client has connected in process \d+ and cannot be used in its fork \d+, .*"


def test_a_client_that_has_connected_is_refused_in_a_fork(server: FakeServer) -> None:
    lines = python(FORK + USED, server.address).splitlines()
    assert [line for line in lines if not re.fullmatch(REFUSED, line)] == [
        "parent",
        "closed",
        "parent again",
    ]
    assert len(lines) == 6


def test_an_async_client_that_has_connected_is_refused_in_a_fork(server: FakeServer) -> None:
    lines = python(FORK + USED_BY_A_LOOP, server.address).splitlines()
    assert re.fullmatch(REFUSED, lines.pop(1))
    assert lines == ["parent", "closed", "parent again"]


def test_a_client_that_was_made_and_not_used_works_in_a_fork(server: FakeServer) -> None:
    assert python(FORK + UNUSED, server.address).splitlines() == ["child", "child", "parent"]


# --- gevent ---

PATCHED = """
import asyncio, sys
from types import ModuleType
from pagesight import AsyncClient, Client
monkey = ModuleType("gevent.monkey")
monkey.is_module_patched = {"threading": True}.get
sys.modules["gevent.monkey"] = monkey
with Client(sys.argv[1]) as client:
    try:
        client.classify(b"a")
    except RuntimeError as error:
        print(error)
aclient = AsyncClient(sys.argv[1])
try:
    asyncio.run(aclient.classify(b"a"))
except RuntimeError as error:
    print(error)
"""

GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, gevent
from pagesight import Client
client = Client(sys.argv[1])
try:
    client.classify(b"too early")
except RuntimeError as error:
    print(error)
from grpc.experimental.gevent import init_gevent
init_gevent()
asking = [gevent.spawn(client.classify, b"%d" % number) for number in range(3)]
gevent.joinall(asking)
print(*(asked.value.label for asked in asking))
print(*(result.unwrap().label for result in client.classify_stream([b"a", b"b"], ordered=True)))
client.close()
"""


def test_under_gevent_without_grpcs_consent_the_client_says_what_to_call(
    server: FakeServer,
) -> None:
    of_threads, of_a_loop = python(PATCHED, server.address).splitlines()
    assert "call grpc.experimental.gevent.init_gevent()" in of_threads
    assert "event loops hang: use Client" in of_a_loop
    assert server.classifier.queries == []


def test_under_gevent_calls_and_streams_work_once_grpc_was_told(server: FakeServer) -> None:
    pytest.importorskip("gevent")
    early, labels, streamed = python(GEVENT, server.address).splitlines()
    assert "init_gevent()" in early
    assert labels == "0 1 2"
    assert streamed == "a b"


# --- proxies and addresses ---


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A proxy that refuses all, as the environment's; its host and port."""
    for name in ("grpc_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        where = f"127.0.0.1:{proxy.getsockname()[1]}"
        monkeypatch.setenv("https_proxy", f"http://me:secret@{where}")

        def refuse() -> None:
            while True:
                try:
                    caller, _ = proxy.accept()
                except OSError:
                    return
                with caller:
                    caller.recv(65_536)
                    caller.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        refusing = threading.Thread(target=refuse, name="proxy")
        refusing.start()
        yield where
        proxy.shutdown(socket.SHUT_RDWR)
        refusing.join()


def test_a_failed_connection_names_the_proxy_that_it_went_through(nobody: str) -> None:
    told = (
        rf"no server answers at pages\.test:443: .*403.*through the proxy {re.escape(nobody)} of "
        "the environment variable https_proxy: .* list the host in no_proxy"
    )
    with (
        Client("pages.test:443", retry_for_s=0) as client,
        pytest.raises(pagesight.UnavailableError, match=told) as failed,
    ):
        client.get_gallery()
    assert "secret" not in failed.value.message

    async def ask() -> None:
        async with AsyncClient("pages.test:443", retry_for_s=0) as aclient:
            await aclient.get_gallery()

    with pytest.raises(pagesight.UnavailableError, match=told):
        asyncio.run(ask())


def test_without_the_proxy_the_name_itself_is_looked_for(nobody: str) -> None:
    with (
        Client("pages.test:443", retry_for_s=0, use_proxy=False) as client,
        pytest.raises(pagesight.UnavailableError, match=r"resol|lookup") as failed,
    ):
        client.get_gallery()
    assert "proxy" not in failed.value.message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "dns:///localhost", "0.0.0.0"])
def test_no_proxy_stands_between_a_client_and_its_own_machine(
    server: FakeServer, nobody: str, host: str
) -> None:
    with Client(f"{host}:{server.port}", retry_for_s=0) as client:
        assert client.classify(b"login").label == "login"


@pytest.mark.parametrize(
    ("address", "loopback", "connects_to"),
    [
        ("127.0.0.1:1", True, "127.0.0.1:1"),
        ("127.8.0.1:1", True, "127.8.0.1:1"),
        ("[::1]:1", True, "[::1]:1"),
        ("ipv6:[::1]:1", True, "ipv6:[::1]:1"),
        ("LOCALHOST:1", True, "LOCALHOST:1"),
        ("unix:/run/pagesight", True, "unix:/run/pagesight"),
        ("0.0.0.0:1", True, "127.0.0.1:1"),
        ("[::]:1", True, "[::1]:1"),
        ("ipv4:0.0.0.0:1", True, "ipv4:127.0.0.1:1"),
        ("127.0.0.1.example.org:1", False, "127.0.0.1.example.org:1"),
        ("ipv4:127.0.0.1:1,10.0.0.1:1", False, "ipv4:127.0.0.1:1,10.0.0.1:1"),
        ("10.0.0.0:1", False, "10.0.0.0:1"),
    ],
)
def test_which_addresses_are_this_machines(address: str, loopback: bool, connects_to: str) -> None:
    assert is_loopback(address) is loopback
    assert to_connect(address) == connects_to


HTTPS = {"https_proxy": "http://proxy:3128"}


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({}, ""),
        ({"HTTPS_PROXY": "http://proxy:3128"}, ""),
        ({"http_proxy": "http://proxy:3128"}, "http_proxy"),
        ({**HTTPS, "http_proxy": "http://other:1"}, "https_proxy"),
        ({**HTTPS, "grpc_proxy": "http://other:1"}, "grpc_proxy"),
        ({**HTTPS, "grpc_proxy": ""}, ""),
        ({**HTTPS, "no_proxy": "a.org, Example.org"}, ""),
        ({**HTTPS, "no_proxy": ".org"}, ""),
        ({**HTTPS, "no_proxy": "a.org,"}, "https_proxy"),
        ({**HTTPS, "no_proxy": "example.org", "no_grpc_proxy": "a.org"}, "https_proxy"),
    ],
)
def test_the_proxy_is_the_one_that_grpc_goes_through(
    environment: dict[str, str], variable: str
) -> None:
    proxy = proxy_of("pages.example.org:443", environment)
    assert (proxy.variable if proxy else "") == variable


def test_no_proxy_may_name_a_network() -> None:
    environment = {**HTTPS, "no_proxy": "10.0.0.0/8,nonsense/99"}
    assert proxy_of("10.1.2.3:1", environment) is None
    assert proxy_of("11.1.2.3:1", environment) is not None
