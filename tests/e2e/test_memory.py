"""The memory of a server process stays flat, whatever the screenshots are.

    a real server, caches bounded and small ──> warm-up ──> start ──> middle ──> end
                                                            resident memory at each

ONNX Runtime plans per shape, decoders, gRPC buffers and caches all could grow; so the pictures
are distinct, of many sizes, in two formats, and each says something else.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pagesight import AsyncClient, EnrolItem
from tests.bench.measure import rss_mb

IN_FLIGHT = 8


def screenshot(number: int) -> bytes:
    """A small page of its own: another size, another text, JPEG and PNG in turn."""
    width, height = 160 + 8 * (number % 23), 200 + 8 * (number % 31)
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[:40] = (number * 7 % 256, 80, number // 256 % 256)
    cv2.putText(pixels, f"No {number}", (10, 100), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (0, 0, 0), 2)
    return bytes(cv2.imencode((".jpg", ".png")[number % 2], pixels)[1])


@contextlib.contextmanager
def server(folder: Path, bundles: Path) -> Iterator[tuple[str, int]]:
    """A server that remembers little; its address and process."""
    command = [sys.executable, "-m", "pagesight_server", "serve", "--port", "0", "--json"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--store", str(folder / "gallery.db"), "--bundles", str(bundles)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"PAGESIGHT_SERVER__REMEMBER": "32"},
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
    with server(folder, bundles) as (address, pid):
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
        # malloc's holes make a young server swing between 530 and 700 MB; tensors that were kept
        # for each request, tens of MB, would exceed even this.
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
