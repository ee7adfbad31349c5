"""A server with fake models in a thread of its own, and pages of `pagesight review` beside it.

    StubServer ──gRPC──< Client < Review page ──HTTP──< a browser, or httpx

The pages known are of one colour each; what a colour shows is told to the fake models.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from pagesight import Client, Decision, EnrolItem
from pagesight._cli.review import RETRY_FOR_S, reviewing
from pagesight._review_page import serve
from pagesight._review_page.app import build
from pagesight._review_page.review import Review
from pagesight_server.config_sections import ReviewConfig, ServerConfig
from pagesight_server.service.auth import RequireRole, read_tokens
from tests.support import WAIT_S
from tests.support.parts import FakeModels
from tests.support.pictures import Colour, solid
from tests.support.serving import serving

LOGIN, ACCOUNT, TICKETS = "login", "account", "tickets"
HOSTILE_LABEL = "<img src=x onerror=alert(1)>"
HOSTILE_TEXT = "<script>alert('read')</script>"
CARD_NUMBER = "Card 6217 0012"

TEXTS = {
    LOGIN: ("Log in", "Password", "Forgot it?"),
    ACCOUNT: ("Your account", "Balance", "Pay back"),
    TICKETS: ("Tickets", "Buy a ticket", HOSTILE_TEXT),
}
COLOURS: dict[str, Colour] = {LOGIN: (250, 10, 10), ACCOUNT: (10, 250, 10), TICKETS: (10, 10, 250)}
WIDTH_PX, HEIGHT_PX = 100, 200


def picture(page: str, number: int) -> bytes:
    """A picture of a page, unlike those of other numbers; at most 200 of each."""
    return solid(colour(page, number), width=WIDTH_PX, height=HEIGHT_PX)


def colour(page: str, number: int) -> Colour:
    """The colour of a picture: a shade of its page's."""
    red, green, blue = COLOURS[page]
    return (abs(red - number), abs(green - number // 2), abs(blue - number // 3))


def image_id(data: bytes) -> str:
    """The id of a picture."""
    return hashlib.sha256(data).hexdigest()


def models() -> FakeModels:
    """Models that read of each picture what its page shows, and of queries a card's number."""
    made = FakeModels()
    for page, texts in TEXTS.items():
        for number in range(200):
            more = (CARD_NUMBER,) if number >= 20 else ()
            made.texts[colour(page, number)] = (*texts, *more)
    return made


@dataclass(slots=True)
class StubServer:
    """A server that can go away and come back on the same port.

    Args:
        folder: Where its store is.
        keep: Answers that it keeps for review.
        roles: Roles by token; none: no tokens are asked for.
    """

    folder: Path
    keep: int = 0
    roles: dict[str, Sequence[str]] = field(default_factory=dict)
    port: int = 0
    _stop: Any = None
    _thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Where it is."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serves, until it is stopped."""
        ready = threading.Event()
        failed: list[BaseException] = []

        async def run() -> None:
            self._stop = (asyncio.get_running_loop(), asyncio.Event())
            async with serving(
                self.folder,
                config=ServerConfig(port=self.port, drain_seconds=1),
                models=models(),
                guards=self._guards(),
                review=ReviewConfig(keep=self.keep),
                load=True,
            ) as served:
                served.keeper.start()
                self.port = int(served.address.rpartition(":")[2])
                ready.set()
                await self._stop[1].wait()

        def work() -> None:
            try:
                asyncio.run(run())
            except BaseException as error:
                failed.append(error)
                raise
            finally:
                ready.set()

        self._thread = threading.Thread(target=work, name="stub-server")
        self._thread.start()
        assert ready.wait(WAIT_S)
        assert not failed

    def stop(self) -> None:
        """Goes away."""
        loop, event = self._stop
        loop.call_soon_threadsafe(event.set)
        assert self._thread is not None
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def client(self, token: str | None = None) -> Client:
        """A client of it, as the command has one."""
        return Client(self.address, token=token, retry_for_s=RETRY_FOR_S)

    def enrol(self, *pages: str, pictures: int = 3, token: str | None = None) -> None:
        """Teaches pages, by pictures numbered from 0."""
        items = [
            EnrolItem(image=picture(page, number), label=page)
            for page in pages
            for number in range(pictures)
        ]
        with self.client(token) as client:
            client.enrol(items)

    def _guards(self) -> list[grpc.aio.ServerInterceptor]:
        if not self.roles:
            return []
        file = self.folder / "tokens.toml"
        file.write_text(
            "".join(
                f"[[token]]\nname = {token!r}\n"
                f"sha256 = '{hashlib.sha256(token.encode()).hexdigest()}'\nroles = {list(roles)}\n"
                for token, roles in self.roles.items()
            ),
            "utf-8",
        )
        return [RequireRole(read_tokens(file))]


@contextlib.contextmanager
def stub_server(folder: Path, **settings: Any) -> Iterator[StubServer]:
    """A server for the time of the block."""
    folder.mkdir(exist_ok=True)
    server = StubServer(folder, **settings)
    server.start()
    try:
        yield server
    finally:
        if server._thread is not None and server._thread.is_alive():
            server.stop()


@dataclass(frozen=True, slots=True)
class Page:
    """A page that is served."""

    url: str
    """With its token."""
    review: Review
    fed: threading.Event

    @property
    def root(self) -> str:
        """Without."""
        return self.url.partition("/?")[0]

    def wait_until_fed(self) -> None:
        """Waits until all that there was at the start is answered, so that its order is known."""
        assert self.fed.wait(WAIT_S)

    def decisions(self, client: Client) -> list[Decision]:
        """What is recorded, the oldest first, once all that the page was told is."""
        assert self.review.desk.outbox.wait_until_sent(WAIT_S) == 0
        return list(client.list_decisions())[::-1]


@contextlib.contextmanager
def reviewed(
    server: StubServer, *, token: str | None = None, reviewer: str = "ann", **options: Any
) -> Iterator[Page]:
    """Serves a page beside a server for the time of the block."""
    settings: dict[str, Any] = {
        "pictures": None,
        "known_share": 0.0,
        "second_opinions": 0.0,
        "questions": False,
        "export": None,
        "validation": (),
        "show_digits": False,
    }
    with (
        server.client(token) as client,
        reviewing(client, gallery="default", reviewer=reviewer, **settings | options) as review,
    ):
        listening = serve.listen(0)
        port = listening.getsockname()[1]
        web = serve.PageServer(build(review, port))
        thread = threading.Thread(target=web.run, kwargs={"sockets": [listening]}, name="page")
        thread.start()
        try:
            yield Page(f"http://127.0.0.1:{port}/?token={review.secrets.token}", review, review.fed)
        finally:
            web.should_exit = True
            thread.join(WAIT_S)
            listening.close()
