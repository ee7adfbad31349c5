"""Reading with the built-in OCR bundle, held against the library that it comes from.

`rapidocr`'s own pipeline, without the direction classifier, is the source of every
expected line: text, confidence and box must agree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pagesight_server.arrays import Pixels
from pagesight_server.bundle import load
from pagesight_server.ocr import Reader
from pagesight_server.runtime import Compute
from tests.samples import draw

Theirs = Callable[[Pixels], list[tuple[str, float, list[int]]]]


@pytest.fixture(scope="module")
def reader(bundles: Path) -> Reader:
    return Reader(load(bundles / "ocr", "ocr"), Compute())


@pytest.fixture(scope="module")
def theirs() -> Theirs:
    """Text, confidence and upright box of each line, by the library alone."""
    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    params = {
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        "Global.log_level": "error",
    }
    engine: Any = RapidOCR(params=params)

    def read(pixels: Pixels) -> list[tuple[str, float, list[int]]]:
        result = engine(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), use_cls=False)
        if result.txts is None:
            return []
        corners = np.asarray(result.boxes)
        low, high = np.floor(corners.min(axis=1)), np.ceil(corners.max(axis=1))
        boxes = np.concatenate([low, high], axis=1).astype(int).tolist()
        return list(zip(result.txts, result.scores, boxes, strict=True))

    return read


def written(*lines: str, width: int = 480, height: int = 200, scale: float = 1.0) -> Pixels:
    """Latin text on white, one line under the other."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    for i, line in enumerate(lines):
        at = (20, int(50 * scale) * (i + 1))
        cv2.putText(pixels, line, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 60), 2)
    return pixels


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(
            lambda: written("Balance", "12,800.00 CNY", "OK"), id="lines", marks=pytest.mark.slow
        ),
        pytest.param(
            lambda: written("a strip", width=400, height=40, scale=0.5), id="a strip, padded"
        ),
        pytest.param(lambda: page("zsyh_setting", seed=1, width=360), id="a page"),
        pytest.param(lambda: written("Hello 123"), id="one line", marks=pytest.mark.slow),
        pytest.param(
            lambda: written(*(f"line {i} of a page" for i in range(9)), height=520),
            id="more lines than one batch",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: written("Transfer", width=2400, height=700, scale=5.0),
            id="larger than is looked at",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: written("ok", width=60, height=40, scale=0.7),
            id="small",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: page("jb_main_page", seed=2, width=1080, dark=True),
            id="a dark page, full size",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_we_read_what_the_library_reads(
    reader: Reader, theirs: Theirs, picture: Callable[[], Pixels]
) -> None:
    pixels = picture()
    ours = reader.read(pixels)
    expected = theirs(pixels)
    assert expected, "the picture was meant to show text"
    assert in_any_order((line.text, *line.box) for line in ours.lines) == in_any_order(
        (text, *box) for text, _, box in expected
    )
    confidence = {(text, *box): sure for text, sure, box in expected}
    for line in ours.lines:
        assert line.confidence == pytest.approx(confidence[(line.text, *line.box)], abs=0.01)


def page(label: str, *, seed: int, width: int, dark: bool = False) -> Pixels:
    """A drawn Chinese finance page."""
    return np.asarray(draw(label, seed=seed, width=width, dark=dark))


def in_any_order(lines: Any) -> list[tuple[Any, ...]]:
    return sorted(tuple(line) for line in lines)


def test_what_is_written_is_read_in_order(reader: Reader) -> None:
    reading = reader.read(written("Hello 123", "second line", "third"))
    assert [line.text for line in reading.lines] == ["Hello 123", "second line", "third"]
    assert (reading.width_px, reading.height_px) == (480, 200)
    tops = [line.box.top for line in reading.lines]
    assert tops == sorted(tops)
    for line in reading.lines:
        assert 0 <= line.box.left < line.box.right <= 480
        assert 0 <= line.box.top < line.box.bottom <= 200
        assert 0.5 <= line.confidence <= 1


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((400, 300), id="blank"),
        pytest.param((16, 16), id="tiny"),
        pytest.param((16, 20_000), id="too wide to read"),
        pytest.param((20_000, 16), id="too high to read"),
    ],
)
def test_a_blank_picture_has_no_lines(reader: Reader, shape: Sequence[int]) -> None:
    reading = reader.read(np.full((*shape, 3), 255, np.uint8))
    assert reading.lines == ()
    assert (reading.height_px, reading.width_px) == tuple(shape)
