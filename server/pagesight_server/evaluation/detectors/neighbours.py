"""Detectors that look at the nearest gallery pictures and fit nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embeddings
from pagesight_server.evaluation.detectors.detector import Scores

NEIGHBOURS = 2
"""The neighbour whose distance counts: two are left of a label of three pictures when one is
left out, so a greater number would measure other labels."""

_FARTHEST = 2.0
"""Distance of opposite embeddings: of a second label where there is none."""


@dataclass(frozen=True, slots=True)
class TopOne:
    """Cosine of the nearest picture."""

    embeddings: Embeddings

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> TopOne:
        """Keeps the gallery."""
        return TopOne(embeddings)

    def score(self, queries: Embeddings) -> Scores:
        """The greatest cosine, -1 to 1."""
        return np.asarray(_cosines(queries, self.embeddings).max(axis=1))


@dataclass(frozen=True, slots=True)
class KthNeighbour:
    """Distance of the k-th nearest picture.

    After Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", 2022.
    """

    embeddings: Embeddings

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> KthNeighbour:
        """Keeps the gallery."""
        return KthNeighbour(embeddings)

    def score(self, queries: Embeddings) -> Scores:
        """Minus the distance, -2 to 0."""
        distances = np.sort(_distances(queries, self.embeddings), axis=1)
        nth: Scores = distances[:, min(NEIGHBOURS, distances.shape[1]) - 1]
        return -nth


@dataclass(frozen=True, slots=True)
class NeighbourRatio:
    """Distance of the nearest label against that of the second nearest: near both is unknown.

    After Mendes Júnior et al., "Nearest neighbors distance ratio open-set classifier", 2017.
    """

    embeddings: Embeddings
    owners: NDArray[np.int64]

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> NeighbourRatio:
        """Keeps the gallery."""
        return NeighbourRatio(embeddings, np.unique(list(labels), return_inverse=True)[1])

    def score(self, queries: Embeddings) -> Scores:
        """One minus the ratio: 0 halfway between two labels, 1 on a gallery picture."""
        distances = _distances(queries, self.embeddings)
        count = int(self.owners.max()) + 1
        nearest = np.full((len(queries), max(2, count)), _FARTHEST)
        for owner in range(count):
            nearest[:, owner] = distances[:, self.owners == owner].min(axis=1)
        first, second = np.sort(nearest, axis=1)[:, :2].T
        ratio: Scores = first / np.maximum(second, 1e-12)
        return 1 - ratio


def _cosines(queries: Embeddings, gallery: Embeddings) -> Scores:
    return queries.astype(np.float64) @ gallery.astype(np.float64).T


def _distances(queries: Embeddings, gallery: Embeddings) -> Scores:
    """Euclidean, of vectors of length 1."""
    return np.asarray(np.sqrt(np.maximum(0.0, 2 - 2 * _cosines(queries, gallery))))
