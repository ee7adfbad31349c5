"""Which lines are the same: found without comparing all, and the same after changes as anew."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz

from pagesight_server.alike import ALIKE, Lines, hides_other_name


@pytest.mark.parametrize(
    ("a", "b", "hides"),
    [
        pytest.param("额度由放心借综合评估", "额度由满月花综合评估", True, id="a brand"),
        pytest.param("我的额度", "我的额庹", False, id="one character misread"),
        pytest.param("credit limit", "credit 1imit", False, id="latin letters misread"),
        pytest.param("查看全部优惠", "查看优惠", False, id="words left out"),
    ],
)
def test_a_replaced_name_is_not_a_misread_line(a: str, b: str, hides: bool) -> None:
    assert hides_other_name(a, b) is hides


# Few characters, so that many lines are alike and many are near the limit.
LINES = st.text("甲乙丙丁ab#", min_size=1, max_size=9)
TABLES = st.dictionaries(LINES, st.integers(1, 3), max_size=40)


@given(counts=TABLES, line=LINES)
def test_the_rarest_characters_lose_no_line_that_is_alike(
    counts: Mapping[str, int], line: str
) -> None:
    table = Lines(counts)
    expected = {
        text
        for text in table.spellings()
        if fuzz.ratio(line, text) >= ALIKE and not hides_other_name(line, text)
    }
    found = dict(table.alike(line))
    assert found.keys() == expected
    assert all(ratio == fuzz.ratio(line, text) / 100 for text, ratio in found.items())


@given(tables=st.lists(TABLES, min_size=2, max_size=4))
def test_a_table_that_was_changed_is_the_table_made_whole(tables: list[Mapping[str, int]]) -> None:
    changed = Lines(tables[0])
    for before, counts in pairwise(tables):
        spelled = {line: changed.spelling(line) for line in before}
        changed = Lines(counts, changed)
        whole = Lines(counts)
        spellings = {line: whole.spelling(line) for line in counts}
        assert {line: changed.spelling(line) for line in counts} == spellings
        assert changed.moved == {
            line for line in before.keys() | counts if spelled.get(line) != spellings.get(line)
        }
        for line in counts:
            assert sorted(changed.alike(line)) == sorted(whole.alike(line))


@given(counts=TABLES, later=TABLES)
def test_a_change_leaves_the_table_before_as_it_was(
    counts: Mapping[str, int], later: Mapping[str, int]
) -> None:
    before = Lines(counts)
    told = {line: (before.spelling(line), sorted(before.alike(line))) for line in counts}
    Lines(later, before)
    assert {line: (before.spelling(line), sorted(before.alike(line))) for line in counts} == told


def test_a_line_stands_under_the_commonest_spelling() -> None:
    table = Lines({"可用额度说明": 2, "可用额庹说明": 5})
    assert table.spelling("可用额度说明") == "可用额庹说明"
    assert Lines({"可用额度说明": 6, "可用额庹说明": 5}, table).spelling("可用额庹说明") == (
        "可用额度说明"
    )


def test_another_name_inside_a_line_makes_it_another_line() -> None:
    table = Lines({"额度由放心借综合评估": 2, "额度由满月花综合评估": 1})
    assert table.spelling("额度由满月花综合评估") == "额度由满月花综合评估"
