"""Which pictures of a label speak for its text: all of a small label, a sample of a large one.

    pictures of a label, at most `most` ──────────────────────────> all of them
    more ──the newest quarter──────────────────────────────────┐
       └───of the others those whose ids come first, to `most`─┴──> the sample

What is learnt of a label's text is learnt from the sample, so a start costs what the labels cost
and not what the pictures do. Ids are hashes of the pictures' bytes, so the first are as good as
drawn by lot, and the same in every replica and every copy of a store. The newest are among them, so
that a redesigned page is known by its text from its first picture on.

A picture that joins brings none into the sample but itself. One that leaves may bring one in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import nlargest
from itertools import groupby
from operator import attrgetter
from typing import Protocol

TEXTS_PER_LABEL = 64
"""Pictures of a label whose text is learnt from, unless the settings say otherwise: the standard
error of a document frequency of 64 is at most 6 %. docs/recognition.md has 16 to 64."""

NEWEST_SHARE = 4
"""One of so many pictures of a sample is among the newest of its label: 16 of 64 are more than a
page needs to be known (docs/recognition.md, How many pictures a page needs), and the others speak
for all that the label has shown before."""


class Dated(Protocol):
    """A labelled picture, as far as a sample is drawn by it."""

    @property
    def image_id(self) -> str:
        """SHA-256 of its bytes, in hexadecimal."""

    @property
    def label(self) -> str:
        """Its label."""

    @property
    def added_revision(self) -> int:
        """The revision at which it joined its label."""


class TextSample(Mapping[str, tuple[int, ...]]):
    """For each label in order, the rows of the pictures that speak for its text, ascending by id.

    Args:
        pictures: Of a gallery, ordered by label, then id.
        most: Pictures of a label at most; None: all.
        before: The sample of an earlier revision with the same `most`.
        changed: The labels of which a picture joined or left since.
    """

    def __init__(
        self,
        pictures: Sequence[Dated],
        most: int | None,
        *,
        before: TextSample | None = None,
        changed: Collection[str] = (),
    ) -> None:
        rows = _rows_by_label(pictures)
        self.counts: Mapping[str, int] = {label: len(of_label) for label, of_label in rows.items()}
        """How many pictures each label has."""
        self._places: dict[str, tuple[int, ...]] = {}
        """For each label that has more pictures than count, which of them count, from 0 on."""
        self._rows: dict[str, tuple[int, ...]] = {}
        known = before._places if before else {}
        for label, of_label in rows.items():
            if most is None or len(of_label) <= most:
                self._rows[label] = tuple(of_label)
                continue
            places = None if label in changed else known.get(label)
            if places is None:
                places = _places([pictures[row] for row in of_label], most)
            self._places[label] = places
            self._rows[label] = tuple(of_label[place] for place in places)

    @property
    def is_whole(self) -> bool:
        """Whether every picture is in it."""
        return not self._places

    def __getitem__(self, label: str) -> tuple[int, ...]:
        return self._rows[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def first(self, most: int) -> dict[str, tuple[int, ...]]:
        """At most so many rows of each label, those whose ids come first."""
        return {label: rows[:most] for label, rows in self._rows.items()}


def _rows_by_label(pictures: Sequence[Dated]) -> dict[str, list[int]]:
    """The rows of each label, ascending; labels in order."""
    rows: dict[str, list[int]] = {}
    begin = 0
    for label, group in groupby(pictures, attrgetter("label")):
        end = begin + sum(1 for _ in group)
        rows.setdefault(label, []).extend(range(begin, end))
        begin = end
    return {label: rows[label] for label in sorted(rows)}


def _places(pictures: Sequence[Dated], most: int) -> tuple[int, ...]:
    """Which of a label's pictures, given by id, count: at most `most`."""
    newest = nlargest(
        max(1, most // NEWEST_SHARE),
        range(len(pictures)),
        key=lambda place: (pictures[place].added_revision, -place),
    )
    chosen = set(newest)
    for place in range(len(pictures)):
        if len(chosen) == most:
            break
        chosen.add(place)
    return tuple(sorted(chosen))
