"""Exact index over one matrix.

vectors ──faiss, fp32──> somewhat more than k ──cosines──> sorted, ties by row ──> k
"""

from __future__ import annotations

import faiss

from pagesight_server.common.arrays import Embedding, Embeddings
from pagesight_server.index.cosines import (
    NO_HITS,
    Hits,
    Rows,
    cosines,
    has_all_ties,
    ranked,
    unit,
)

SPARE = 8
"""Candidates fetched beyond those wanted at first, so that few ties need a second search."""


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
            k: How many hits.
            without: A row to leave out, as if the gallery lacked it.
        """
        wanted = min(k + (without is not None), len(self._rows))
        if wanted == 0:
            return NO_HITS
        rows = self._rows[_nearest_with_ties(self._index, query, wanted)]
        rows = rows if without is None else rows[rows != without]
        return ranked(rows, cosines(query, self._embeddings[rows]), k)


def _nearest_with_ties(index: faiss.IndexFlatIP, query: Embedding, wanted: int) -> Rows:
    """Positions in the index of the `wanted` nearest, and of all that tie with the last of them."""
    fetched = min(wanted + SPARE, index.ntotal)
    while True:
        scores, positions = index.search(query[None, :], fetched)
        if fetched == index.ntotal or has_all_ties(scores, wanted):
            nearest: Rows = positions[0]
            return nearest
        fetched = min(2 * fetched, index.ntotal)
