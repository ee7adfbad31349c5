"""Checks of reading and of the service by `make gpu-check`, on drawn pages of mixed sizes.

    pages of phones in turns ──> one of each stage ──> ms a page, lines read, of one size and mixed
                           ├───> pipeline, 64 at a time ──> screenshots/s, by number of OCR threads
                           └───> service with the best number ──> p50, p99

Pages of one size would hide what a change of shape costs on CUDA. Arrivals at the service are a
Poisson process; latency counts from the intended send time.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench.gpu_verdict import Finding

SIZES = ((1080, 2400), (1170, 2532), (720, 1280), (1440, 3200), (828, 1792), (1290, 2796))
"""Widths and heights in pixels of phones' screenshots, which the drawn pages have in turns."""

MEASURED_S = 12.0
"""Seconds for which a number of OCR threads is measured: two numbers, the sessions of each, the
service and drawing the pages are to stay within two minutes."""


def page(number: int, lines: int, size: tuple[int, int] | None = None) -> bytes:
    """Draws a distinct screenshot with lines of random text, as JPEG.

    Args:
        number: Seed of the text and of the colour at the top.
        lines: Number of lines.
        size: Width and height in pixels; None: those of `SIZES` in turns.
    """
    import cv2
    import numpy as np

    width, height = size or SIZES[number % len(SIZES)]
    draw = np.random.default_rng(number)
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[: height // 48] = draw.integers(0, 256, 3)
    letters = list("ABCDEFGHKLMNPRSTUVWXYZ23456789")
    step = height * 15 // 16 // lines
    height_px = min(step, width // 18)  # of fewer lines too, all letters fit into the width
    for line in range(lines):
        # Lines of 4 to 14 characters need canvases of several widths to be read on.
        text = "".join(draw.choice(letters, int(draw.integers(4, 15))))
        at = (width // 27, height // 24 + line * step)
        # Letters fill half of the step: 26 pixels of 56 on a page of 1080 x 2400 with 40 lines.
        cv2.putText(pixels, text, at, cv2.FONT_HERSHEY_SIMPLEX, height_px / 47, (0, 0, 0),
                    max(1, height_px // 19))  # fmt: skip
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


def pages(numbers: range, lines: int, size: tuple[int, int] | None = None) -> list[bytes]:
    """Draws a page for each number, on all cores."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(lambda number: page(number, lines, size), numbers))


async def reading(options: argparse.Namespace) -> list[Finding]:
    """Measures reading alone, one page at a time: of one size, and of mixed sizes.

    What mixed sizes cost beyond those of one size is changes of shape, which sessions of fixed
    shapes are to avoid; on CUDA it is measured without those too.
    """
    count, lines = (2, 5) if options.small else (36, 40)
    sets = {
        "one size": pages(range(count), lines, SIZES[0]),
        "mixed sizes": pages(range(1_000, 1_000 + count), lines),
    }
    served = await _read_alone(options, sets, fixed=True)
    (one_ms, _), (mixed_ms, read) = served["one size"], served["mixed sizes"]
    mean = statistics.mean(width * height for width, height in SIZES)
    larger = mean / (SIZES[0][0] * SIZES[0][1])
    findings = [
        Finding(what="reading, pages of one size", found=one_ms, unit="ms a page"),
        Finding(what="reading, pages of mixed sizes", found=mixed_ms, unit="ms a page",
                note=f"they have {larger:.2f} of its pixels"),
        Finding(what="reading, mixed ÷ one size", found=mixed_ms / one_ms, limit=1.5,
                side="at most"),
        Finding(what="reading, share of the lines read", found=read / lines, limit=0.9),
    ]  # fmt: skip
    if options.device == "cuda":
        free_ms, _ = (await _read_alone(options, sets, fixed=False))["mixed sizes"]
        findings.append(
            Finding(what="reading mixed sizes, without fixed shapes ÷ as served",
                    found=free_ms / mixed_ms, limit=1.0, note="below 1: they are not worth it")
        )  # fmt: skip
    return findings


async def _read_alone(
    options: argparse.Namespace, sets: Mapping[str, Sequence[bytes]], *, fixed: bool
) -> dict[str, tuple[float, float]]:
    """The mean ms of a page and the mean number of lines read of it, for each set of pages."""
    from pagesight_server.config import read_config
    from pagesight_server.inference import bundle
    from pagesight_server.inference.decode import decode
    from pagesight_server.inference.ocr import load
    from pagesight_server.inference.settings import ImageLimits
    from pagesight_server.wiring import ocr_settings, session_defaults

    compute = {"device": options.device, "ocr_threads": 1, "fixed_shapes": fixed}
    config = read_config(None, {"compute": compute})
    # Without the cache every line is recognised, whatever was read before.
    settings = replace(ocr_settings(config), cache_entries=0)
    loaded = bundle.load(options.bundles / "ocr", "ocr")
    engine = load(loaded, session_defaults(config), settings)
    limits = ImageLimits()
    found: dict[str, tuple[float, float]] = {}
    try:
        for name, drawn in sets.items():
            decoded = [decode(data, limits) for data in drawn]
            # Each size once before, so that what is measured is changes, not first runs.
            for pixels in decoded[: len(SIZES)]:
                await engine.read(pixels)
            taken_ms, read = [], []
            for pixels in decoded:
                start_s = time.perf_counter()
                text = await engine.read(pixels)
                taken_ms.append(1000 * (time.perf_counter() - start_s))
                read.append(len(text.lines))
            found[name] = statistics.mean(taken_ms), statistics.mean(read)
    finally:
        await engine.close()
    return found


async def whole_path(options: argparse.Namespace) -> list[Finding]:
    """Measures all stages, with 40 lines to read: throughput in process, latency of the service.

    Text detection does its pre- and postprocessing on the CPU in the thread of its session, so
    several thread counts are tried, and the service runs with the best one. Both are warmed up, as
    the first run of each input shape is slow.
    """
    from pagesight_server.common.errors import SetupError
    from pagesight_server.config import read_config
    from tests.bench import sides
    from tests.bench.arrivals import at_random
    from tests.bench.measure import quantile

    warm, count, lines, per_s, arrivals, seconds = (
        (2, 4, 5, 2.0, 4, 600.0) if options.small else (60, 600, 40, 50.0, 1000, MEASURED_S)
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
            what = f"whole path with OCR, {threads} threads each"
            try:
                rates[threads], read = await _rate(config, warmup, counted, lines, seconds)
            except SetupError as error:  # such as too little memory for so many
                findings.append(Finding(what=what, found=float("nan"), note=str(error)))
                continue
            findings.append(
                Finding(what=what, found=rates[threads], unit="screenshots/s",
                        note=f"median {read:g} lines read")
            )  # fmt: skip
        if not rates:
            raise SetupError(findings[-1].note)
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
    config: Any, warmup: Sequence[bytes], counted: Sequence[bytes], lines: int, seconds: float
) -> tuple[float, float]:
    """Returns screenshots a second, 64 in flight, and the median number of lines read.

    As many are sent as are done in `seconds`, at most all. The store stays, for the service.
    """
    from pagesight_server import wiring

    async with wiring.models(config) as models:
        with wiring.opened(config) as store:
            await _enrol(models, store, pages(range(10**6, 10**6 + 2), lines))
            registry = models.registry(store)
            await registry.refresh()
            pipeline = models.pipeline(registry.get)
            line_counts: list[int] = []

            async def classify_all(data: Sequence[bytes], until_s: float) -> None:
                waiting = iter(data)

                async def classify_some() -> None:
                    while time.perf_counter() < until_s and (one := next(waiting, None)):
                        reading = (await pipeline.classify(one)).query.reading
                        line_counts.append(len(reading.lines) if reading else 0)

                await asyncio.gather(*(classify_some() for _ in range(64)))

            await classify_all(warmup, float("inf"))
            line_counts.clear()
            start_s = time.perf_counter()
            await classify_all(counted, start_s + seconds)
            per_s = len(line_counts) / (time.perf_counter() - start_s)
            await registry.close()
            return per_s, statistics.median(line_counts)


async def _enrol(models: Any, store: Any, pages: Sequence[bytes]) -> None:
    from pagesight_server.gallery import Change
    from pagesight_server.workflows.enrolment import Item

    enroller = models.enroller(store, models.pipeline(lambda _name: None))
    items = [Item(data=data, label=f"page_{i}") for i, data in enumerate(pages)]
    await enroller.enrol(Change(author="gpu-check"), items)
