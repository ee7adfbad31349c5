"""Digits are masked until the reviewer asks for them: they are what is most personal on a page.

    text     6217 0012 -> •••• ••••      every digit of every script
    picture  lines that hold a digit are covered where the server says where they stand
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from pagesight._results import Box, Classification

MASK = "•"

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def mask(text: str) -> str:
    """Returns a text with every digit masked."""
    return "".join(MASK if has_digit(char) else char for char in text)


def mask_quoted(note: str) -> str:
    """Masks what a note of the server quotes; its own numbers, such as counts, stay."""
    return _QUOTED.sub(lambda quoted: mask(quoted.group()), note)


def has_digit(text: str) -> bool:
    """Whether a text holds a digit of any script, circled and superscript ones too."""
    return any(char.isdigit() or char.isdecimal() for char in text)


def covers(answer: Classification) -> tuple[tuple[Box, ...], tuple[Box, ...]]:
    """Where digits stand: in the screenshot, and in the picture of the first candidate."""
    query = _unique(
        finding.query_box
        for finding in answer.findings
        if finding.query_box is not None and has_digit(finding.text)
    )
    gallery = _unique(
        finding.gallery_box
        for finding in answer.findings
        if finding.gallery_box is not None and has_digit(finding.text)
    )
    return tuple(query), tuple(gallery)


def _unique(boxes: Iterable[Box]) -> Iterator[Box]:
    return iter(dict.fromkeys(boxes))
