"""Character error rate between two readings of a picture, and the OCR library as the reference.

    lines of one reading ───┐
    lines of the other one ─┴─> pairs, by boxes ──> edits, differing lines ──> error rate

Lines are paired by their boxes, largest overlap first, so that the reading order does not matter; a
line that only one of the two has counts with all its characters.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from rapidfuzz.distance import Levenshtein

from pagesight_server.common.arrays import Pixels
from pagesight_server.text.reading import Box, TextLine

MIN_OVERLAP = 0.1
"""Intersection over union from which two boxes may be the same line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A line that was read differently; None where only the other has it."""

    theirs: str | None
    ours: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The edit distance of one reading from a reference."""

    edits: int
    """Levenshtein distance, summed over all lines."""
    characters: int
    """Number of characters in the reference."""
    differences: tuple[Difference, ...]
    """The lines that differ."""

    @property
    def error_rate(self) -> float:
        """Character error rate: edits per character of the reference."""
        return self.edits / self.characters if self.characters else float(self.edits > 0)

    @staticmethod
    def total(comparisons: Iterable[Comparison]) -> Comparison:
        """Sums comparisons of several pictures."""
        every = list(comparisons)
        return Comparison(
            edits=sum(one.edits for one in every),
            characters=sum(one.characters for one in every),
            differences=tuple(difference for one in every for difference in one.differences),
        )


def compare(theirs: Sequence[TextLine], ours: Sequence[TextLine]) -> Comparison:
    """Compares our reading with the reference."""
    overlaps = sorted(
        (
            (overlap, i, j)
            for i, line in enumerate(theirs)
            for j, other in enumerate(ours)
            if (overlap := _overlap(line.box, other.box)) > MIN_OVERLAP
        ),
        key=lambda pair: -pair[0],
    )
    left, right = dict(enumerate(theirs)), dict(enumerate(ours))
    pairs: list[tuple[str | None, str | None]] = [
        (left.pop(i).text, right.pop(j).text) for _, i, j in overlaps if i in left and j in right
    ]
    pairs += [(line.text, None) for line in left.values()]
    pairs += [(None, line.text) for line in right.values()]
    return Comparison(
        edits=sum(Levenshtein.distance(a or "", b or "") for a, b in pairs),
        characters=sum(len(line.text) for line in theirs),
        differences=tuple(Difference(theirs=a, ours=b) for a, b in pairs if a != b),
    )


class Library:
    """`rapidocr` with its defaults, on one thread."""

    def __init__(self) -> None:
        from rapidocr import RapidOCR

        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        self._engine: Any = RapidOCR(
            params={
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                "Global.log_level": "error",
            }
        )

    def read(self, pixels: Pixels, *, classifier: bool) -> list[TextLine]:
        """Returns all lines, as the library reads them.

        Args:
            pixels: Picture of shape (height, width, 3), RGB.
            classifier: Whether its text direction classifier may turn lines, as by default.
        """
        result = self._engine(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), use_cls=classifier)
        if result.txts is None:
            return []
        corners = np.asarray(result.boxes)
        low, high = np.floor(corners.min(axis=1)), np.ceil(corners.max(axis=1))
        boxes = np.concatenate([low, high], axis=1).astype(int).tolist()
        return [
            TextLine(text, float(score), Box(*box))
            for text, score, box in zip(result.txts, result.scores, boxes, strict=True)
        ]


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box.right - box.left) * (box.bottom - box.top) for box in (a, b))
    return width * height / (areas - width * height)
