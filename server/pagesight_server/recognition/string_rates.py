"""How often each label shows each string, kept as the counts that are not zero.

    counts of each label ──laid end to end──> entries (label, string, count)
    entries ──> rates ──> weights of what is part of a page: stable, discriminative

1,000 labels of 10 pictures show some 70,000 strings, each label 80 of them: a table with a cell
for every pair would take half a gigabyte. The sums run over a label's strings in the order in
which they are given, so equal galleries give equal bits, however they came about.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

STABLE = 0.5
"""A string that this share of a label's pictures show is part of the page."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Rates:
    """The table of one gallery; never changes.

    Args:
        strings: How many strings there are.
        ids: Of each label: the strings that it shows.
        counts: Of each label: how many of its pictures show them.
        pictures: Of each label: how many there are.
    """

    def __init__(
        self,
        strings: int,
        ids: Sequence[Integers],
        counts: Sequence[Integers],
        pictures: Sequence[int],
    ) -> None:
        self._strings = strings
        sizes = [len(of_label) for of_label in ids]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._labels = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
        self._ids = np.concatenate([np.empty(0, np.int64), *ids])
        self._counts = np.concatenate([np.empty(0, np.int64), *counts]).astype(np.float64)
        self._pictures = np.asarray(pictures, np.float64)
        by_string = np.argsort(self._ids, kind="stable")
        ends = np.searchsorted(self._ids[by_string], np.arange(strings + 1))
        self._by_string, self._ends = by_string, ends.astype(np.int64)

    @property
    def used(self) -> int:
        """Strings that any label shows."""
        return int(np.count_nonzero(np.diff(self._ends)))

    def less(self, label: int, places: Integers) -> Rates:
        """The table without one picture of a label.

        Args:
            label: Whose picture.
            places: Which of the label's strings it shows.
        """
        left = object.__new__(Rates)
        left._strings, left._starts, left._labels = self._strings, self._starts, self._labels
        left._ids, left._by_string, left._ends = self._ids, self._by_string, self._ends
        left._counts = self._counts.copy()
        left._counts[self._starts[label] + places] -= 1
        left._pictures = self._pictures.copy()
        left._pictures[label] -= 1
        return left

    def holders(self, string: int) -> Integers:
        """The labels that show a string."""
        entries = self._by_string[self._ends[string] : self._ends[string + 1]]
        return self._labels[entries[self._counts[entries] > 0]]

    def of(self, label: int, strings: Integers) -> Floats:
        """Shares of a label's pictures that show some strings, drawn in to half a picture."""
        mine = slice(self._starts[label], self._starts[label + 1])
        counts = np.zeros(self._strings)
        counts[self._ids[mine]] = self._counts[mine]
        found: Floats = (counts[strings] + 0.5) / (self._pictures[label] + 1)
        return found

    def agreement(self, shown: Floats) -> tuple[Floats, Floats]:
        """How much of a label's page a query shows, for each label, 0 to 1.

        Args:
            shown: How surely the query shows each string, shape (strings,), 0 to 1.

        Returns:
            Over all that the label always shows, rare strings counting more; and over what it
            shows more often than any other label. A label without a string of its own is judged
            by all its strings.
        """
        labels, ids, stable, telling = self._page
        agrees = self._mean(labels, stable, shown[ids], np.zeros(len(self._pictures)))
        return agrees, self._mean(labels, telling, shown[ids], agrees)

    def _mean(self, labels: Integers, weights: Floats, shown: Floats, otherwise: Floats) -> Floats:
        count = len(self._pictures)
        total = np.bincount(labels, weights, count)
        agreed = np.bincount(labels, weights * shown, count)
        return np.where(total > 1e-9, agreed / np.maximum(total, 1e-9), otherwise)

    @cached_property
    def _page(self) -> tuple[Integers, Integers, Floats, Floats]:
        """What is part of a page: label, string, and its two weights."""
        labels = len(self._pictures)
        rates = self._counts / np.maximum(self._pictures, 1)[self._labels]
        sums = np.bincount(self._ids, rates, self._strings)
        first = np.zeros(self._strings)
        np.maximum.at(first, self._ids, rates)
        leads = rates == first[self._ids]
        leaders = np.bincount(self._ids, leads, self._strings)
        second = np.zeros(self._strings)
        np.maximum.at(second, self._ids[~leads], rates[~leads])
        page = np.flatnonzero(rates >= STABLE)
        rates, ids = rates[page], self._ids[page]
        others = (sums[ids] - rates) / max(1, labels - 1)
        alone = leads[page] & (leaders[ids] == 1)
        highest_other = np.where(alone, second[ids], first[ids])
        stable = rates * np.log(1 + 1 / (others + 1 / max(1, labels)))
        return self._labels[page], ids, stable, rates * np.maximum(0.0, rates - highest_other)
