"""What was read from a picture: lines of text, where they stand, and what of them tells a page."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

STATUS_BAR = 0.035
"""Share of the height, from the top, that belongs to the phone and not to the page."""

_VARIABLE = re.compile(r"[\d*#]+")


class Box(NamedTuple):
    """An upright rectangle in pixels of the original picture, right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int


class TextLine(NamedTuple):
    """One recognised line."""

    text: str
    confidence: float
    """Mean probability of its characters, 0 to 1."""
    box: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All text of one picture; no lines means that the picture shows no text."""

    width_px: int
    height_px: int
    lines: tuple[TextLine, ...]
    """In reading order: by top, then left."""

    def joined(self) -> str:
        """All lines joined by one space, nothing normalised: what the published method compares."""
        return " ".join(line.text for line in self.lines)

    def to_json(self) -> str:
        """Serialises for the store; `from_json` is its inverse."""
        lines = [[line.text, round(line.confidence, 4), *line.box] for line in self.lines]
        return json.dumps([self.width_px, self.height_px, lines], ensure_ascii=False)

    @staticmethod
    def from_json(data: str) -> Reading:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            width_px, height_px, lines = json.loads(data)
            return Reading(
                width_px=width_px,
                height_px=height_px,
                lines=tuple(TextLine(text, conf, Box(*box)) for text, conf, *box in lines),
            )
        except TypeError as error:
            raise ValueError(f"no reading: {error}") from None


def in_reading_order(lines: list[TextLine]) -> tuple[TextLine, ...]:
    """Sorts lines by top, then left."""
    return tuple(sorted(lines, key=lambda line: (line.box.top, line.box.left, line.text)))


@lru_cache(maxsize=8192)
def essence(text: str) -> str:
    """What of a line tells the page: letters and signs of writing; digits and masks become #.

    >>> essence("可用额度 12,800.00 元")
    '可用额度#元'
    """
    folded = _VARIABLE.sub("#", unicodedata.normalize("NFKC", text).lower())
    kept = "".join(c for c in folded if c == "#" or unicodedata.category(c)[0] in "LN")
    return re.sub("#+", "#", kept)


def informative(essence_: str) -> int:
    """Characters that are not variable."""
    return len(essence_) - essence_.count("#")


def page_lines(reading: Reading) -> list[str]:
    """The essences of a reading that can tell a page, without the status bar."""
    top = STATUS_BAR * reading.height_px
    found = (essence(line.text) for line in reading.lines if line.box.bottom > top)
    return [line for line in found if informative(line) >= 2]
