"""Lines laid beside lines: what was exchanged inside one, and what stands in the same place."""

from __future__ import annotations

import pytest

from pagesight_server.text.lines import Place, blocks, middle, page
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
    assert blocks(old, new) == exchanged


def test_places_are_in_widths_of_the_picture_and_the_status_bar_has_none() -> None:
    bar = TextLine("中国移动", 1.0, Box(0, 0, 100, 30))
    line = TextLine("我的额度", 1.0, Box(100, 200, 300, 240))
    found = page(Reading(width_px=400, height_px=1000, lines=(bar, line)))
    assert [(one.essence, one.place) for one in found] == [("我的额度", Place(0.5, 0.55, 0.1))]


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


def test_the_middle_of_places_is_their_median() -> None:
    places = [Place(0.1, 0.5, 0.1), Place(0.2, 0.9, 0.2), Place(0.9, 0.6, 0.3)]
    assert middle(places) == Place(0.2, 0.6, 0.2)
