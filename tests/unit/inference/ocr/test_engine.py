"""Many pictures read at once, with models that read what the picture carries."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.errors import ImageError
from pagesight_server.common.priority import Priority, urgent_as
from pagesight_server.common.threads import WorkerPool
from pagesight_server.inference.ocr import OcrEngine
from pagesight_server.inference.ocr.detector import TextColumns
from pagesight_server.inference.ocr.engine import Detect, owned
from pagesight_server.inference.ocr.recogniser import Shape, Text
from pagesight_server.inference.ocr.settings import LibraryNumbers
from pagesight_server.inference.ocr.tiling import Region
from pagesight_server.text.reading import Box
from tests.support import WAIT_S
from tests.support.line_pools import settle
from tests.support.ocr_fakes import (
    SMALL,
    BrokenError,
    Detector,
    Recogniser,
    engine,
    picture,
    texts,
)

Result = TypeVar("Result")


async def test_lines_come_in_reading_order_where_they_stand() -> None:
    ours = engine()
    reading = await ours.read(picture(0, 20, 0, 50))
    assert [(line.text, line.box) for line in reading.lines] == [
        ("20@64", Box(3, 1, 9, 2)),
        ("50@128", Box(3, 3, 9, 4)),
    ]
    assert reading.lines[0].confidence == 0.99
    assert (reading.width_px, reading.height_px) == (32, 100)
    await ours.close()


async def test_an_empty_page_has_no_lines_and_costs_no_recognition() -> None:
    recogniser = Recogniser()
    ours = engine(recogniser=recogniser)
    assert await texts(ours) == []
    assert recogniser.runs == []
    await ours.close()


async def test_a_broken_detector_fails_the_request_and_not_the_next() -> None:
    detector = Detector(broken=True)
    ours = engine(detector)
    with pytest.raises(BrokenError):
        await texts(ours, 20)
    detector.broken = False
    assert await texts(ours, 20) == ["20@64"]
    await ours.close()


async def test_a_broken_recogniser_fails_the_request_and_is_not_remembered() -> None:
    recogniser = Recogniser(broken=20)
    ours = engine(recogniser=recogniser)
    with pytest.raises(BrokenError):
        await texts(ours, 20, 100)
    assert ours.pool.depth == 0
    recogniser.broken = -1
    assert await texts(ours, 20, 100) == ["20@64", "100@320"]
    await ours.close()


@pytest.mark.parametrize(
    ("value", "confidence", "widths"),
    [
        pytest.param(20, 0.95, [64], id="sure: once"),
        pytest.param(20, 0.89, [64, 320], id="unsure: again, as the library pads it"),
        pytest.param(20, 0.0, [64, 320], id="nothing read: again"),
        pytest.param(150, 0.1, [320], id="padded so already"),
        pytest.param(250, 0.1, [640], id="wider"),
    ],
)
async def test_a_narrow_line_is_read_again_when_unsure(
    value: int, confidence: float, widths: list[int]
) -> None:
    recogniser = Recogniser(unsure={value: confidence})
    ours = engine(recogniser=recogniser)
    found = await texts(ours, value)
    assert [width for _, width in recogniser.runs] == widths
    assert found == ([f"{value}@{widths[-1]}"] if confidence >= 0.5 else [])
    assert ours.pool.reread == len(widths) - 1
    await ours.close()


async def test_an_unsure_line_is_padded_like_the_widest_of_its_six() -> None:
    recogniser = Recogniser(unsure={20: 0.8, 27: 0.8})
    ours = engine(recogniser=recogniser)
    # Sorted by width, 20 to 25 are the first six; 27 is with 250, which is 500 pixels wide.
    assert await texts(ours, 250, 27, 25, 24, 23, 22, 21, 20) == [
        "250@640", "27@640", "25@64", "24@64", "23@64", "22@64", "21@64", "20@320",
    ]  # fmt: skip
    await ours.close()


async def test_what_is_too_unsure_or_blank_is_no_line() -> None:
    class Blank(Recogniser):
        def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
            return [Text(" ", 0.99) for _ in strips]

    for recogniser in (Blank(), Recogniser(unsure={20: 0.49})):
        ours = engine(recogniser=recogniser)
        assert await texts(ours, 20) == []
        await ours.close()


async def test_equal_lines_are_recognised_once_and_counted() -> None:
    recogniser = Recogniser()
    ours = engine(recogniser=recogniser)
    assert await texts(ours, 20, 30, 20) == ["20@64", "30@64", "20@64"]
    assert await texts(ours, 30) == ["30@64"]
    assert sorted(recogniser.runs) == [(20, 64), (30, 64)]
    assert (ours.pool.cache.hits, ours.pool.cache.misses, len(ours.pool.cache)) == (2, 2, 2)
    await ours.close()


async def test_lines_of_equal_bytes_and_different_shape_are_different() -> None:
    class Shapes(Detector):
        def find(self, pixels: Pixels, columns: TextColumns) -> list[Region]:
            # 48 x 20 and 48 x 10 pixels: the second's bytes begin the first's.
            strips = (np.zeros((48, 20, 3), np.uint8), np.zeros((48, 10, 3), np.uint8))
            return [Region.of(Box(0, i, 1, i + 1), strip) for i, strip in enumerate(strips)]

    recogniser = Recogniser()
    ours = engine(Shapes(), recogniser)
    assert len((await ours.read(picture())).lines) == 2
    assert (ours.pool.cache.hits, ours.pool.cache.misses) == (0, 2)
    await ours.close()


async def test_the_cache_is_bounded_and_forgets_the_oldest() -> None:
    recogniser = Recogniser()
    ours = engine(recogniser=recogniser, config=replace(SMALL, cache_entries=2))
    for value in (20, 21, 22, 22, 20):
        await texts(ours, value)
    assert len(ours.pool.cache) == 2
    assert recogniser.runs == [(20, 64), (21, 64), (22, 64), (20, 64)]
    await ours.close()


async def test_the_cache_can_be_switched_off() -> None:
    recogniser = Recogniser()
    ours = engine(recogniser=recogniser, config=replace(SMALL, cache_entries=0))
    assert await texts(ours, 20, 20) == ["20@64", "20@64"]
    assert recogniser.runs == [(20, 64), (20, 64)]
    assert (ours.pool.cache.hits, len(ours.pool.cache)) == (0, 0)
    await ours.close()


async def test_a_tall_picture_is_looked_at_in_bands_and_each_line_read_once() -> None:
    detector, recogniser = Detector(), Recogniser()
    ours = engine(detector, recogniser)
    pixels = np.zeros((500, 32, 3), np.uint8)
    rows = {10: 20, 195: 30, 350: 40, 499: 50}
    for row, value in rows.items():
        pixels[row] = value
    reading = await ours.read(pixels)
    assert [line.box.top for line in reading.lines] == list(rows)
    assert sorted(detector.seen) == [(200, 32, 3)] * 3
    assert sorted(value for value, _ in recogniser.runs) == [20, 30, 40, 50]
    await ours.close()


async def test_a_closed_engine_says_so() -> None:
    ours = engine()
    await ours.close()
    with pytest.raises(RuntimeError):
        await ours.read(picture(20))


@settings(max_examples=60)
@given(
    pages=st.lists(st.lists(st.integers(1, 127), max_size=12), min_size=1, max_size=8),
    cancelled=st.sets(st.integers(0, 7)),
    cache_entries=st.sampled_from([0, 1, 3, 100]),
    broken=st.none() | st.integers(1, 127),
)
def test_pictures_read_at_once_read_as_each_alone(
    pages: list[list[int]], cancelled: set[int], cache_entries: int, broken: int | None
) -> None:
    unsure = dict.fromkeys(range(1, 128, 3), 0.8)

    async def run() -> list[list[str] | BaseException]:
        recogniser = Recogniser(unsure=unsure, broken=broken or -1)
        ours = engine(recogniser=recogniser, config=replace(SMALL, cache_entries=cache_entries))
        tasks = [asyncio.create_task(texts(ours, *page)) for page in pages]
        await asyncio.sleep(0)
        for number in cancelled & set(range(len(pages))):
            tasks[number].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert ours.pool.depth == 0
        await ours.close()
        return results

    def width(value: int) -> int:
        return 320 if value in unsure else SMALL.width(2 * value)

    for number, (page, result) in enumerate(zip(pages, asyncio.run(run()), strict=True)):
        if isinstance(result, asyncio.CancelledError):
            assert number in cancelled
        elif isinstance(result, BaseException):
            assert isinstance(result, BrokenError)
            assert broken is not None
        else:
            assert broken not in page, "a failure became a reading"
            assert result == [f"{value}@{width(value)}" for value in page]


async def test_a_cancelled_reading_takes_its_strips_along_but_not_those_that_others_need() -> None:
    class Here(WorkerPool[Detect]):
        async def run(self, work: Callable[[Detect], Result]) -> Result:
            return work(Detector())

    class Slow(Recogniser):
        def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
            assert go_on.wait(WAIT_S)
            return super().read(strips, shape)

    go_on, recogniser = threading.Event(), Slow()
    library = LibraryNumbers(longest_px=200)
    ours = OcrEngine(
        Here(Detector, 1, name="test"), [owned([recogniser], name="test")], SMALL, library
    )
    busy = asyncio.create_task(texts(ours, 10))
    await settle()
    gone, stays = (asyncio.create_task(texts(ours, *pair)) for pair in ((20, 30), (30, 31)))
    await settle()
    assert ours.pool.depth == 3
    gone.cancel()
    await settle()
    assert ours.pool.depth == 2
    go_on.set()
    assert await busy == ["10@64"]
    assert await stays == ["30@64", "31@64"]
    # In the order in which the detector found them, which is backwards.
    assert [value for value, _ in recogniser.runs] == [10, 31, 30]
    with pytest.raises(asyncio.CancelledError):
        await gone
    await ours.close()


async def test_a_picture_with_more_lines_than_one_may_have_is_refused_before_any_is_read() -> None:
    recogniser = Recogniser()
    ours = engine(recogniser=recogniser, config=replace(SMALL, max_lines=3))
    with pytest.raises(ImageError, match="has 4 lines of text, the limit is 3"):
        await texts(ours, 20, 21, 22, 23)
    assert recogniser.runs == []
    assert len(await texts(ours, 20, 21, 22)) == 3
    await ours.close()


async def test_the_parts_of_a_tall_picture_let_other_pictures_in_between() -> None:
    detector = Detector()
    ours = engine(detector)
    tall = asyncio.create_task(ours.read(np.zeros((500, 32, 3), np.uint8)))
    await asyncio.sleep(0)
    await asyncio.gather(tall, ours.read(picture(20)))
    # Three parts of 200; at most one of them is before the other picture.
    assert sorted(detector.seen) == [(100, 32, 3), *[(200, 32, 3)] * 3]
    assert detector.seen.index((100, 32, 3)) <= 1
    await ours.close()


async def test_whoever_shares_a_line_with_a_page_of_lower_priority_does_not_wait_for_its_text() -> (
    None
):
    class Slow(Recogniser):
        def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
            assert go_on.wait(WAIT_S)
            return super().read(strips, shape)

    go_on, recogniser = threading.Event(), Slow()
    ours = engine(recogniser=recogniser, config=replace(SMALL, max_columns=64))
    with urgent_as(Priority.LOW):
        low = asyncio.create_task(texts(ours, *range(1, 31)))
    while ours.pool.depth < 29:  # noqa: ASYNC110
        await asyncio.sleep(0)
    with urgent_as(Priority.HIGH):
        high = asyncio.create_task(texts(ours, 1, 2))
    while ours.pool.cache.hits < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    go_on.set()
    assert await high == ["1@64", "2@64"]
    await low
    assert [value for value, _ in recogniser.runs][1:3] == [2, 1]  # the page's last two
    assert len(recogniser.runs) == 30
    await ours.close()


async def test_a_long_page_that_is_given_up_leaves_no_line_behind() -> None:
    class Slow(Recogniser):
        def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
            assert go_on.wait(WAIT_S)
            return super().read(strips, shape)

    go_on, recogniser = threading.Event(), Slow()
    ours = engine(recogniser=recogniser, config=replace(SMALL, max_columns=64))
    page = asyncio.create_task(ours.read(picture(*range(1, 101), height=200)))
    while ours.pool.depth < 99:  # noqa: ASYNC110
        await asyncio.sleep(0)
    page.cancel()
    await asyncio.gather(page, return_exceptions=True)
    await settle()
    assert ours.pool.depth == 0
    go_on.set()
    assert await texts(ours, 120) == ["120@320"]
    # One was being read.
    assert recogniser.runs == [(100, 320), (120, 320)]
    await ours.close()
