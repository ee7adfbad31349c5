"""Cosines as they are, and the exact index of one matrix.

vectors ──faiss, fp32──> a few more than asked ──cosines──> sorted, ties by row ──> k
"""

from __future__ import annotations

from typing import NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embedding, Embeddings

Rows = NDArray[np.int64]

TIE = 1e-5
"""Cosines nearer than this may come out of faiss in another order than they are in."""


class Hits(NamedTuple):
    """The pictures nearest to a query, nearest first; ties by row."""

    rows: Rows
    """Rows of the snapshot."""
    cosines: NDArray[np.float32]
    """-1 to 1, aligned with rows."""


NOTHING = Hits(np.empty(0, np.int64), np.empty(0, np.float32))


def cosines(query: Embedding, vectors: Embeddings) -> NDArray[np.float32]:
    """The cosines of some vectors with a unit vector; stored ones were rounded to fp16.

    One row's result does not depend on the others, so the same picture has the same cosine
    whichever index found it.
    """
    dots = np.einsum("ij,j->i", vectors, query)
    squares = np.einsum("ij,ij->i", vectors, vectors)
    return np.asarray(dots / np.sqrt(np.maximum(squares, 1e-12)), np.float32)


def unit(vectors: Embeddings) -> Embeddings:
    """The same directions, each of length 1."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def ranked(rows: Rows, found: NDArray[np.float32], k: int) -> Hits:
    """The `k` nearest, in order."""
    order = np.lexsort((rows, -found))[:k]
    return Hits(rows[order], found[order])


class FlatIndex:
    """Exact cosine search over some rows of a matrix; safe to search from many threads.

    Args:
        embeddings: Shape (pictures, dimension).
        rows: The rows to index, ascending.
    """

    def __init__(self, embeddings: Embeddings, rows: Rows) -> None:
        self._rows = rows
        self._index = faiss.IndexFlatIP(max(1, embeddings.shape[1]))
        self._embeddings = embeddings
        if len(rows):
            self._index.add(unit(embeddings[rows]))

    def __len__(self) -> int:
        return len(self._rows)

    def search(self, query: Embedding, k: int, *, without: int | None = None) -> Hits:
        """The `k` nearest pictures, or all when there are fewer.

        Args:
            query: Unit vector, shape (dimension,).
            k: How many.
            without: A row to leave out, as if the gallery lacked it.
        """
        wanted = min(k + (without is not None), len(self._rows))
        if wanted == 0:
            return NOTHING
        rows = self._rows[_with_ties(self._index, query, wanted)]
        rows = rows if without is None else rows[rows != without]
        return ranked(rows, cosines(query, self._embeddings[rows]), k)


def _with_ties(index: faiss.IndexFlatIP, query: Embedding, wanted: int) -> Rows:
    """Places of the nearest, and of all that tie with the last of them."""
    fetched = min(wanted + 8, index.ntotal)
    while True:
        scores, places = index.search(query[None, :], fetched)
        if fetched == index.ntotal or scores[0, -1] < scores[0, wanted - 1] - TIE:
            found: Rows = places[0]
            return found
        fetched = min(2 * fetched, index.ntotal)
