"""The command `pagesight-server` over recorded model outputs, which tells how busy its host is.

    BENCH_HOST='{"recording": ...}' python -m tests.bench.host_serve serve ...

Lines may be batched as on CUDA although the sessions are replayed: fewer widths, larger batches.

Threads carry their names for the system (proc(5), comm), so that the benchmark can add up their CPU
time from outside. Each process writes OUT/<pid>.gil while it runs: at which ticks of their CPU time
its threads hold the GIL (`tests/bench/gil.py`); and OUT/<pid>.loop when it ends: how late its event
loop was.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pagesight_server import wiring
from pagesight_server.__main__ import main
from pagesight_server.config import Config
from pagesight_server.inference.ocr import OcrSettings
from tests.bench import gil
from tests.bench.host_sessions import Sleeps, replay

VARIABLE = "BENCH_HOST"

LAG_EVERY_S = 0.1
"""Between two samples of the event loop, whose own cost is charged to it."""


def _watch_threads(counting: gil.Counting | None) -> None:
    """Gives threads their names, and has them counted."""
    run = threading.Thread.run
    if counting is not None:
        counting.this_thread()

    def named(self: threading.Thread) -> None:
        task = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
        task.write_text(self.name[:15])
        if counting is not None:
            counting.this_thread()
        run(self)

    threading.Thread.run = named  # type: ignore[method-assign]


class _Lag:
    """When, and how late in milliseconds the event loop was."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []
        self._loop = asyncio.get_running_loop()
        self._sample()

    def stop(self) -> None:
        """Takes no more samples."""
        self._timer.cancel()

    def _sample(self) -> None:
        """Has itself called again, and notes how much later than asked for it is."""
        due_s = self._loop.time() + LAG_EVERY_S
        self._timer = self._loop.call_at(due_s, self._woken, due_s)

    def _woken(self, due_s: float) -> None:
        now_s = time.monotonic()  # the clock of the loop
        self.samples.append((now_s, 1000 * (now_s - due_s)))
        self._sample()


def _batch_as_on_cuda() -> None:
    """Has lines padded and batched by the settings for CUDA, whatever the device is."""
    settings = wiring.ocr_settings

    def on_cuda(config: Config) -> OcrSettings:
        compute = config.compute.model_copy(update={"device": "cuda"})
        return settings(config.model_copy(update={"compute": compute}))

    wiring.ocr_settings = on_cuda


def _watched(out: Path) -> None:
    """Has samples taken as long as the models are loaded, and written then."""
    load = wiring.models

    @asynccontextmanager
    async def models(*arguments: Any, **options: Any) -> AsyncIterator[wiring.Models]:
        async with load(*arguments, **options) as loaded:
            lag = _Lag()
            try:
                yield loaded
            finally:
                lag.stop()
                (out / f"{os.getpid()}.loop").write_text(json.dumps(lag.samples), "utf-8")

    wiring.models = models


if __name__ == "__main__":
    settings = json.loads(os.environ[VARIABLE])
    if settings["cores"]:
        os.sched_setaffinity(0, settings["cores"])
    out = Path(settings["out"])
    library = settings["gil"]
    _watch_threads(gil.Counting(Path(library), out / f"{os.getpid()}.gil") if library else None)
    replay(Path(settings["recording"]), Sleeps(**settings["sleeps"]))
    _watched(out)
    if settings["lines_as_on_cuda"]:
        _batch_as_on_cuda()
    main()
