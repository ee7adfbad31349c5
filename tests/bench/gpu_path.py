"""What `make gpu-check` asks of the index and of the service: as good as on the CPU, and in time.

    vectors ──> base on the CPU ──> the same on the device ──> recall, queries/s
    drawn pages ──> pipeline, 64 at a time ──> screenshots/s, for each number of OCR threads
          └───────> service with the best of them ──> p50, p99

Arrivals at the service are a Poisson process; latency counts from the intended send time.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.bench.gpu_models import in_turns
from tests.bench.gpu_verdict import Finding


def index(device: str, *, small: bool) -> list[Finding]:
    """Our base of a large gallery on the device against the CPU's: as many true neighbours found.

    A small gallery is compared in full, on the CPU whatever the device.
    """
    import faiss
    import numpy as np

    from pagesight_server.index.ivfpq import IvfPqBase, build
    from pagesight_server.index.policy import IndexSettings

    rows, dimension = (2_000, 64) if small else (50_000, 1152)
    draw = np.random.default_rng(7)

    def around(centres: Any, noise: float) -> Any:
        drawn = draw.standard_normal(centres.shape, dtype=np.float32)
        drawn = centres + noise * drawn / dimension**0.5
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    centres = around(np.zeros((rows // 50, dimension), np.float32), 1.0)
    vectors = around(np.repeat(centres, 50, axis=0), 0.5)
    queries = around(vectors[draw.integers(0, rows, 512)], 0.1)
    start_s = time.perf_counter()
    there = build(vectors.astype(np.float16), IndexSettings())
    built_s = time.perf_counter() - start_s
    here = IvfPqBase(there._host, there.measured, "cuda") if device == "cuda" else there
    _, truth = faiss.knn(queries, vectors, 5, faiss.METRIC_INNER_PRODUCT)

    def recall(base: IvfPqBase) -> float:
        _, slots = base.candidates(queries, 5, None)
        return statistics.mean(
            len(set(true) & set(found)) / 5
            for true, found in zip(truth.tolist(), slots.tolist(), strict=True)
        )

    def per_s(base: IvfPqBase) -> float:
        batches = [queries[start : start + 32] for start in range(0, 512, 32)]
        taken = in_turns({str(i): lambda b=b: base.candidates(b, 5, None)  # type: ignore[misc]
                          for i, b in enumerate(batches)}, 5)  # fmt: skip
        return 32 / statistics.median(second for one in taken.values() for second in one)

    cpus, ours = recall(there), recall(here)
    what = f"index, {rows} x {dimension}"
    return [
        Finding(what=f"{what}: recall@5 ÷ the CPU's", found=ours / cpus, limit=0.995,
                note=f"{ours:.4f} and {cpus:.4f}; built on the CPU in {built_s:.0f} s"),
        Finding(what=f"{what}: batches of 32", found=per_s(here), unit="queries/s",
                note=f"the CPU's: {per_s(there):.0f}"),
    ]  # fmt: skip


def page(number: int, lines: int) -> bytes:
    """A screenshot of 1080 x 2400 with so many lines of its own text, as JPEG."""
    import cv2
    import numpy as np

    draw = np.random.default_rng(number)
    pixels = np.full((2400, 1080, 3), 255, np.uint8)
    pixels[:50] = draw.integers(0, 256, 3)
    letters = list("ABCDEFGHKLMNPRSTUVWXYZ23456789")
    for line in range(lines):
        text = "".join(draw.choice(letters, 14))
        at = (40, 100 + line * (2250 // lines))
        cv2.putText(pixels, text, at, cv2.FONT_HERSHEY_SIMPLEX, 1.2, (0, 0, 0), 3)
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


def pages(numbers: range, lines: int) -> list[bytes]:
    """So many of them, drawn on all cores."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(lambda number: page(number, lines), numbers))


async def whole_path(asked: argparse.Namespace) -> list[Finding]:
    """All stages with OCR at 40 lines: most per second in this process, latency of the service.

    Finding text prepares pictures and boxes on the CPU in the thread of its session, so several
    numbers of threads are tried, and the service runs with the best. Both are warm: canvases are
    prepared for when they first come.
    """
    from pagesight_server.config import read_config
    from tests.bench import sides
    from tests.bench.arrivals import at_random
    from tests.bench.measure import quantile

    warm, count, lines, per_s, arrivals = (
        (2, 4, 5, 2.0, 4) if asked.small else (100, 600, 40, 50.0, 1500)
    )
    drawn = pages(range(warm + count + arrivals), lines)
    to_warm, to_count, to_arrive = drawn[:warm], drawn[warm : warm + count], drawn[warm + count :]
    with tempfile.TemporaryDirectory() as folder:
        rates: dict[int, float] = {}
        found = []
        for threads in asked.ocr_threads[: 1 if asked.small else None]:
            config = read_config(
                None,
                {
                    "store": Path(folder) / "gallery.db",
                    "bundles": asked.bundles,
                    "compute": {"device": asked.device, "ocr_threads": threads},
                    "server": {"remember": 0},
                },
            )
            rates[threads], read = await _rate(config, to_warm, to_count, lines)
            found.append(
                Finding(what=f"whole path with OCR, {threads} threads each", found=rates[threads],
                        unit="screenshots/s", note=f"median {read:g} lines read")
            )  # fmt: skip
        best = max(rates, key=rates.__getitem__)
        settings = {
            "COMPUTE__DEVICE": asked.device,
            "COMPUTE__OCR_THREADS": best,
            "SERVER__REMEMBER": 0,
            "SERVER__MAX_ACTIVE": 64,
        }
        with sides.service(config, settings) as (address, _pid):
            await at_random(address, to_warm, per_s)
            waits_ms = await at_random(address, to_arrive, per_s)
    note = f"from the intended send time, {best} threads each"
    return [
        *found,
        Finding(what="whole path, lines read of a page", found=read, limit=0.9 * lines),
        Finding(what="whole path, the best of them", found=rates[best], unit="screenshots/s",
                limit=100),
        Finding(what=f"p50 at {per_s:g}/s, Poisson", found=quantile(waits_ms, 0.5), unit="ms",
                limit=60, side="at most", note=note),
        Finding(what=f"p99 at {per_s:g}/s, Poisson", found=quantile(waits_ms, 0.99), unit="ms",
                limit=150, side="at most", note=note),
    ]  # fmt: skip


async def _rate(
    config: Any, to_warm: Sequence[bytes], to_count: Sequence[bytes], lines: int
) -> tuple[float, float]:
    """Screenshots a second, 64 at a time, and lines read of one; the store stays."""
    from pagesight_server import wiring

    async with wiring.models(config) as models:
        with wiring.opened(config.store) as store:
            await _enrol(models, store, pages(range(10**6, 10**6 + 2), lines))
            registry = models.registry(store)
            await registry.refresh()
            line = models.pipeline(registry.get)
            places = asyncio.Semaphore(64)

            async def one(data: bytes) -> int:
                async with places:
                    reading = (await line.classify(data)).query.reading
                    return len(reading.lines) if reading else 0

            await asyncio.gather(*(one(data) for data in to_warm))
            start_s = time.perf_counter()
            read = await asyncio.gather(*(one(data) for data in to_count))
            return len(to_count) / (time.perf_counter() - start_s), statistics.median(read)


async def _enrol(models: Any, store: Any, pages: Sequence[bytes]) -> None:
    from pagesight_server.gallery import Change
    from pagesight_server.workflows.enrolment import Item

    enroller = models.enroller(store, models.pipeline(lambda _name: None))
    items = [Item(data=data, label=f"page_{i}") for i, data in enumerate(pages)]
    await enroller.enrol(Change(author="gpu-check"), items)
