"""A request for health that comes slowly takes nothing from the next."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from pagesight_server.service.health import ReadBriefly
from tests.support.virtual_time import run_virtually

LONGEST_S = 5.0


class AbortedError(Exception):
    """The call was ended."""


class Context:
    """A call whose request is there, or does not come."""

    def __init__(self, *, comes: bool) -> None:
        self._comes = comes
        self.written: list[str] = []

    async def read(self) -> str:
        if not self._comes:
            await asyncio.Event().wait()
        return "request"

    async def write(self, reply: str) -> None:
        self.written.append(reply)

    def set_trailing_metadata(self, _metadata: object) -> None:
        """Takes what says more of an error."""

    async def abort(self, code: grpc.StatusCode, _details: str) -> None:
        raise AbortedError(code.name)


async def answered(request: str, _context: Context) -> str:
    return f"answer to {request}"


async def reading(most: int) -> Any:
    """The handler of a service whose requests are read briefly."""

    async def continuation(_details: object) -> Any:
        return grpc.unary_unary_rpc_method_handler(answered)

    briefly = ReadBriefly("health", most=most, longest_s=LONGEST_S)
    details: Any = SimpleNamespace(method="/health/Check")
    return (await briefly.intercept_service(continuation, details)).stream_stream


def test_a_request_that_comes_as_the_time_of_a_slow_one_runs_out_is_read() -> None:
    async def main() -> None:
        read = await reading(most=1)
        slow, quick = Context(comes=False), Context(comes=True)

        async def probe() -> None:
            # Its timer is set first, so that it goes on before the slow one, whose time is up.
            await asyncio.sleep(LONGEST_S)
            await read(None, quick)

        probing = asyncio.create_task(probe())
        slowly = asyncio.create_task(read(None, slow))
        results = await asyncio.gather(probing, slowly, return_exceptions=True)
        assert results[0] is None
        assert quick.written == ["answer to request"]
        assert repr(results[1]) == "AbortedError('RESOURCE_EXHAUSTED')"

    run_virtually(main())


def test_a_slow_request_is_given_up_for_the_next_after_a_moment() -> None:
    async def main() -> None:
        read = await reading(most=1)
        loop = asyncio.get_running_loop()
        slowly = asyncio.create_task(read(None, Context(comes=False)))
        await asyncio.sleep(1)
        quick = Context(comes=True)
        await read(None, quick)
        assert quick.written == ["answer to request"]
        with pytest.raises(AbortedError, match="RESOURCE_EXHAUSTED"):
            await slowly
        assert loop.time() < LONGEST_S

    run_virtually(main())
