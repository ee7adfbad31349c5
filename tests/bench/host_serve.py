"""The command `pagesight-server` over recorded model outputs, which tells how busy its host is.

    python -m tests.bench.host_serve serve ...    BENCH_HOST={"recording", "sleeps", "out", "cores"}

Threads carry their names for the system (proc(5), comm), so that the benchmark can add up their CPU
time from outside. Each process writes OUT/<pid>.json when it ends: samples of how long a thread
waited for the GIL, and of how late the event loop was.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pagesight_server import wiring
from pagesight_server.__main__ import main
from tests.bench.host_sessions import Sleeps, replay

VARIABLE = "BENCH_HOST"

GIL_EVERY_S = (0.002, 0.008)
"""Between two samples of the GIL: at random, so that they beat with nothing."""
LAG_EVERY_S = 0.01


def _name_threads() -> None:
    run = threading.Thread.run

    def named(self: threading.Thread) -> None:
        task = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
        task.write_text(self.name[:15])
        run(self)

    threading.Thread.run = named  # type: ignore[method-assign]


class _Samples:
    """When, and how long in milliseconds."""

    def __init__(self) -> None:
        self.gil: list[tuple[float, float]] = []
        self.loop: list[tuple[float, float]] = []

    def watch_gil(self) -> None:
        """Sleeps, and notes how much later than asked for it has the GIL again.

        What this thread waited for a core (proc(5), schedstat) is taken off.
        """
        with open("/proc/thread-self/schedstat", "rb", 0) as schedstat:
            while True:
                waited_ns = int(schedstat.read().split()[1])
                sleep_s = random.uniform(*GIL_EVERY_S)
                due_s = time.monotonic() + sleep_s
                time.sleep(sleep_s)
                now_s = time.monotonic()
                schedstat.seek(0)
                for_core_s = (int(schedstat.read().split()[1]) - waited_ns) / 1e9
                schedstat.seek(0)
                self.gil.append((now_s, 1000 * max(0.0, now_s - due_s - for_core_s)))

    async def watch_loop(self) -> None:
        """Sleeps, and notes how much later than asked for it runs again."""
        while True:
            due_s = time.monotonic() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            now_s = time.monotonic()
            self.loop.append((now_s, 1000 * (now_s - due_s)))


def _watched(out: Path) -> None:
    """Has samples taken as long as the models are loaded, and written then."""
    load = wiring.models

    @asynccontextmanager
    async def models(*arguments: Any, **options: Any) -> AsyncIterator[wiring.Models]:
        async with load(*arguments, **options) as loaded:
            samples = _Samples()
            threading.Thread(target=samples.watch_gil, name="bench", daemon=True).start()
            lag = asyncio.create_task(samples.watch_loop())
            try:
                yield loaded
            finally:
                lag.cancel()
                body = {"gil": samples.gil, "loop": samples.loop}
                (out / f"{os.getpid()}.json").write_text(json.dumps(body), "utf-8")

    wiring.models = models


if __name__ == "__main__":
    settings = json.loads(os.environ[VARIABLE])
    if settings["cores"]:
        os.sched_setaffinity(0, settings["cores"])
    _name_threads()
    replay(Path(settings["recording"]), Sleeps(**settings["sleeps"]))
    _watched(Path(settings["out"]))
    main()
