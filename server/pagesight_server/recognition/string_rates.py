"""Document frequencies: on what share of each label's pictures each string of text stands.

    counts of each label ──concatenated──> entries (label, string, count)
    entries ──÷ pictures──> document frequencies ──> weights: stable, discriminative

A *document* is one picture of a label. The table keeps only the counts that are not zero: 1,000
labels of 10 pictures show some 70,000 strings, each label 80 of them, and a table with a cell for
every pair would take half a gigabyte. Sums run over a label's strings in the order in which they
are given, so equal galleries give equal bits, however they came about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

STABLE = 0.5
"""Document frequency from which a string is part of the label's page: most pictures show it."""

MIN_TOTAL_WEIGHT = 1e-9
"""Total weight below which a label has nothing to be judged by; above zero, as sums round."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _PageStrings:
    """The strings that are part of a label's page; arrays of one entry per label and string."""

    labels: Integers
    strings: Integers
    stable: Floats
    """The weight of the string among all of the label's page."""
    discriminative: Floats
    """Its weight among those that tell the label from others; 0 where another label shows it as
    often."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DocumentFrequencies:
    """How many pictures of each label show each string; never changes.

    Labels and strings are numbered from 0. An entry is a label and a string that it shows.
    """

    string_count: int
    """Strings that are numbered; some may stand on no picture."""
    pictures: Floats
    """Pictures of each label, shape (labels,)."""
    entry_labels: Integers
    """Ascending; shape (entries,), as are the next two."""
    entry_strings: Integers
    entry_counts: Floats
    """Pictures of the label that show the string."""
    label_starts: Integers
    """The first entry of each label, and the end; shape (labels + 1,)."""
    entries_by_string: Integers
    """The entries in the order of their strings, shape (entries,)."""
    string_starts: Integers
    """Where each string begins in `entries_by_string`, and the end; shape (strings + 1,)."""

    @staticmethod
    def of_labels(
        string_count: int,
        strings: Sequence[Integers],
        counts: Sequence[Integers],
        pictures: Sequence[int],
    ) -> DocumentFrequencies:
        """Makes the table from what each label shows.

        Args:
            string_count: How many strings are numbered.
            strings: For each label, the strings that it shows, none of them twice.
            counts: For each label, how many of its pictures show each of these.
            pictures: For each label, how many pictures it has.
        """
        sizes = [len(of_label) for of_label in strings]
        entry_strings = np.concatenate([np.empty(0, np.int64), *strings])
        by_string = np.argsort(entry_strings, kind="stable")
        starts = np.searchsorted(entry_strings[by_string], np.arange(string_count + 1))
        return DocumentFrequencies(
            string_count=string_count,
            pictures=np.asarray(pictures, np.float64),
            entry_labels=np.repeat(np.arange(len(sizes), dtype=np.int64), sizes),
            entry_strings=entry_strings,
            entry_counts=np.concatenate([np.empty(0, np.int64), *counts]).astype(np.float64),
            label_starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            entries_by_string=by_string,
            string_starts=starts.astype(np.int64),
        )

    @property
    def strings_in_use(self) -> int:
        """How many of the strings have an entry."""
        return int(np.count_nonzero(np.diff(self.string_starts)))

    def without_picture(self, label: int, entries: Integers) -> DocumentFrequencies:
        """The table as if one picture of a label were not in the gallery.

        Args:
            label: The label of the picture.
            entries: Which of the label's entries the picture counts in, from the label's first.
        """
        counts, pictures = self.entry_counts.copy(), self.pictures.copy()
        counts[self.label_starts[label] + entries] -= 1
        pictures[label] -= 1
        return replace(self, entry_counts=counts, pictures=pictures)

    def labels_showing(self, strings: Integers) -> tuple[Integers, Integers]:
        """The labels of which at least one picture shows each of some strings.

        Returns:
            Pairs, as two arrays: which of the strings, as an index into them, and which label.
        """
        starts = self.string_starts[strings]
        sizes = self.string_starts[strings + 1] - starts
        which = np.repeat(np.arange(len(strings)), sizes)
        # Each string's entries follow each other, from its start on.
        before = np.cumsum(sizes) - sizes
        entries = self.entries_by_string[np.arange(len(which)) + (starts - before)[which]]
        shows = self.entry_counts[entries] > 0
        return which[shows], self.entry_labels[entries[shows]]

    def smoothed(self, label: int, strings: Integers) -> Floats:
        """The smoothed document frequencies (n + ½)/(N + 1) of some strings, above 0 and below 1.

        n of the label's N pictures show the string. This is the mean of the frequency's posterior
        under Jeffreys' prior: a string that no picture shows yet is not impossible.
        """
        entries = slice(self.label_starts[label], self.label_starts[label + 1])
        counts = np.zeros(self.string_count)
        counts[self.entry_strings[entries]] = self.entry_counts[entries]
        frequencies: Floats = (counts[strings] + 0.5) / (self.pictures[label] + 1)
        return frequencies

    def agreement(self, shown: Floats) -> tuple[Floats, Floats]:
        """How much of each label's page a query shows, 0 to 1.

        Args:
            shown: How surely the query shows each string, shape (strings,), 0 to 1.

        Returns:
            Two arrays of shape (labels,): over the stable strings of the label, those that are
            rare in other labels weighing more; and over those among them that the label shows
            more often than any other. A label without one of the latter gets the former.
        """
        page = self._page_strings
        nothing = np.zeros(len(self.pictures))
        stable = self._weighted_mean(page, page.stable, shown, otherwise=nothing)
        return stable, self._weighted_mean(page, page.discriminative, shown, otherwise=stable)

    def labels_sharing_text(self) -> dict[int, list[int]]:
        """The labels whose whole page stands on pages of other labels, with those labels.

        A label has no text of its own where it has stable strings and each of them stands as often
        on the pictures of another label: then nothing is discriminative.

        Returns:
            By label, the labels that show at least one of its stable strings as often, those that
            show most of them first.
        """
        page = self._page_strings
        labels = len(self.pictures)
        stable = np.bincount(page.labels, minlength=labels)
        own = np.bincount(page.labels, page.discriminative, labels)
        frequencies = self.entry_counts / np.maximum(self.pictures, 1)[self.entry_labels]
        sharing = {}
        for label in np.flatnonzero((stable > 0) & (own <= MIN_TOTAL_WEIGHT)).tolist():
            shared: Counter[int] = Counter()
            for string in page.strings[page.labels == label].tolist():
                starts = self.string_starts
                entries = self.entries_by_string[starts[string] : starts[string + 1]]
                mine = frequencies[entries[self.entry_labels[entries] == label]]
                as_often = self.entry_labels[entries[frequencies[entries] >= mine]]
                shared.update(as_often[as_often != label].tolist())
            sharing[label] = sorted(shared, key=lambda other: (-shared[other], other))
        return sharing

    def _weighted_mean(
        self, page: _PageStrings, weights: Floats, shown: Floats, *, otherwise: Floats
    ) -> Floats:
        """For each label the mean of `shown` over its page; `otherwise` where nothing weighs."""
        labels = len(self.pictures)
        total = np.bincount(page.labels, weights, labels)
        agreed = np.bincount(page.labels, weights * shown[page.strings], labels)
        mean = agreed / np.maximum(total, MIN_TOTAL_WEIGHT)
        return np.where(total > MIN_TOTAL_WEIGHT, mean, otherwise)

    @cached_property
    def _page_strings(self) -> _PageStrings:
        """The stable strings of every label, weighed.

        With f the document frequency in the label, m the mean of those in the C - 1 other labels
        and h the highest of them: stable is f · ln(1 + 1/(m + 1/C)), an inverse document
        frequency that stays finite where no other label shows the string, and discriminative is
        f · (f - h), 0 where h is greater.
        """
        labels = len(self.pictures)
        # A label whose only picture is left out has counts of zero alone.
        frequencies = self.entry_counts / np.maximum(self.pictures, 1)[self.entry_labels]
        sums = np.bincount(self.entry_strings, frequencies, self.string_count)
        highest = np.zeros(self.string_count)
        np.maximum.at(highest, self.entry_strings, frequencies)
        leads = frequencies == highest[self.entry_strings]
        leaders = np.bincount(self.entry_strings, leads, self.string_count)
        second = np.zeros(self.string_count)
        np.maximum.at(second, self.entry_strings[~leads], frequencies[~leads])
        page = np.flatnonzero(frequencies >= STABLE)
        frequencies, strings = frequencies[page], self.entry_strings[page]
        mean_other = (sums[strings] - frequencies) / max(1, labels - 1)
        leads_alone = leads[page] & (leaders[strings] == 1)
        highest_other = np.where(leads_alone, second[strings], highest[strings])
        return _PageStrings(
            labels=self.entry_labels[page],
            strings=strings,
            stable=frequencies * np.log(1 + 1 / (mean_other + 1 / max(1, labels))),
            discriminative=frequencies * np.maximum(0.0, frequencies - highest_other),
        )
