"""Replaced entity names: the score of a line by its rivals, and what bears a name out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pagesight_server.recognition.replaced_names import (
    Candidate,
    ReplacedName,
    confirm_names,
    find_candidates,
    score_candidates,
)
from pagesight_server.text.lines import page_lines
from pagesight_server.text.reading import Box, TextLine
from tests.support.parts import reading

LABEL = {
    line.key: line.place
    for line in page_lines(reading("首页", "我已阅读并同意放心借借款合同", "服务"))
}


def line(number: int) -> TextLine:
    return TextLine(f"第{number}行", 0.9, Box(0, 100 * number, 100, 100 * number + 40))


def name(
    number: int,
    weight: float,
    *,
    expected: str = "放心借",
    observed: str = "满月花",
    whole: bool = False,
) -> ReplacedName:
    return ReplacedName(
        expected=expected, observed=observed, line=line(number), whole_line=whole, weight=weight
    )


def weights(names: Sequence[ReplacedName], *keys: str, brand: str = "") -> list[float]:
    picture = "|".join(keys)
    confirmed = confirm_names(names, [picture], is_brand=lambda text: text == brand)
    return [one.weight for one in confirmed]


def test_a_candidate_is_a_line_with_a_block_that_the_label_shows_another_in_place_of() -> None:
    lines = page_lines(reading("首页", "我已阅读并同意满月花借款合同", "服务"))
    (candidate,) = find_candidates(
        lines, LABEL, gallery_text="首页|我已阅读并同意放心借借款合同|服务"
    )
    assert candidate.observed == {"放心借": "满月花"}
    assert (candidate.line.text, candidate.whole_line) == ("我已阅读并同意满月花借款合同", False)


def test_a_short_line_in_the_place_of_another_is_a_candidate_as_a_whole() -> None:
    label = {line.key: line.place for line in page_lines(reading("首页", "放心借", "服务"))}
    lines = page_lines(reading("首页", "满月花", "服务"))
    (candidate,) = find_candidates(lines, label, gallery_text="首页|放心借|服务")
    assert (candidate.observed, candidate.whole_line) == ({"放心借": "满月花"}, True)


def test_a_block_that_the_gallery_knows_makes_no_candidate() -> None:
    lines = page_lines(reading("首页", "我已阅读并同意满月花借款合同", "服务"))
    assert (
        find_candidates(lines, LABEL, gallery_text="首页|我已阅读并同意放心借借款合同|满月花额度")
        == []
    )


@pytest.mark.parametrize(
    ("weights_of", "weight"),
    [
        pytest.param({"放心借": 0.8}, 0.8, id="alone"),
        pytest.param({"放心借": 0.8, "还款日": 0.4}, 0.8 * 0.8 / 1.2, id="its share among rivals"),
        pytest.param({"放心借": 0.8, "放心": 0.4}, 0.8, id="a part of it is no rival"),
        pytest.param({"放心借": 0.0, "还款日": 0.0}, 0.0, id="nothing that could be a name"),
    ],
)
def test_a_line_replaces_the_likeliest_name_by_its_share(
    weights_of: dict[str, float], weight: float
) -> None:
    candidate = Candidate(
        line=line(1), whole_line=False, observed=dict.fromkeys(weights_of, "满月花")
    )
    (scored,) = score_candidates([candidate], lambda block, _whole_line: weights_of[block])
    assert scored.expected == "放心借"
    assert scored.weight == pytest.approx(weight)


def test_a_block_in_one_line_keeps_six_tenths_and_a_whole_line_nothing() -> None:
    assert weights([name(1, 0.5)], "同意放心借合同") == [pytest.approx(0.3)]
    assert weights([name(1, 0.5, whole=True)], "放心借") == [0.0]


@pytest.mark.parametrize("whole", [False, True])
def test_a_second_line_of_the_label_bears_a_name_out(whole: bool) -> None:
    assert weights([name(1, 0.5, whole=whole)], "同意放心借合同", "放心借") == [0.5]


def test_two_readings_of_one_line_are_no_second_line() -> None:
    pictures = ["同意放心借合同", "日同意放心借合同"]
    (one,) = confirm_names([name(1, 0.5)], pictures, is_brand=lambda _text: False)
    assert one.weight == pytest.approx(0.3)


def test_two_whole_lines_may_be_two_readings_of_one_line_of_the_label() -> None:
    first = name(1, 0.5, expected="工作信息", observed="基础资料", whole=True)
    second = name(2, 0.2, expected="i工作信息", observed="身份证号码", whole=True)
    assert weights([first, second], "工作信息") == [0.0, 0.0]


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(name(2, 0.2, expected="分期乐"), id="the same new name"),
        pytest.param(
            name(2, 0.2, expected="分期乐", observed="满月花银行"), id="the new name in it"
        ),
        pytest.param(name(2, 0.2, observed="云帆"), id="the same expected name"),
    ],
)
def test_a_second_line_of_the_screenshot_bears_a_name_out(second: ReplacedName) -> None:
    assert weights([name(1, 0.5), second])[0] == 0.5


def test_the_same_line_seen_twice_is_no_second_line() -> None:
    first = name(1, 0.5)
    again = ReplacedName(
        expected="放心借", observed="满月花", line=first.line, whole_line=True, weight=0.5
    )
    assert weights([first, again]) == [pytest.approx(0.3), 0.0]


def test_a_brand_needs_no_second_line() -> None:
    assert weights([name(1, 0.5, whole=True)], brand="放心借") == [0.5]


def test_what_weighs_nothing_is_not_named_and_the_weightiest_comes_first() -> None:
    names = [name(1, 0.0), name(2, 0.3), name(3, 0.6)]
    assert weights(names) == [0.6, 0.3]
