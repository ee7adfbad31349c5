"""The normal forms of text, each for its own question."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagesight_server.text.matching import (
    cjk_count,
    has_word,
    informative,
    letters_and_digits,
    matching_key,
    normalised_line,
    normalised_text,
)
from tests.support.parts import reading


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("可用额度 12,800.00 元", "可用额度#元"),
        ("ＡＢＣ Ｌｉｍｉｔ", "abclimit"),
        ("138****1234", "#"),
        ("卡号 ＊＊＊＊ 1234", "卡号#"),
        ("尾号 12 - 34", "尾号#"),
        ("«!?»", ""),
    ],
)
def test_a_matching_key_keeps_letters_and_masks_what_varies(text: str, key: str) -> None:
    assert matching_key(text) == key


def test_the_normal_forms_differ_in_punctuation_and_digits() -> None:
    text = "Limit: 12,800.00"
    assert normalised_line(text) == "limit:#,#.#"
    assert matching_key(text) == "limit#"
    assert letters_and_digits(text) == "limit1280000"


@given(st.text())
def test_a_matching_key_has_neither_spaces_nor_digits_nor_two_masks_in_a_row(text: str) -> None:
    assert not re.search(r"##|\s|\d", matching_key(text))


def test_the_text_of_a_picture_is_its_lines_normalised_and_apart() -> None:
    assert normalised_text(reading("Sign In", "余额 12")) == "signin 余额#"


def test_masks_are_not_informative() -> None:
    assert informative("可用额度#元") == 5


def test_only_chinese_characters_are_counted_as_such() -> None:
    assert cjk_count("可用abc额度#あ") == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("123456", False, id="a number"),
        pytest.param("138****5678", False, id="a masked number"),
        pytest.param("825.3 MB", False, id="a size"),
        pytest.param("12:30 PM", False, id="a time"),
        pytest.param("11月22日", False, id="a date"),
        pytest.param("12,000 元", False, id="an amount"),
        pytest.param("额度 12,000", True, id="a Chinese word and an amount"),
        pytest.param("한도 12,000", True, id="a Korean word and an amount"),
        pytest.param("7 days", True, id="a word of three letters and a number"),
        pytest.param("OK", True, id="two letters alone"),
        pytest.param("x", False, id="one letter"),
        pytest.param("", False, id="nothing"),
    ],
)
def test_a_line_with_a_word_beside_its_numbers_says_something(text: str, expected: bool) -> None:
    assert has_word(matching_key(text)) == expected
