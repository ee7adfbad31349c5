"""Detectors that first learn how pictures of one page vary, and forgive that.

embeddings, less their label's mean ──> `WithinLabelMetric` ──> distance of a label, cosine of a
                                                                picture in that metric
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pagesight_server.common.arrays import Embeddings
from pagesight_server.evaluation.detectors.detector import Scores
from pagesight_server.recognition.whitening import WithinLabelMetric


@dataclass(frozen=True, slots=True)
class Mahalanobis:
    """Distance of the nearest label's mean, in units of how much pictures of one page vary.

    After Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples", 2018.
    """

    metric: WithinLabelMetric
    means: Embeddings
    """Mean embedding of each label, shape (labels, dimension)."""

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> Mahalanobis:
        """One covariance for all labels, shrunk."""
        codes = np.unique(list(labels), return_inverse=True)[1]
        means = [embeddings[codes == code].mean(axis=0) for code in range(codes.max() + 1)]
        return Mahalanobis(WithinLabelMetric.fit(embeddings, codes), np.stack(means))

    def score(self, queries: Embeddings) -> Scores:
        """Minus the distance."""
        return np.asarray([-self.metric.distances(query, self.means).min() for query in queries])


@dataclass(frozen=True, slots=True)
class WhitenedTopOne:
    """Cosine of the nearest picture, after whitening."""

    metric: WithinLabelMetric
    gallery: Embeddings

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> WhitenedTopOne:
        """Whitens the gallery."""
        codes = np.unique(list(labels), return_inverse=True)[1]
        return WhitenedTopOne(WithinLabelMetric.fit(embeddings, codes), embeddings)

    def score(self, queries: Embeddings) -> Scores:
        """The greatest cosine, -1 to 1."""
        return np.asarray([self.metric.cosines(query, self.gallery).max() for query in queries])
