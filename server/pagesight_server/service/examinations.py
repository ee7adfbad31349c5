"""How much of what is asked of a gallery goes on at once, where asking takes long.

    Diagnose, SuggestBrands, GetImage made smaller ──place?──> a thread ──> answer
                                                      └──too many wait──> OverloadedError

Each holds a thread for seconds, or the pixels of a picture, and threads are what screenshots are
decoded in: without places a few callers could keep all others waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from pagesight_server.config import ServerConfig
from pagesight_server.service.admission import Gate
from pagesight_server.service.rate_limits import caller_of

T = TypeVar("T")


class Examinations:
    """Lets a few in at a time; for one event loop."""

    def __init__(self, config: ServerConfig) -> None:
        self._gate = Gate(
            config.max_examinations, config.max_waiting_examinations, what="examinations"
        )

    async def run(self, peer: str, work: Callable[[], T]) -> T:
        """Runs work in a thread once there is a place; callers take turns.

        Args:
            peer: Where the call comes from; for callers without a token.
            work: What to do; it is not interrupted.

        Raises:
            OverloadedError: as many wait as may.
        """
        async with self._gate.enter(caller=caller_of(peer)):
            return await in_thread(work)


async def in_thread(work: Callable[[], T]) -> T:
    """As `asyncio.to_thread`, but a cancelled caller waits for the thread, which goes on anyway.

    So whoever asks, leaves and asks again has no more threads at work than who stays.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
