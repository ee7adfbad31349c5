"""Readings: their order, and the way into the store and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagesight_server.text.reading import Box, Reading, TextLine, in_reading_order

coordinates = st.integers(-10, 10_000)
lines = st.builds(
    TextLine,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.integers(0, 10_000).map(lambda n: n / 10_000),
    st.builds(Box, coordinates, coordinates, coordinates, coordinates),
)


def test_lines_are_ordered_by_top_then_left() -> None:
    low, right, left = (
        TextLine("low", 0.9, Box(0, 20, 5, 30)),
        TextLine("right", 0.9, Box(50, 10, 60, 15)),
        TextLine("left", 0.9, Box(3, 10, 8, 40)),
    )
    assert in_reading_order([low, right, left]) == (left, right, low)


def test_joining_puts_one_space_between_lines_and_changes_nothing_else() -> None:
    reading = Reading(
        width_px=10,
        height_px=10,
        lines=tuple(
            TextLine(text, 1.0, Box(0, i, 9, i))
            for i, text in enumerate(["可用 额度", "12,800.00"])
        ),
    )
    assert reading.joined() == "可用 额度 12,800.00"


def test_a_picture_without_text_joins_to_nothing() -> None:
    assert Reading(width_px=10, height_px=10, lines=()).joined() == ""


@given(st.lists(lines, max_size=5), coordinates, coordinates)
def test_a_reading_survives_the_store(found: list[TextLine], width: int, height: int) -> None:
    reading = Reading(width_px=width, height_px=height, lines=tuple(found))
    assert Reading.from_json(reading.to_json()) == reading


@pytest.mark.parametrize("data", ["", "5", "[1, 2]", "[1, 2, [[1]]]", "[1, 2, [3]]", '{"a": 1}'])
def test_what_is_no_reading_is_a_value_error(data: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Reading.from_json(data)
