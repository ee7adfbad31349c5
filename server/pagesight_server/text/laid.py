"""A known page laid over a screenshot whose text was found and not yet read.

    boxes ──> which lines of the page may stand in each? ──> the page, as far as it could be there
              ├── scrolled: about its size, as far from the edges, at any height
              ├── aligned otherwise: about its size, at its height, anywhere from edge to edge
              ├── in a frame: about its shape, the page shrunk or enlarged about the middle
              └── what is left then: of its shape, anywhere

Pages are scrolled; a title is at the left on one system and in the middle on another; and a phone
is often shown in a picture of a phone, or with larger type.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from pagesight_server.text.reading import Box, Reading, TextLine

SAME_LINE = 80
"""RapidFuzz ratio from which a line of a page has been read already."""

EDGE, WIDTH, HEIGHT = 0.08, 0.3, 0.35
"""How far a line may stand from where its page has it: its left edge, right edge or middle, or its
top, as a share of the picture's width; its width and height, as a share of the larger."""

SHAPE = 0.25
"""How far width over height of a box and of a line may differ, as a share of the larger, where
nothing else relates them: pages are laid out anew, and names decide wherever they stand."""

SHRUNK = 0.5
"""What a page may be shrunk to; its inverse, what it may be enlarged to. A phone in a picture of a
phone has 0.6 of its width."""

Sides: TypeAlias = NDArray[np.float64]
"""(boxes, lines, 4), one of the two possibly 1: left, top, right, bottom in pixels."""
Pairs: TypeAlias = NDArray[np.bool_]
"""(boxes, lines)"""


class Laid:
    """A page at the width of a screenshot; never changes.

    Args:
        page: A known page.
        boxes: Where the screenshot has text.
        width_px: Of the screenshot.
    """

    def __init__(self, page: Reading, boxes: Sequence[Box], width_px: int) -> None:
        self._page = page
        self._boxes = boxes
        found = _sides(boxes)[:, None]
        lines = _sides([line.box for line in page.lines])[None] * (width_px / max(1, page.width_px))
        by_height = np.argsort(abs(lines[..., 1] - found[..., 1]), axis=1, kind="stable")

        def fitting(fits: Pairs) -> list[list[int]]:
            return [
                [line for line in order if fit[line]]
                for order, fit in zip(by_height.tolist(), fits.tolist(), strict=True)
            ]

        likely = _moved(found, lines, width_px) | _framed(found, lines, width_px)
        self._fitting = (fitting(likely), fitting(_shaped(found, lines)))
        """By box: lines that it may hold, those at its height first; the likely, then the rest."""
        self.expected = [
            {page.lines[line].text for line in np.flatnonzero(over)}
            for over in _overlap(found, lines)
        ]
        """By box: what the page shows in its very place."""

    def lines(self, said: Sequence[str], known: Container[int]) -> Iterator[TextLine]:
        """What unread boxes may say of the page, each line once.

        Args:
            said: What was read; the page's lines that are the same are not expected again.
            known: Numbers of the boxes that were read.
        """
        left = {number: line.text for number, line in enumerate(self._page.lines)}
        for text in said:
            alike = process.extractOne(text, left, scorer=fuzz.ratio, score_cutoff=SAME_LINE)
            if alike is not None:
                del left[alike[2]]
        empty = [number for number in range(len(self._boxes)) if number not in known]
        for fitting in self._fitting:
            still_empty = []
            for number in empty:
                line = next((line for line in fitting[number] if line in left), None)
                if line is None:
                    still_empty.append(number)
                else:
                    yield TextLine(left.pop(line), 1.0, self._boxes[number])
            empty = still_empty


def _sides(boxes: Sequence[Box]) -> Sides:
    """(boxes, 4); at least a pixel wide and high."""
    sides = np.asarray(boxes, float).reshape(len(boxes), 4)
    sides[:, 2:] = np.maximum(sides[:, 2:], sides[:, :2] + 1)
    return sides


def _sizes(sides: Sides) -> tuple[Sides, Sides]:
    """Widths and heights."""
    return sides[..., 2] - sides[..., 0], sides[..., 3] - sides[..., 1]


def _moved(boxes: Sides, lines: Sides, width_px: int) -> Pairs:
    """Whether a line is about as large as a box, and in its column or at its height."""
    width, height = _sizes(boxes)
    line_width, line_height = _sizes(lines)
    left, top, right, _ = np.moveaxis(boxes - lines, -1, 0)
    off = np.minimum.reduce([abs(left), abs(right), abs(left + right) / 2, abs(top)])
    as_wide = abs(line_width - width) <= WIDTH * np.maximum(line_width, width) + height / 2
    fits: Pairs = (off <= EDGE * width_px) & as_wide & _as_high(line_height, height)
    return fits


def _framed(boxes: Sides, lines: Sides, width_px: int) -> Pairs:
    """Whether a line has the shape of a box, and is in its column where it gets its width."""
    width, height = _sizes(boxes)
    line_width, line_height = _sizes(lines)
    scale = width / line_width
    left = width_px / 2 + scale * (lines[..., 0] - width_px / 2)
    return (
        (scale >= SHRUNK)
        & (scale <= 1 / SHRUNK)
        & (abs(boxes[..., 0] - left) <= EDGE * width_px)
        & _as_high(scale * line_height, height)
    )


def _shaped(boxes: Sides, lines: Sides) -> Pairs:
    """Whether a line has the shape of a box, wherever it is."""
    (width, height), (line_width, line_height) = _sizes(boxes), _sizes(lines)
    shape, line_shape = width / height, line_width / line_height
    alike: Pairs = abs(shape - line_shape) <= SHAPE * np.maximum(shape, line_shape)
    return alike


def _as_high(line: Sides, box: Sides) -> Pairs:
    near: Pairs = abs(line - box) <= HEIGHT * np.maximum(line, box) + 2
    return near


def _overlap(boxes: Sides, lines: Sides) -> Pairs:
    """Whether a page has a line in the very place of a box."""
    size = np.minimum(boxes[..., 2:], lines[..., 2:]) - np.maximum(boxes[..., :2], lines[..., :2])
    shared = np.maximum(size, 0).prod(axis=-1)
    areas = np.prod(_sizes(boxes), axis=0) + np.prod(_sizes(lines), axis=0)
    over: Pairs = shared > 0.3 * (areas - shared)
    return over
