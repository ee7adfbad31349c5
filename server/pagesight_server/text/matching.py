"""Text without what varies between pictures of one page, and the lines that two pictures share."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from rapidfuzz import fuzz, process

from pagesight_server.text.reading import Reading

LINE_MATCH = 0.8
"""Two lines are told as matching from this RapidFuzz ratio on."""

_VARIABLE = re.compile(r"[\d*＊#]+")


def fold(text: str) -> str:
    """Drops what varies between pictures of one page: case, width, spaces, digits, masks.

    >>> fold("可用额度 12,800.00 元")
    '可用额度#,#.#元'
    """
    text = unicodedata.normalize("NFKC", text).lower()
    return _VARIABLE.sub("#", "".join(text.split()))


def folded_text(reading: Reading) -> str:
    """All lines of a reading, folded, joined by one space."""
    return " ".join(fold(line.text) for line in reading.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineMatch:
    """A line of the query and its most alike line of a gallery picture."""

    query_text: str
    gallery_text: str
    similarity: float
    """RapidFuzz ratio of the folded lines, 0 to 1."""


def matching_lines(query: Reading, picture: Reading) -> tuple[LineMatch, ...]:
    """The lines of the query that a gallery picture has too, in reading order."""
    theirs = [fold(line.text) for line in picture.lines]
    matches = []
    for line in query.lines:
        best = process.extractOne(
            fold(line.text), theirs, scorer=fuzz.ratio, score_cutoff=100 * LINE_MATCH
        )
        if best is not None:
            matches.append(
                LineMatch(
                    query_text=line.text,
                    gallery_text=picture.lines[best[2]].text,
                    similarity=best[1] / 100,
                )
            )
    return tuple(matches)
