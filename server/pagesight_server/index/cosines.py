"""Cosines as they are, and the order in which pictures are nearest."""

from __future__ import annotations

from typing import NamedTuple

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
