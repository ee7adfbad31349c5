"""How much of a picture's text was read with confidence, and when that is too little."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pagesight_server.text.legibility import legibility
from pagesight_server.text.reading import Box, Reading, TextLine


def reading(confidences: Sequence[float], *, top: int = 100) -> Reading:
    """Lines below each other in a picture of 500 x 1000, whose status bar ends at 39."""
    lines = [
        TextLine("γotob", confidence, Box(0, top + 40 * i, 200, top + 40 * i + 30))
        for i, confidence in enumerate(confidences)
    ]
    return Reading(width_px=500, height_px=1000, lines=tuple(lines))


@pytest.mark.parametrize(
    ("confidences", "hardly_read", "poor"),
    [
        pytest.param([0.5] * 3 + [1.0] * 7, 3, True, id="three of ten are enough"),
        pytest.param([0.5] * 2 + [1.0] * 8, 2, False, id="two of ten may be icons"),
        pytest.param([0.9] * 10, 0, False, id="0.9 is sure"),
        pytest.param([0.5] * 4, 4, False, id="of four lines a share says nothing"),
        pytest.param([0.5] * 2 + [1.0] * 3, 2, True, id="two of five"),
        pytest.param([], 0, False, id="no text"),
    ],
)
def test_a_picture_is_poorly_read_where_three_tenths_of_its_lines_are(
    confidences: list[float], hardly_read: int, poor: bool
) -> None:
    found = legibility(reading(confidences))
    assert (found.lines, found.hardly_read, found.poor) == (len(confidences), hardly_read, poor)


def test_the_phones_status_bar_is_not_the_pages_text() -> None:
    # Lines end at 30, 70, 110 ...; the first lies in the status bar.
    found = legibility(reading([0.5, 1.0, 1.0], top=0))
    assert (found.lines, found.hardly_read, found.share) == (2, 0, 0.0)
