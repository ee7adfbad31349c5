"""Reading with the built-in OCR bundle, held against the library that it comes from.

`rapidocr`'s own pipeline, without the direction classifier (docs/decisions/0002), is the source of
every expected line; of the cascade it is the recognition network alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pagesight_server.common.arrays import Pixels
from pagesight_server.inference.bundle import Bundle
from pagesight_server.inference.bundle import load as load_bundle
from pagesight_server.inference.fixed_shapes import Runs, canvas_graph, lines_graph
from pagesight_server.inference.ocr import OcrEngine, OcrSettings, detector, load, recogniser
from pagesight_server.inference.ocr import engine as engines
from pagesight_server.inference.settings import Compute, Device, ReadingMode
from pagesight_server.text.matching import has_word, matching_key
from pagesight_server.text.reading import Reading, TextLine
from tests.samples import LABELS, draw
from tests.support.congruence import Comparison, Library, compare

MAX_ERROR_RATE = 0.005


@pytest.fixture(scope="module")
def bundle(bundles: Path) -> Bundle:
    return load_bundle(bundles / "ocr", "ocr")


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Iterator[OcrEngine]:
    ours = load(bundle, Compute(), OcrSettings(), reading="full")
    yield ours
    asyncio.run(ours.close())


@pytest.fixture(scope="module")
def cascade(bundle: Bundle) -> Iterator[OcrEngine]:
    need_draft(bundle)
    ours = load(bundle, Compute(), OcrSettings(), reading="cascade")
    yield ours
    asyncio.run(ours.close())


def need_draft(bundle: Bundle) -> None:
    if "draft" not in bundle.manifest["input"]:
        pytest.skip("the bundle has no draft: `make setup` makes one")


@pytest.fixture(scope="module")
def library() -> Library:
    return Library()


def read(engine: OcrEngine, pixels: Pixels) -> Reading:
    return asyncio.run(engine.read(pixels))


def written(*lines: str, width: int = 480, height: int = 200, scale: float = 1.0) -> Pixels:
    """Latin text on white, one line under the other."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    for i, line in enumerate(lines):
        at = (20, int(50 * scale) * (i + 1))
        cv2.putText(pixels, line, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 60), 2)
    return pixels


def page(number: int, *, width: int, part: float = 1.0) -> Pixels:
    """The upper part of a drawn Chinese finance page; every fourth is dark, every third new."""
    picture = draw(
        LABELS[number % len(LABELS)],
        seed=number,
        version="new" if number % 3 == 2 else "old",
        width=width,
        dark=number % 4 == 3,
    )
    pixels = np.asarray(picture)
    return np.ascontiguousarray(pixels[: int(part * len(pixels))])


def congruence(engine: OcrEngine, library: Library, pages: Sequence[Pixels]) -> Comparison:
    """Both read all pages, at the same time."""

    def expect() -> list[list[TextLine]]:
        return [library.read(pixels, classifier=False) for pixels in pages]

    async def both() -> Comparison:
        theirs = asyncio.create_task(asyncio.to_thread(expect))
        ours = [(await engine.read(pixels)).lines for pixels in pages]
        return Comparison.total(map(compare, await theirs, ours))

    return asyncio.run(both())


@pytest.mark.heavy
def test_thirty_pages_read_as_in_the_library(engine: OcrEngine, library: Library) -> None:
    pages = [page(number, width=540, part=0.45) for number in range(30)]
    found = congruence(engine, library, pages)
    assert found.characters > 1500, "the pages were meant to show text"
    assert found.error_rate <= MAX_ERROR_RATE, found.differences


@pytest.mark.slow
@pytest.mark.parametrize("width", [720, 1080])
def test_thirty_whole_pages_read_as_in_the_library(
    engine: OcrEngine, library: Library, width: int
) -> None:
    pages = [page(number, width=width) for number in range(100, 130)]
    found = congruence(engine, library, pages)
    assert found.characters > 2000, "the pages were meant to show text"
    assert found.error_rate <= MAX_ERROR_RATE, found.differences


@pytest.mark.heavy
@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(lambda: written("Balance", "12,800.00 CNY", "OK"), id="lines"),
        pytest.param(
            lambda: written("a strip", width=400, height=40, scale=0.5), id="a strip, padded"
        ),
        pytest.param(lambda: written("ok", width=60, height=40, scale=0.7), id="small"),
        pytest.param(
            lambda: written(*(f"line {i} of a page" for i in range(9)), height=520),
            id="more lines than one batch",
        ),
        pytest.param(
            lambda: written("Transfer", width=2400, height=700, scale=5.0),
            id="larger than is looked at",
        ),
    ],
)
def test_lines_stand_where_the_library_finds_them_and_are_as_sure(
    engine: OcrEngine, library: Library, picture: Callable[[], Pixels]
) -> None:
    pixels = picture()
    ours = sorted(read(engine, pixels).lines)
    expected = sorted(library.read(pixels, classifier=False))
    assert expected, "the picture was meant to show text"
    assert [(line.text, line.box) for line in ours] == [(line.text, line.box) for line in expected]
    for line, other in zip(ours, expected, strict=True):
        # Less padding makes the network surer by a few hundredths; the text is the same.
        assert line.confidence == pytest.approx(other.confidence, abs=0.05)


def test_what_is_written_is_read_in_order(engine: OcrEngine) -> None:
    pixels = written("Hello 123", "second line", "third")
    reading = read(engine, pixels)
    assert reading == read(engine, pixels)
    assert [line.text for line in reading.lines] == ["Hello 123", "second line", "third"]
    assert (reading.width_px, reading.height_px) == (480, 200)
    tops = [line.box.top for line in reading.lines]
    assert tops == sorted(tops)
    for line in reading.lines:
        assert 0 <= line.box.left < line.box.right <= 480
        assert 0 <= line.box.top < line.box.bottom <= 200
        assert 0.5 <= line.confidence <= 1


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((400, 300), id="blank"),
        pytest.param((16, 16), id="tiny"),
        pytest.param((16, 20_000), id="too wide to read"),
        pytest.param((2_100, 16), id="too narrow to read"),
    ],
)
def test_a_blank_picture_has_no_lines(engine: OcrEngine, shape: Sequence[int]) -> None:
    reading = read(engine, np.full((*shape, 3), 255, np.uint8))
    assert reading.lines == ()
    assert (reading.height_px, reading.width_px) == tuple(shape)


@pytest.mark.heavy
def test_a_tall_picture_reads_as_its_screens_do(engine: OcrEngine) -> None:
    """Three screens in one picture of 540 x 3240, which the library shrinks to 333 x 2000."""
    screens = [page(number, width=540, part=0.9) for number in range(3)]
    tall = read(engine, np.concatenate(screens))
    expected: list[TextLine] = []
    for number, pixels in enumerate(screens):
        below = number * len(screens[0])
        expected += [
            line._replace(
                box=line.box._replace(top=line.box.top + below, bottom=line.box.bottom + below)
            )
            for line in read(engine, pixels).lines
        ]
    found = compare(expected, tall.lines)
    assert found.characters > 200
    # Bands begin elsewhere than screens do, so boxes move by a pixel, and spaces with them.
    assert found.error_rate <= 0.05, found.differences
    assert abs(len(tall.lines) - len(expected)) <= 3, found.differences


@pytest.mark.heavy
def test_the_cascade_reads_pages_as_the_recognition_network_does(
    engine: OcrEngine, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_draft(bundle)
    # On the same boxes, or what the two detectors find would be compared, too.
    monkeypatch.setattr(engines, "finding_network", lambda _in_use: "detection")
    cascade = load(bundle, Compute(), OcrSettings(), reading="cascade")
    pages = [page(number, width=720, part=0.45) for number in range(12)]
    found = Comparison.total(
        compare(read(engine, pixels).lines, read(cascade, pixels).lines) for pixels in pages
    )
    asyncio.run(cascade.close())
    assert found.characters > 500, "the pages were meant to show text"
    # The draft leaves out spaces between Chinese words: half of what differs on such pages.
    assert found.error_rate <= 0.015, found.differences
    assert cascade.pool.settled > 2 * cascade.pool.reread > 0, (
        "the draft was meant to read most lines alone"
    )


@pytest.mark.heavy
def test_the_draft_finds_the_words_that_the_detection_network_finds(
    engine: OcrEngine, cascade: OcrEngine
) -> None:
    words, found = 0, 0
    for pixels in (page(number, width=720, part=0.45) for number in range(12)):
        boxes = [line.box for line in read(cascade, pixels).lines]
        for line in read(engine, pixels).lines:
            if not has_word(matching_key(line.text)):
                continue
            words += 1
            across = (line.box.left + line.box.right) / 2
            down = (line.box.top + line.box.bottom) / 2
            found += any(
                box.left < across < box.right and box.top < down < box.bottom for box in boxes
            )
    assert words > 80
    assert found >= 0.97 * words


@pytest.mark.heavy
@pytest.mark.parametrize("reading", ["full", "cascade"])
def test_a_page_reads_the_same_alone_and_in_company(bundle: Bundle, reading: ReadingMode) -> None:
    if reading == "cascade":
        need_draft(bundle)
    pages = [page(number, width=540, part=0.4) for number in range(4)]
    settings = OcrSettings(detectors=2, recognisers=2, cache_entries=0)

    async def run() -> tuple[list[Reading], list[Reading]]:
        ours = load(bundle, Compute(), settings, reading=reading)
        alone = [await ours.read(pixels) for pixels in pages]
        together = await asyncio.gather(*(ours.read(pixels) for pixels in pages))
        await ours.close()
        return alone, together

    alone, together = asyncio.run(run())
    assert sum(len(reading.lines) for reading in alone) > 20
    assert together == alone


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process has one niceness")
def test_finding_gives_way_to_recognising(engine: OcrEngine) -> None:
    read(engine, written("Hello 123"))
    niceness = {
        kind: {
            os.getpriority(os.PRIO_PROCESS, thread.native_id)
            for thread in threading.enumerate()
            if thread.name.startswith(kind) and thread.native_id is not None
        }
        for kind in ("detector", "recogniser")
    }
    (finding,), (recognising,) = niceness["detector"], niceness["recogniser"]
    assert finding > recognising


@pytest.mark.parametrize(
    ("device", "sessions"),
    [
        pytest.param("cpu", {"detection": 1, "recognition": 1}, id="one runs for all threads"),
        pytest.param("cuda", {"detection": 1, "recognition": 2}, id="in turn, and one each"),
    ],
)
def test_threads_that_share_sessions_read_the_same(
    engine: OcrEngine,
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    device: Device,
    sessions: dict[str, int],
) -> None:
    loaded: Counter[str] = Counter()

    def canvases(path: Path, _compute: Compute, **options: Any) -> Runs:
        loaded[path.stem] += 1
        return canvas_graph(path, Compute(), **options)

    def lines(path: Path, _compute: Compute, *height_px: int, **options: Any) -> Runs:
        loaded[path.stem] += 1
        return lines_graph(path, Compute(), *height_px, **options)

    monkeypatch.setattr(detector, "canvas_graph", canvases)
    monkeypatch.setattr(recogniser, "lines_graph", lines)
    pages = [written("Hello 123", "second line"), written("third"), written("fourth", "fifth")]

    async def run() -> list[Reading]:
        settings = OcrSettings(detectors=3, detection_sessions=1, recognisers=2)
        ours = load(bundle, Compute(device=device), settings, reading="full")
        readings = await asyncio.gather(*(ours.read(pixels) for pixels in pages))
        await ours.close()
        return readings

    assert asyncio.run(run()) == [read(engine, pixels) for pixels in pages]
    assert loaded == sessions


def test_fixed_batch_sizes_are_run_ahead_and_read_the_same(
    engine: OcrEngine, bundle: Bundle
) -> None:
    pixels = written("Hello 123", "second line", "third")
    settings = OcrSettings(widths=(64, 128, 192, 256, 320), sizes=(1, 2), max_columns=400)

    async def run() -> Reading:
        ours = load(bundle, Compute(), settings, reading="full")
        reading = await ours.read(pixels)
        await ours.close()
        return reading

    assert [line.text for line in asyncio.run(run()).lines] == [
        line.text for line in read(engine, pixels).lines
    ]
