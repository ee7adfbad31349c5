"""Replaced entity names: another name where a label's pages always show their own.

    lines of the screenshot that the label never showed
        ──find_candidates──> (line, the blocks that it may show in place of the label's)
        ──score_candidates─> the block that each line most likely replaces, and a weight
        ──confirm_names────> replaced names: in full where a second line bears them out

        我已阅读并同意[满月借]借款合同        the label
        我已阅读并同意[有钱花]借款合同        the screenshot: 有钱花 replaces 满月借

White-label pages are one page under several banks' names: all that looks and reads alike speaks
for the page, and its name alone against it. A *replaced name* is a block of a line, or a short
line as a whole, that stands where the label shows another block, its *expected* name, such that

- the label's pictures always show the expected name, and hardly any other label does,
- the screenshot shows it nowhere, and what the screenshot shows instead is new to the gallery.

A redesigned page exchanges words as well, but not its name: a second line must bear a name out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from rapidfuzz import fuzz, process

from pagesight_server.text.lines import PageLine, Place, exchanged_blocks
from pagesight_server.text.matching import cjk_count
from pagesight_server.text.reading import TextLine
from pagesight_server.text.variants import find_variant

ALIGNED = 30.0
"""RapidFuzz ratio, of 100, below which two lines are not aligned: they share too little to be one
line with a block exchanged. Low, as a long name may be most of its line; `exchanged_blocks` then
asks for context."""

MIN_NAME, MAX_NAME = 2, 10
"""Chinese characters that a name has at least, as one is a misreading; and characters that it has
at most."""

MAX_TITLE = 8
"""Characters of a line of the label that may be nothing but a name. Longer ones are sentences."""

FOREIGN_SHARE = 1 / 4
"""Share of the other labels that show a block from which it is a word and names no page."""

_APART = "|"

IN_ONE_LINE = 0.6
"""Share of its weight that an exchanged block keeps when no second line bears it out. A whole line
that merely stands where another always stood keeps nothing then: redesigned pages have those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacedName:
    """A name in a screenshot that stands where the label shows another."""

    expected: str
    """The name that the label shows, as matching key."""
    observed: str
    """The name that the screenshot shows in its place, as matching key."""
    line: TextLine
    """The line of the screenshot that shows it."""
    whole_line: bool
    """Whether the line is the name and only its place relates it to the label's; otherwise the
    name is a block of a line whose other text the label shows too."""
    weight: float
    """How surely it is another name, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A line of a screenshot that may show names in place of a label's."""

    line: TextLine
    whole_line: bool
    """As in `ReplacedName`."""
    observed: Mapping[str, str]
    """For each block of the label that may be replaced, what the line shows in its place."""


def find_candidates(
    lines: Sequence[PageLine], places: Mapping[str, Place], *, gallery_text: str
) -> list[Candidate]:
    """The lines of a screenshot that may show names in place of a label's, in reading order.

    Args:
        lines: The lines of the screenshot.
        places: The lines of the label, as matching keys, and where each mostly stands.
        gallery_text: The text of all known labels; what is part of it is no new name.
    """
    text = joined(lines)
    keys = list(places)
    absent = [key for key in keys if key not in text]
    inside = [key for key in absent if cjk_count(key) >= MIN_NAME]
    titles = {key: places[key] for key in absent if len(key) <= MAX_TITLE and _may_be_name(key)}
    candidates = []
    for line in lines:
        # Lines of digits or Latin letters have no block that may be a name.
        if cjk_count(line.key) < MIN_NAME or line.key in places:
            continue
        if find_variant(line.key, keys) is not None:
            continue
        for whole_line in (False, True):
            pairs = _in_same_place(line, titles) if whole_line else _inside_line(line, inside)
            observed = {
                old: new for old, new in pairs if old not in text and new not in gallery_text
            }
            if observed:
                candidates.append(
                    Candidate(line=line.line, whole_line=whole_line, observed=observed)
                )
    return candidates


def score_candidates(
    candidates: Sequence[Candidate], weigh: Callable[[str, bool], float]
) -> list[ReplacedName]:
    """The name that each candidate most likely replaces, not confirmed yet.

    Args:
        candidates: What `find_candidates` found.
        weigh: How surely a block is a name of the label, 0 to 1, given it and whether it is a whole
            line; asked once for each.
    """
    asked = cache(weigh)
    names = []
    for candidate in candidates:
        weights = {block: asked(block, candidate.whole_line) for block in candidate.observed}
        expected = max(weights, key=weights.__getitem__)
        weight = weights[expected]
        rivals = sum(
            weights[block]
            for block in candidate.observed
            if fuzz.partial_ratio(block, expected) < 100  # Of its parts none is a rival.
        )
        names.append(
            ReplacedName(
                expected=expected,
                observed=candidate.observed[expected],
                line=candidate.line,
                whole_line=candidate.whole_line,
                # The weight times its share among the rivals, hence the square: what may stand for
                # many different blocks is variable content, as a person's name is.
                weight=weight**2 / (weight + rivals) if weight else 0.0,
            )
        )
    return names


def confirm_names(
    names: Sequence[ReplacedName], pictures: Sequence[str], *, is_brand: Callable[[str], bool]
) -> tuple[ReplacedName, ...]:
    """The names that weigh anything, weightiest first, each by how it is borne out.

    A brand that the operator gave needs no second line. Any other name is borne out by a picture of
    the label that shows it in two lines (over several pictures one line has several keys), or by a
    second line of the screenshot in which it is replaced or its replacement stands.

    Args:
        names: The names as scored.
        pictures: The lines of each of the label's pictures, from `joined`.
        is_brand: Whether a block is one of the label's brands.
    """
    confirmed = [
        name
        if is_brand(name.expected) or _has_second_line(name, names, pictures)
        else replace(name, weight=(0.0 if name.whole_line else IN_ONE_LINE) * name.weight)
        for name in names
        if name.weight > 0
    ]
    return tuple(sorted(confirmed, key=lambda name: -name.weight))


def joined(lines: Sequence[PageLine]) -> str:
    """The matching keys of a page in one string, apart, so that no block reaches over two lines."""
    return _APART.join(line.key for line in lines)


def _inside_line(line: PageLine, absent: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of what lines of the label show and what this line shows in its place.

    Args:
        line: A line of the screenshot.
        absent: The lines of the label that the screenshot does not show and that may hold a name.
    """
    aligned = process.extract(line.key, absent, scorer=fuzz.ratio, score_cutoff=ALIGNED, limit=None)
    blocks = (pair for key, _, _ in aligned for pair in exchanged_blocks(key, line.key))
    return [(old, new) for old, new in blocks if _may_be_name(old) and _may_be_name(new)]


def _in_same_place(line: PageLine, titles: Mapping[str, Place]) -> list[tuple[str, str]]:
    """Pairs of a short line of the label and this short line, which stands in its place.

    Args:
        line: A line of the screenshot.
        titles: The lines of the label that the screenshot does not show and that may be a name.
    """
    if not _may_be_name(line.key):
        return []
    return [(key, line.key) for key, place in titles.items() if place.near(line.place)]


def _may_be_name(block: str) -> bool:
    return cjk_count(block) >= MIN_NAME and len(block) <= MAX_NAME


def _has_second_line(
    name: ReplacedName, names: Sequence[ReplacedName], pictures: Sequence[str]
) -> bool:
    return any(_lines_with(name.expected, picture) > 1 for picture in pictures) or any(
        other.line is not name.line
        and (
            name.observed in other.observed
            or other.observed in name.observed
            # Two whole lines may be two readings of one line of the label.
            or (name.expected in other.expected and not (name.whole_line and other.whole_line))
        )
        for other in names
    )


def _lines_with(block: str, picture: str) -> int:
    """How many lines of a picture show a block."""
    return sum(block in key for key in picture.split(_APART)) if block in picture else 0
