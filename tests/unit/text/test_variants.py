"""Spelling variants: found without comparing all, and the same after changes as from nothing."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz

from pagesight_server.text.variants import (
    ALIKE,
    SpellingVariants,
    differ_by_a_word,
    find_variant,
    find_variants,
    pairs_to_look_up,
    variant_similarities,
    variants_among,
)


@pytest.mark.parametrize(
    ("a", "b", "differ"),
    [
        pytest.param("额度由放心借综合评估", "额度由满月花综合评估", True, id="a brand"),
        pytest.param("我的额度", "我的额庹", False, id="one character misread"),
        pytest.param("credit limit", "credit 1imit", False, id="latin letters misread"),
        pytest.param("查看全部优惠", "查看优惠", True, id="a word left out"),
        pytest.param("个人信息", "补充个人信息", True, id="a word added"),
        pytest.param("身份证号", "身份证号码", False, id="one character added"),
        pytest.param("已绑定#元", "已绑定xy#元", False, id="no Chinese word added"),
    ],
)
def test_a_line_with_another_word_is_not_a_misread_one(a: str, b: str, differ: bool) -> None:
    assert differ_by_a_word(a, b) is differ
    assert differ_by_a_word(b, a) is differ


# Few characters, so that many lines are alike and many are near the limit.
LINES = st.text("甲乙丙丁ab#", min_size=1, max_size=9)


@given(a=LINES, b=LINES)
def test_lines_differ_the_same_both_ways_round(a: str, b: str) -> None:
    assert differ_by_a_word(a, b) is differ_by_a_word(b, a)


TABLES = st.dictionaries(LINES, st.integers(1, 3), max_size=40)


@given(counts=TABLES, line=LINES)
def test_the_rarest_characters_lose_no_line_that_is_alike(
    counts: Mapping[str, int], line: str
) -> None:
    table = SpellingVariants(counts)
    for asked in (line, *counts):
        expected = {
            text
            for text in table.canonical_spellings()
            if fuzz.ratio(asked, text) >= ALIKE and not differ_by_a_word(asked, text)
        }
        found = dict(table.matches(asked))
        assert found.keys() == expected
        assert all(ratio == fuzz.ratio(asked, text) / 100 for text, ratio in found.items())


@given(
    line=st.text("甲乙丙丁戊己庚辛", min_size=1, max_size=20),
    edits=st.lists(
        st.tuples(st.integers(0, 19), st.sampled_from(["", "子", "甲", "子丑"])), max_size=5
    ),
)
def test_of_the_pairs_that_are_looked_up_one_is_in_every_line_that_is_alike(
    line: str, edits: list[tuple[int, str]]
) -> None:
    other = line
    for place, text in edits:
        other = other[:place] + text + other[place + (len(text) < 2) :]
    if fuzz.ratio(line, other) < ALIKE:
        return
    for one, another in ((line, other), (other, line)):
        pairs = [a + b for a, b in pairwise(one)]
        missing = sum(pair not in another for pair in pairs)
        wanted = pairs_to_look_up(len(one))
        assert wanted == 0 or missing < wanted <= len(pairs)


@pytest.mark.parametrize(
    ("length", "wanted"),
    # By hand. 3: "ab" and "axb" are alike and share no pair. 8: of lines of 7 characters 6 must be
    # in common, so 18 - 15 - 1 = 2 pairs are, and 6 of the 7 pairs hold one of them.
    [(1, 0), (2, 0), (3, 0), (4, 3), (5, 4), (8, 6)],
)
def test_how_many_pairs_are_looked_up(length: int, wanted: int) -> None:
    assert pairs_to_look_up(length) == wanted


@given(tables=st.lists(TABLES, min_size=2, max_size=4))
def test_a_table_that_was_changed_is_the_table_made_whole(tables: list[Mapping[str, int]]) -> None:
    changed = SpellingVariants(tables[0])
    for before, counts in pairwise(tables):
        spelled = {line: changed.canonical(line) for line in before}
        changed = SpellingVariants(counts, changed)
        whole = SpellingVariants(counts)
        spellings = {line: whole.canonical(line) for line in counts}
        assert {line: changed.canonical(line) for line in counts} == spellings
        assert changed.respelled == {
            line for line in before.keys() | counts if spelled.get(line) != spellings.get(line)
        }
        for line in counts:
            assert sorted(changed.matches(line)) == sorted(whole.matches(line))


@given(counts=TABLES, later=TABLES)
def test_a_change_leaves_the_table_before_as_it_was(
    counts: Mapping[str, int], later: Mapping[str, int]
) -> None:
    before = SpellingVariants(counts)
    outcome = {line: (before.canonical(line), sorted(before.matches(line))) for line in counts}
    SpellingVariants(later, before)
    unchanged = {line: (before.canonical(line), sorted(before.matches(line))) for line in counts}
    assert unchanged == outcome


def test_a_line_stands_under_the_commonest_spelling() -> None:
    table = SpellingVariants({"可用额度说明": 2, "可用额庹说明": 5})
    assert table.canonical("可用额度说明") == "可用额庹说明"
    later = SpellingVariants({"可用额度说明": 6, "可用额庹说明": 5}, table)
    assert later.canonical("可用额庹说明") == "可用额度说明"


def test_another_name_inside_a_line_makes_it_another_line() -> None:
    table = SpellingVariants({"额度由放心借综合评估": 2, "额度由满月花综合评估": 1})
    assert table.canonical("额度由满月花综合评估") == "额度由满月花综合评估"


@given(lines=st.lists(LINES, max_size=6), others=st.lists(LINES, max_size=4, unique=True))
def test_one_rule_says_what_a_variant_is_however_it_is_asked(
    lines: list[str], others: list[str]
) -> None:
    similarities = variant_similarities(lines, others)
    assert similarities.shape == (len(lines), len(others))
    for line, row in zip(lines, similarities.tolist(), strict=True):
        variants = variants_among(line, others)
        assert row == [variants.get(other, 0.0) / 100 for other in others]
        found = find_variant(line, others)
        assert (found is None) == (not variants)
        assert found is None or row[found] == max(row)


NEAR = st.text("额度放心借ab#", min_size=3, max_size=6)
"""Lines of so few characters that many are alike, and some differ by a word."""


@given(lines=st.lists(NEAR, max_size=4), pages=st.lists(st.lists(NEAR, max_size=9), max_size=4))
def test_variants_on_many_pages_are_those_on_each_of_them(
    lines: list[str], pages: list[list[str]]
) -> None:
    assert find_variants(lines, pages) == {
        line: [find_variant(line, page) for page in pages] for line in lines
    }


def test_no_more_lines_of_a_page_are_examined_where_many_pages_are_looked_at() -> None:
    # Five lines of 12 of 14 characters are more alike than the sixth, and each has another name.
    names = ["招商", "民生", "平安", "浦发", "兴业"]
    line = "已阅读微众银行个人信息授权书"
    pages = [[*(line.replace("微众", name) for name in names), "已阅读微众银行个人信息授"], [line]]
    assert find_variants([line], pages) == {line: [find_variant(line, pages[0]), 0]}


def test_no_variant_is_found_where_the_most_similar_line_has_another_name() -> None:
    # 18 of 20 characters equal, but 招商 and 民生 are two names; 书 is one character.
    line = "已阅读招商个人信息授权"
    assert find_variant(line, ["已阅读民生个人信息授权"]) is None
    assert find_variant(line, ["已阅读民生个人信息授权", "已阅读招商个人信息授权书"]) == 1
