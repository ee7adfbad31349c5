"""Nearest-neighbour detectors, which have no parameters to fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embeddings
from pagesight_server.evaluation.detectors.detector import Scores

NEIGHBOURS = 2
"""Rank k of the neighbour whose distance is the score: of a label with three pictures, two remain
when one is left out, so a larger k would measure the distance of other labels."""

_FARTHEST = 2.0
"""Largest distance of unit vectors: that of the second nearest label where there is only one."""


@dataclass(frozen=True, slots=True)
class TopOne:
    """Cosine similarity of the nearest picture."""

    embeddings: Embeddings

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> TopOne:
        """Keeps the gallery."""
        return TopOne(embeddings)

    def score(self, queries: Embeddings) -> Scores:
        """Largest cosine, -1 to 1."""
        return np.asarray(_cosines(queries, self.embeddings).max(axis=1))


@dataclass(frozen=True, slots=True)
class KthNeighbour:
    """Distance of the k-th nearest picture.

    Source: Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", 2022.
    """

    embeddings: Embeddings

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> KthNeighbour:
        """Keeps the gallery."""
        return KthNeighbour(embeddings)

    def score(self, queries: Embeddings) -> Scores:
        """Negative distance, -2 to 0."""
        distances = np.sort(_distances(queries, self.embeddings), axis=1)
        kth: Scores = distances[:, min(NEIGHBOURS, distances.shape[1]) - 1]
        return -kth


@dataclass(frozen=True, slots=True)
class NeighbourRatio:
    """Ratio of the distances of the nearest and second nearest label; unknown pages are near 1.

    Source: Mendes Júnior et al., "Nearest neighbors distance ratio open-set classifier", 2017.
    """

    embeddings: Embeddings
    codes: NDArray[np.int64]
    """Number of each embedding's label, from 0."""

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> NeighbourRatio:
        """Keeps the gallery."""
        return NeighbourRatio(embeddings, np.unique(list(labels), return_inverse=True)[1])

    def score(self, queries: Embeddings) -> Scores:
        """One minus the ratio: 0 halfway between two labels, 1 for a gallery picture itself."""
        distances = _distances(queries, self.embeddings)
        count = int(self.codes.max()) + 1
        nearest = np.full((len(queries), max(2, count)), _FARTHEST)
        for code in range(count):
            nearest[:, code] = distances[:, self.codes == code].min(axis=1)
        first, second = np.sort(nearest, axis=1)[:, :2].T
        ratio: Scores = first / np.maximum(second, 1e-12)  # two labels may share a picture
        return 1 - ratio


def _cosines(queries: Embeddings, gallery: Embeddings) -> Scores:
    """Cosine similarities of unit vectors, shape (queries, pictures)."""
    return queries.astype(np.float64) @ gallery.astype(np.float64).T


def _distances(queries: Embeddings, gallery: Embeddings) -> Scores:
    """Euclidean distances of unit vectors, shape (queries, pictures)."""
    return np.asarray(np.sqrt(np.maximum(0.0, 2 - 2 * _cosines(queries, gallery))))
