"""Calls that take long tell how far they are, and their result at the end.

    work ──report(done, total), from any thread──> the newest ──at most every 0.25 s──> Progress
      └───────────────────────────────result────────────────────────────────────────> result, last

The work never waits for its caller to read: what comes between two messages is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

from pagesight.v1 import gallery_pb2 as pb
from pagesight_server.service.codec import Context, answer, write

R = TypeVar("R")

Report: TypeAlias = Callable[[int, int], None]
"""Called with the steps that are done and those in all; from any thread, never waits."""

INTERVAL_S = 0.25
"""Least time between two messages: a bar that moves four times a second moves."""


async def answer_with_progress(
    context: Context, response: Callable[..., Any], work: Callable[[Report], Awaitable[Any]]
) -> None:
    """Answers a call with progress, then with the result of its work or with its error.

    Args:
        context: Of the call.
        response: The type of its messages, a oneof of `progress` and `result`.
        work: Returns the result; is given what to tell its progress to.
    """

    async def tell(progress: pb.Progress) -> None:
        await write(context, response(progress=progress))

    result = await answer(context, reporting(work, tell))
    await write(context, response(result=result))


async def reporting(
    work: Callable[[Report], Awaitable[R]],
    tell: Callable[[pb.Progress], Awaitable[None]],
    *,
    interval_s: float = INTERVAL_S,
) -> R:
    """Awaits work and tells of its progress meanwhile; the last report is always told.

    Args:
        work: Is given what to report to.
        tell: Sends one message.
        interval_s: Least time between two messages.
    """
    loop = asyncio.get_running_loop()
    reported, ended = asyncio.Event(), asyncio.Event()
    newest: list[pb.Progress] = []

    def report(done: int, total: int) -> None:
        loop.call_soon_threadsafe(note, done, total)

    def note(done: int, total: int) -> None:
        newest[:] = [pb.Progress(done=done, total=total)]
        reported.set()

    async def teller() -> None:
        while True:
            await reported.wait()
            reported.clear()
            if newest:
                await tell(newest.pop())
            if ended.is_set():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await ended.wait()

    telling = asyncio.create_task(teller())
    try:
        return await work(report)
    finally:
        # What was reported last is noted before this goes on: both come through the loop's queue.
        await asyncio.sleep(0)
        ended.set()
        reported.set()
        # Not cancelled: gRPC takes no message after one that was given up in the midst.
        await asyncio.wait([telling])
        if not telling.cancelled() and (error := telling.exception()) is not None:
            raise error
