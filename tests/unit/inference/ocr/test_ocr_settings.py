"""Widths, batches and shapes that settings of OCR come to, and those that are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pagesight_server.inference.ocr import OcrSettings
from pagesight_server.inference.ocr.settings import LibraryNumbers, library_widths
from tests.support.ocr_fakes import SMALL


@pytest.mark.parametrize(
    ("widths", "padded"),
    [
        pytest.param([], [], id="none"),
        pytest.param([50, 400, 60], [400, 400, 400], id="one batch"),
        pytest.param([50, 60], [320, 320], id="never less than 320"),
        pytest.param([500, 90, 10, 20, 30, 40, 400], [500, *[400] * 6], id="batches of six"),
    ],
)
def test_the_library_pads_sorted_lines_six_by_six(widths: list[int], padded: list[int]) -> None:
    assert library_widths(widths, LibraryNumbers()) == padded


@pytest.mark.parametrize(
    ("pixels", "width"), [(1, 64), (64, 64), (65, 128), (320, 320), (641, 1280), (1281, 1920)]
)
def test_a_line_is_padded_to_the_next_width(pixels: int, width: int) -> None:
    assert SMALL.width(pixels) == width


@pytest.mark.parametrize(
    ("width", "waiting", "sizes", "count"),
    [
        pytest.param(64, 100, (), 10, id="640 columns"),
        pytest.param(64, 3, (), 3, id="what is there"),
        pytest.param(64, 100, (1, 2, 4, 8, 16), 8, id="the greatest fixed size that fits"),
        pytest.param(64, 3, (1, 2, 4), 2, id="the greatest fixed size that fills"),
        pytest.param(1280, 9, (), 1, id="over the budget alone"),
    ],
)
def test_a_batch_keeps_within_the_budget(
    width: int, waiting: int, sizes: tuple[int, ...], count: int
) -> None:
    assert replace(SMALL, sizes=sizes).count(width, waiting) == count


def test_every_shape_that_fixed_sizes_can_meet_is_named() -> None:
    config = replace(SMALL, sizes=(1, 4))
    assert set(config.shapes()) == {(1, 64), (4, 64), (1, 128), (4, 128), (1, 320), (1, 640)}
    assert list(SMALL.shapes()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"widths": (128, 64)}, "widths must ascend"),
        ({"widths": ()}, "widths must ascend"),
        ({"sizes": (2, 4)}, "sizes must ascend from 1"),
        ({"max_columns": 10}, "max_columns must be at least 64"),
        ({"reread_below": 1.5}, "reread_below from 0 to 1"),
        ({"recognisers": 0}, "of at least 1"),
        ({"detectors": 2, "detection_sessions": 3}, "detection_sessions from 0 to detectors, 2"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OcrSettings(**wrong)  # type: ignore[arg-type]
