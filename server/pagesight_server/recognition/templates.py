"""What the pages of each label always show, mined from the gallery's texts.

    lines of every picture ──matching key──> keys ──spelling variants──> canonical strings
    strings of each label's pictures ──count──> document frequencies of each label
    lines of a query ──spelling variants──> strings shown
                          └──> for each label: stable, discriminative, explained

Nothing is trained: the table is counts. A changed gallery takes over what a change does not
touch, which is all of a label whose texts and their spellings stay; what is touched is rebuilt
whole, and the outcome is that of a table made from nothing. What a label may cost is bounded: the
pictures of its sample count (`gallery/text_sample.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.string_rates import DocumentFrequencies, Floats, Integers
from pagesight_server.text.lines import PageLine, page_lines
from pagesight_server.text.matching import informative
from pagesight_server.text.reading import Reading
from pagesight_server.text.variants import SpellingVariants, variant_similarities

SIBLINGS_DIFFER = 0.3
"""Difference of two labels' smoothed document frequencies from which a string tells them apart:
with ten pictures each, four more that show it. Fewer may be chance."""

AGREEMENT_PICTURES = 20
"""Pictures of one label whose text is compared with the others'. Each costs a comparison of all
its lines with all of the label's, and what is wanted of them is a median."""

MAX_IDS_A_STRING = 2
"""Ids given out for each string in use, above which all are given out anew: arrays over ids are
then at most twice as long as they need be."""

PRIOR_PICTURES = 3
"""Pictures that the gallery's agreement weighs as, where a label's own is asked for: a page begins
with three. With 1 instead one real set loses a page, with 6 none does (docs/recognition.md)."""

MAX_LINE_WEIGHT = 12
"""Characters for which a line counts at most: one long paragraph is still one line."""


class Difference(NamedTuple):
    """A string of a query that two labels show unequally often."""

    string: str
    """A matching key: its canonical spelling, or the query's where the labels differ in that."""
    frequency: float
    """Its smoothed document frequency in the first label."""
    other_frequency: float
    """That in the second."""

    @property
    def nats(self) -> float:
        """Logarithm of the likelihood ratio of the two labels."""
        return math.log(self.frequency / self.other_frequency)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEvidence:
    """What a query's text says for each label; arrays aligned with `Templates.labels`, 0 to 1."""

    stable: Floats
    """How much of the label's stable text the query shows, rare strings weighing more."""
    discriminative: Floats
    """The same over the strings that the label shows more often than any other."""
    explained: Floats
    """How much of the query's text the label has ever shown."""
    lines: Sequence[PageLine]
    """The lines of the query, as they were compared."""
    shown: tuple[str, ...]
    """The strings of the table that the query shows, sorted."""
    ids: Integers
    """The id of each of `shown` in `frequencies`."""
    frequencies: DocumentFrequencies
    """The table that was asked: without the picture that was left out."""
    spellings: Mapping[str, int]
    """The matching keys of the query's lines that some picture shows to the letter, sorted; each
    with the id of its canonical string in `frequencies`."""
    spelled: Callable[[int, str], float]
    """The smoothed document frequency of such a key, to the letter, in a label by its index."""

    def odds(self, label: int, other: int) -> tuple[float, list[Difference]]:
        """How much more likely one label shows what the query shows than another does.

        Only strings count that the two show unequally often, and only those that the query
        shows: what it lacks may be scrolled away. Where both show a string equally often, its
        spellings are compared to the letter: what one label always spells in one way and the
        other in another is no misreading, such as the titles 转入记录明细 and 转出记录明细.

        Args:
            label: Index of the label in `Templates.labels`.
            other: Index of the label to compare it with.

        Returns:
            Logarithm of the likelihood ratio, in nats; and the strings, weightiest first.
        """
        mine = self.frequencies.smoothed(label, self.ids)
        others = self.frequencies.smoothed(other, self.ids)
        differ = np.abs(mine - others) > SIBLINGS_DIFFER
        differences = [
            Difference(self.shown[i], float(mine[i]), float(others[i]))
            for i in np.flatnonzero(differ).tolist()
        ]
        counted = set(self.ids[differ].tolist())
        for key, string in self.spellings.items():
            difference = Difference(key, self.spelled(label, key), self.spelled(other, key))
            unequal = abs(difference.frequency - difference.other_frequency) > SIBLINGS_DIFFER
            if string not in counted and unequal:
                differences.append(difference)
        differences.sort(key=lambda one: -abs(one.nats))
        return math.fsum(one.nats for one in differences), differences


@dataclass(frozen=True, slots=True, kw_only=True)
class _LabelText:
    """The text of one label's pictures, those that are counted."""

    readings: tuple[Reading, ...]
    keys: tuple[tuple[str, ...], ...]
    """The matching keys of each picture's lines, in reading order."""
    counts: Counter[str]
    """How many of the pictures show each key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _LabelStrings:
    """The strings that one label shows, sorted."""

    ids: Integers
    counts: Integers
    """How many of the label's pictures show each."""
    shown: tuple[Integers, ...]
    """For each picture, the indices in `ids` of the strings that it shows."""
    explained: tuple[float, ...]
    """For each of at most `AGREEMENT_PICTURES` pictures, how much of its text the label's other
    pictures show, 0 to 1; empty where there is no other."""


class Templates:
    """The strings of a snapshot and how often each label shows them; never changes.

    Args:
        snapshot: The gallery.
        before: The templates of an earlier revision, to share what did not change.
    """

    def __init__(self, snapshot: Snapshot, before: Templates | None = None) -> None:
        self.labels = list(snapshot.sample)
        self._position = {
            row: (label, picture)
            for label, rows in enumerate(snapshot.sample.values())
            for picture, row in enumerate(rows)
        }
        """For each row that is counted, the indices of its label and of it among the label's."""
        self._texts: dict[str, _LabelText] = _label_texts(snapshot, before._texts if before else {})
        counts = _picture_counts(self._texts, before)
        self._variants: SpellingVariants = SpellingVariants(
            counts, before._variants if before else None
        )
        self._ids: dict[str, int] = {}
        self._strings: dict[str, _LabelStrings] = {}
        if before and len(before._ids) <= MAX_IDS_A_STRING * before._frequencies.strings_in_use:
            self._ids |= before._ids
            self._strings |= {
                label: before._strings[label]
                for label, text in self._texts.items()
                if before._texts.get(label) is text
                and text.counts.keys().isdisjoint(self._variants.respelled)
            }
        for label in self.labels:
            if label not in self._strings:
                self._strings[label] = self._count_strings(self._texts[label])
        strings = [self._strings[label] for label in self.labels]
        self._frequencies: DocumentFrequencies = DocumentFrequencies.of_labels(
            len(self._ids),
            [of_label.ids for of_label in strings],
            [of_label.counts for of_label in strings],
            [len(of_label.shown) for of_label in strings],
        )

    @property
    def id_count(self) -> int:
        """How many ids are given out to strings, those of strings that are gone included."""
        return len(self._ids)

    def weigh(self, reading: Reading, *, without: int | None = None) -> TextEvidence:
        """What the text of a query says for each label.

        Args:
            reading: The text of the query.
            without: A row of the snapshot to leave out.
        """
        frequencies = self._frequencies
        if without in self._position:
            label, picture = self._position[without]
            shown_by_picture = self._strings[self.labels[label]].shown[picture]
            frequencies = frequencies.without_picture(label, shown_by_picture)
        similarities: dict[str, float] = {}
        spellings: dict[str, int] = {}
        # Which line shows which string, how similar, and what the line weighs.
        found: list[tuple[int, int, float]] = []
        total = 0
        lines = page_lines(reading)
        for number, line in enumerate(lines):
            weight = _line_weight(line.key)
            total += weight
            if line.key in self._variants.counts:
                spellings[line.key] = self._ids[self._variants.canonical(line.key)]
            for string, similarity in self._variants.matches(line.key):
                similarities[string] = max(similarity, similarities.get(string, 0.0))
                found.append((number, self._ids[string], weight * similarity))
        explained = self._explained(frequencies, found)
        shown = tuple(sorted(similarities))
        ids = np.asarray([self._ids[string] for string in shown], np.int64)
        similarity_by_id = np.zeros(len(self._ids))
        similarity_by_id[ids] = [similarities[string] for string in shown]
        stable, discriminative = frequencies.agreement(similarity_by_id)
        return TextEvidence(
            stable=stable,
            discriminative=discriminative,
            explained=explained / max(1, total),
            lines=lines,
            shown=shown,
            ids=ids,
            frequencies=frequencies,
            spellings=dict(sorted(spellings.items())),
            spelled=lambda label, key: self._smoothed_spelling(label, key, without),
        )

    def _explained(
        self, frequencies: DocumentFrequencies, found: Sequence[tuple[int, int, float]]
    ) -> Floats:
        """How much text of a query each label has ever shown, in characters; shape (labels,).

        Args:
            frequencies: The table that is asked.
            found: The number of a line, ascending, the id of a string that it shows, and what the
                line weighs by how similar the string is.
        """
        if not found:
            return np.zeros(len(self.labels))
        lines, strings = np.asarray([one[:2] for one in found], np.int64).T
        weights = np.asarray([one[2] for one in found], np.float64)
        entries, labels = frequencies.labels_showing(strings)
        lines, weights = lines[entries], weights[entries]
        # Of several strings that a line shows to a label, the most similar counts.
        order = np.lexsort((-weights, labels, lines))
        lines, labels, weights = lines[order], labels[order], weights[order]
        first = np.ones(len(order), bool)
        first[1:] = (lines[1:] != lines[:-1]) | (labels[1:] != labels[:-1])
        # It adds up line by line, in their order.
        counted = np.bincount(labels[first], weights[first], len(self.labels))
        return counted.astype(np.float64, copy=False)

    def _smoothed_spelling(self, label: int, key: str, without: int | None) -> float:
        """The smoothed document frequency of a matching key, to the letter, in a label.

        Args:
            label: Index of the label in `labels`.
            key: The matching key.
            without: A row of the snapshot to leave out.
        """
        text = self._texts[self.labels[label]]
        count, pictures = text.counts[key], len(text.keys)
        if without in self._position:
            label_left_out, picture = self._position[without]
            if label_left_out == label:
                count -= key in text.keys[picture]
                pictures -= 1
        return (count + 0.5) / (pictures + 1)

    def agreement(self, labels: Iterable[str]) -> float:
        """How well the texts of some labels agree with themselves, 0 to 1.

        The median, over pictures that are not the only one of their label, of how much of
        their text the label's other pictures show.
        """
        explained = [share for label in labels for share in self._strings[label].explained]
        return float(np.median(explained)) if explained else 0.0

    def agreements(self, known: Iterable[str]) -> dict[str, float]:
        """How well the texts of each label agree with themselves, 0 to 1.

        The mean over the label's pictures of how much of their text its other pictures show,
        drawn towards that of all known pages: a few pictures say little.

        Args:
            known: The labels of known pages.
        """
        overall = self.agreement(known)
        return {
            label: (math.fsum(strings.explained) + PRIOR_PICTURES * overall)
            / (len(strings.explained) + PRIOR_PICTURES)
            for label, strings in self._strings.items()
        }

    def labels_sharing_text(self) -> dict[str, tuple[str, ...]]:
        """The labels without text of their own, each with those that share it, most of it first.

        Each string that at least half of the label's pictures show stands as often on pictures of
        another label. Labels that have no such string are not among them.
        """
        return {
            self.labels[label]: tuple(self.labels[other] for other in others)
            for label, others in self._frequencies.labels_sharing_text().items()
        }

    def _count_strings(self, text: _LabelText) -> _LabelStrings:
        """Counts the canonical strings of a label's pictures; new ones get the next ids."""
        by_picture = [{self._variants.canonical(key) for key in keys} for keys in text.keys]
        counts = Counter(string for strings in by_picture for string in strings)
        strings = sorted(counts)
        index = {string: i for i, string in enumerate(strings)}
        for string in strings:
            self._ids.setdefault(string, len(self._ids))
        shown = tuple(np.asarray([index[s] for s in shown], np.int64) for shown in by_picture)
        count_array = np.asarray([counts[string] for string in strings], np.int64)
        return _LabelStrings(
            ids=np.asarray([self._ids[string] for string in strings], np.int64),
            counts=count_array,
            shown=shown,
            explained=_explained_by_others(text.keys, strings, count_array, shown),
        )


def _label_texts(snapshot: Snapshot, before: Mapping[str, _LabelText]) -> dict[str, _LabelText]:
    """The text of each label; that of an earlier revision where the readings are the same."""
    texts = {}
    for label, rows in snapshot.sample.items():
        readings = tuple(snapshot.sampled_readings[row] for row in rows)
        text = before.get(label)
        if text is None or text.readings != readings:
            keys = tuple(tuple(line.key for line in page_lines(reading)) for reading in readings)
            counts = Counter(key for of_picture in keys for key in set(of_picture))
            text = _LabelText(readings=readings, keys=keys, counts=counts)
        texts[label] = text
    return texts


def _picture_counts(texts: Mapping[str, _LabelText], before: Templates | None) -> Counter[str]:
    """How many pictures show each matching key: the counts before, and what changed labels add."""
    total = Counter(before._variants.counts if before else {})
    texts_before = before._texts if before else {}
    for label in texts_before.keys() | texts.keys():
        old, new = texts_before.get(label), texts.get(label)
        if old is new:
            continue
        total.update(new.counts if new else {})
        total.subtract(old.counts if old else {})
        for key in old.counts if old else ():
            if not total[key]:
                del total[key]
    return total


def _explained_by_others(
    pages: Sequence[Sequence[str]],
    strings: Sequence[str],
    counts: Integers,
    shown: Sequence[Integers],
) -> tuple[float, ...]:
    """How much of each picture's text the label's other pictures show; `_LabelStrings.explained`.

    Args:
        pages: The matching keys of each picture.
        strings: The strings of the label.
        counts: How many of the pictures show each string.
        shown: The indices of the strings that each picture shows.
    """
    if len(pages) < 2:
        return ()
    shares = []
    for keys, mine in zip(pages[:AGREEMENT_PICTURES], shown, strict=False):
        if not keys:
            shares.append(0.0)
            continue
        by_others = counts.copy()
        by_others[mine] -= 1
        shown_by_others = [strings[i] for i in np.flatnonzero(by_others > 0).tolist()]
        weights = np.asarray([_line_weight(key) for key in keys], float)
        best = variant_similarities(keys, shown_by_others).max(axis=1, initial=0.0)
        shares.append(float((weights * best).sum() / weights.sum()))
    return tuple(shares)


def _line_weight(key: str) -> int:
    """What a line counts among the text of its picture, in characters."""
    return min(MAX_LINE_WEIGHT, informative(key))
