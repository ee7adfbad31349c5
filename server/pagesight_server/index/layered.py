"""One index out of a base, an exact delta of what was added, and a filter for what was removed.

query ──> base: candidates among the allowed slots ─┐
     └──> delta: every picture added since ─────────┴─> exact cosines ─> sorted, ties by row ─> k
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embeddings
from pagesight_server.index.cosines import NO_HITS, Hits, Rows, cosines, ranked, unit
from pagesight_server.index.exact import FlatIndex, Neighbours, most_alike
from pagesight_server.index.vectors import BLOCK, Allowed, Halves, Layout, Vectors, halves_at

EXACT_ROWS, EXACT_SHARE = 4_096, 0.125
"""Rows, and share of a base, up to which an index over a part of the rows compares these alone,
such as the examples of unknown pages: the lists nearest to a query may well hold none of so few,
and an exact base would compare all of its vectors for them."""


def nearest(embeddings: Embeddings | Vectors, rows: Rows) -> Neighbours:
    """An index over some rows of a snapshot."""
    if isinstance(embeddings, Vectors):
        return LayeredIndex(embeddings, rows)
    return FlatIndex(embeddings, rows)


class FlatBase:
    """Exact base: compares a query with every vector, held in memory as fp32."""

    kind = "flat"
    exact = True

    def __init__(self, vectors: Embeddings | Halves) -> None:
        self._unit = np.empty(vectors.shape, np.float32)
        for start in range(0, len(vectors), BLOCK):
            block = slice(start, start + BLOCK)
            self._unit[block] = unit(np.asarray(vectors[block], np.float32))

    def candidates(
        self, queries: Embeddings, count: int, allowed: Allowed | None
    ) -> NDArray[np.int64]:
        """The true nearest, and all that tie with the last of them; as in `Base.candidates`."""
        size = len(self._unit)
        if allowed is None:
            return most_alike(self._unit, queries, min(count, size))
        bits = np.unpackbits(allowed.bits, count=size, bitorder="little").view(np.bool_)
        return most_alike(self._unit, queries, min(count, allowed.slots), allowed=bits)


class LayeredIndex(Neighbours):
    """Cosine search over some rows of `Vectors`; safe to search from many threads.

    Args:
        vectors: All rows of the snapshot.
        rows: The rows to index, ascending.
    """

    def __init__(self, vectors: Vectors, rows: Rows) -> None:
        self.vectors = vectors
        self._rows = rows
        self._layout_index = _LayoutIndex(vectors.layout, rows)
        """Replaced whole when the vectors have adopted a new generation."""

    def __len__(self) -> int:
        return len(self._rows)

    def search_many(
        self, queries: Embeddings, k: int, *, without: Rows | None = None
    ) -> list[Hits]:
        """Args and result as in `Neighbours.search_many`."""
        wanted = min(k + (without is not None), len(self._rows))
        if wanted <= 0:
            return [NO_HITS] * len(queries)
        index = self._layout_index
        if index.layout is not self.vectors.layout:  # a new generation was adopted
            index = self._layout_index = _LayoutIndex(self.vectors.layout, self._rows)
        queries = np.ascontiguousarray(queries, np.float32)
        candidates = np.concatenate(
            [index.base_candidates(queries, wanted), index.delta_candidates(queries, wanted)],
            axis=1,
        )
        hits = []
        for number, rows in enumerate(candidates):
            usable = rows >= 0
            if without is not None:
                usable &= rows != without[number]
            rows = rows[usable]
            hits.append(ranked(rows, cosines(queries[number], index.vectors_of(rows)), k))
        return hits


class _LayoutIndex:
    """The rows of an index over one layout: some in its base, the others in an exact delta.

    Args:
        layout: Where the vectors are found.
        rows: The rows to index, ascending.
    """

    def __init__(self, layout: Layout, rows: Rows) -> None:
        self.layout = layout
        self._base = layout.generation.base
        base_size = len(layout.generation)
        slots = layout.slots[rows]
        in_base = slots < base_size
        few = min(EXACT_ROWS, EXACT_SHARE * base_size)
        if np.count_nonzero(in_base) <= few:
            in_base[:] = False
        self._row_of_slot = np.full(base_size, -1, np.int32)
        """The row of each slot of the base, -1 where it is not indexed."""
        self._row_of_slot[slots[in_base]] = rows[in_base]
        self._base_rows = int(np.count_nonzero(in_base))
        """How many rows are searched in the base."""
        bits = np.packbits(self._row_of_slot >= 0, bitorder="little")
        self._allowed = None if self._base_rows == base_size else Allowed(bits, self._base_rows)
        self._delta_rows = rows[~in_base]
        self._delta = unit(halves_at(layout, slots[~in_base]).astype(np.float32))
        """The vectors of the delta, fp32, aligned with its rows."""

    def base_candidates(self, queries: Embeddings, wanted: int) -> Rows:
        """Rows of candidates of the base, shape (queries, c); -1 where there is none.

        An exact base gives the `wanted` nearest and all that tie with the last of them, any other
        as many as its recall needs.
        """
        if not self._base_rows:
            return np.empty((len(queries), 0), np.int64)
        slots = self._base.candidates(queries, wanted, self._allowed)
        return np.where(slots >= 0, self._row_of_slot[np.maximum(slots, 0)], -1).astype(np.int64)

    def delta_candidates(self, queries: Embeddings, wanted: int) -> Rows:
        """Rows of the `wanted` nearest of the delta and of all ties, shape (queries, c)."""
        count = len(self._delta_rows)
        if not count:
            return np.empty((len(queries), 0), np.int64)
        positions = most_alike(self._delta, queries, min(wanted, count))
        return np.where(positions >= 0, self._delta_rows[positions], -1)

    def vectors_of(self, rows: Rows) -> Embeddings:
        """The vectors of some rows, shape (rows, dimension)."""
        return halves_at(self.layout, self.layout.slots[rows]).astype(np.float32)
