"""Labels as people read them: Chinese or Latin, short or 128 characters long."""

from __future__ import annotations

import unicodedata

from pagesight_server.evaluation.prediction import NO_ANSWER

LABEL_CELLS = 34
"""Longest label in a drawing, in character cells; Chinese characters take two."""


def width_cells(text: str) -> int:
    """Character cells that a text takes: two for wide characters."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def shorten(text: str, cells: int = LABEL_CELLS) -> str:
    """Cuts the middle out of a long label: labels often differ at their ends."""
    if width_cells(text) <= cells:
        return text
    half = (cells - 1) // 2
    head, tail = "", ""
    for char in text:
        if width_cells(head + char) > half:
            break
        head += char
    for char in reversed(text):
        if width_cells(char + tail) > half:
            break
        tail = char + tail
    return f"{head}…{tail}"


def label_name(label: str) -> str:
    """A label as drawings and captions name it."""
    return "(no answer)" if label == NO_ANSWER else label
