"""A refusal that comes while pictures are still being sent is heard as what it is, every time.

grpc.aio may raise an error of a failed write in place of the status that the server sent, so each
way to be refused is tried again and again, with more in the call than the connection holds.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import pagesight
from pagesight import AsyncClient, Client
from pagesight_server.config_sections import SecurityConfig, ServerConfig
from pagesight_server.service.auth import RequireRole, read_tokens
from pagesight_server.service.rate_limits import CallerLimits
from tests.support.pictures import RED, solid
from tests.support.serving import Serving, serving

TIMES = 15
ONCE = pagesight.RetryPolicy(attempts=1)
ITEMS = [pagesight.EnrolItem(image=b"%d" % n + bytes(100_000), label="a") for n in range(30)]
"""3 MB: a connection takes some hundred kilobytes before it is read from."""

Enrol: TypeAlias = Callable[[], Awaitable[object]]


def guard(tmp_path: Path) -> RequireRole:
    file = tmp_path / "tokens.toml"
    digest = hashlib.sha256(b"ask-me").hexdigest()
    file.write_text(
        f"[[token]]\nname = 'asker'\nsha256 = '{digest}'\nroles = ['classify']\n", "utf-8"
    )
    return RequireRole(read_tokens(file))


@asynccontextmanager
async def refusing(why: str, tmp_path: Path) -> AsyncIterator[Serving]:
    """A server that refuses every enrolment."""
    few: dict[str, Any] = {"port": 0, "drain_seconds": 10}
    match why:
        case "UNAUTHENTICATED" | "PERMISSION_DENIED":
            made = serving(tmp_path, guards=[guard(tmp_path)])
        case "RATE_LIMITED":
            limits = SecurityConfig(calls_per_second=0.001, calls_burst=1)
            made = serving(tmp_path, callers=CallerLimits(limits))
        case "LIMIT_REACHED":
            made = serving(tmp_path, config=ServerConfig(**few, max_enrol_items=1))
        case "OVERLOADED":
            config = ServerConfig(**few, max_enrolments=1, max_waiting_enrolments=0)
            made = serving(tmp_path, config=config)
        case _:
            raise AssertionError(why)
    async with made as served:
        if why == "RATE_LIMITED":
            await served.enrol(("a", solid(RED)))
        if why != "OVERLOADED":
            yield served
            return
        served.models.hold(RED)
        at_work = asyncio.create_task(served.enrol(("a", solid(RED))))
        await served.models.until_active(1)
        yield served
        await served.models.release()
        await at_work


@pytest.mark.parametrize("how", ["threads", "event loop"])
@pytest.mark.parametrize(
    ("why", "kind"),
    [
        ("UNAUTHENTICATED", pagesight.UnauthenticatedError),
        ("PERMISSION_DENIED", pagesight.PermissionDeniedError),
        ("RATE_LIMITED", pagesight.OverloadedError),
        ("LIMIT_REACHED", pagesight.ResourceExhaustedError),
        ("OVERLOADED", pagesight.OverloadedError),
    ],
)
async def test_a_refusal_while_pictures_are_sent_is_heard_as_what_it_is(
    tmp_path: Path, how: str, why: str, kind: type[pagesight.PagesightError]
) -> None:
    token = {"UNAUTHENTICATED": "guessed", "PERMISSION_DENIED": "ask-me"}.get(why)
    async with refusing(why, tmp_path) as served:
        before = served.store.revisions()
        with Client(served.address, token=token, retry=ONCE) as waiting:
            async with AsyncClient(served.address, token=token, retry=ONCE) as awaiting:
                enrol: Enrol = (
                    (lambda: asyncio.to_thread(waiting.enrol, ITEMS))
                    if how == "threads"
                    else (lambda: awaiting.enrol(ITEMS))
                )
                for _ in range(TIMES):
                    with pytest.raises(pagesight.PagesightError) as refused:
                        await enrol()
                    assert type(refused.value) is kind, refused.value
                    assert bool(refused.value.retry_after_s) == (kind is pagesight.OverloadedError)
        assert served.store.revisions() == before
