"""What a caller waits: alone, and when screenshots come at random at half of what can be done.

    send time, drawn beforehand ──> a call of its own ──> reply − *intended* send time

A sender that waits for replies before it sends again would never see a queue; these times are
fixed before the first message, and what comes late because we are late counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import islice

from pagesight import AsyncClient
from pagesight._load.arrivals import due_times


async def alone(address: str, pictures: Sequence[bytes]) -> list[float]:
    """Milliseconds of each screenshot, one after the other."""
    waits = []
    async with AsyncClient(address) as client:
        for picture in pictures:
            start_s = time.perf_counter()
            await client.classify(picture)
            waits.append(1000 * (time.perf_counter() - start_s))
    return waits


async def at_random(
    address: str, pictures: Sequence[bytes], per_s: float, *, seed: int = 0
) -> list[float]:
    """Milliseconds of each screenshot from its intended send time, arrivals a Poisson process.

    Args:
        address: Of the server.
        pictures: One for each arrival.
        per_s: Mean arrivals in a second.
        seed: Of the arrivals.
    """
    due_s = list(islice(due_times("poisson", per_s, seed=seed), len(pictures)))
    async with AsyncClient(address) as client:
        start_s = time.perf_counter()

        async def send(picture: bytes, due: float) -> float:
            await asyncio.sleep(start_s + due - time.perf_counter())
            await client.classify(picture)
            return 1000 * (time.perf_counter() - start_s - due)

        return await asyncio.gather(
            *(send(picture, due) for picture, due in zip(pictures, due_s, strict=True))
        )
