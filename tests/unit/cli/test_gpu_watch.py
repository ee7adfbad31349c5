"""A server whose GPU has failed for good stops, and says why when it has ended."""

from __future__ import annotations

import asyncio

import pytest

from pagesight_server.cli.gpu_watch import GpuWatch
from pagesight_server.common.errors import GpuLostError, SetupError
from pagesight_server.common.timings import Run


def run(failed: str = "") -> Run:
    return Run(stage="encode", start_s=0.0, end_s=1.0, items=(), closed="idle", failed=failed)


async def test_a_lost_gpu_stops_the_server_from_any_thread() -> None:
    runs: list[Run] = []
    stop = asyncio.Event()
    watch = GpuWatch(runs.append, stop)
    lost = run(GpuLostError.__name__)
    await asyncio.to_thread(watch.ran, lost)
    async with asyncio.timeout(10):
        await stop.wait()
    assert runs == [lost]
    with pytest.raises(SetupError, match="start it again"):
        watch.check()


async def test_other_failures_stop_nothing() -> None:
    runs: list[Run] = []
    stop = asyncio.Event()
    watch = GpuWatch(runs.append, stop)
    for one in (run(), run("RuntimeError")):
        watch.ran(one)
    await asyncio.sleep(0)
    assert len(runs) == 2
    assert not stop.is_set()
    watch.check()
