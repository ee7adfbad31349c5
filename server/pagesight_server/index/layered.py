"""Base, exact delta, and what was removed, answering as one index.

query ──> base: candidates among allowed slots ─┐
     └──> delta: every picture since ───────────┴─> true cosines ─> sorted, ties by row ─> k
"""

from __future__ import annotations

from typing import Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embedding, Embeddings
from pagesight_server.index.cosines import NOTHING, TIE, Hits, Rows, ranked, unit
from pagesight_server.index.exact import FlatIndex
from pagesight_server.index.vectors import Allowed, Halves, Layout, Vectors, halves_at

BLOCK = 4_096
"""Vectors that are turned to fp32 at once: a build must not hold the others up."""


FEW, FEW_SHARE = 4_096, 0.125
"""Rows, and share of a base, up to which an index over some of it is exact: such as that of the
examples of unknown pages. The lists nearest to a query may well hold none of so few."""


class Neighbours(Protocol):
    """Finds the nearest pictures of a snapshot."""

    def __len__(self) -> int: ...

    def search(self, query: Embedding, k: int, *, without: int | None = None) -> Hits:
        """The `k` nearest pictures, or all when there are fewer; `without` leaves one out."""


def nearest(embeddings: Embeddings | Vectors, rows: Rows) -> Neighbours:
    """An index over some rows of a snapshot."""
    if isinstance(embeddings, Vectors):
        return LayeredIndex(embeddings, rows)
    return FlatIndex(embeddings, rows)


class FlatBase:
    """Compares a query with every slot."""

    kind = "flat"
    exact = True

    def __init__(self, vectors: Embeddings | Halves) -> None:
        self._index = faiss.IndexFlatIP(max(1, vectors.shape[1]))
        for start in range(0, len(vectors), BLOCK):
            self._index.add(unit(np.asarray(vectors[start : start + BLOCK], np.float32)))

    def candidates(
        self, queries: Embeddings, count: int, allowed: Allowed | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The true nearest, best first."""
        count = min(count, self._index.ntotal)
        if count == 0:
            empty = (len(queries), 0)
            return np.empty(empty, np.float32), np.empty(empty, np.int64)
        if allowed is None:
            scores, slots = self._index.search(queries, count)
        else:
            chosen = faiss.IDSelectorBitmap(allowed.bits)
            parameters = faiss.SearchParameters(sel=chosen)
            scores, slots = self._index.search(queries, count, params=parameters)
        return scores, slots


class LayeredIndex:
    """Cosine search over some rows of `Vectors`; safe to search from many threads.

    Args:
        vectors: All rows of the snapshot.
        rows: The rows to index, ascending.
    """

    def __init__(self, vectors: Vectors, rows: Rows) -> None:
        self.vectors = vectors
        self._rows = rows
        self._laid = _Laid(vectors.layout, rows)

    def __len__(self) -> int:
        return len(self._rows)

    def search(self, query: Embedding, k: int, *, without: int | None = None) -> Hits:
        """The `k` nearest pictures, or all when there are fewer; `without` leaves one out."""
        leave_out = None if without is None else np.asarray([without], np.int64)
        return self.search_many(query[None, :], k, without=leave_out)[0]

    def search_many(
        self, queries: Embeddings, k: int, *, without: Rows | None = None
    ) -> list[Hits]:
        """`search` for several queries, faster than one by one.

        Args:
            queries: Unit vectors, shape (queries, dimension).
            k: How many for each.
            without: For each query, a row to leave out.
        """
        wanted = min(k + (without is not None), len(self._rows))
        if wanted <= 0:
            return [NOTHING] * len(queries)
        laid = self._laid
        if laid.layout is not self.vectors.layout:  # a new generation was adopted
            laid = self._laid = _Laid(self.vectors.layout, self._rows)
        queries = np.ascontiguousarray(queries, np.float32)
        found = np.concatenate(
            [laid.from_base(queries, wanted), laid.from_delta(queries, wanted)], axis=1
        )
        scores = laid.cosines(queries, found)
        hits = []
        for i in range(len(queries)):
            usable = found[i] >= 0
            if without is not None:
                usable &= found[i] != without[i]
            hits.append(ranked(found[i][usable], scores[i][usable], k))
        return hits


class _Laid:
    """The rows of an index over one layout."""

    def __init__(self, layout: Layout, rows: Rows) -> None:
        self.layout = layout
        self._base = layout.generation.base
        based = len(layout.generation)
        slots = layout.slots[rows]
        in_base = slots < based
        if not self._base.exact and np.count_nonzero(in_base) <= min(FEW, FEW_SHARE * based):
            in_base[:] = False
        self._row_of = np.full(based, -1, np.int32)
        self._row_of[slots[in_base]] = rows[in_base]
        self._based = int(np.count_nonzero(in_base))
        bits = np.packbits(self._row_of >= 0, bitorder="little")
        self._allowed = None if self._based == based else Allowed(bits, self._based)
        self._delta_rows = rows[~in_base]
        self._delta = unit(halves_at(layout, slots[~in_base]).astype(np.float32))

    def from_base(self, queries: Embeddings, wanted: int) -> Rows:
        """Rows of candidates, -1 where there is none: more than wanted, or all that tie."""
        fetched = min(wanted + 8, self._based) if self._base.exact else wanted
        if not self._based:
            return np.empty((len(queries), 0), np.int64)
        while True:
            scores, slots = self._base.candidates(queries, fetched, self._allowed)
            if not self._base.exact or fetched == self._based:
                break
            if (scores[:, -1] < scores[:, min(wanted, fetched) - 1] - TIE).all():
                break
            fetched = min(2 * fetched, self._based)
        return np.where(slots >= 0, self._row_of[np.maximum(slots, 0)], -1).astype(np.int64)

    def from_delta(self, queries: Embeddings, wanted: int) -> Rows:
        """Rows of the nearest that came since, and of all that tie."""
        count = len(self._delta_rows)
        fetched = min(wanted + 8, count)
        if not fetched:
            return np.empty((len(queries), 0), np.int64)
        while True:
            scores, places = faiss.knn(queries, self._delta, fetched, faiss.METRIC_INNER_PRODUCT)
            if (
                fetched == count
                or (scores[:, -1] < scores[:, min(wanted, fetched) - 1] - TIE).all()
            ):
                return np.asarray(self._delta_rows[places], np.int64)
            fetched = min(2 * fetched, count)

    def cosines(self, queries: Embeddings, rows: Rows) -> NDArray[np.float32]:
        """The true cosines of candidates, shape of `rows`; anything where a row is -1."""
        slots = self.layout.slots[np.maximum(rows, 0).ravel()]
        vectors = halves_at(self.layout, slots).astype(np.float32).reshape(*rows.shape, -1)
        dots = np.einsum("qcd,qd->qc", vectors, queries)
        squares = np.einsum("qcd,qcd->qc", vectors, vectors)
        return np.asarray(dots / np.sqrt(np.maximum(squares, 1e-12)), np.float32)
