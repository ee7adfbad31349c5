"""What the pages of each label always show, mined from the gallery's texts.

    lines ──fold (`text.py`)──> essences ──like ones are one (`alike.py`)──> strings
    strings of each label's pictures ──count──> table: how often each label shows each string
    query lines ──match──> per label: stable, discriminative, explained

Nothing is trained: the table is counts. A gallery that changes takes over what it knew of the
labels that did not; the outcome is that of a table made whole. What a label may cost is bounded:
its first `MAX_PICTURES` pictures by id, a hash of their bytes and so as good as drawn by lot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from rapidfuzz import fuzz, process

from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.string_rates import Floats, Integers, Rates
from pagesight_server.text.reading import Reading, informative, page_lines
from pagesight_server.text.variants import ALIKE, Lines, differ_by_a_word

MAX_PICTURES = 100
"""Pictures of one label whose text is counted; rates from 100 are good to a few per cent."""

SIBLINGS_DIFFER = 0.3
"""Difference of two labels' rates from which a string tells them apart."""

AGREEMENT_PICTURES = 20
"""Pictures of one label whose text is compared with the others'."""

MAX_IDS_A_STRING = 2
"""Numbers given out for each string that is left, above which they are given out anew."""

MAX_LINE_WEIGHT = 12
"""Characters for which a line counts at most: one long paragraph is still one line."""


class Difference(NamedTuple):
    """A string of a query that two labels show unequally often."""

    string: str
    """As essence."""
    rate: float
    """Share of the first label's pictures that show it."""
    other_rate: float
    """Of the second's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEvidence:
    """What a query's text says for each label; arrays aligned with `Templates.labels`, 0 to 1."""

    stable: Floats
    """How much of what the label always shows is there, rare strings counting more."""
    discriminative: Floats
    """The same, over strings that this label shows more often than any other."""
    explained: Floats
    """How much of the query's text the label has ever shown."""
    shown: tuple[str, ...]
    """The strings of the table that the query shows, in order."""
    ids: Integers
    """Of each of them, in `rates`."""
    rates: Rates

    def odds(self, label: int, other: int) -> tuple[float, list[Difference]]:
        """How much more likely one label shows what the query shows than another does.

        Only strings count that the two show unequally often, and only those that the query
        shows: what it lacks may be scrolled away.

        Args:
            label: Place of the label in `Templates.labels`.
            other: Of the other.

        Returns:
            Logarithm of the likelihood ratio, in nats; and the strings, weightiest first.
        """
        mine, theirs = self.rates.of(label, self.ids), self.rates.of(other, self.ids)
        differ = np.flatnonzero(np.abs(mine - theirs) > SIBLINGS_DIFFER)
        ratios = np.log(mine[differ] / theirs[differ])
        weightiest = differ[np.argsort(-np.abs(ratios), kind="stable")].tolist()
        strings = [Difference(self.shown[i], float(mine[i]), float(theirs[i])) for i in weightiest]
        return float(ratios.sum()), strings


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pages:
    """The text of one label's pictures, those that are counted."""

    readings: tuple[Reading, ...]
    lines: tuple[tuple[str, ...], ...]
    """Essences of each picture, in reading order."""
    all_lines: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Strings:
    """The strings that one label shows, in order."""

    ids: Integers
    counts: Integers
    """Pictures that show them."""
    shown: tuple[Integers, ...]
    """By picture: which of them it shows."""
    explained: tuple[float, ...]
    """By picture, at most `AGREEMENT_PICTURES`: how much of its text the others have."""


class Templates:
    """The strings of a snapshot and how often each label shows them; never changes.

    Args:
        snapshot: The gallery.
        before: Of an earlier revision, most of which is still true.
    """

    def __init__(self, snapshot: Snapshot, before: Templates | None = None) -> None:
        self.drawn = drawn = snapshot.drawn(MAX_PICTURES)
        """By label, the rows whose text is counted."""
        self.labels = list(drawn)
        self._counted: dict[int, tuple[int, int]] = {}
        """By row: its label and its place among the label's pictures that are counted."""
        self._pages: dict[str, _Pages] = {}
        for i, (label, chosen) in enumerate(drawn.items()):
            self._counted.update({row: (i, place) for place, row in enumerate(chosen)})
            readings = tuple(snapshot.pictures[row].reading for row in chosen)
            known = before._pages.get(label) if before else None
            if known is None or known.readings != readings:
                known = _pages(readings)
            self._pages[label] = known
        self._lines: Lines = Lines(self._count_lines(before), before._lines if before else None)
        if before is not None and len(before._ids) > MAX_IDS_A_STRING * before._rates.used:
            before = None  # Most of the numbers belong to strings that are gone: number anew.
        self._ids: dict[str, int] = dict(before._ids) if before else {}
        self._strings: dict[str, _Strings] = {
            label: before._strings[label]
            if before is not None
            and before._pages.get(label) is pages
            and self._lines.moved.isdisjoint(pages.all_lines)
            else self._strings_of(pages)
            for label, pages in self._pages.items()
        }
        of_labels = [self._strings[label] for label in self.labels]
        self._rates: Rates = Rates(
            len(self._ids),
            [strings.ids for strings in of_labels],
            [strings.counts for strings in of_labels],
            [len(strings.shown) for strings in of_labels],
        )

    @property
    def numbers(self) -> int:
        """How many numbers are given out to strings, those that are gone included."""
        return len(self._ids)

    def weigh(self, reading: Reading, *, without: int | None = None) -> TextEvidence:
        """What the text of a query says for each label.

        Args:
            reading: The text of the query.
            without: A row of the snapshot to leave out.
        """
        rates = self._rates
        if without in self._counted:
            label, place = self._counted[without]
            rates = rates.less(label, self._strings[self.labels[label]].shown[place])
        shown: dict[str, float] = {}
        explained, total = np.zeros(len(self.labels)), 0
        for line in page_lines(reading):
            length = _weight(line)
            total += length
            best = np.zeros(len(self.labels))
            for string, ratio in self._lines.alike(line):
                shown[string] = max(ratio, shown.get(string, 0.0))
                holders = rates.holders(self._ids[string])
                best[holders] = np.maximum(best[holders], ratio)
            explained += length * best
        strings = tuple(sorted(shown))
        ids = np.asarray([self._ids[string] for string in strings], np.int64)
        all_shown = np.zeros(len(self._ids))
        all_shown[ids] = [shown[string] for string in strings]
        stable, discriminative = rates.agreement(all_shown)
        return TextEvidence(
            stable=stable,
            discriminative=discriminative,
            explained=explained / max(1, total),
            shown=strings,
            ids=ids,
            rates=rates,
        )

    def agreement(self, labels: Iterable[str]) -> float:
        """How well the texts of some labels agree with themselves, 0 to 1.

        The median, over pictures that are not the only one of their label, of how much of
        their text the label's other pictures explain.
        """
        explained = [share for label in labels for share in self._strings[label].explained]
        return float(np.median(explained)) if explained else 0.0

    def _count_lines(self, before: Templates | None) -> dict[str, int]:
        """How many pictures show each line."""
        counts = Counter(before._lines.counts if before else {})
        known = before._pages if before else {}
        for label in self._pages.keys() | known.keys():
            old, new = known.get(label), self._pages.get(label)
            if old is new:
                continue
            for line in (line for lines in old.lines for line in set(lines)) if old else ():
                counts[line] -= 1
            for line in (line for lines in new.lines for line in set(lines)) if new else ():
                counts[line] += 1
            for line in old.all_lines if old else ():
                if not counts[line]:
                    del counts[line]
        return counts

    def _strings_of(self, pages: _Pages) -> _Strings:
        shown = [{self._lines.spelling(line) for line in lines} for lines in pages.lines]
        counts = Counter(string for strings in shown for string in strings)
        ordered = sorted(counts)
        place = {string: i for i, string in enumerate(ordered)}
        for string in ordered:
            self._ids.setdefault(string, len(self._ids))
        of_picture = tuple(
            np.asarray([place[string] for string in strings], np.int64) for strings in shown
        )
        numbers = np.asarray([counts[string] for string in ordered], np.int64)
        return _Strings(
            ids=np.asarray([self._ids[string] for string in ordered], np.int64),
            counts=numbers,
            shown=of_picture,
            explained=_explained(pages.lines, ordered, numbers, of_picture),
        )


def _pages(readings: tuple[Reading, ...]) -> _Pages:
    lines = tuple(tuple(page_lines(reading)) for reading in readings)
    every = frozenset(line for of_picture in lines for line in of_picture)
    return _Pages(readings=readings, lines=lines, all_lines=every)


def _explained(
    pages: Sequence[Sequence[str]],
    strings: Sequence[str],
    counts: Integers,
    shown: Sequence[Integers],
) -> tuple[float, ...]:
    """How much of each picture's text the label's other pictures show; nothing of an only one."""
    if len(pages) < 2:
        return ()
    found = []
    for lines, mine in zip(pages[:AGREEMENT_PICTURES], shown, strict=False):
        if not lines:
            found.append(0.0)
            continue
        others = counts.copy()
        others[mine] -= 1
        kept = [strings[i] for i in np.flatnonzero(others > 0).tolist()]
        lengths = np.asarray([_weight(line) for line in lines], float)
        best = _alike(lines, kept).max(axis=1, initial=0.0)
        found.append(float((lengths * best).sum() / lengths.sum()))
    return tuple(found)


def _alike(lines: Sequence[str], strings: Sequence[str]) -> Floats:
    """How alike each line and each string are, 0 to 1; 0 where they are not the same."""
    if not strings:
        return np.zeros((len(lines), 0))
    alike = process.cdist(lines, strings, scorer=fuzz.ratio, score_cutoff=ALIKE, dtype=np.float64)
    for i, j in np.argwhere((alike > 0) & (alike < 100)).tolist():
        if differ_by_a_word(lines[i], strings[j]):
            alike[i, j] = 0
    found: Floats = alike / 100
    return found


def _weight(line: str) -> int:
    return min(MAX_LINE_WEIGHT, informative(line))
