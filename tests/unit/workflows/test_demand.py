"""Reading on demand: what is read, when it ends, what unread lines are taken for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagesight_server.recognition.entity_names import Unread
from pagesight_server.text.laid import Laid
from pagesight_server.text.reading import Box, Reading, TextLine
from pagesight_server.workflows.demand import (
    MARGIN,
    Found,
    Outline,
    Settled,
    optimistic,
    pessimistic,
    settle,
)


def box(row: int, *, width: int = 40) -> Box:
    return Box(10, 20 * row, 10 + width, 20 * row + 10)


def page(*texts: str) -> Reading:
    """Lines below each other, each as wide as the others."""
    lines = tuple(TextLine(text, 1.0, box(row)) for row, text in enumerate(texts))
    return Reading(width_px=100, height_px=400, lines=lines)


def said(outline: Outline, page: Reading, *read: TextLine) -> str:
    """What the boxes of a screenshot say at best, the first of them read."""
    laid = Laid(page, outline.boxes, outline.width_px)
    return optimistic(outline, dict(enumerate(read)), laid).joined()


def outline(lines: int) -> Outline:
    return Outline(width_px=100, height_px=400, boxes=tuple(box(row) for row in range(lines)))


@dataclass
class Verdict:
    """A label, and how far from the threshold."""

    label: str
    score: float = 0.0
    threshold: float = 0.5


def settled(
    texts: Sequence[str], *pages: Reading, tells: str, nearly: float = 0.0
) -> tuple[Settled[Verdict], list[int]]:
    """Settles where a page is the one that shows a certain line; `nearly` is what others score."""
    read: list[int] = []

    async def recognise(numbers: Sequence[int]) -> list[TextLine | None]:
        read.extend(numbers)
        return [TextLine(texts[n], 1.0, box(n)) if texts[n] else None for n in numbers]

    async def judge(reading: Reading, _unread: Unread) -> Verdict:
        shown = any(line.text == tells for line in reading.lines)
        return Verdict("known", 1.0) if shown else Verdict("other", nearly)

    found = Found(outline=outline(len(texts)), read=recognise)
    return asyncio.run(settle(found, judge, lambda _: [("known", page) for page in pages])), read


BILL = page("账单", "一月", "二月", "三月", "四月")
CARD = page("卡片", "一月", "二月", "三月", "四月")


def test_where_pages_differ_is_read_first_and_may_be_enough() -> None:
    found, read = settled(["账单", "一月", "二月", "三月", "四月"], BILL, CARD, tells="账单")
    assert read == [0]
    assert found.judgement.label == "known"
    assert (found.reading.joined(), found.unread) == ("账单", 4)


def test_a_line_that_could_still_be_anywhere_is_looked_for_everywhere() -> None:
    found, read = settled(["甲甲", "乙乙", "丙丙", "丁丁", "戊戊"], page("账单"), tells="账单")
    assert sorted(read) == [0, 1, 2, 3, 4]
    assert (found.judgement.label, found.unread) == ("other", 0)


def test_what_no_page_could_change_is_not_read() -> None:
    found, read = settled(["甲甲", "乙乙", "丙丙"], BILL, tells="不在任何页面")
    assert read == []
    assert (found.judgement.label, found.reading.lines, found.unread) == ("other", (), 3)


def test_a_page_without_text_is_judged_as_it_is() -> None:
    found, read = settled([], BILL, tells="账单")
    assert (found.judgement.label, found.unread, read) == ("other", 0, [])


def test_a_box_without_text_counts_as_read() -> None:
    found, _read = settled(["", "", ""], page("账单"), tells="账单")
    assert (found.judgement.label, found.reading.lines, found.unread) == ("other", (), 0)


def test_unread_lines_may_say_what_a_page_shows_at_another_height_but_not_at_another_size() -> None:
    scrolled = Outline(width_px=100, height_px=400, boxes=(box(7), box(9, width=85)))
    assert said(scrolled, page("账单")) == "账单"
    assert said(Outline(width_px=100, height_px=400, boxes=(box(9, width=85),)), BILL) == ""


def test_a_line_that_was_read_is_not_expected_again() -> None:
    assert said(outline(3), page("账单", "一月"), TextLine("账单", 1.0, box(0))) == "账单 一月"


def test_pages_of_another_scale_are_expected_at_the_scale_of_the_screenshot() -> None:
    large = Outline(width_px=200, height_px=800, boxes=(Box(20, 0, 100, 20),))
    assert said(large, page("账单")) == "账单"


@pytest.mark.parametrize(
    "likely",
    [
        pytest.param(Box(10, 300, 50, 310), id="scrolled"),
        pytest.param(Box(32, 0, 72, 14), id="aligned otherwise"),
        pytest.param(Box(26, 300, 50, 306), id="shrunk about the middle"),
        pytest.param(Box(2, 300, 50, 312), id="enlarged about the middle"),
    ],
)
def test_a_line_is_thought_of_where_it_is_likely_before_where_its_shape_is(likely: Box) -> None:
    # The page's line is 10 to 50 of 100, 10 high. The first box has its size, in another column.
    boxes = (Box(55, 200, 95, 210), likely)
    framed = Outline(width_px=100, height_px=400, boxes=boxes)
    laid = Laid(page("账单"), boxes, 100)
    assert [line.box for line in optimistic(framed, {}, laid).lines] == [likely]


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        pytest.param(Box(60, 200, 90, 208), "账单", id="of its shape"),
        pytest.param(Box(60, 200, 90, 220), "", id="of another shape"),
    ],
)
def test_a_line_with_no_likely_place_may_be_anywhere(shown: Box, text: str) -> None:
    elsewhere = Outline(width_px=100, height_px=400, boxes=(shown,))
    assert said(elsewhere, page("账单")) == text


def test_unread_lines_that_speak_for_no_page_take_up_their_place() -> None:
    reading = pessimistic(outline(2), {0: TextLine("账单", 1.0, box(0))})
    assert [line.box for line in reading.lines] == [box(0), box(1)]
    assert reading.lines[0].text == "账单"
    assert len(reading.lines[1].text) == 4


@given(st.lists(st.sampled_from(["账单", "一月", "卡片", "x", ""]), max_size=12))
def test_no_line_is_read_twice_and_what_is_read_in_full_is_judged_in_full(texts: list[str]) -> None:
    found, read = settled(texts, BILL, CARD, tells="卡片")
    assert len(read) == len(set(read)) == len(texts) - found.unread
    assert found.judgement.label == ("known" if "卡片" in texts else "other") or found.unread
    assert sorted(line.text for line in found.reading.lines) == sorted(
        texts[n] for n in read if texts[n]
    )


def test_other_stands_only_where_every_page_is_clearly_out_of_reach() -> None:
    strange = ("甲", "乙", "丙", "丁", "戊")
    far, read = settled(strange, BILL, tells="没有", nearly=0.5 - 2 * MARGIN)
    assert far.judgement.label == "other"
    assert not read
    near, read = settled(strange, BILL, tells="没有", nearly=0.5 - MARGIN / 2)
    assert near.judgement.label == "other"
    assert sorted(read) == list(range(5))
