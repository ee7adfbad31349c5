"""Whoever watches the health of a server hears of every change, however soon it comes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from pagesight_server.service.health import NOT_SERVING, SERVING, Health
from tests.support import WAIT_S


class AbortedError(Exception):
    """The call was ended."""


class Context:
    """A call whose first message is slow to be written: the server is ready meanwhile."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self.statuses: list[int] = []
        self.twice = asyncio.Event()

    async def write(self, reply: Any) -> None:
        """Notes the status, and lets something happen before it returns."""
        self.statuses.append(reply.status)
        if len(self.statuses) == 1:
            self._health.serve()
        else:
            self.twice.set()
        await asyncio.sleep(0)

    async def abort(self, *_: object) -> None:
        """Ends the call."""
        raise AbortedError


async def test_what_changes_while_the_first_status_is_written_is_told() -> None:
    health = Health([])
    context = Context(health)
    watching = asyncio.create_task(
        health.Watch(health_pb2.HealthCheckRequest(), context)  # type: ignore[arg-type]
    )
    async with asyncio.timeout(WAIT_S):
        await context.twice.wait()
        health.let_go()
        with pytest.raises(AbortedError):
            await watching
    assert context.statuses == [NOT_SERVING, SERVING, NOT_SERVING]
