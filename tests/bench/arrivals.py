"""Latency of a server: unloaded, and under open-loop load with Poisson arrivals.

    send time, drawn beforehand ──> a call of its own ──> reply − *intended* send time

Send times are fixed before the first message, and latency counts from them, also where we send
late. A sender that waits for replies would never see a queue (coordinated omission).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import islice

from pagesight import AsyncClient
from pagesight._load.arrivals import due_times


async def alone(address: str, pictures: Sequence[bytes]) -> list[float]:
    """Returns the latency in ms of each screenshot, sent one after the other."""
    latencies_ms = []
    async with AsyncClient(address) as client:
        for picture in pictures:
            start_s = time.perf_counter()
            await client.classify(picture)
            latencies_ms.append(1000 * (time.perf_counter() - start_s))
    return latencies_ms


async def at_random(
    address: str, pictures: Sequence[bytes], per_s: float, *, seed: int = 0
) -> list[float]:
    """Returns the latency in ms of each screenshot from its intended send time.

    Args:
        address: Address of the server.
        pictures: One screenshot for each arrival.
        per_s: Mean arrivals a second of the Poisson process.
        seed: Seed of the send times.
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
