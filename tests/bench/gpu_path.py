"""Checks of the index and the service by `make gpu-check`: recall, throughput and latency.

    vectors ──> base on the CPU ──> the same on the device ──> recall, queries/s
    drawn pages ──> pipeline, 64 at a time ──> screenshots/s, for each number of OCR threads
          └───────> service with the best number ──> p50, p99

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
    """Compares recall and speed of a large gallery's index on the device with those on the CPU.

    Smaller galleries have no index: they are searched exhaustively, on the CPU in any case.
    """
    import faiss
    import numpy as np

    from pagesight_server.index.gpu import Gpu
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
    on_cpu = build(vectors.astype(np.float16), IndexSettings())
    built_s = time.perf_counter() - start_s
    settings = IndexSettings()
    gpu = Gpu(settings.gpu_temporary_mb) if device == "cuda" else None
    on_device = IvfPqBase(on_cpu._host, on_cpu.measured, gpu) if gpu else on_cpu
    _, truth = faiss.knn(queries, vectors, 5, faiss.METRIC_INNER_PRODUCT)

    def recall(base: IvfPqBase) -> float:
        _, slots = base.candidates(queries, 5, None)
        return statistics.mean(
            len(set(true) & set(returned)) / 5
            for true, returned in zip(truth.tolist(), slots.tolist(), strict=True)
        )

    def per_s(base: IvfPqBase) -> float:
        batches = [queries[start : start + 32] for start in range(0, 512, 32)]
        taken = in_turns({str(i): lambda b=b: base.candidates(b, 5, None)  # type: ignore[misc]
                          for i, b in enumerate(batches)}, 5)  # fmt: skip
        return 32 / statistics.median(second for one in taken.values() for second in one)

    cpu_recall, device_recall = recall(on_cpu), recall(on_device)
    what = f"index, {rows} x {dimension}"
    return [
        Finding(what=f"{what}: recall@5 ÷ the CPU's", found=device_recall / cpu_recall,
                limit=0.995, note=f"{device_recall:.4f} and {cpu_recall:.4f}; built on the CPU in "
                f"{built_s:.0f} s"),
        Finding(what=f"{what}: batches of 32", found=per_s(on_device), unit="queries/s",
                note=f"the CPU's: {per_s(on_cpu):.0f}"),
    ]  # fmt: skip


def page(number: int, lines: int) -> bytes:
    """Draws a distinct screenshot of 1080 x 2400 pixels with lines of random text, as JPEG.

    Args:
        number: Seed of the text and of the colour at the top.
        lines: Number of lines.
    """
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
    """Draws a page for each number, on all cores."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(lambda number: page(number, lines), numbers))


async def whole_path(options: argparse.Namespace) -> list[Finding]:
    """Measures all stages, with 40 lines to read: throughput in process, latency of the service.

    Text detection does its pre- and postprocessing on the CPU in the thread of its session, so
    several thread counts are tried, and the service runs with the best one. Both are warmed up, as
    the first run of each input shape is slow.
    """
    from pagesight_server.config import read_config
    from tests.bench import sides
    from tests.bench.arrivals import at_random
    from tests.bench.measure import quantile

    warm, count, lines, per_s, arrivals = (
        (2, 4, 5, 2.0, 4) if options.small else (100, 600, 40, 50.0, 1500)
    )
    drawn = pages(range(warm + count + arrivals), lines)
    warmup, counted = drawn[:warm], drawn[warm : warm + count]
    arriving = drawn[warm + count :]
    with tempfile.TemporaryDirectory() as folder:
        rates: dict[int, float] = {}
        findings = []
        for threads in options.ocr_threads[: 1 if options.small else None]:
            config = read_config(
                None,
                {
                    "store": Path(folder) / "gallery.db",
                    "bundles": options.bundles,
                    "compute": {"device": options.device, "ocr_threads": threads},
                    "server": {"remember": 0},
                },
            )
            rates[threads], read = await _rate(config, warmup, counted, lines)
            findings.append(
                Finding(what=f"whole path with OCR, {threads} threads each", found=rates[threads],
                        unit="screenshots/s", note=f"median {read:g} lines read")
            )  # fmt: skip
        best = max(rates, key=rates.__getitem__)
        settings = {
            "COMPUTE__DEVICE": options.device,
            "COMPUTE__OCR_THREADS": best,
            "SERVER__REMEMBER": 0,
            "SERVER__MAX_ACTIVE": 64,
        }
        with sides.service(config, settings) as (address, _pid):
            await at_random(address, warmup, per_s)
            latencies_ms = await at_random(address, arriving, per_s)
    note = f"from the intended send time, {best} threads each"
    return [
        *findings,
        Finding(what="whole path, lines read of a page", found=read, limit=0.9 * lines),
        Finding(what="whole path, the best of them", found=rates[best], unit="screenshots/s",
                limit=100),
        Finding(what=f"p50 at {per_s:g}/s, Poisson", found=quantile(latencies_ms, 0.5), unit="ms",
                limit=60, side="at most", note=note),
        Finding(what=f"p99 at {per_s:g}/s, Poisson", found=quantile(latencies_ms, 0.99), unit="ms",
                limit=150, side="at most", note=note),
    ]  # fmt: skip


async def _rate(
    config: Any, warmup: Sequence[bytes], counted: Sequence[bytes], lines: int
) -> tuple[float, float]:
    """Returns screenshots a second, 64 in flight, and the median number of lines read.

    The store stays, for the service.
    """
    from pagesight_server import wiring

    async with wiring.models(config) as models:
        with wiring.opened(config.store) as store:
            await _enrol(models, store, pages(range(10**6, 10**6 + 2), lines))
            registry = models.registry(store)
            await registry.refresh()
            pipeline = models.pipeline(registry.get)
            in_flight = asyncio.Semaphore(64)

            async def classify(data: bytes) -> int:
                async with in_flight:
                    reading = (await pipeline.classify(data)).query.reading
                    return len(reading.lines) if reading else 0

            await asyncio.gather(*(classify(data) for data in warmup))
            start_s = time.perf_counter()
            line_counts = await asyncio.gather(*(classify(data) for data in counted))
            per_s = len(counted) / (time.perf_counter() - start_s)
            return per_s, statistics.median(line_counts)


async def _enrol(models: Any, store: Any, pages: Sequence[bytes]) -> None:
    from pagesight_server.gallery import Change
    from pagesight_server.workflows.enrolment import Item

    enroller = models.enroller(store, models.pipeline(lambda _name: None))
    items = [Item(data=data, label=f"page_{i}") for i, data in enumerate(pages)]
    await enroller.enrol(Change(author="gpu-check"), items)
