"""What pictures of one page all show, and a name for the page made of it.

readings ──page lines, spelling variants alike──> lines that nearly all show, in reading order
shared lines ──digits gone, letters of any script──> the first that can be a label, with a number
behind it where that is taken
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

from pagesight_server.common.errors import InvalidRequestError
from pagesight_server.gallery.snapshot import check_label, is_reserved
from pagesight_server.text.lines import Place, median_place, page_lines
from pagesight_server.text.matching import has_word
from pagesight_server.text.reading import Reading
from pagesight_server.text.variants import SpellingVariants

NEARLY_ALL = 0.9
"""Share of the pictures that show a shared line: all of nine, one may lack it from ten on, as where
OCR missed it or a dialog hides it."""

HALF = 0.5
"""Share of the pictures whose lines name the page where no line is on nearly all: the pictures in
the commonest of several languages."""

MAX_SHARED = 20
"""Shared lines that are told: a contact sheet has no room for more."""

MAX_NAME_CHARS = 40
"""Longest suggested name, so that a list of labels stays readable; cut at a word where there is
one."""

HEADER = 0.45
"""How far down a title may stand, in widths of the picture: below the status bar (0.08), an app bar
of 56 to 64 of 360 density-independent pixels, and a large title below that (Material Design 3)."""

UNNAMED = "new_page"
"""The name of a page without shared text."""


class SharedLine(NamedTuple):
    """A line that all or nearly all of some pictures show."""

    text: str
    place: Place
    """The median of where it stands."""


def shared_lines(
    readings: Sequence[Reading], *, least_share: float = NEARLY_ALL
) -> tuple[SharedLine, ...]:
    """The lines that so many of some pictures show, in reading order: all or nearly all.

    A line is told in its commonest spelling, with the digits of one of the pictures only where all
    have the same ones; elsewhere with "#" in their place.
    """
    pages = [page_lines(reading) for reading in readings]
    counts = Counter(key for page in pages for key in {line.key for line in page})
    variants = SpellingVariants(counts)
    shown_by: defaultdict[str, set[int]] = defaultdict(set)
    spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    places: defaultdict[str, list[Place]] = defaultdict(list)
    for picture, page in enumerate(pages):
        for line in page:
            canonical = variants.canonical(line.key)
            shown_by[canonical].add(picture)
            spellings[canonical][" ".join(line.line.text.split())] += 1
            places[canonical].append(line.place)
    least = max(1, math.ceil(least_share * len(readings)))
    shared = [key for key, pictures in shown_by.items() if len(pictures) >= least and has_word(key)]
    lines = [SharedLine(_told(spellings[key]), median_place(places[key])) for key in shared]
    lines.sort(key=lambda line: (line.place.y, line.place.x, line.text))
    return tuple(lines[:MAX_SHARED])


def _told(spellings: Counter[str]) -> str:
    text = min(spellings, key=lambda one: (-spellings[one], one))
    digits = {re.sub(r"\D", "", one) for one in spellings}
    return text if len(digits) == 1 else re.sub(r"[\d*]+", "#", text)


def suggest_label(
    lines: Sequence[SharedLine], readings: Sequence[Reading], taken: Collection[str]
) -> str:
    """A label for a page, made of its title, else of the first line that can be one.

    Args:
        lines: That its pictures share, in reading order; where none can be a label, those are
            asked that half of the pictures show.
        readings: Of its pictures.
        taken: Labels that exist already.
    """
    name = _title(lines) or _title(shared_lines(readings, least_share=HALF)) or UNNAMED
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def _title(lines: Sequence[SharedLine]) -> str:
    """The name that lines make; empty where none can be one.

    The title is the largest line of the header without a number: beside it stand "Back" or "Save",
    and below it often a balance in larger type.
    """

    def unlike_a_title(line: SharedLine) -> tuple[bool, float]:
        return any(c.isdigit() or c == "#" for c in line.text), -line.place.height

    titles = sorted((line for line in lines if line.place.y < HEADER), key=unlike_a_title)
    return next((made for line in (*titles, *lines) if (made := _name(line.text))), "")


def _name(text: str) -> str:
    """The letters of a text as a label, words joined by "_"; empty where they make none."""
    # Combining marks belong to their letters, in Thai and Devanagari too; digits are a person's.
    kept = "".join(
        character if unicodedata.category(character)[0] in "LM" else " "
        for character in unicodedata.normalize("NFC", text)
    )
    words = kept.lower().split()
    name = words[0][:MAX_NAME_CHARS] if words else ""
    for word in words[1:]:
        if len(name) + 1 + len(word) > MAX_NAME_CHARS:
            break
        name += "_" + word
    if len(name) < 2 or is_reserved(name):
        return ""
    try:
        return check_label(name)
    except InvalidRequestError:
        return ""
