"""A draft reads every line first, and the recognition network again what that is unsure of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.errors import SetupError
from pagesight_server.common.priority import Priority, urgent_as
from pagesight_server.inference.bundle import Bundle
from pagesight_server.inference.ocr import OcrEngine, OcrSettings
from pagesight_server.inference.ocr.engine import networks, owned
from pagesight_server.inference.ocr.recogniser import Network, Shape, Text
from pagesight_server.inference.ocr.settings import LibraryNumbers
from pagesight_server.inference.settings import ReadingMode
from tests.support import WAIT_S
from tests.support.line_pools import settle
from tests.support.ocr_fakes import SMALL, Detector, picture, texts

DRAFT, AGAIN = "draft", "recognition"


class Networks:
    """Reads the value of a strip with either network; the draft is unsure of chosen values."""

    def __init__(
        self,
        *,
        draft: dict[int, float] | None = None,
        again: dict[int, float] | None = None,
        broken: tuple[Network, int] | None = None,
        hold: bool = False,
    ) -> None:
        self.batches: list[tuple[Shape, list[int]]] = []
        self.held, self.go_on = threading.Event(), threading.Event()
        if not hold:
            self.go_on.set()
        self._confidence = {DRAFT: draft or {}, AGAIN: again or {}}
        self._broken = broken

    def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
        if shape.network == AGAIN:
            self.held.set()
            assert self.go_on.wait(WAIT_S)
        values = [int(strip[0, 0, 0]) for strip in strips]
        self.batches.append((shape, values))
        if self._broken and self._broken[0] == shape.network and self._broken[1] in values:
            raise BrokenPipeError
        sure = self._confidence[shape.network]
        return [
            Text(f"{one}{shape.network[0]}{shape.width}", sure.get(one, 0.99)) for one in values
        ]

    def runs(self) -> list[tuple[int, str, int]]:
        """Value, network and width of each strip that was read."""
        return [(one, shape.network, shape.width) for shape, all_ in self.batches for one in all_]


def engine(reader: Networks, config: OcrSettings = SMALL) -> OcrEngine:
    return OcrEngine(
        owned([Detector()], name="test"),
        [owned([reader], name="test")],
        config,
        LibraryNumbers(longest_px=200, padded_px=320, min_confidence=0.5),
        sure_from=0.95,
    )


@pytest.mark.parametrize(
    ("value", "draft", "runs", "text"),
    [
        pytest.param(20, 0.95, [(DRAFT, 64)], "20d64", id="sure: the draft's text"),
        pytest.param(20, 0.94, [(DRAFT, 64), (AGAIN, 320)], "20r320", id="unsure: as the library"),
        pytest.param(20, 0.0, [(DRAFT, 64), (AGAIN, 320)], "20r320", id="nothing read"),
        pytest.param(150, 0.9, [(DRAFT, 320), (AGAIN, 320)], "150r320", id="the same width"),
        pytest.param(250, 0.9, [(DRAFT, 640), (AGAIN, 640)], "250r640", id="a wide line"),
    ],
)
async def test_what_the_draft_is_unsure_of_is_read_again(
    value: int, draft: float, runs: list[tuple[str, int]], text: str
) -> None:
    reader = Networks(draft={value: draft})
    ours = engine(reader)
    assert await texts(ours, value) == [text]
    assert [(network, width) for _, network, width in reader.runs()] == runs
    assert (ours.pool.settled, ours.pool.reread) == ((1, 0) if len(runs) == 1 else (0, 1))
    await ours.close()


async def test_a_line_has_the_confidence_of_the_network_that_was_taken() -> None:
    # The recognition network's word is final, also where it is less sure than the draft.
    ours = engine(Networks(draft={20: 0.96, 30: 0.9}, again={20: 0.7, 30: 0.6}))
    reading = await ours.read(picture(20, 30))
    assert [(line.text, line.confidence) for line in reading.lines] == [
        ("20d64", 0.96), ("30r320", 0.6),
    ]  # fmt: skip
    await ours.close()


async def test_a_line_that_the_recognition_network_drops_is_no_line() -> None:
    ours = engine(Networks(draft={20: 0.9}, again={20: 0.4}))
    assert await texts(ours, 20, 30) == ["30d64"]
    await ours.close()


async def test_both_readings_are_remembered_apart() -> None:
    reader = Networks(draft={20: 0.9})
    ours = engine(reader)
    for _ in range(2):
        assert await texts(ours, 20, 30) == ["20r320", "30d64"]
    assert len(reader.runs()) == 3
    # Of the second picture all three readings come from the cache.
    assert (ours.pool.cache.hits, ours.pool.cache.misses) == (3, 3)
    assert (ours.pool.settled, ours.pool.reread) == (2, 2)
    await ours.close()


async def test_a_batch_has_one_network() -> None:
    reader = Networks(draft={150: 0.5, 151: 0.5})
    ours = engine(reader, replace(SMALL, max_columns=10_000))
    await texts(ours, 150, 151, 140)
    assert [(shape.network, sorted(values)) for shape, values in reader.batches] == [
        (DRAFT, [140, 150, 151]),
        (AGAIN, [150, 151]),
    ]
    await ours.close()


def test_a_draft_column_counts_for_a_quarter_as_it_takes_a_quarter_of_the_time() -> None:
    assert [Shape(320).cost, Shape(320, "draft").cost, Shape(65, "draft").cost] == [320, 80, 17]


async def test_a_failure_of_the_second_reading_fails_the_picture_and_no_other() -> None:
    ours = engine(Networks(draft={20: 0.9}, broken=("recognition", 20)))
    with pytest.raises(BrokenPipeError):
        await texts(ours, 20)
    assert await texts(ours, 30) == ["30d64"]
    assert ours.pool.depth == 0
    await ours.close()


async def held(reader: Networks, ours: OcrEngine) -> asyncio.Task[list[str]]:
    """A page of 30 lines that are read again one by one, the first of them being so now."""
    with urgent_as(Priority.LOW):
        page = asyncio.create_task(texts(ours, *range(1, 31)))
    assert await asyncio.to_thread(reader.held.wait, WAIT_S)
    while ours.pool.depth < 29:  # noqa: ASYNC110
        await asyncio.sleep(0)
    return page


async def test_a_cancelled_picture_takes_its_second_readings_along() -> None:
    reader = Networks(draft=dict.fromkeys(range(1, 31), 0.5), hold=True)
    ours = engine(reader, replace(SMALL, max_columns=320))
    page = await held(reader, ours)
    page.cancel()
    await settle()
    assert ours.pool.depth == 0
    reader.go_on.set()
    await asyncio.gather(page, return_exceptions=True)
    assert await texts(ours, 100) == ["100d320"]
    assert sum(network == AGAIN for _, network, _ in reader.runs()) == 1
    await ours.close()


async def test_second_readings_of_a_long_page_wait_for_a_picture_of_higher_priority() -> None:
    reader = Networks(draft=dict.fromkeys(range(1, 31), 0.5), hold=True)
    ours = engine(reader, replace(SMALL, max_columns=320))
    page = await held(reader, ours)
    with urgent_as(Priority.HIGH):
        urgent = asyncio.create_task(texts(ours, 100))
    while ours.pool.depth < 30:  # noqa: ASYNC110
        await asyncio.sleep(0)
    reader.go_on.set()
    assert await urgent == ["100d320"]
    assert await page == [f"{one}r320" for one in range(1, 31)]
    # After the six batches of drafts and the second reading that was under way.
    assert reader.runs()[31] == (100, DRAFT, 320)
    await ours.close()


@settings(max_examples=60)
@given(
    pages=st.lists(st.lists(st.integers(1, 127), max_size=12), min_size=1, max_size=8),
    cancelled=st.sets(st.integers(0, 7)),
    cache_entries=st.sampled_from([0, 1, 3, 100]),
    max_columns=st.sampled_from([64, 320, 640, 5_000]),
)
def test_a_line_reads_the_same_whatever_else_is_in_flight(
    pages: list[list[int]], cancelled: set[int], cache_entries: int, max_columns: int
) -> None:
    unsure = dict.fromkeys(range(1, 128, 3), 0.8)
    config = replace(SMALL, cache_entries=cache_entries, max_columns=max_columns)

    async def run() -> list[list[str] | BaseException]:
        ours = engine(Networks(draft=unsure), config)
        tasks = [asyncio.create_task(texts(ours, *page)) for page in pages]
        await asyncio.sleep(0)
        for number in cancelled & set(range(len(pages))):
            tasks[number].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert ours.pool.depth == 0
        await ours.close()
        return results

    for number, (page, result) in enumerate(zip(pages, asyncio.run(run()), strict=True)):
        if isinstance(result, asyncio.CancelledError):
            assert number in cancelled
            continue
        assert result == [
            f"{one}r320" if one in unsure else f"{one}d{SMALL.width(2 * one)}" for one in page
        ]


@pytest.mark.parametrize(
    ("has_draft", "reading", "in_use"),
    [
        (True, None, ("draft", "recognition")),
        (True, "cascade", ("draft", "recognition")),
        (True, "full", ("recognition",)),
        (False, None, ("recognition",)),
        (False, "full", ("recognition",)),
    ],
)
def test_the_bundle_and_the_setting_say_which_networks_read(
    has_draft: bool, reading: ReadingMode | None, in_use: tuple[str, ...]
) -> None:
    assert networks(bundle(has_draft=has_draft), reading) == in_use


def test_the_cascade_without_a_draft_is_refused_with_what_to_do() -> None:
    with pytest.raises(SetupError, match=r"pagesight-export ocr --draft tiny.*reading = \"full\""):
        networks(bundle(has_draft=False), "cascade")


def bundle(*, has_draft: bool) -> Bundle:
    described: dict[str, object] = {"detection": {}, "recognition": {}}
    if has_draft:
        described["draft"] = {}
    return Bundle(path=Path("ocr"), id="x@0", kind="ocr", manifest={"input": described})
