"""Detectors that discount the variation within labels, by a shared covariance.

embeddings minus their label's mean ──> `WithinLabelMetric` ──> distance of a label's mean,
                                                                cosine of a picture
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
    """Mahalanobis distance of the nearest label's mean, under the within-label covariance.

    Source: Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples",
    2018.
    """

    metric: WithinLabelMetric
    means: Embeddings
    """Mean embedding of each label, shape (labels, dimension)."""

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> Mahalanobis:
        """Estimates one covariance, with shrinkage, for all labels, and each label's mean."""
        codes = np.unique(list(labels), return_inverse=True)[1]
        means = [embeddings[codes == code].mean(axis=0) for code in range(codes.max() + 1)]
        return Mahalanobis(WithinLabelMetric.fit(embeddings, codes), np.stack(means))

    def score(self, queries: Embeddings) -> Scores:
        """Negative distance, 0 or less."""
        return np.asarray([-self.metric.distances(query, self.means).min() for query in queries])


@dataclass(frozen=True, slots=True)
class WhitenedTopOne:
    """Cosine similarity of the nearest picture, after within-label whitening."""

    metric: WithinLabelMetric
    gallery: Embeddings

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> WhitenedTopOne:
        """Estimates the whitening from the gallery."""
        codes = np.unique(list(labels), return_inverse=True)[1]
        return WhitenedTopOne(WithinLabelMetric.fit(embeddings, codes), embeddings)

    def score(self, queries: Embeddings) -> Scores:
        """Largest whitened cosine, -1 to 1."""
        return np.asarray([self.metric.cosines(query, self.gallery).max() for query in queries])
