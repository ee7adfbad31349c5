"""Whose page it is: the names a page goes by, and what stands where they should stand.

    the operator's brands ──visible in the screenshot?──> missing
    unexplained line ──align──> line of the label, a block exchanged ──> replaced
        我已阅读并同意[满月借]借款合同       我已阅读并同意[有钱花]借款合同

White-label pages are one page under several banks' names, so all that looks and reads alike
speaks for the page, and its name alone against it. Where the operator gave brand names
(`labels.toml`), a screenshot without them is held against how often the label's own pictures
lack them. Where not, names give themselves away: the label always shows the same block in that
place, hardly any other label does, the screenshot shows it nowhere, and what it shows instead
is nowhere in the gallery. A redesign exchanges words, but not the name.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from rapidfuzz import fuzz, process

from pagesight_server.lines import PageLine, Place, blocks, middle, page
from pagesight_server.snapshot import Snapshot, is_reserved
from pagesight_server.templates import ALIKE, essence, hides_other_name
from pagesight_server.text import TextLine

MAX_PICTURES = 64
"""Pictures of one label whose lines are compared; rates from 64 are good to a few per cent."""

ALIGNED = 30.0
"""RapidFuzz ratio below which two lines share too little to be one with a block exchanged."""

MAX_NAME, MAX_TITLE = 10, 8
"""Characters of a name, and of a line that may be nothing but a name."""

ELSEWHERE = 4.0
"""A block that one in `ELSEWHERE` of the other labels shows is a word and names no page."""

IN_ONE_LINE = 0.6
"""What an exchanged block counts that no second line confirms. A whole line that merely stands
where another always stood counts nothing then: redesigned pages have those too."""

_CJK = re.compile(r"[㐀-鿿]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """A block of text that stands where the label always shows another."""

    old: str
    """What the label shows, as essence."""
    new: str
    """What the screenshot shows, as essence."""
    line: TextLine
    """The line of the screenshot."""
    whole: bool
    """Whether nothing but its place relates the line to the label's."""
    weight: float
    """How surely it is another name, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameEvidence:
    """Whether a screenshot goes by the names of a label."""

    brand: str = ""
    """The brand name that is visible, as essence."""
    pictures_with_brand: int = 0
    pictures: int = 0
    """Of the label; 0 where the operator gave no brand names."""
    missing: float = 0.0
    """Surprise, in nats, that no brand name is visible: -ln of the share of the label's pictures
    without one. 0 where one is visible or none is known."""
    replacements: tuple[Replacement, ...] = ()
    """Weightiest first."""

    @property
    def replaced(self) -> float:
        """How much stands where the label's name should stand; 1 is one name, for certain."""
        return sum(replacement.weight for replacement in self.replacements)


@dataclass(slots=True)
class _Label:
    """The lines of one label's pictures, by row of the snapshot."""

    brands: tuple[str, ...] = ()
    pages: dict[int, list[PageLine]] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    """All essences of a picture."""


class Names:
    """The names of every label of a snapshot; safe to ask from many threads."""

    def __init__(self, snapshot: Snapshot) -> None:
        rows: defaultdict[str, list[int]] = defaultdict(list)
        for row, picture in enumerate(snapshot.pictures):
            if not is_reserved(picture.label):
                rows[picture.label].append(row)
        self._labels: dict[str, _Label] = {}
        for name, found in rows.items():
            facts = snapshot.facts.get(name)
            label = _Label(brands=tuple(filter(None, map(essence, facts.brands if facts else ()))))
            for row in found[:: math.ceil(len(found) / MAX_PICTURES)]:
                label.pages[row] = page(snapshot.pictures[row].reading)
                label.texts[row] = _joined(label.pages[row])
            self._labels[name] = label
        self._said = {name: _said(label.pages.values()) for name, label in self._labels.items()}
        self._gallery = "|".join(self._said.values())

    def weigh(
        self, label: str, lines: Sequence[PageLine], *, without: int | None = None
    ) -> NameEvidence:
        """Whether a screenshot goes by the names of a label.

        Args:
            label: A known label of the snapshot.
            lines: The screenshot, from `lines.page`.
            without: A row of the snapshot to leave out.
        """
        known = self._labels[label]
        rows = [row for row in known.pages if row != without]
        if not rows:
            return NameEvidence()
        text = _joined(lines)
        if not known.brands:
            return NameEvidence(replacements=self._replacements(label, rows, lines, text))
        showing = sum(bool(_visible(known.brands, known.texts[row])) for row in rows)
        brand = _visible(known.brands, text)
        if brand:
            return NameEvidence(brand=brand, pictures_with_brand=showing, pictures=len(rows))
        return NameEvidence(
            pictures_with_brand=showing,
            pictures=len(rows),
            missing=max(0.0, -math.log((len(rows) - showing + 0.5) / (len(rows) + 1))),
            replacements=self._replacements(label, rows, lines, text),
        )

    def _replacements(
        self, label: str, rows: Sequence[int], lines: Sequence[PageLine], text: str
    ) -> tuple[Replacement, ...]:
        known = self._labels[label]
        places: defaultdict[str, list[Place]] = defaultdict(list)
        for row in rows:
            for line in known.pages[row]:
                places[line.essence].append(line.place)
        absent = {string: middle(found) for string, found in places.items() if string not in text}
        weights: dict[str, float] = {}
        found: list[Replacement] = []
        for line in lines:
            if _explained(line.essence, list(places)):
                continue
            for whole in (False, True):
                exchanged = _in_place(line, absent) if whole else _inside(line, absent)
                olds: dict[str, str] = {}
                for old, new in exchanged:
                    if old in text or new in self._gallery:
                        continue
                    olds[old] = new
                    if old not in weights:
                        weights[old] = self._names(label, rows, old)
                if olds:
                    found.append(_surest(line, olds, weights, whole=whole))
        confirmed = [
            one if _named(one.old, known.brands) else _confirmed(one, found, places)
            for one in found
            if one.weight > 0
        ]
        return tuple(sorted(confirmed, key=lambda one: -one.weight))

    def _names(self, label: str, rows: Sequence[int], block: str) -> float:
        """How surely a block names a label that its pages cannot do without, 0 to 1."""
        known = self._labels[label]
        if _named(block, known.brands):
            return 1.0
        showing = sum(block in known.texts[row] for row in rows)
        others = [block in said for name, said in self._said.items() if name != label]
        rare = max(0.0, 1 - ELSEWHERE * sum(others) / len(others)) if others else 1.0
        return rare * (max(0.0, showing - 0.5) / len(rows)) ** 2


def _joined(lines: Iterable[PageLine]) -> str:
    return "|".join(line.essence for line in lines)


def _said(pages: Iterable[Sequence[PageLine]]) -> str:
    """All that some pages say, each string once."""
    return "|".join(dict.fromkeys(line.essence for lines in pages for line in lines))


def _visible(brands: Iterable[str], text: str) -> str:
    """The first brand name that a text shows; empty when none."""
    return next((brand for brand in brands if brand in text), "")


def _named(block: str, brands: Iterable[str]) -> bool:
    """Whether a block is, holds or is part of a brand name."""
    return any(brand in block or block in brand for brand in brands)


def _explained(line: str, strings: Sequence[str]) -> bool:
    """Whether a label has shown this line."""
    near = process.extract(line, strings, scorer=fuzz.ratio, score_cutoff=ALIKE, limit=5)
    return any(not hides_other_name(string, line) for string, _, _ in near)


def _inside(line: PageLine, absent: dict[str, Place]) -> list[tuple[str, str]]:
    """Blocks of a line exchanged for blocks of the label's lines."""
    near = process.extract(
        line.essence, list(absent), scorer=fuzz.ratio, score_cutoff=ALIGNED, limit=None
    )
    exchanged = (pair for string, _, _ in near for pair in blocks(string, line.essence))
    return [(old, new) for old, new in exchanged if _names_like(old) and _names_like(new)]


def _in_place(line: PageLine, absent: dict[str, Place]) -> list[tuple[str, str]]:
    """Short lines of the label that stand where this one stands."""
    if len(line.essence) > MAX_NAME or not _names_like(line.essence):
        return []
    return [
        (string, line.essence)
        for string, place in absent.items()
        if len(string) <= MAX_TITLE and _names_like(string) and place.near(line.place)
    ]


def _names_like(block: str) -> bool:
    return len(_CJK.findall(block)) >= 2 and len(block) <= MAX_NAME


def _surest(
    line: PageLine, olds: dict[str, str], weights: dict[str, float], *, whole: bool
) -> Replacement:
    """The name that a line most surely replaces.

    What many different blocks may stand for is variable content, as a person's name is.
    """
    old = max(olds, key=lambda block: weights[block])
    rivals = sum(weights[block] for block in olds if fuzz.partial_ratio(block, old) < 100)
    weight = weights[old] ** 2 / (weights[old] + rivals) if weights[old] else 0.0
    return Replacement(old=old, new=olds[old], line=line.line, whole=whole, weight=weight)


def _confirmed(
    one: Replacement, found: Sequence[Replacement], strings: Iterable[str]
) -> Replacement:
    """Counts a replacement in full when the same name stands, or is replaced, in a second line."""
    twice = sum(one.old in string for string in strings) > 1 or any(
        other.line is not one.line
        and (one.new in other.new or other.new in one.new or one.old in other.old)
        for other in found
    )
    share = 1.0 if twice else 0.0 if one.whole else IN_ONE_LINE
    return replace(one, weight=share * one.weight)
