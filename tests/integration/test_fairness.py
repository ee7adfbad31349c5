"""One caller who asks for all there is, and others who want little: over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from pagesight.v1 import classifier_pb2 as pb
from pagesight.v1 import gallery_pb2 as gpb
from pagesight_server.config_sections import ServerConfig
from pagesight_server.service.auth import RequireRole, read_tokens
from tests.support import WAIT_S
from tests.support.pictures import GREEN, RED, solid
from tests.support.serving import (
    Serving,
    details,
    request,
    result_of,
    serving,
    status_of,
    until,
)

MAX_WAITING = 24
IN_FLIGHT = 8
STREAMS = MAX_WAITING // IN_FLIGHT + 1
"""So many send more than there is room for."""

SHED = STREAMS * IN_FLIGHT - MAX_WAITING - 1
"""Of what those send, what finds neither room nor the one place to work."""


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """Asks for tokens; one place to work, and 24 to wait in. Knows a red and a green page."""
    file = tmp_path / "tokens.toml"
    file.write_text(
        "".join(
            f"[[token]]\nname = '{name}'\nsha256 = '{hashlib.sha256(name.encode()).hexdigest()}'\n"
            "roles = ['admin']\n"
            for name in ("greedy", "modest")
        ),
        "utf-8",
    )
    config = ServerConfig(
        port=0, max_active=1, max_waiting=MAX_WAITING, max_in_flight_per_stream=IN_FLIGHT
    )
    async with serving(tmp_path, config=config, guards=[RequireRole(read_tokens(file))]) as made:
        await enrol(made, ("red", solid(RED)), ("green", solid(GREEN)))
        yield made


def token(name: str) -> tuple[tuple[str, str]]:
    return (("authorization", f"Bearer {name}"),)


async def enrol(served: Serving, *pictures: tuple[str, bytes]) -> None:
    messages = [
        gpb.EnrolRequest(header=gpb.Change()),
        *(
            gpb.EnrolRequest(item=gpb.EnrolItem(image=image, label=label))
            for label, image in pictures
        ),
    ]
    call = served.gallery.Enrol(iter(messages), timeout=WAIT_S, metadata=token("modest"))
    await result_of(call)


@asynccontextmanager
async def flood(
    served: Serving, waiting: Callable[[], int], **query: Any
) -> AsyncIterator[list[str]]:
    """Has the greedy caller fill all room that there is; gives the outcomes as they come.

    An outcome is a label, or the reason of an error that says when to retry.
    """
    outcomes: list[str] = []

    async def read(stream: Any) -> None:
        async for reply in stream:
            if reply.WhichOneof("outcome") == "error":
                reason, retry_s = details(reply.error)
                assert retry_s
                outcomes.append(reason)
            else:
                outcomes.append(reply.classification.label)

    served.models.hold(RED)
    streams = [
        served.classifier.ClassifyStream(timeout=3 * WAIT_S, metadata=token("greedy"))
        for _ in range(STREAMS)
    ]
    reading = [asyncio.create_task(read(stream)) for stream in streams]
    for number, stream in enumerate(streams):
        for message in range(IN_FLIGHT):
            await stream.write(request(f"{number} {message}", RED, **query))
    await until(lambda: waiting() == MAX_WAITING)
    yield outcomes
    for stream in streams:
        await stream.done_writing()
    await asyncio.wait_for(asyncio.gather(*reading), WAIT_S)


def ask(served: Serving, name: str, **query: Any) -> asyncio.Task[str]:
    """Sends one green screenshot in a call of its own; the outcome is as in `flood`."""
    message = pb.ClassifyRequest(query=pb.Query(image=solid(GREEN), **query))

    async def answer() -> str:
        try:
            reply = await served.classifier.Classify(message, timeout=WAIT_S, metadata=token(name))
        except grpc.aio.AioRpcError as error:
            return details(status_of(error))[0]
        return str(reply.classification.label)

    return asyncio.create_task(answer())


@pytest.mark.parametrize("name", ["greedy", "modest"])
async def test_a_hurried_screenshot_is_answered_although_low_priority_fills_all_room(
    served: Serving, name: str
) -> None:
    async with flood(served, lambda: served.gate.waiting, priority=pb.PRIORITY_LOW) as outcomes:
        hurried = [ask(served, name, priority=pb.PRIORITY_HIGH) for _ in range(12)]
        await until(lambda: outcomes.count("OVERLOADED") == SHED + 12)
        await served.models.release()
        assert await asyncio.gather(*hurried) == ["green"] * 12
    assert outcomes.count("red") == STREAMS * IN_FLIGHT - SHED - 12


async def test_at_equal_priority_a_caller_who_asks_little_is_answered_and_not_told_to_wait(
    served: Serving,
) -> None:
    async with flood(served, lambda: served.gate.waiting) as outcomes:
        await until(lambda: len(outcomes) == SHED)
        modest = [ask(served, "modest") for _ in range(5)]
        await until(lambda: outcomes.count("OVERLOADED") == SHED + 5)
        assert await ask(served, "greedy") == "OVERLOADED"
        await served.models.release()
        assert await asyncio.gather(*modest) == ["green"] * 5
    assert outcomes.count("red") == STREAMS * IN_FLIGHT - SHED - 5


async def test_who_waits_for_a_revision_that_does_not_come_keeps_nobody_from_waiting_for_one(
    served: Serving,
) -> None:
    behind = served.service._behind
    query = {"min_revision": 3, "deadline_ms": 1000 * 60}
    async with flood(served, lambda: len(behind), **query) as outcomes:
        modest = ask(served, "modest", min_revision=2)
        # None of the greedy caller's has the place to work: one more than else finds no room.
        await until(lambda: outcomes.count("OVERLOADED") == SHED + 2)
        await enrol(served, ("red", solid((250, 0, 0))))
        assert await modest == "green"
        await served.models.release()
        await enrol(served, ("red", solid((245, 0, 0))))
    assert outcomes.count("red") == STREAMS * IN_FLIGHT - SHED - 2
