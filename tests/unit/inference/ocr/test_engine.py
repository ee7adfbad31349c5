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
from pagesight_server.inference.ocr import OcrEngine, OcrSettings
from pagesight_server.inference.ocr.detector import TextColumns
from pagesight_server.inference.ocr.engine import Detect, owned
from pagesight_server.inference.ocr.recogniser import Shape, Text
from pagesight_server.inference.ocr.settings import LibraryNumbers, library_widths
from pagesight_server.inference.ocr.tiling import Region
from pagesight_server.text.reading import Box
from tests.support import WAIT_S

Result = TypeVar("Result")
SMALL = OcrSettings(widths=(64, 128, 320, 640), reread_below=0.9, max_columns=640)


class BrokenError(Exception):
    """What a broken session raises."""


class Detector:
    """Takes each row of a picture that is not 0 for a line: its value, and twice it as width."""

    def __init__(self, *, broken: bool = False) -> None:
        self.seen: list[tuple[int, ...]] = []
        self.broken = broken

    def find(self, pixels: Pixels, columns: TextColumns) -> list[Region]:
        self.seen.append(pixels.shape)
        if self.broken:
            raise BrokenError
        rows = np.flatnonzero(pixels[:, 0, 0])
        # Backwards: the order is the engine's business.
        return [
            Region.of(Box(3, int(row), 9, int(row) + 1), line(int(pixels[row, 0, 0])))
            for row in rows[::-1]
        ]


class Recogniser:
    """Reads the value of a strip and how far it is padded; unsure of chosen values."""

    def __init__(self, *, unsure: dict[int, float] | None = None, broken: int = -1) -> None:
        self.runs: list[tuple[int, int]] = []
        self.broken = broken
        self._unsure = unsure or {}

    def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
        values = [int(strip[0, 0, 0]) for strip in strips]
        self.runs += [(value, shape.width) for value in values]
        if self.broken in values:
            raise BrokenError
        return [Text(f"{value}@{shape.width}", self._unsure.get(value, 0.99)) for value in values]


def line(value: int) -> Pixels:
    return np.full((48, 2 * value, 3), value, np.uint8)


def picture(*values: int, height: int = 100) -> Pixels:
    """A picture with a line of each value in the top rows."""
    pixels = np.zeros((height, 32, 3), np.uint8)
    pixels[: len(values)] = np.array(values, np.uint8).reshape(-1, 1, 1)
    return pixels


def engine(
    detector: Detector | None = None,
    recogniser: Recogniser | None = None,
    config: OcrSettings = SMALL,
) -> OcrEngine:
    return OcrEngine(
        owned([detector or Detector()], name="test"),
        [owned([recogniser or Recogniser()], name="test")],
        config,
        LibraryNumbers(longest_px=200, padded_px=320, min_confidence=0.5),
    )


async def texts(ours: OcrEngine, *values: int) -> list[str]:
    async with asyncio.timeout(WAIT_S):
        return [line.text for line in (await ours.read(picture(*values))).lines]


async def settle() -> None:
    """Lets every task that can run now run."""
    for _ in range(10):
        await asyncio.sleep(0)


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


@pytest.mark.parametrize(
    ("widths", "padded"),
    [
        pytest.param([], [], id="none"),
        pytest.param([50, 400, 60], [400, 400, 400], id="one batch"),
        pytest.param([50, 60], [320, 320], id="never less than 320"),
        pytest.param([500, 90, 10, 20, 30, 40, 400], [500, *[400] * 6], id="batches of six"),
    ],
)
def test_the_library_pads_sorted_lines_six_by_six(widths: list[int], padded: list[int]) -> None:
    assert library_widths(widths, LibraryNumbers()) == padded


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


@pytest.mark.parametrize(
    ("pixels", "width"), [(1, 64), (64, 64), (65, 128), (320, 320), (641, 1280), (1281, 1920)]
)
def test_a_line_is_padded_to_the_next_width(pixels: int, width: int) -> None:
    assert SMALL.width(pixels) == width


@pytest.mark.parametrize(
    ("width", "waiting", "sizes", "count"),
    [
        pytest.param(64, 100, (), 10, id="640 columns"),
        pytest.param(64, 3, (), 3, id="what is there"),
        pytest.param(64, 100, (1, 2, 4, 8, 16), 8, id="the greatest fixed size that fits"),
        pytest.param(64, 3, (1, 2, 4), 2, id="the greatest fixed size that fills"),
        pytest.param(1280, 9, (), 1, id="over the budget alone"),
    ],
)
def test_a_batch_keeps_within_the_budget(
    width: int, waiting: int, sizes: tuple[int, ...], count: int
) -> None:
    assert replace(SMALL, sizes=sizes).count(width, waiting) == count


def test_every_shape_that_fixed_sizes_can_meet_is_named() -> None:
    config = replace(SMALL, sizes=(1, 4))
    assert set(config.shapes()) == {(1, 64), (4, 64), (1, 128), (4, 128), (1, 320), (1, 640)}
    assert list(SMALL.shapes()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"widths": (128, 64)}, "widths must ascend"),
        ({"widths": ()}, "widths must ascend"),
        ({"sizes": (2, 4)}, "sizes must ascend from 1"),
        ({"max_columns": 10}, "max_columns must be at least 64"),
        ({"reread_below": 1.5}, "reread_below from 0 to 1"),
        ({"recognisers": 0}, "of at least 1"),
        ({"detectors": 2, "detection_sessions": 3}, "detection_sessions from 0 to detectors, 2"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OcrSettings(**wrong)  # type: ignore[arg-type]
