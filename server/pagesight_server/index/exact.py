"""Exact search: every vector of a matrix is compared.

vectors ──matrix product, fp32──> k, and all that tie ──cosines──> sorted, ties by row ──> k

The product is NumPy's and not that of faiss's flat index, whose memory is in small pages: a query
of 50,000 vectors of 1,152 values spends most of its time there in looking up addresses. NumPy asks
the system for huge ones (docs/benchmarks.md, The index).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embedding, Embeddings
from pagesight_server.index.cosines import NO_HITS, Hits, Rows, cosines, ranked, unit

TIE = 1e-5
"""Difference of products below which the cosines of two vectors may be in the other order: a
product of matrices sums in another order than `cosines` does."""

PRODUCTS = 4_000_000
"""Products that are held at once, 16 MB, and as much again to choose among them: many queries of a
large matrix are answered in parts."""


class Neighbours(Protocol):
    """Finds the nearest pictures of a snapshot."""

    def __len__(self) -> int: ...

    def search(self, query: Embedding, k: int, *, without: int | None = None) -> Hits:
        """The `k` nearest pictures, or all when there are fewer.

        Args:
            query: Unit vector, shape (dimension,).
            k: How many hits.
            without: A row to leave out, as if the gallery lacked it.
        """
        leave_out = None if without is None else np.asarray([without], np.int64)
        return self.search_many(query[None, :], k, without=leave_out)[0]

    def search_many(
        self, queries: Embeddings, k: int, *, without: Rows | None = None
    ) -> list[Hits]:
        """Searches for several queries at once, which is faster than one by one.

        Args:
            queries: Unit vectors, shape (queries, dimension).
            k: How many hits for each.
            without: For each query, a row to leave out; shape (queries,).
        """


class FlatIndex(Neighbours):
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

    def search_many(
        self, queries: Embeddings, k: int, *, without: Rows | None = None
    ) -> list[Hits]:
        """Args and result as in `Neighbours.search_many`."""
        wanted = min(k + (without is not None), len(self._rows))
        if wanted == 0:
            return [NO_HITS] * len(queries)
        hits = []
        for number, positions in enumerate(most_alike(self._unit, queries, wanted)):
            rows = self._rows[positions[positions >= 0]]
            rows = rows if without is None else rows[rows != without[number]]
            hits.append(ranked(rows, cosines(queries[number], self._embeddings[rows]), k))
        return hits


def most_alike(
    vectors: Embeddings,
    queries: Embeddings,
    count: int,
    *,
    allowed: NDArray[np.bool_] | None = None,
) -> Rows:
    """The vectors with the largest products, and all that tie with the last of them.

    Args:
        vectors: Unit vectors, shape (vectors, dimension).
        queries: Unit vectors, shape (queries, dimension).
        count: How many for each query: at least one, at most as many as may be found.
        allowed: For each vector, whether it may be found; None allows all.

    Returns:
        Positions in ascending order, shape (queries, c); the last are -1 where a query has fewer.
    """
    found: list[Rows] = []
    step = max(1, PRODUCTS // len(vectors))
    for start in range(0, len(queries), step):
        products = queries[start : start + step] @ vectors.T
        if allowed is not None:
            products[:, ~allowed] = -np.inf
        # NaN sorts as the largest: what an encoder failed on would hide another.
        products[np.isnan(products)] = -np.inf
        least = np.partition(products, -count, axis=1)[:, -count] - TIE
        found += map(np.flatnonzero, products >= least[:, None])
    positions = np.full((len(queries), max(map(len, found), default=0)), -1, np.int64)
    for number, of_query in enumerate(found):
        positions[number, : len(of_query)] = of_query
    return positions
