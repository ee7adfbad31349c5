"""The memory of a server process stays flat, whatever the screenshots are, and within its plan.

    a real server, caches bounded and small ──> warm-up ──> start ──> middle ──> end
                                                            resident memory at each

ONNX Runtime plans per shape, decoders, gRPC buffers and caches all could grow; so the pictures
are distinct, of many sizes, in two formats, and each says something else. A flood of the largest
pictures that are allowed, of each format in turn, takes no more than `doctor` says, and goes again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from pagesight import AsyncClient, EnrolItem
from pagesight_server.cli.doctor import memory_plan
from pagesight_server.config import Config
from pagesight_server.inference.settings import ImageLimits
from tests.bench.measure import rss_mb
from tests.support.large_pictures import KINDS

IN_FLIGHT = 8

MOST_MB = 800
"""Resident memory of a server with two threads of each kind, as on two cores, after a long run."""


def screenshot(number: int) -> bytes:
    """A small page of its own: another size, another text, JPEG and PNG in turn."""
    width, height = 160 + 8 * (number % 23), 200 + 8 * (number % 31)
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[:40] = (number * 7 % 256, 80, number // 256 % 256)
    cv2.putText(pixels, f"No {number}", (10, 100), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (0, 0, 0), 2)
    return bytes(cv2.imencode((".jpg", ".png")[number % 2], pixels)[1])


@contextlib.contextmanager
def server(folder: Path, bundles: Path, **settings: str) -> Iterator[tuple[str, int]]:
    """A server that remembers little; its address and process."""
    command = [sys.executable, "-m", "pagesight_server", "serve", "--port", "0", "--json"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--store", str(folder / "gallery.db"), "--bundles", str(bundles)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"PAGESIGHT_SERVER__REMEMBER": "32"} | settings,
        )
    with process:
        try:
            assert process.stdout is not None
            listening = json.loads(process.stdout.readline())
            yield f"{listening['host']}:{listening['port']}", process.pid
        finally:
            process.terminate()


async def memory_mb(folder: Path, bundles: Path, requests: int) -> tuple[float, float, float]:
    """Resident memory after a warm-up of a fifth, halfway from there, and at the end."""
    marks = (requests // 5, requests // 5 + requests * 2 // 5, requests)
    seen: list[float] = []
    with server(folder, bundles, PAGESIGHT_COMPUTE__OCR_THREADS="2") as (address, pid):
        async with AsyncClient(address) as client:
            await client.enrol(
                [EnrolItem(image=screenshot(i), label=label) for i, label in enumerate("ab")]
            )

            for first, last in zip((0, *marks), marks, strict=False):
                # Nothing is in flight when memory is looked at: what runs holds hundreds of MB.
                pictures = (screenshot(number) for number in range(2 + first, 2 + last))
                stream = client.classify_stream(pictures, max_in_flight=IN_FLIGHT)
                async with contextlib.aclosing(stream) as results:
                    done = [result.unwrap() async for result in results]
                assert len(done) == last - first
                seen.append(rss_mb(pid))
    start, middle, end = seen
    return start, middle, end


@pytest.mark.parametrize(
    ("requests", "growth"),
    [
        # A young server's arena still grows with the sizes it meets; tensors that were kept for
        # each request, tens of MB, would exceed even this.
        pytest.param(60, 1.5, id="60 requests"),
        pytest.param(
            5_000, 1.1, id="5000 requests", marks=[pytest.mark.slow, pytest.mark.timeout(3_600)]
        ),
    ],
)
async def test_the_memory_of_a_server_stays_flat(
    tmp_path: Path, bundles: Path, requests: int, growth: float, capsys: pytest.CaptureFixture[str]
) -> None:
    start, middle, end = await memory_mb(tmp_path, bundles, requests)
    told = f"resident: warm {start:.0f} MB, halfway {middle:.0f} MB, in the end {end:.0f} MB"
    with capsys.disabled():
        sys.stdout.write(f"\n{requests:,} requests, {told}\n")
    assert end <= growth * middle, told
    assert end <= MOST_MB, told


MAX_PIXELS = ImageLimits().max_pixels
SIDE_PX = math.isqrt(MAX_PIXELS)

ALL_FORMATS = {
    "PAGESIGHT_IMAGE__FORMATS": '["jpeg", "png", "webp", "avif", "bmp", "gif", "tiff"]',
}


def plan_mb() -> int:
    """What `doctor` says that pixels, decoding and reading take at most, beside the models."""
    plan = memory_plan(Config())
    return sum(int(str(plan[part])) for part in ("pixels_mb", "decoding_mb", "reading_mb"))


def peak_mb(pid: int) -> float:
    """The most that a process had resident so far (proc(5), status)."""
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


async def settle_below(pid: int, below_mb: float, client: AsyncClient) -> None:
    """Sends small screenshots until resident memory is below a figure, for a minute at most."""
    until_s, number = time.monotonic() + 60, 2
    while rss_mb(pid) > below_mb and time.monotonic() < until_s:
        await client.classify(screenshot(number), ocr=False)
        number += 1


async def flood(
    folder: Path, bundles: Path, kinds: Sequence[str], of_each: int, *, ocr: bool, settle: bool
) -> list[tuple[str, float, float, float]]:
    """Sends the largest pictures of each kind at once.

    Args:
        folder: For the store and the log.
        bundles: The models.
        kinds: Keys of `KINDS`.
        of_each: Pictures of a kind, all sent at once.
        ocr: Whether they are read.
        settle: Whether to give the server a minute to give memory back.

    Returns:
        Of each kind its name, resident MB before all of them, the peak so far, and what it came to
        afterwards.
    """
    seen = []
    with server(folder, bundles, **ALL_FORMATS) as (address, pid):
        async with AsyncClient(address, timeout_s=1_200) as client:
            await client.enrol([EnrolItem(image=screenshot(1), label="a")])
            before_mb = rss_mb(pid)
            for name in kinds:
                pictures = [KINDS[name](SIDE_PX, shade) for shade in range(of_each)]
                await asyncio.gather(*(client.classify(one, ocr=ocr) for one in pictures))
                if settle:
                    await settle_below(pid, before_mb + KEPT_MB, client)
                seen.append((name, before_mb, peak_mb(pid), rss_mb(pid)))
    return seen


KEPT_MB = 250
"""What may stay resident beside what was before: arenas of the encoder and of gRPC, warm by now."""


def told(seen: Sequence[tuple[str, float, float, float]]) -> str:
    """The figures of a flood, as docs/sizing.md has them."""
    return "\n".join(
        f"{name}: {before:.0f} MB before, peak {peak:.0f} MB so far, then {kept:.0f} MB"
        for name, before, peak, kept in seen
    )


@pytest.mark.heavy
async def test_a_flood_of_the_largest_pictures_takes_what_is_planned_and_gives_it_back(
    tmp_path: Path, bundles: Path
) -> None:
    # 25 megapixels in 37 bytes, eight times at once; each of them as 16 bytes a pixel is 381 MB.
    seen = await flood(tmp_path, bundles, ["WebP with alpha, lossless"], 8, ocr=False, settle=True)
    for _, before_mb, most_mb, kept_mb in seen:
        assert most_mb <= before_mb + plan_mb(), told(seen)
        assert kept_mb <= before_mb + KEPT_MB, told(seen)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
async def test_a_flood_of_every_format_takes_what_is_planned(
    tmp_path: Path, bundles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = await flood(tmp_path, bundles, list(KINDS), 8, ocr=True, settle=False)
    with capsys.disabled():
        sys.stdout.write(f"\n{told(seen)}\n")
    for _, before_mb, most_mb, _ in seen:
        assert most_mb <= before_mb + plan_mb(), told(seen)
