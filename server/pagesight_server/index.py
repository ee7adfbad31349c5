"""Nearest pictures by embedding: derived from a snapshot, rebuilt whenever it changes.

The only importer of faiss. Exact search: every cosine is the true one, so nothing
an index approximates can reach the threshold that decides `other`.
"""

from __future__ import annotations

from typing import NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from pagesight_server.arrays import Embedding, Embeddings


class Hits(NamedTuple):
    """The pictures nearest to a query, nearest first."""

    rows: NDArray[np.int64]
    """Rows of the snapshot."""
    cosines: NDArray[np.float32]
    """-1 to 1, aligned with rows."""


class FlatIndex:
    """Exact cosine search over some rows of a snapshot; safe to search from many threads.

    Args:
        embeddings: All rows of the snapshot, shape (pictures, dimension).
        rows: The rows to index, ascending.
    """

    def __init__(self, embeddings: Embeddings, rows: NDArray[np.int64]) -> None:
        self._rows = rows
        self._index = faiss.IndexFlatIP(max(1, embeddings.shape[1]))
        if len(rows):
            # Stored vectors were rounded to fp16: bring them back to length 1.
            vectors = embeddings[rows]
            self._index.add(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    def __len__(self) -> int:
        return len(self._rows)

    def search(self, query: Embedding, k: int, *, without: int | None = None) -> Hits:
        """The `k` nearest pictures, or all when there are fewer.

        Args:
            query: Shape (dimension,).
            k: How many.
            without: A row to leave out, as if the gallery lacked it.
        """
        wanted = min(k + (without is not None), len(self._rows))
        if wanted == 0:
            return Hits(np.empty(0, np.int64), np.empty(0, np.float32))
        cosines, found = self._index.search(query[None, :], wanted)
        rows = self._rows[found[0]]
        keep = np.ones(len(rows), bool) if without is None else rows != without
        return Hits(rows[keep][:k], cosines[0][keep][:k])
