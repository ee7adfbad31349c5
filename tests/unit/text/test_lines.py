"""The lines of a page, the blocks in which two differ, and lines in the same place."""

from __future__ import annotations

import pytest

from pagesight_server.text.lines import (
    Place,
    exchanged_blocks,
    lines_below_status_bar,
    median_place,
    page_lines,
)
from pagesight_server.text.reading import Box, Reading, TextLine


@pytest.mark.parametrize(
    ("old", "new", "exchanged"),
    [
        pytest.param("额度由放心借评估", "额度由满月花评估", [("放心借", "满月花")], id="a name"),
        pytest.param(
            "微粒贷由深圳微众银行提供",
            "云帆宝由深圳云帆银行提供",
            [("微粒贷", "云帆宝"), ("微众", "云帆")],
            id="two names",
        ),
        pytest.param(
            "本服务由有钱花公司提供",
            "本服务由澜钱宝公司提供",
            [("有钱花", "澜钱宝")],
            id="one equal character is a coincidence",
        ),
        pytest.param("我的额度", "我的额度", [], id="nothing"),
        pytest.param("可用额度", "设置中心", [], id="nothing stayed"),
        pytest.param("借款", "还款", [], id="one character is no context"),
    ],
)
def test_blocks_are_what_was_exchanged_where_enough_stayed(
    old: str, new: str, exchanged: list[tuple[str, str]]
) -> None:
    assert exchanged_blocks(old, new) == exchanged


def test_places_are_in_widths_of_the_picture_and_the_status_bar_has_none() -> None:
    bar = TextLine("中国移动", 1.0, Box(0, 0, 100, 30))
    line = TextLine("我的额度", 1.0, Box(100, 200, 300, 240))
    lines = page_lines(Reading(width_px=400, height_px=1000, lines=(bar, line)))
    assert [(page_line.key, page_line.place) for page_line in lines] == [
        ("我的额度", Place(0.5, 0.55, 0.1))
    ]


@pytest.mark.parametrize(
    ("other", "near"),
    [
        pytest.param(Place(0.55, 0.52, 0.06), True, id="a little beside"),
        pytest.param(Place(0.60, 0.50, 0.05), False, id="further beside"),
        pytest.param(Place(0.50, 0.56, 0.05), False, id="a line below"),
        pytest.param(Place(0.50, 0.50, 0.09), False, id="much larger type"),
    ],
)
def test_near_lines_stand_in_the_same_place_and_are_of_one_size(other: Place, near: bool) -> None:
    assert Place(0.5, 0.5, 0.05).near(other) is near


def test_the_median_of_places_is_that_of_each_coordinate() -> None:
    places = [Place(0.1, 0.5, 0.1), Place(0.2, 0.9, 0.2), Place(0.9, 0.6, 0.3)]
    assert median_place(places) == Place(0.2, 0.6, 0.2)


def test_the_status_bar_and_lines_that_say_nothing_are_left_out() -> None:
    bar = TextLine("中国移动 5G", 1.0, Box(0, 5, 100, 30))
    title = TextLine("我的额度", 1.0, Box(0, 100, 100, 130))
    amount = TextLine("88,000.00", 1.0, Box(0, 150, 100, 180))
    page = Reading(width_px=500, height_px=1000, lines=(bar, title, amount))
    assert [line.key for line in page_lines(page)] == ["我的额度"]
    assert lines_below_status_bar(page) == [title, amount]


@pytest.mark.parametrize(
    ("bottom_px", "on_page"),
    [
        pytest.param(38, False, id="inside the bar"),
        pytest.param(39, False, id="down to its bound"),
        pytest.param(40, True, id="reaching below it"),
    ],
)
def test_a_line_is_the_pages_when_it_reaches_below_the_status_bar(
    bottom_px: int, on_page: bool
) -> None:
    # The bar is 7.8 % of the shorter side, 500 pixels: the same in a long screenshot.
    line = TextLine("我的额度", 1.0, Box(0, 5, 100, bottom_px))
    for width_px, height_px in ((500, 1000), (500, 4000), (1000, 500)):
        page = Reading(width_px=width_px, height_px=height_px, lines=(line,))
        assert lines_below_status_bar(page) == [line] * on_page
