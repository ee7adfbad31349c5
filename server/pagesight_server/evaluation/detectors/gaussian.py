"""Detectors that first learn how pictures of one page vary, and forgive that.

embeddings, less their label's mean ──SVD──> W: what varies within pages is made small
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embeddings
from pagesight_server.evaluation.detectors.detector import Scores

SHRINKAGE = 0.1
"""Share of the covariance that is taken as equal in all directions: with fewer pictures than
dimensions most directions were never seen to vary."""

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Whitening:
    """The inverse square root of the shrunk within-label covariance, applied by its few axes."""

    mean: Rows
    axes: Rows
    """(axes, dimension), orthonormal: where pictures of one page were seen to vary."""
    scales: Rows
    """(axes,): by how much more each is shrunk than the rest."""
    rest: float

    @staticmethod
    def of(embeddings: Embeddings, labels: Sequence[str]) -> tuple[_Whitening, Rows]:
        """The whitening, and each label's mean before it."""
        rows = embeddings.astype(np.float64)
        owners = np.unique(list(labels), return_inverse=True)[1]
        means = np.stack([rows[owners == owner].mean(axis=0) for owner in range(owners.max() + 1)])
        within = rows - means[owners]
        _, singular, axes = np.linalg.svd(within, full_matrices=False)
        variances = singular**2 / max(1, len(rows) - len(means))
        # A gallery of single pictures varies nowhere: then all directions count alike.
        level = SHRINKAGE * float(variances.sum()) / rows.shape[1] or 1.0
        rest = level**-0.5
        scales = ((1 - SHRINKAGE) * variances + level) ** -0.5 - rest
        return _Whitening(rows.mean(axis=0), axes, scales, rest), means

    def apply(self, rows: Rows | Embeddings) -> Rows:
        centred = np.asarray(rows, np.float64) - self.mean
        return self.rest * centred + ((centred @ self.axes.T) * self.scales) @ self.axes


@dataclass(frozen=True, slots=True)
class Mahalanobis:
    """Distance of the nearest label's mean, in units of how much pictures of one page vary.

    After Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples", 2018.
    """

    whitening: _Whitening
    means: Rows

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> Mahalanobis:
        """One covariance for all labels, shrunk."""
        whitening, means = _Whitening.of(embeddings, labels)
        return Mahalanobis(whitening, whitening.apply(means))

    def score(self, queries: Embeddings) -> Scores:
        """Minus the distance."""
        seen = self.whitening.apply(queries)
        squares = (seen**2).sum(axis=1)[:, None] + (self.means**2).sum(axis=1)
        distances = np.sqrt(np.maximum(0.0, squares - 2 * seen @ self.means.T))
        nearest: Scores = distances.min(axis=1)
        return -nearest


@dataclass(frozen=True, slots=True)
class WhitenedTopOne:
    """Cosine of the nearest picture, after whitening."""

    whitening: _Whitening
    gallery: Rows

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> WhitenedTopOne:
        """Whitens the gallery."""
        whitening, _ = _Whitening.of(embeddings, labels)
        return WhitenedTopOne(whitening, _unit(whitening.apply(embeddings)))

    def score(self, queries: Embeddings) -> Scores:
        """The greatest cosine, -1 to 1."""
        cosines: Scores = _unit(self.whitening.apply(queries)) @ self.gallery.T
        return np.asarray(cosines.max(axis=1))


def _unit(rows: Rows) -> Rows:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12))
