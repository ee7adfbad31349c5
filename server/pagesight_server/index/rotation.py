"""A fixed random rotation, after which no coordinate of an embedding says more than another.

    first p coordinates ──signs, Hadamard──> last p coordinates ──signs, Hadamard──> twice

p is the greatest power of two within the dimension, so the two windows cover it. One-bit codes need
it: embeddings of a real encoder have a few strong coordinates, and the sign of each coordinate
tells little about the rest. faiss leaves it to its caller; its dense `RandomRotationMatrix` costs
more for a single query than the search, its `HadamardRotation` pads 1152 values to 2048.

The signs come from a hash and not from a library's random numbers: codes on disk are only right
under the very rotation that they were made with.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embeddings

PASSES = 4
"""Windows that are rotated, the first and the last in turns."""

ROWS = 256
"""Vectors rotated at a time, so that they and their copies stay in the cache."""


def rotated(vectors: Embeddings) -> Embeddings:
    """The vectors, rotated; lengths and inner products stay as they are.

    Args:
        vectors: fp32, shape (vectors, dimension).
    """
    count, dimension = vectors.shape
    size = 1 << (dimension.bit_length() - 1)
    left, right = _hadamard(size)
    turned = np.array(vectors, np.float32)
    for start in range(0, count, ROWS):
        rows = turned[start : start + ROWS]
        for number, signs in enumerate(_signs(size)):
            window = rows[:, dimension - size :] if number % 2 else rows[:, :size]
            # The Hadamard matrix of size a x b is the Kronecker product of those of sizes a and b.
            grid = (window * signs).reshape(-1, len(left), len(right))
            window[:] = (left @ grid @ right).reshape(window.shape)
    return turned


@lru_cache(maxsize=8)
def _hadamard(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two orthogonal Hadamard matrices, symmetric, whose Kronecker product has this size."""
    exponent = size.bit_length() - 1
    half = np.asarray([[1, 1], [1, -1]], np.float32) / np.float32(2**0.5)
    matrices = []
    for power in (exponent // 2, exponent - exponent // 2):
        matrix = np.ones((1, 1), np.float32)
        for _ in range(power):
            matrix = np.kron(half, matrix)
        matrices.append(matrix)
    return matrices[0], matrices[1]


@lru_cache(maxsize=8)
def _signs(size: int) -> NDArray[np.float32]:
    """Fixed signs, 1 or -1, shape (passes, size)."""
    digest = hashlib.shake_256(b"pagesight rotation 1").digest(PASSES * (-(-size // 8)))
    bits = np.unpackbits(np.frombuffer(digest, np.uint8)).reshape(PASSES, -1)[:, :size]
    return 1 - 2 * bits.astype(np.float32)
