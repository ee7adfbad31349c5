"""Exact search: every vector of a matrix is compared.

vectors ──matrix product, fp32──> somewhat more than k ──cosines──> sorted, ties by row ──> k

The product is NumPy's and not that of faiss's flat index, whose memory is in small pages: a query
of 50,000 vectors of 1,152 values spends most of its time there in looking up addresses. NumPy asks
the system for huge ones (docs/benchmarks.md, The index).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

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

PRODUCTS = 4_000_000
"""Products that are held at once, 16 MB: queries of a large matrix are answered in parts."""


class FlatIndex:
    """Exact cosine search over some rows of a matrix; safe to search from many threads.

    Args:
        embeddings: Shape (pictures, dimension).
        rows: The rows to index, ascending.
    """

    def __init__(self, embeddings: Embeddings, rows: Rows) -> None:
        self._rows = rows
        self._embeddings = embeddings
        self._unit = unit(embeddings[rows])

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
        _, positions = with_ties(
            lambda count: most_alike(self._unit, query[None, :], count), len(self._rows), wanted
        )
        rows = self._rows[positions[0]]
        rows = rows if without is None else rows[rows != without]
        return ranked(rows, cosines(query, self._embeddings[rows]), k)


def with_ties(
    search: Callable[[int], tuple[NDArray[np.float32], Rows]], size: int, wanted: int
) -> tuple[NDArray[np.float32], Rows]:
    """The `wanted` nearest vectors of an exact search, and all that tie with the last of them.

    Args:
        search: Finds so many, as `most_alike` does.
        size: How many vectors there are to be found.
        wanted: At most `size`.
    """
    fetched = min(wanted + SPARE, size)
    while True:
        scores, positions = search(fetched)
        if fetched == size or has_all_ties(scores, wanted):
            return scores, positions
        fetched = min(2 * fetched, size)


def most_alike(
    vectors: Embeddings,
    queries: Embeddings,
    count: int,
    *,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], Rows]:
    """The vectors with the largest products, best first: scores and positions, (queries, count).

    Args:
        vectors: Unit vectors, shape (vectors, dimension).
        queries: Unit vectors, shape (queries, dimension).
        count: How many for each query, at most as many as there are vectors.
        allowed: For each vector, whether it may be found; None allows all. Where too few may, the
            last positions are -1.
    """
    scores = np.empty((len(queries), count), np.float32)
    positions = np.empty((len(queries), count), np.int64)
    step = max(1, PRODUCTS // max(1, len(vectors)))
    for start in range(0, len(queries) if count else 0, step):
        part = slice(start, start + step)
        products = queries[part] @ vectors.T
        if allowed is not None:
            products[:, ~allowed] = -np.inf
        best = np.argpartition(products, -count, axis=1)[:, -count:]
        best_scores = np.take_along_axis(products, best, axis=1)
        order = np.argsort(-best_scores, axis=1, kind="stable")
        scores[part] = np.take_along_axis(best_scores, order, axis=1)
        positions[part] = np.take_along_axis(best, order, axis=1)
    positions[scores == -np.inf] = -1
    return scores, positions
