"""The vectors of a gallery by row, without holding them all in memory.

    generation   fp16 vectors by slot, in a mapped file or in memory; never changes
    tail         those that came since, in memory
    slots        which slot each row of the snapshot has      <- all that a relabelling changes

A change makes a new `Vectors` beside the old one and shares the rest with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embeddings
from pagesight_server.index.cosines import Rows

Halves = NDArray[np.float16]
"""Stored vectors: (pictures, dimension), rounded to fp16."""


class Allowed(NamedTuple):
    """The slots that a search may find."""

    bits: NDArray[np.uint8]
    """A bit for each slot, lowest first."""
    slots: int
    """How many."""


class Base(Protocol):
    """Finds candidates among the slots of a generation; which ones is all that it decides."""

    kind: str
    exact: bool

    def candidates(
        self, queries: Embeddings, count: int, allowed: Allowed | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and slots, best first, each of shape (queries, c); slot -1 where there is none.

        Args:
            queries: Unit vectors.
            count: How many the caller wants in the end.
            allowed: Which slots; None allows all.
        """


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Generation:
    """Vectors that a base was built over."""

    halves: Halves
    base: Base

    def __len__(self) -> int:
        return len(self.halves)


class Unsearched:
    """The base of vectors that no index was made of yet."""

    kind = "none"
    exact = True

    def candidates(
        self, queries: Embeddings, count: int, allowed: Allowed | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Never asked."""
        raise RuntimeError("these vectors were read to be indexed")


class Layout(NamedTuple):
    """Where the vectors of each row lie."""

    generation: Generation
    """What the slots below its length are."""
    tail: Halves
    """The slots above."""
    slots: NDArray[np.int32]
    """Of each row."""


class Vectors:
    """The vectors of a snapshot, one for each row.

    What they are never changes; where they lie does, whole, when a new generation is adopted.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @staticmethod
    def fresh(generation: Generation) -> Vectors:
        """The vectors of a generation, in its order."""
        return Vectors(_fresh(generation))

    @staticmethod
    def unsearched(halves: Halves) -> Vectors:
        """Vectors as they are stored, before there is an index of them."""
        return Vectors.fresh(Generation(halves=halves, base=Unsearched()))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimension."""
        return len(self.layout.slots), self.layout.tail.shape[1]

    def __len__(self) -> int:
        return len(self.layout.slots)

    def __getitem__(self, rows: Any) -> Embeddings:
        """The vectors of a row, some rows or a slice of them, as fp32."""
        layout = self.layout
        slots = layout.slots[rows]
        found = halves_at(layout, np.atleast_1d(slots)).astype(np.float32)
        return found if np.ndim(slots) else np.asarray(found[0], np.float32)

    @property
    def changed(self) -> int:
        """How many came or went since the generation was made."""
        generation, tail, slots = self.layout
        present = int(np.count_nonzero(slots < len(generation)))
        return len(tail) + len(generation) - present

    def after(self, kept: Rows, added: Halves) -> Vectors:
        """The vectors of the next snapshot.

        Args:
            kept: For each row of the next snapshot, its row in this one; -1 where it is new.
            added: The vectors of the new ones, in their order.
        """
        generation, tail, before = self.layout
        end = len(generation) + len(tail)
        slots = np.full(len(kept), -1, np.int32)
        old = kept >= 0
        slots[old] = before[kept[old]]
        slots[~old] = np.arange(end, end + len(added))
        tail = np.concatenate([tail, added]) if len(added) else tail
        return Vectors(Layout(generation, tail, slots))

    def adopt(self, generation: Generation, built_from: Layout) -> bool:
        """Moves to a generation made of an earlier layout; says whether that was possible.

        Args:
            generation: Its slot i is row i of `built_from`.
            built_from: The layout of this or of an earlier revision.
        """
        now = self.layout
        if now.generation is not built_from.generation:
            return False  # Read anew from the store meanwhile: nothing tells whose slots those are.
        renamed = np.full(len(now.generation) + len(now.tail), -1, np.int32)
        renamed[built_from.slots] = np.arange(len(built_from.slots), dtype=np.int32)
        slots = renamed[now.slots]
        missing = np.flatnonzero(slots < 0)
        tail = halves_at(now, now.slots[missing])
        slots[missing] = np.arange(len(generation), len(generation) + len(missing))
        self.layout = Layout(generation, tail, slots)
        return True


class InOrder:
    """The vectors of a layout by row, a slice at a time, as they are stored."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.shape = len(layout.slots), layout.tail.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Halves:
        return halves_at(self._layout, self._layout.slots[rows])


def halves_at(layout: Layout, slots: NDArray[Any]) -> Halves:
    """The vectors of some slots as they are stored."""
    generation, tail, _ = layout
    based = len(generation)
    if not len(tail) or (len(slots) and int(np.max(slots)) < based):
        return np.asarray(generation.halves[slots])
    found = np.empty((len(slots), tail.shape[1]), np.float16)
    old = slots < based
    found[old] = generation.halves[slots[old]]
    found[~old] = tail[slots[~old] - based]
    return found


def laid_out(
    generation: Generation, ids: NDArray[np.uint8], wanted: Halves, of: Sequence[str]
) -> Vectors:
    """The vectors of a snapshot over a generation that was kept: what it lacks becomes the tail.

    Args:
        generation: With the vectors of `ids`, in their order.
        ids: Image ids, (pictures, 32).
        wanted: What the store says, by row.
        of: The image id of each row, in hexadecimal.
    """
    place = {bytes(key).hex(): slot for slot, key in enumerate(np.asarray(ids))}
    slots = np.asarray([place.get(image_id, -1) for image_id in of], np.int32)
    for start in range(0, len(slots), 4_096):
        part = slice(start, start + 4_096)
        stored = generation.halves[np.maximum(slots[part], 0)]
        same = (stored.view(np.uint16) == wanted[part].view(np.uint16)).all(axis=1)
        slots[part] = np.where(same, slots[part], -1)
    missing = np.flatnonzero(slots < 0)
    slots[missing] = np.arange(len(generation), len(generation) + len(missing))
    return Vectors(Layout(generation, np.asarray(wanted[missing]), slots))


def _fresh(generation: Generation) -> Layout:
    halves = generation.halves
    return Layout(
        generation,
        np.empty((0, halves.shape[1]), np.float16),
        np.arange(len(halves), dtype=np.int32),
    )
