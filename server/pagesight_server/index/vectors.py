"""The vectors of a gallery by row, without holding them all in memory.

    generation   fp16 vectors by slot, in a mapped file or in memory; never changes
    tail         vectors added since, in memory: slots after those of the generation
    slots        the slot of each row of the snapshot      <- all that a relabelling changes

A change of the gallery makes a new `Vectors`, which shares generation and tail with the old one.
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
"""Vectors as the store keeps them, rounded to half precision: (pictures, dimension)."""


BLOCK = 4_096
"""Vectors of a mapped file that are worked on at a time, so that memory stays small."""


class Allowed(NamedTuple):
    """A filter: the slots that a search may find."""

    bits: NDArray[np.uint8]
    """One bit per slot, least significant bit first."""
    slots: int
    """How many bits are set."""


class Base(Protocol):
    """Chooses candidates among the slots of a generation; their scores are computed elsewhere."""

    exact: bool
    """Whether the candidates are always the true nearest, and all that tie with the last."""

    @property
    def kind(self) -> str:
        """`flat`, `ivfpq`, `ivfrabitq`, or `none` for vectors that are not indexed yet."""

    def candidates(
        self, queries: Embeddings, count: int, allowed: Allowed | None
    ) -> NDArray[np.int64]:
        """Slots in any order, shape (queries, c); -1 where there is none.

        Args:
            queries: Unit vectors, shape (queries, dimension).
            count: How many hits the caller wants in the end; there may be more candidates.
            allowed: Which slots may be found; None allows all.
        """


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Generation:
    """Vectors, and the base that was built over them."""

    halves: Halves
    base: Base

    def __len__(self) -> int:
        return len(self.halves)


class Unindexed:
    """Stands for the base of vectors that no index has been built over yet."""

    kind = "none"
    exact = True

    def candidates(
        self, queries: Embeddings, count: int, allowed: Allowed | None
    ) -> NDArray[np.int64]:
        """Raises RuntimeError: these vectors cannot be searched."""
        raise RuntimeError("these vectors were read to be indexed")


class Layout(NamedTuple):
    """Where the vector of each row is found."""

    generation: Generation
    """The vectors of slots 0 to len(generation) - 1."""
    tail: Halves
    """The vectors of the slots from len(generation) on."""
    slots: NDArray[np.int32]
    """The slot of each row, shape (rows,)."""


class Vectors:
    """The vectors of a snapshot, one for each row.

    Their values never change. Their layout is replaced whole when a new generation is adopted, so
    whoever searches takes `layout` once.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @staticmethod
    def of_generation(generation: Generation) -> Vectors:
        """The vectors of a generation: row i is slot i, and the tail is empty."""
        halves = generation.halves
        tail = np.empty((0, halves.shape[1]), np.float16)
        return Vectors(Layout(generation, tail, np.arange(len(halves), dtype=np.int32)))

    @staticmethod
    def unindexed(halves: Halves) -> Vectors:
        """Vectors that cannot be searched yet: an index is still to be built over them."""
        return Vectors.of_generation(Generation(halves=halves, base=Unindexed()))

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
        vectors = halves_at(layout, np.atleast_1d(slots)).astype(np.float32)
        return vectors if np.ndim(slots) else np.asarray(vectors[0], np.float32)

    @property
    def changed(self) -> int:
        """How many vectors were added or removed since the generation was built."""
        generation, tail, slots = self.layout
        present = int(np.count_nonzero(slots < len(generation)))
        return len(tail) + len(generation) - present

    def after(self, kept: Rows, added: Halves) -> Vectors:
        """The vectors of the next snapshot.

        Args:
            kept: For each row of the next snapshot, its row in this one; -1 where it is new.
            added: The vectors of the new rows, in their order.
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
        """Moves to a new generation: rows that it lacks become the tail.

        Args:
            generation: Built over `built_from`: its slot i is row i of that layout.
            built_from: The layout of this or of an earlier revision.

        Returns:
            False, with nothing changed, where the vectors have been read anew from the store since
            `built_from`: their slots then have nothing to do with that layout's.
        """
        now = self.layout
        if now.generation is not built_from.generation:
            return False
        new_slot = np.full(len(now.generation) + len(now.tail), -1, np.int32)
        new_slot[built_from.slots] = np.arange(len(built_from.slots), dtype=np.int32)
        slots = new_slot[now.slots]
        missing = np.flatnonzero(slots < 0)
        tail = halves_at(now, now.slots[missing])
        slots[missing] = np.arange(len(generation), len(generation) + len(missing))
        self.layout = Layout(generation, tail, slots)
        return True


class HalvesByRow:
    """The fp16 vectors of a layout in the order of its rows, read a slice at a time."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.shape = len(layout.slots), layout.tail.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Halves:
        return halves_at(self._layout, self._layout.slots[rows])


def halves_at(layout: Layout, slots: NDArray[Any]) -> Halves:
    """The fp16 vectors of some slots, shape (slots, dimension)."""
    generation, tail, _ = layout
    size = len(generation)
    if not len(tail) or (len(slots) and int(np.max(slots)) < size):
        return np.asarray(generation.halves[slots])
    vectors = np.empty((len(slots), tail.shape[1]), np.float16)
    in_generation = slots < size
    vectors[in_generation] = generation.halves[slots[in_generation]]
    vectors[~in_generation] = tail[slots[~in_generation] - size]
    return vectors


def vectors_over(
    generation: Generation,
    generation_ids: NDArray[np.uint8],
    halves: Halves,
    image_ids: Sequence[str],
) -> Vectors:
    """The vectors of a snapshot over a generation from the disk; rows that it lacks are the tail.

    A row counts as in the generation when both its image id and its vector are: the store is the
    truth, also where a file of another past was put beside it.

    Args:
        generation: Read from the disk.
        generation_ids: The image id of each of its slots, (pictures, 32).
        halves: The store's vectors, by row of the snapshot.
        image_ids: The image id of each row, in hexadecimal.
    """
    slot_of = {bytes(key).hex(): slot for slot, key in enumerate(np.asarray(generation_ids))}
    slots = np.asarray([slot_of.get(image_id, -1) for image_id in image_ids], np.int32)
    for start in range(0, len(slots), BLOCK):
        block = slice(start, start + BLOCK)
        candidates = generation.halves[np.maximum(slots[block], 0)]
        # Bit for bit: as numbers, NaN would differ from itself.
        equal = (candidates.view(np.uint16) == halves[block].view(np.uint16)).all(axis=1)
        slots[block] = np.where(equal, slots[block], -1)
    missing = np.flatnonzero(slots < 0)
    slots[missing] = np.arange(len(generation), len(generation) + len(missing))
    return Vectors(Layout(generation, np.asarray(halves[missing]), slots))
