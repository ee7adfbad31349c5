"""Labels as charts and captions show them: Chinese or Latin, short or 128 characters long."""

from __future__ import annotations

import unicodedata

from pagesight_server.evaluation.prediction import NO_ANSWER

LABEL_CELLS = 34
"""Longest label in a chart, in character cells: a Chinese character takes two."""


def width_cells(text: str) -> int:
    """Width of a text in character cells: two for each East Asian wide character, else one."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def shorten(text: str, cells: int = LABEL_CELLS) -> str:
    """Replaces the middle of a long label by an ellipsis: labels often differ at their ends."""
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
    """The name of a label, and of no answer, in charts and captions."""
    return "(no answer)" if label == NO_ANSWER else label
