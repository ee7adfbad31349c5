"""What the pages of each label always show, mined from the gallery's texts.

    lines ──fold──> strings ──like ones are one──> table: how often each label shows each string
    query lines ──match──> per label: stable, discriminative, explained

Nothing is trained: the table is counts, so enrolling a picture adds its strings.
Two lines are the same when RapidFuzz finds them 0.8 alike *and* their difference
does not replace two or more Chinese characters by others: that is a brand inside
a longer line, and brands are what white-label pages differ in.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process
from rapidfuzz.distance import Levenshtein

from pagesight_server.snapshot import Snapshot
from pagesight_server.text import Reading

ALIKE = 80.0
"""RapidFuzz ratio from which two lines may be the same."""

STATUS_BAR = 0.035
"""Share of the height, from the top, that belongs to the phone and not to the page."""

STABLE = 0.5
"""A string that this share of a label's pictures show is part of the page."""

SIBLINGS_DIFFER = 0.3
"""Difference of two labels' rates from which a string tells them apart."""

MAX_LINE_WEIGHT = 12
"""Characters for which a line counts at most: one long paragraph is still one line."""

Rates = NDArray[np.float64]
"""(labels, strings): share of a label's pictures that show a string, 0 to 1."""

_VARIABLE = re.compile(r"[\d*#]+")
_CJK = re.compile(r"[㐀-鿿]")


def essence(text: str) -> str:
    """What of a line tells the page: letters and signs of writing; digits and masks become #.

    >>> essence("可用额度 12,800.00 元")
    '可用额度#元'
    """
    folded = _VARIABLE.sub("#", unicodedata.normalize("NFKC", text).lower())
    kept = "".join(c for c in folded if c == "#" or unicodedata.category(c)[0] in "LN")
    return re.sub("#+", "#", kept)


def informative(essence_: str) -> int:
    """Characters that are not variable."""
    return len(essence_) - essence_.count("#")


def page_lines(reading: Reading) -> list[str]:
    """The essences of a reading that can tell a page, without the status bar."""
    top = STATUS_BAR * reading.height_px
    found = (essence(line.text) for line in reading.lines if line.box.bottom > top)
    return [line for line in found if informative(line) >= 2]


def hides_other_name(a: str, b: str) -> bool:
    """Whether two lines that are alike differ by a name: two or more CJK characters replaced."""
    return any(
        len(_CJK.findall(a[op.src_start : op.src_end])) >= 2
        and len(_CJK.findall(b[op.dest_start : op.dest_end])) >= 2
        for op in Levenshtein.opcodes(a, b)
        if op.tag == "replace"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEvidence:
    """What a query's text says for each label; arrays aligned with `Templates.labels`, 0 to 1."""

    stable: NDArray[np.float64]
    """How much of what the label always shows is there, rare strings counting more."""
    discriminative: NDArray[np.float64]
    """The same, over strings that this label shows more often than any other."""
    explained: NDArray[np.float64]
    """How much of the query's text the label has ever shown."""
    shown: NDArray[np.bool_]
    """Which strings of the table the query shows, shape (strings,)."""
    rates: Rates
    """Shares of the labels' pictures that show each string, drawn in to half a picture."""

    def odds(self, label: int, other: int) -> tuple[float, list[int]]:
        """How much more likely one label shows what the query shows than another does.

        Only strings count that the two show unequally often, and only those that the query
        shows: what it lacks may be scrolled away.

        Args:
            label: Place of the label in `Templates.labels`.
            other: Of the other.

        Returns:
            Logarithm of the likelihood ratio, in nats; and the strings, weightiest first.
        """
        differ = self.shown & (np.abs(self.rates[label] - self.rates[other]) > SIBLINGS_DIFFER)
        strings = np.flatnonzero(differ)
        ratios = np.log(self.rates[label, strings] / self.rates[other, strings])
        return float(ratios.sum()), strings[np.argsort(-np.abs(ratios))].tolist()


class Templates:
    """The strings of a snapshot and how often each label shows them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.labels = sorted({picture.label for picture in snapshot.pictures})
        place = {label: i for i, label in enumerate(self.labels)}
        self._owner = np.asarray([place[p.label] for p in snapshot.pictures], np.int64)
        lines = [sorted(set(page_lines(picture.reading))) for picture in snapshot.pictures]
        self._strings, table = _join_alike(Counter(line for page in lines for line in page))
        self._shown = [np.unique([table[line] for line in page]).astype(np.int64) for page in lines]
        self._counts = np.zeros((len(self.labels), len(self._strings)))
        for owner, shown in zip(self._owner, self._shown, strict=True):
            self._counts[owner, shown] += 1
        self._pictures = np.bincount(self._owner, minlength=len(self.labels)).astype(np.float64)
        self._weights = _weights(self._counts, self._pictures)

    def weigh(self, reading: Reading, *, without: int | None = None) -> TextEvidence:
        """What the text of a query says for each label.

        Args:
            reading: The text of the query.
            without: A row of the snapshot to leave out.
        """
        counts, pictures, (stable, telling) = self._counts, self._pictures, self._weights
        if without is not None:
            counts = counts.copy()
            counts[self._owner[without], self._shown[without]] -= 1
            pictures = self._pictures.copy()
            pictures[self._owner[without]] -= 1
            stable, telling = _weights(counts, pictures)
        lines = page_lines(reading)
        alike = self._match(lines)
        shown = alike.max(axis=0, initial=0.0)
        length = np.asarray([min(MAX_LINE_WEIGHT, informative(line)) for line in lines], float)
        explained = np.zeros(len(self.labels))
        for i, has in enumerate(counts > 0):
            if len(lines):
                explained[i] = length @ alike[:, has].max(axis=1, initial=0.0) / length.sum()
        agrees = _mean(shown, stable, np.zeros(len(self.labels)))
        return TextEvidence(
            stable=agrees,
            # A label without a string of its own is judged by all its strings.
            discriminative=_mean(shown, telling, agrees),
            explained=explained,
            shown=shown > 0,
            rates=(counts + 0.5) / (pictures + 1)[:, None],
        )

    def string(self, place: int) -> str:
        """A string of the table, as essence."""
        return self._strings[place]

    def _match(self, lines: Sequence[str]) -> NDArray[np.float64]:
        """How alike each line and each string are, 0 to 1; 0 where they are not the same."""
        if not lines or not self._strings:
            return np.zeros((len(lines), len(self._strings)))
        alike = process.cdist(lines, self._strings, scorer=fuzz.ratio, score_cutoff=ALIKE)
        for i, j in np.argwhere((alike > 0) & (alike < 100)).tolist():
            if hides_other_name(lines[i], self._strings[j]):
                alike[i, j] = 0
        return alike.astype(np.float64) / 100


def _join_alike(counts: Counter[str]) -> tuple[list[str], dict[str, int]]:
    """Joins lines that are the same under their commonest spelling; says which is whose."""
    strings: list[str] = []
    table: dict[str, int] = {}
    for line, _count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        near = process.extract(line, strings, scorer=fuzz.ratio, score_cutoff=ALIKE, limit=5)
        same = next((i for text, _, i in near if not hides_other_name(line, text)), None)
        if same is None:
            same = len(strings)
            strings.append(line)
        table[line] = same
    return strings, table


def _weights(counts: Rates, pictures: NDArray[np.float64]) -> tuple[Rates, Rates]:
    """What each string counts for each label: as stable text, and as discriminative text."""
    labels = len(pictures)
    rates = counts / np.maximum(pictures, 1)[:, None]
    if not rates.size:
        return rates, rates
    others = (rates.sum(axis=0) - rates) / max(1, labels - 1)
    first = rates.max(axis=0)
    second = np.partition(rates, -2, axis=0)[-2] if labels > 1 else np.zeros_like(first)
    leader = rates.argmax(axis=0)
    highest_other = np.where(np.arange(labels)[:, None] == leader, second, first)
    page = np.where(rates >= STABLE, rates, 0.0)
    stable = page * np.log(1 + 1 / (others + 1 / labels))
    return stable, page * np.maximum(0.0, rates - highest_other)


def _mean(
    shown: NDArray[np.float64], weights: Rates, otherwise: NDArray[np.float64]
) -> NDArray[np.float64]:
    total = weights.sum(axis=1)
    return np.where(total > 1e-9, weights @ shown / np.maximum(total, 1e-9), otherwise)
