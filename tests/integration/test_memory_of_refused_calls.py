"""What callers whom the server does not know can make it hold: a process of its own, looked at.

60 callers ──19.9 of 20 MB, then silence──> the server's peak of resident memory
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.support import WAIT_S
from tests.support.half_sent import HalfSent
from tests.support.serving_alone import TOKEN, process

SIZE = 20 * 2**20 - 2**10
"""Of a message: what the server's limit allows."""

SENT = SIZE - 10**5
MB_EACH = SENT / 2**20

PATHS = [
    pytest.param("/pagesight.v1.ClassifierService/Classify", {}, id="no token"),
    pytest.param(
        "/pagesight.v1.ClassifierService/Classify", {"authorization": "Bearer x"}, id="unknown"
    ),
    pytest.param(
        "/pagesight.v1.GalleryService/Remove", {"authorization": f"Bearer {TOKEN}"}, id="no role"
    ),
    pytest.param("/grpc.health.v1.Health/Check", {}, id="health"),
    pytest.param("/grpc.health.v1.Health/Watch", {}, id="health, watched"),
]


def peak_mb(pid: int) -> float:
    """The most resident memory that a process has had (proc(5), status)."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    [kilobytes] = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) / 1024


async def held_mb(folder: Path, callers: int, path: str, metadata: dict[str, str]) -> float:
    """How much the peak grew while so many callers sent most of a message and fell silent."""
    with process(folder) as (address, pid):
        before = peak_mb(pid)
        calls = [HalfSent(SIZE, SENT) for _ in range(callers)]
        try:
            await asyncio.gather(*(call.start(address, path, metadata) for call in calls))
            # All are told, none is waited for.
            async with asyncio.timeout(WAIT_S):
                await asyncio.gather(*(call.ended.wait() for call in calls))
        finally:
            await asyncio.gather(*(call.close() for call in calls))
        return peak_mb(pid) - before


@pytest.mark.parametrize(("path", "metadata"), PATHS)
async def test_a_caller_without_a_token_makes_the_server_hold_little(
    tmp_path: Path, path: str, metadata: dict[str, str]
) -> None:
    # Held whole they would be 240 MB; a stream may send 4 MB before it hears from the server.
    assert await held_mb(tmp_path, 12, path, metadata) < 12 * MB_EACH / 2


@pytest.mark.slow
@pytest.mark.parametrize(("path", "metadata"), PATHS)
async def test_sixty_callers_without_a_token_make_the_server_hold_little(
    tmp_path: Path, path: str, metadata: dict[str, str]
) -> None:
    assert await held_mb(tmp_path, 60, path, metadata) < 60 * MB_EACH / 4
