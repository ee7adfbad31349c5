"""The vectors of a gallery by row, without holding them all in memory.

    generation   fp16 vectors by slot, in a mapped file or in memory; never changes
    tail         those that came since, in memory
    slots        which slot each row of the snapshot has      <- all that a relabelling changes

A change makes a new `Vectors` beside the old one and shares the rest with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pagesight_server.arrays import Embeddings
from pagesight_server.index.exact import Rows

Halves = NDArray[np.float16]
"""Stored vectors: (pictures, dimension), rounded to fp16."""


class Base(Protocol):
    """Finds candidates among the slots of a generation; which ones is all that it decides."""

    kind: str
    exact: bool

    def candidates(
        self, queries: Embeddings, count: int, allowed: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and slots, best first, each of shape (queries, c); slot -1 where there is none.

        Args:
            queries: Unit vectors.
            count: How many the caller wants in the end.
            allowed: A bit for each slot, lowest first; None allows all.
        """


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Generation:
    """Vectors that a base was built over."""

    halves: Halves
    base: Base

    def __len__(self) -> int:
        return len(self.halves)


class Vectors:
    """The vectors of a snapshot, one for each row; immutable.

    Args:
        generation: What the slots below its length are.
        tail: The slots above.
        slots: Of each row.
    """

    def __init__(self, generation: Generation, tail: Halves, slots: NDArray[np.int32]) -> None:
        self.generation = generation
        self.tail = tail
        self.slots = slots

    @staticmethod
    def fresh(generation: Generation) -> Vectors:
        """The vectors of a generation, in its order."""
        halves = generation.halves
        return Vectors(
            generation,
            np.empty((0, halves.shape[1]), np.float16),
            np.arange(len(halves), dtype=np.int32),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimension."""
        return len(self.slots), self.tail.shape[1]

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, rows: Any) -> Embeddings:
        """The vectors of a row, some rows or a slice of them, as fp32."""
        slots = self.slots[rows]
        if np.ndim(slots) == 0:
            one: Embeddings = self.at(np.asarray([slots]))[0]
            return one
        return self.at(slots)

    def at(self, slots: NDArray[Any]) -> Embeddings:
        """The vectors of some slots, as fp32."""
        return self.halves_at(slots).astype(np.float32)

    def halves_at(self, slots: NDArray[Any]) -> Halves:
        """The vectors of some slots as they are stored."""
        based = len(self.generation)
        if not len(self.tail) or (len(slots) and int(np.max(slots)) < based):
            return np.asarray(self.generation.halves[slots])
        found = np.empty((len(slots), self.tail.shape[1]), np.float16)
        old = slots < based
        found[old] = self.generation.halves[slots[old]]
        found[~old] = self.tail[slots[~old] - based]
        return found

    @property
    def changed(self) -> int:
        """How many came or went since the generation was made."""
        present = int(np.count_nonzero(self.slots < len(self.generation)))
        return len(self.tail) + len(self.generation) - present

    def after(self, kept: Rows, places: Sequence[int] | Rows, added: Halves) -> Vectors:
        """The vectors of the next snapshot.

        Args:
            kept: For each row of the next snapshot, its row in this one; -1 where it is new.
            places: Rows of the next snapshot that are new, in the order of `added`.
            added: Their vectors.
        """
        end = len(self.generation) + len(self.tail)
        slots = np.full(len(kept), -1, np.int32)
        old = kept >= 0
        slots[old] = self.slots[kept[old]]
        slots[np.asarray(places, np.int64)] = np.arange(end, end + len(added))
        tail = np.concatenate([self.tail, added]) if len(added) else self.tail
        return Vectors(self.generation, tail, slots)

    def rebased(self, generation: Generation, built_from: Vectors) -> Vectors:
        """The same vectors over a generation made of an earlier state of them.

        Args:
            generation: Its slot i is row i of `built_from`.
            built_from: An ancestor of this one, over the same older generation.
        """
        renamed = np.full(len(self.generation) + len(self.tail), -1, np.int32)
        renamed[built_from.slots] = np.arange(len(built_from), dtype=np.int32)
        slots = renamed[self.slots]
        missing = np.flatnonzero(slots < 0)
        tail = self.halves_at(self.slots[missing])
        slots[missing] = np.arange(len(generation), len(generation) + len(missing))
        return Vectors(generation, tail, slots)
