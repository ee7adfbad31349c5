"""The text that OCR read from one picture: lines with their boxes, and their form in the store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import NamedTuple


class Box(NamedTuple):
    """An upright rectangle in pixels of the original picture; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


class TextLine(NamedTuple):
    """Holds one recognised line, and where it stands."""

    text: str
    confidence: float
    """Mean probability of the characters as the OCR model gives it, 0 to 1."""
    box: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All text of one picture; no lines means that the picture shows no text."""

    width_px: int
    height_px: int
    lines: tuple[TextLine, ...]
    """In reading order: by top, then left."""

    def joined(self) -> str:
        """Joins all lines by one space, nothing normalised: what the published method compares."""
        return " ".join(line.text for line in self.lines)

    def to_json(self) -> str:
        """Serialises the reading for the store; `from_json` is its inverse."""
        lines = [[line.text, round(line.confidence, 4), *line.box] for line in self.lines]
        return json.dumps([self.width_px, self.height_px, lines], ensure_ascii=False)

    @staticmethod
    def from_json(data: str) -> Reading:
        """Parses what `to_json` wrote.

        Raises:
            ValueError: the data is something else.
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


def line_count(data: str) -> int:
    """How many lines a stored reading has, without parsing them; 0 where it cannot be read."""
    try:
        return len(json.loads(data)[2])
    except (ValueError, TypeError, LookupError):
        return 0


def in_reading_order(lines: list[TextLine]) -> tuple[TextLine, ...]:
    """Sorts lines by top, then left; equal boxes by their text, so that the order is always one."""
    return tuple(sorted(lines, key=lambda line: (line.box.top, line.box.left, line.text)))
