"""Visual likeness with what varies between pictures of one page taken out.

    embeddings ──minus their label's mean──> covariance within labels, shrunk ──inverse──> metric
    query, gallery picture ──minus the gallery's mean──> cosine in that metric

Two pictures of one page differ by language, theme and content, and always in like directions;
whitening makes those directions count less (Hastie and Tibshirani, "Discriminant adaptive
nearest neighbor classification", 1996, with one metric for all). On real app pages the nearest
picture is of the right page for 0.93 of the screenshots instead of 0.88 (docs/recognition.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pagesight_server.arrays import Embedding, Embeddings
from pagesight_server.index import Hits, Vectors

SHRINKAGE = 0.2
"""Share of the covariance that is taken to be alike in all directions. Between 0.05 and 0.5 the
nearest picture is right equally often."""

WEIGHT = 0.7
"""Of the whitened cosine against the plain one, where there are many labels. With one label its
own pictures' mean is all there is to centre on, so it weighs nothing there."""

FOLDS = 5
"""Parts of the labels that take turns in being left out, for a picture that is left out."""

MAX_PICTURES = 5_000
"""Pictures that a metric is fitted on; more do not change it."""

MIN_DEGREES = 10
"""Pictures beyond the first of their label below which there is nothing to learn from."""


class Whitening:
    """How alike pictures look; safe to ask from many threads.

    Args:
        embeddings: Unit vectors, shape (pictures, dimension).
        labels: Of each picture.
        known: Rows whose label is a known page: they make the metric.
    """

    def __init__(
        self, embeddings: Embeddings | Vectors, labels: Sequence[str], known: NDArray[np.int64]
    ) -> None:
        self._embeddings = embeddings
        step = max(1, -(-len(known) // MAX_PICTURES))
        self._fitted_on = known[::step]
        self._labels = np.asarray(labels, object)
        names = sorted({labels[row] for row in self._fitted_on.tolist()})
        self._fold = {label: i % FOLDS for i, label in enumerate(names)}
        self._weight = WEIGHT * (1 - 1 / max(1, len(names)))
        self._metric = self._fit(self._fitted_on)

    def cosines(self, query: Embedding, hits: Hits, *, without: int | None = None) -> Hits:
        """How alike a query and some pictures look, -1 to 1, plain and whitened mixed.

        Args:
            query: Unit vector, shape (dimension,).
            hits: The pictures, with plain cosines.
            without: A row that the metric must not know, nor any other of its label's part.

        Returns:
            The same pictures in the same order.
        """
        metric = self._metric
        if without is not None:
            fold = self._fold.get(str(self._labels[without]))
            metric = metric if fold is None else self._left_out[fold]
        if metric is None:
            return hits
        whitened = metric.cosines(query, self._embeddings[hits.rows])
        mixed = (1 - self._weight) * hits.cosines + self._weight * whitened
        return Hits(hits.rows, mixed.astype(np.float32))

    @cached_property
    def _left_out(self) -> list[_Metric | None]:
        """Metrics that know nothing of one part of the labels, each."""
        folds = np.asarray([self._fold[self._labels[row]] for row in self._fitted_on.tolist()])
        return [self._fit(self._fitted_on[folds != fold]) for fold in range(FOLDS)]

    def _fit(self, rows: NDArray[np.int64]) -> _Metric | None:
        labels = self._labels[rows]
        counts = Counter(labels.tolist())
        degrees = len(rows) - len(counts)
        if degrees < MIN_DEGREES:
            return None
        vectors = self._embeddings[rows].astype(np.float64)
        mean = vectors.mean(axis=0)
        within = np.concatenate(
            [
                vectors[labels == label] - vectors[labels == label].mean(axis=0)
                for label, count in counts.items()
                if count > 1
            ]
        )
        covariance = within.T @ within / degrees
        size = len(covariance)
        shrunk = (1 - SHRINKAGE) * covariance
        shrunk[np.diag_indices(size)] += SHRINKAGE * max(np.trace(covariance) / size, 1e-12)
        return _Metric(mean, np.linalg.inv(shrunk))


class _Metric:
    """Cosines about a mean, in a metric."""

    def __init__(self, mean: NDArray[np.float64], inverse: NDArray[np.float64]) -> None:
        self._mean = mean
        self._inverse = inverse

    def cosines(self, query: Embedding, vectors: Embeddings) -> NDArray[np.float64]:
        centred = vectors - self._mean
        ahead = self._inverse @ (query - self._mean)
        lengths = np.einsum("ij,ij->i", centred @ self._inverse, centred)
        length = (query - self._mean) @ ahead
        found: NDArray[np.float64] = centred @ ahead / np.sqrt(np.maximum(lengths * length, 1e-24))
        return found
