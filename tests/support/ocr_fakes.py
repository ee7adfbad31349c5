"""An OCR engine whose models read what the picture carries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from pagesight_server.common.arrays import Pixels
from pagesight_server.inference.ocr import OcrEngine, OcrSettings
from pagesight_server.inference.ocr.detector import TextColumns
from pagesight_server.inference.ocr.engine import owned
from pagesight_server.inference.ocr.recogniser import Shape, Text
from pagesight_server.inference.ocr.settings import LibraryNumbers
from pagesight_server.inference.ocr.tiling import Region
from pagesight_server.text.reading import Box
from tests.support import WAIT_S

SMALL = OcrSettings(widths=(64, 128, 320, 640), reread_below=0.9, max_columns=640)


class BrokenError(Exception):
    """What a broken session raises."""


class Detector:
    """Takes each row of a picture that is not 0 for a line: its value, and twice it as width."""

    def __init__(self, *, broken: bool = False) -> None:
        self.seen: list[tuple[int, ...]] = []
        self.broken = broken

    def find(self, pixels: Pixels, columns: TextColumns) -> list[Region]:
        self.seen.append(pixels.shape)
        if self.broken:
            raise BrokenError
        rows = np.flatnonzero(pixels[:, 0, 0])
        # Backwards: the order is the engine's business.
        return [
            Region.of(Box(3, int(row), 9, int(row) + 1), line(int(pixels[row, 0, 0])))
            for row in rows[::-1]
        ]


class Recogniser:
    """Reads the value of a strip and how far it is padded; unsure of chosen values."""

    def __init__(self, *, unsure: dict[int, float] | None = None, broken: int = -1) -> None:
        self.runs: list[tuple[int, int]] = []
        self.broken = broken
        self._unsure = unsure or {}

    def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
        values = [int(strip[0, 0, 0]) for strip in strips]
        self.runs += [(value, shape.width) for value in values]
        if self.broken in values:
            raise BrokenError
        return [Text(f"{value}@{shape.width}", self._unsure.get(value, 0.99)) for value in values]


def line(value: int) -> Pixels:
    return np.full((48, 2 * value, 3), value, np.uint8)


def picture(*values: int, height: int = 100) -> Pixels:
    """A picture with a line of each value in the top rows."""
    pixels = np.zeros((height, 32, 3), np.uint8)
    pixels[: len(values)] = np.array(values, np.uint8).reshape(-1, 1, 1)
    return pixels


def engine(
    detector: Detector | None = None,
    recogniser: Recogniser | None = None,
    config: OcrSettings = SMALL,
) -> OcrEngine:
    return OcrEngine(
        owned([detector or Detector()], name="test"),
        [owned([recogniser or Recogniser()], name="test")],
        config,
        LibraryNumbers(longest_px=200, padded_px=320, min_confidence=0.5),
    )


async def texts(ours: OcrEngine, *values: int) -> list[str]:
    async with asyncio.timeout(WAIT_S):
        return [line.text for line in (await ours.read(picture(*values))).lines]
