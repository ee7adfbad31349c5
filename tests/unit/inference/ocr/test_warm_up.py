"""What is run before a server is ready: each fixed shape once, lines by their readers' threads."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from pagesight_server.common.errors import SetupError
from pagesight_server.inference.bundle import Bundle
from pagesight_server.inference.bundle import load as load_bundle
from pagesight_server.inference.ocr import OcrSettings, load
from pagesight_server.inference.ocr.recogniser import Recogniser
from pagesight_server.inference.settings import Compute, FixedShapes

FIXED = FixedShapes(lines=((2, 64), (1, 128)), canvases=((64, 32),))


@pytest.fixture(scope="module")
def bundle(bundles: Path) -> Bundle:
    return load_bundle(bundles / "ocr", "ocr")


def test_lines_of_fixed_shapes_are_run_by_the_threads_that_read_them(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Recogniser.read
    ran: list[tuple[str, int, int]] = []

    def watched(self: Recogniser, strips: Any, width: int) -> Any:
        ran.append((threading.current_thread().name, len(strips), width))
        return read(self, strips, width)

    monkeypatch.setattr(Recogniser, "read", watched)

    async def run() -> None:
        settings = OcrSettings(detectors=1, recognisers=2)
        await load(bundle, Compute(fixed=FIXED), settings, reading="full").close()

    asyncio.run(run())
    assert ran == [("recogniser_0", 2, 64), ("recogniser_0", 1, 128)] * 2


@pytest.mark.parametrize("what", ["detector", "recogniser"])
def test_a_shape_that_cannot_be_run_ends_the_start(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    before = threading.active_count()
    if what == "recogniser":

        def out_of_memory(*_arguments: object) -> None:
            raise RuntimeError("Failed to allocate memory\nfor requested buffer")

        monkeypatch.setattr(Recogniser, "read", out_of_memory)
        fixed, told = FIXED, "2 lines of 64 pixels at once cannot be run: Failed to allocate memory"
    else:
        # A canvas whose sides are no multiple of 32 is none.
        fixed = FixedShapes(lines=(), canvases=((33, 47),))
        told = "finding text on 47 x 33 pixels cannot be run"
    with pytest.raises(SetupError, match=rf"{told}.*compute\.gpu_memory_mb"):
        load(bundle, Compute(fixed=fixed), OcrSettings(recognisers=2), reading="full")
    assert threading.active_count() == before
