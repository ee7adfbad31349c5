"""Digits are masked until the reviewer asks for them: they are what is most personal on a page.

text     6217 0012 -> •••• ••••      every digit of every script
picture  lines that hold a digit are covered where the server says where they stand
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pagesight._classification import Box, Candidate, Classification

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


def query_covers(answer: Classification) -> tuple[Box, ...]:
    """Boxes of the screenshot that hold digits."""
    return _covers(answer.digit_boxes, ((one.text, one.query_box) for one in answer.findings))


def gallery_covers(answer: Classification, candidate: Candidate) -> tuple[Box, ...]:
    """Boxes of a candidate's gallery picture that hold digits."""
    of_closest = answer.findings if candidate is answer.candidates[0] else ()
    return _covers(candidate.digit_boxes, ((one.text, one.gallery_box) for one in of_closest))


def _covers(told: Iterable[Box], texts: Iterable[tuple[str, Box | None]]) -> tuple[Box, ...]:
    """What the server says holds digits, and, of a server that does not, what findings say."""
    boxed = (box for text, box in texts if box is not None and has_digit(text))
    return tuple(dict.fromkeys([*told, *boxed]))
