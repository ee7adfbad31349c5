"""Type-ahead over labels: what the reviewer types, to the labels that may be meant.

prefix > beginning of a word > inside > letters in order, shorter and alphabetical first
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MAX_SHOWN = 12

_FORBIDDEN = re.compile(
    r"[/\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
"""What a label cannot hold, as the contract has it (gallery.proto)."""

MAX_CHARS = 128


def normal(text: str) -> str:
    """A label as it would be stored: NFC, without spaces around it."""
    return unicodedata.normalize("NFC", text).strip()


def why_not(label: str) -> str:
    """Why a text cannot be a label, in words; empty where it can."""
    if not label:
        return "a label has at least one character"
    if len(label) > MAX_CHARS:
        return f"a label has at most {MAX_CHARS} characters"
    if _FORBIDDEN.search(label) or label in {".", ".."}:
        return 'a label holds no "/", no control characters, and is not "." or ".."'
    return ""


def matching(typed: str, labels: Iterable[str]) -> list[str]:
    """Returns the labels that may be meant, the likeliest first, at most 12."""
    wanted = normal(typed).casefold()
    ranked = []
    for label in labels:
        rank = _rank(wanted, label.casefold())
        if rank is not None:
            ranked.append((rank, len(label), label))
    return [label for _, _, label in sorted(ranked)[:MAX_SHOWN]]


def _rank(wanted: str, label: str) -> int | None:
    """How well a label matches: 0 is best, None is not at all."""
    if label.startswith(wanted):
        return 0
    at = label.find(wanted)
    if at > 0:
        return 2 if label[at - 1].isalnum() else 1
    letters = iter(label)
    return 3 if all(char in letters for char in wanted) else None
