"""Exact cosines, and the order of hits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embedding, Embeddings

Rows = NDArray[np.int64]
"""Row numbers of a snapshot."""

_MIN_SQUARE = 1e-12
"""Least squared length to divide by: a vector of zeros gets cosine 0 and no division by zero."""


class Hits(NamedTuple):
    """The pictures nearest to a query, nearest first; ties in the order of their rows."""

    rows: Rows
    """Rows of the snapshot, shape (hits,)."""
    cosines: NDArray[np.float32]
    """-1 to 1, aligned with rows."""


NO_HITS = Hits(np.empty(0, np.int64), np.empty(0, np.float32))


def cosines(query: Embedding, vectors: Embeddings) -> NDArray[np.float32]:
    """The cosine of a query with each of some vectors.

    The result for one vector does not depend on the others, so a picture has the same cosine
    whichever index found it.

    Args:
        query: Unit vector, shape (dimension,).
        vectors: Shape (pictures, dimension). They were rounded to fp16, so their length is not
            quite 1 and is divided out.
    """
    dots = np.einsum("ij,j->i", vectors, query)
    squares = np.einsum("ij,ij->i", vectors, vectors)
    return np.asarray(dots / np.sqrt(np.maximum(squares, _MIN_SQUARE)), np.float32)


def unit(vectors: Embeddings) -> Embeddings:
    """The vectors scaled to length 1, shape (pictures, dimension)."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, _MIN_SQUARE), np.float32)


def ranked(rows: Rows, scores: NDArray[np.float32], k: int) -> Hits:
    """The `k` rows of the highest scores, best first; ties in the order of their rows."""
    order = np.lexsort((rows, -scores))[:k]
    return Hits(rows[order], scores[order])


def by_cosine(first: Hits, second: Hits) -> Hits:
    """The hits of two searches together, nearest first; of equal ones those of the first."""
    both = np.concatenate([first.cosines, second.cosines])
    order = np.argsort(-both, kind="stable")
    return Hits(np.concatenate([first.rows, second.rows])[order], both[order])
