"""A server that goes away and comes back: no answer is lost, none comes twice, none is made twice.

A test starts the second server when the client has noticed that the first is gone, so that each
has met an attempt that failed; nothing depends on how long that takes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import pagesight
from pagesight import AsyncClient, Client, EnrolItem, RetryPolicy
from pagesight._cli import app
from pagesight._lanes import Lane, Lanes
from tests.support import WAIT_S
from tests.support.fake_server import FakeServer
from tests.support.pictures import solid

ROOT = Path(__file__).parents[2]
QUICK = RetryPolicy(first_delay_s=0.01, longest_delay_s=0.05)

SERVE = """
import asyncio, signal, sys
from pathlib import Path
from pagesight_server.config_sections import ServerConfig
from tests.support.serving import serving
async def main():
    config = ServerConfig(port=int(sys.argv[2]), drain_seconds=0.2)
    async with serving(Path(sys.argv[1]), config=config) as served:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, served.stopping.set)
        await served.registry.refresh()
        print(served.address, flush=True)
        await served.stopped
asyncio.run(main())
"""


class Notice(logging.Handler):
    """Tells that a client has noticed that its server is away."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """As logging calls it."""
        if "trying again" in record.getMessage():
            self.came.set()


@pytest.fixture
def notice() -> Iterator[Notice]:
    handler = Notice()
    logging.getLogger("pagesight").addHandler(handler)
    yield handler
    logging.getLogger("pagesight").removeHandler(handler)


class Comeback:
    """A fake server that can be stopped, and comes back when its client has noticed."""

    def __init__(self, notice: Notice) -> None:
        self.first = FakeServer()
        self.second: FakeServer | None = None
        self._notice = notice
        self._thread = threading.Thread(target=self._come_back, name="comeback")

    def __enter__(self) -> Comeback:
        self.first.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive() or self.second is not None:
            self._thread.join(WAIT_S)
        for server in (self.first, self.second):
            if server is not None:
                server.stop()

    def leave(self) -> None:
        """Stops the first server; what is in flight breaks."""
        self.first.stop()
        self._thread.start()

    def _come_back(self) -> None:
        assert self._notice.came.wait(WAIT_S)
        self.second = FakeServer(self.first.port)
        self.second.classifier.release()  # what the first one held has its answer here
        self.second.__enter__()


@pytest.fixture
def comeback(notice: Notice) -> Iterator[Comeback]:
    with Comeback(notice) as servers:
        yield servers


PICTURES = [b"%d" % number for number in range(40)]


@pytest.mark.parametrize("ordered", [False, True])
def test_a_stream_outlasts_a_restart(comeback: Comeback, ordered: bool) -> None:
    labels = []
    with Client(comeback.first.address, retry=QUICK) as client:
        for result in client.classify_stream(PICTURES, max_in_flight=4, ordered=ordered):
            labels.append(result.unwrap().label)
            if len(labels) == 10:
                comeback.leave()
    assert Counter(labels) == Counter(str(number) for number in range(40))


async def test_a_stream_outlasts_a_restart_on_an_event_loop_too(comeback: Comeback) -> None:
    labels = []
    async with AsyncClient(comeback.first.address, retry=QUICK) as client:
        async for result in client.classify_stream(PICTURES, max_in_flight=4):
            labels.append(result.unwrap().label)
            if len(labels) == 10:
                await asyncio.to_thread(comeback.leave)
    assert Counter(labels) == Counter(str(number) for number in range(40))


def test_a_server_away_for_longer_than_the_timeout_fails_no_screenshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = [100.0]
    monkeypatch.setattr("pagesight._ledger.time", SimpleNamespace(monotonic=lambda: now_s[0]))

    ended = Lanes.ended

    def pass_time(lanes: Lanes, lane: Lane, error: Exception | None) -> None:
        ended(lanes, lane, error)
        now_s[0] += 10.0

    monkeypatch.setattr(Lanes, "ended", pass_time)
    with FakeServer() as server, Client(server.address, timeout_s=5.0, retry=QUICK) as client:
        server.classifier.breaks = 3
        labels = [result.unwrap().label for result in client.classify_stream([b"a", b"break"])]
    assert labels == ["a", "break"]
    assert now_s[0] == 130.0


# So long that no test waits for it.
PATIENT: dict[str, Any] = {
    "timeout_s": 3600.0,
    "retry_for_s": 3600.0,
    "retry": RetryPolicy(first_delay_s=600.0, longest_delay_s=600.0),
}


@pytest.fixture
def away() -> Iterator[str]:
    """An address at which nobody listens, and nobody else can."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize("addresses", [1, 2])
@pytest.mark.parametrize("streamed", [False, True])
def test_closing_the_client_ends_a_wait_for_a_server_that_is_away(
    notice: Notice, away: str, streamed: bool, addresses: int
) -> None:
    client = Client([away] * addresses, **PATIENT)

    def ask() -> None:
        if streamed:
            next(client.classify_stream([b"a"]))
        else:
            client.classify(b"a")

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        assert notice.came.wait(WAIT_S)
        client.close()
        with pytest.raises(pagesight.CallCancelledError):
            asking.result(WAIT_S)


@pytest.mark.parametrize("addresses", [1, 2])
@pytest.mark.parametrize("streamed", [False, True])
async def test_closing_the_client_ends_such_a_wait_on_an_event_loop_too(
    notice: Notice, away: str, streamed: bool, addresses: int
) -> None:
    client = AsyncClient([away] * addresses, **PATIENT)
    asking: asyncio.Future[Any] = asyncio.ensure_future(
        anext(client.classify_stream([b"a"])) if streamed else client.classify(b"a")
    )
    assert await asyncio.to_thread(notice.came.wait, WAIT_S)
    await client.close()
    with pytest.raises(pagesight.CallCancelledError):
        await asyncio.wait_for(asking, WAIT_S)


def test_what_needs_no_server_is_told_while_it_is_away(notice: Notice, away: str) -> None:
    def images() -> Iterator[Any]:
        yield b"a"
        assert notice.came.wait(WAIT_S)
        yield "gone.png"

    client = Client(away, **PATIENT)
    with ThreadPoolExecutor(1) as pool, client:
        result = pool.submit(next, client.classify_stream(images())).result(WAIT_S)
        assert isinstance(result.error, pagesight.UnreadableFileError)


async def test_what_needs_no_server_is_told_on_an_event_loop_too(notice: Notice, away: str) -> None:
    async def images() -> AsyncIterator[Any]:
        yield b"a"
        assert await asyncio.to_thread(notice.came.wait, WAIT_S)
        yield "gone.png"

    async with AsyncClient(away, **PATIENT) as client:
        stream = client.classify_stream(images())
        result = await asyncio.wait_for(anext(stream), WAIT_S)
        assert isinstance(result.error, pagesight.UnreadableFileError)


def test_calls_outlast_a_restart(comeback: Comeback) -> None:
    with Client(comeback.first.address, retry=QUICK) as client:
        client.classify(b"login")
        comeback.leave()
        assert client.classify(b"login").label == "login"
        assert client.enrol([EnrolItem(image=b"b", label="b")]).revision == 1


async def test_calls_outlast_a_restart_on_an_event_loop_too(comeback: Comeback) -> None:
    async with AsyncClient(comeback.first.address, retry=QUICK) as client:
        await client.classify(b"login")
        await asyncio.to_thread(comeback.leave)
        assert (await client.classify(b"login")).label == "login"


def test_the_end_of_the_budget_says_how_long_was_tried() -> None:
    with FakeServer() as server:
        address = server.address
    told = r"no server answers at .*; tried \d+ times in \d\S* s"
    with Client(address, retry_for_s=0.1, retry=QUICK) as client:
        with pytest.raises(pagesight.UnavailableError, match=told):
            client.classify(b"login")
        with pytest.raises(pagesight.UnavailableError, match=told):
            list(client.classify_stream([b"login"]))

    async def ask() -> None:
        async with AsyncClient(address, retry_for_s=0.1, retry=QUICK) as client:
            with pytest.raises(pagesight.UnavailableError, match=told):
                await client.classify(b"login")
            with pytest.raises(pagesight.UnavailableError, match=told):
                [result async for result in client.classify_stream([b"login"])]

    asyncio.run(ask())


def test_a_budget_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="retry_for_s must be at least 0"):
        Client("127.0.0.1:1", retry_for_s=-1.0)


# --- the command ---


def test_a_command_waits_for_a_server_that_is_away_if_told_to(
    comeback: Comeback, tmp_path: Path
) -> None:
    (tmp_path / "1.png").write_bytes(b"login")
    comeback.leave()
    arguments = ["classify", str(tmp_path), "--address", comeback.first.address]
    result = CliRunner().invoke(app, [*arguments, "--retry-for", str(WAIT_S)])
    assert result.exit_code == 0, result.output
    assert "login" in result.stdout


def test_a_command_says_how_long_it_tried() -> None:
    with FakeServer() as gone:
        pass
    arguments = ["gallery", "list", "--address", gone.address, "--retry-for", "0.2"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert re.search(r"no server answers at .*; tried \d+ times in \d\S* s; start", result.stderr)


def test_a_command_outlasts_a_restart_by_itself(comeback: Comeback, tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(b"hold" if number == 4 else b"login")

    def leave() -> None:
        comeback.first.classifier.wait_until_owed(1)
        comeback.leave()

    leaver = threading.Thread(target=leave)
    leaver.start()
    arguments = ["classify", str(tmp_path), "--address", comeback.first.address]
    result = CliRunner().invoke(app, [*arguments, "--in-flight", "1"])
    leaver.join()
    assert result.exit_code == 0, result.output
    assert "8 pictures: 8 known" in result.stdout


# --- the real server, in a process of its own ---


@contextmanager
def process(folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """A serving process, which prints its address; killed in the end if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(folder), str(port)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    ) as running:
        try:
            yield running
        finally:
            running.kill()


async def address_of(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return (await asyncio.to_thread(running.stdout.readline)).strip()


@pytest.mark.parametrize("ending", ["terminate", "kill"])
async def test_callers_of_a_real_server_do_not_notice_its_restart(
    tmp_path: Path, notice: Notice, ending: str
) -> None:
    images = [solid((100 + number, 0, 0)) for number in range(60)]
    enough = asyncio.Event()
    labels: list[str] = []

    async def source() -> AsyncIterator[bytes]:
        for number, image in enumerate(images):
            if number == 30:
                enough.set()
                while not notice.came.is_set():  # noqa: ASYNC110 - answers go on meanwhile
                    await asyncio.sleep(0.01)
            yield image

    async def stream(client: AsyncClient) -> None:
        results = client.classify_stream(source(), max_in_flight=4)
        labels.extend([f"{result.key} {result.unwrap().closest_label}" async for result in results])

    async def enrol(client: AsyncClient) -> list[int]:
        await enough.wait()
        made: list[int] = []
        for number in range(20):
            item = EnrolItem(image=solid((0, number, 9)), label="b")
            made.append((await client.enrol([item])).revision)
        return made

    with ExitStack() as processes:
        first = processes.enter_context(process(tmp_path, 0))
        address = await address_of(first)
        async with AsyncClient(address, retry=QUICK) as client:
            await client.enrol([EnrolItem(image=solid((255, 0, 0)), label="a")])
            working = [asyncio.create_task(stream(client)), asyncio.create_task(enrol(client))]
            await enough.wait()
            getattr(first, ending)()
            await asyncio.to_thread(first.wait, WAIT_S)
            port = int(address.rpartition(":")[2])
            second = processes.enter_context(process(tmp_path, port))
            assert await address_of(second) == address
            results: list[Any] = await asyncio.gather(*working)
    assert sorted(labels) == sorted(f"{number} a" for number in range(60))
    assert results[1] == list(range(2, 22))  # one revision each, and none twice
