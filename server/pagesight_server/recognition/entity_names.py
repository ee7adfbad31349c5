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
from dataclasses import dataclass, replace

from rapidfuzz import fuzz, process

from pagesight_server.gallery.snapshot import Snapshot, is_reserved
from pagesight_server.text.lines import PageLine, Place, blocks, middle, page
from pagesight_server.text.reading import Reading, TextLine, essence
from pagesight_server.text.variants import ALIKE, differ_by_a_word

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Label:
    """The lines of one label's pictures, those that are compared."""

    readings: tuple[Reading, ...]
    pages: tuple[list[PageLine], ...]
    texts: tuple[str, ...]
    """All essences of each picture."""
    said: str
    """All of all pictures, each once."""
    places: dict[str, Place]
    """Of all pictures: where each essence mostly stands."""


class Names:
    """The names of every label of a snapshot; safe to ask from many threads.

    Args:
        snapshot: The gallery.
        before: Of an earlier revision: what it knew of labels that did not change is taken over.
    """

    def __init__(self, snapshot: Snapshot, before: Names | None = None) -> None:
        self._brands: dict[str, tuple[str, ...]] = {}
        self._labels: dict[str, _Label] = {}
        self._compared: dict[int, tuple[str, int]] = {}
        """By row: its label and its place among the label's pictures that are compared."""
        for name, chosen in snapshot.drawn(MAX_PICTURES).items():
            if is_reserved(name):
                continue
            self._compared.update({row: (name, place) for place, row in enumerate(chosen)})
            readings = tuple(snapshot.pictures[row].reading for row in chosen)
            known = before._labels.get(name) if before else None
            if known is None or known.readings != readings:
                known = _label(tuple(map(page, readings)), readings)
            self._labels[name] = known
            facts = snapshot.facts.get(name)
            self._brands[name] = tuple(filter(None, map(essence, facts.brands if facts else ())))
        self._gallery = "|".join(label.said for label in self._labels.values())

    def weigh(
        self, label: str, lines: Sequence[PageLine], *, without: int | None = None
    ) -> NameEvidence:
        """Whether a screenshot goes by the names of a label.

        Args:
            label: A known label of the snapshot.
            lines: The screenshot, from `lines.page`.
            without: A row of the snapshot to leave out.
        """
        known, brands = self._labels[label], self._brands[label]
        owner, place = self._compared.get(-1 if without is None else without, ("", 0))
        if owner == label:
            known = _label(
                (*known.pages[:place], *known.pages[place + 1 :]),
                (*known.readings[:place], *known.readings[place + 1 :]),
            )
        count = len(known.pages)
        if not count:
            return NameEvidence()
        text = _joined(lines)
        if not brands:
            return NameEvidence(replacements=self._replacements(label, known, lines, text))
        showing = sum(bool(_visible(brands, shown)) for shown in known.texts)
        brand = _visible(brands, text)
        if brand:
            return NameEvidence(brand=brand, pictures_with_brand=showing, pictures=count)
        return NameEvidence(
            pictures_with_brand=showing,
            pictures=count,
            missing=max(0.0, -math.log((count - showing + 0.5) / (count + 1))),
            replacements=self._replacements(label, known, lines, text),
        )

    def _replacements(
        self, label: str, known: _Label, lines: Sequence[PageLine], text: str
    ) -> tuple[Replacement, ...]:
        found = self._exchanged(label, known, lines, text)
        confirmed = [
            one if _named(one.old, self._brands[label]) else _confirmed(one, found, known.places)
            for one in found
            if one.weight > 0
        ]
        return tuple(sorted(confirmed, key=lambda one: -one.weight))

    def _exchanged(
        self, label: str, known: _Label, lines: Sequence[PageLine], text: str
    ) -> list[Replacement]:
        """What may stand for a name, none of it confirmed."""
        places = known.places
        absent = {string: place for string, place in places.items() if string not in text}
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
                        weights[old] = self._names(label, known, old)
                if olds:
                    found.append(_surest(line, olds, weights, whole=whole))
        return found

    def _names(self, label: str, known: _Label, block: str) -> float:
        """How surely a block names a label that its pages cannot do without, 0 to 1."""
        if _named(block, self._brands[label]):
            return 1.0
        showing = sum(block in shown for shown in known.texts)
        others = [block in one.said for name, one in self._labels.items() if name != label]
        rare = max(0.0, 1 - ELSEWHERE * sum(others) / len(others)) if others else 1.0
        return rare * (max(0.0, showing - 0.5) / len(known.texts)) ** 2


def _label(pages: tuple[list[PageLine], ...], readings: tuple[Reading, ...]) -> _Label:
    places: defaultdict[str, list[Place]] = defaultdict(list)
    for lines in pages:
        for line in lines:
            places[line.essence].append(line.place)
    return _Label(
        readings=readings,
        pages=pages,
        texts=tuple(map(_joined, pages)),
        said="|".join(places),
        places={string: middle(found) for string, found in places.items()},
    )


def _joined(lines: Iterable[PageLine]) -> str:
    return "|".join(line.essence for line in lines)


def _visible(brands: Iterable[str], text: str) -> str:
    """The first brand name that a text shows; empty when none."""
    return next((brand for brand in brands if brand in text), "")


def _named(block: str, brands: Iterable[str]) -> bool:
    """Whether a block is, holds or is part of a brand name."""
    return any(brand in block or block in brand for brand in brands)


def _explained(line: str, strings: Sequence[str]) -> bool:
    """Whether a label has shown this line."""
    near = process.extract(line, strings, scorer=fuzz.ratio, score_cutoff=ALIKE, limit=5)
    return any(not differ_by_a_word(string, line) for string, _, _ in near)


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
