"""Visual likeness with what varies between pictures of one page taken out.

    embeddings ──minus their label's mean──> covariance within labels, shrunk ──inverse──> metric
    query, gallery picture ──minus the gallery's mean──> cosine in that metric

Two pictures of one page differ by language, theme and content, and always in like directions;
whitening makes those directions count less (Hastie and Tibshirani, "Discriminant adaptive
nearest neighbor classification", 1996, with one metric for all). docs/recognition.md says what it
is worth on each set.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embedding, Embeddings
from pagesight_server.index.cosines import Hits
from pagesight_server.index.vectors import Vectors

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
        fitted: Whose metric to use instead, of an earlier revision.
    """

    def __init__(
        self,
        embeddings: Embeddings | Vectors,
        labels: Sequence[str],
        known: NDArray[np.int64],
        *,
        fitted: Whitening | None = None,
    ) -> None:
        self._embeddings = embeddings
        self._labels = labels
        self._fit: _Fit = _Fit(embeddings, labels, known) if fitted is None else fitted._fit

    def cosines(self, query: Embedding, hits: Hits, *, without: int | None = None) -> Hits:
        """How alike a query and some pictures look, -1 to 1, plain and whitened mixed.

        Args:
            query: Unit vector, shape (dimension,).
            hits: The pictures, with plain cosines.
            without: A row that the metric must not know, nor any other of its label's part.

        Returns:
            The same pictures in the same order.
        """
        label = None if without is None else self._labels[without]
        metric = self._fit.without(label)
        if metric is None:
            return hits
        weight = self._fit.weight
        whitened = metric.cosines(query, self._embeddings[hits.rows])
        mixed = (1 - weight) * hits.cosines + weight * whitened
        return Hits(hits.rows, mixed.astype(np.float32))

    def between(
        self,
        left: Embeddings,
        right: Embeddings,
        *,
        left_labels: Sequence[str] | None = None,
    ) -> NDArray[np.float32]:
        """How alike each of some pictures and each of others look, as `cosines` has it.

        Args:
            left: Unit vectors, shape (left, dimension).
            right: Unit vectors, shape (right, dimension).
            left_labels: Of each of the first, a label that its metric must not know, nor any other
                of that label's part. None: they are new, and the metric of all serves.

        Returns:
            Shape (left, right), -1 to 1.
        """
        plain = np.asarray(left @ right.T, np.float32)
        if left_labels is None:
            return self._mixed(self._fit.without(None), plain, left, right)
        # One metric serves all labels of a part, so each is asked once.
        parts: dict[int | None, list[int]] = {}
        for row, label in enumerate(left_labels):
            parts.setdefault(self._fit.fold(label), []).append(row)
        for rows in parts.values():
            metric = self._fit.without(left_labels[rows[0]])
            plain[rows] = self._mixed(metric, plain[rows], left[rows], right)
        return plain

    def _mixed(
        self,
        metric: WithinLabelMetric | None,
        plain: NDArray[np.float32],
        left: Embeddings,
        right: Embeddings,
    ) -> NDArray[np.float32]:
        """Plain cosines with those of a metric mixed in, shape (left, right)."""
        if metric is None:
            return plain
        weight = self._fit.weight
        return np.asarray((1 - weight) * plain + weight * metric.between(left, right), np.float32)


class _Fit:
    """What was learnt from some pictures, with each part of their labels left out too."""

    def __init__(
        self, embeddings: Embeddings | Vectors, labels: Sequence[str], known: NDArray[np.int64]
    ) -> None:
        self._embeddings = embeddings
        step = max(1, -(-len(known) // MAX_PICTURES))
        self._rows = known[::step]
        names = sorted({labels[row] for row in self._rows.tolist()})
        code = {label: i for i, label in enumerate(names)}
        self._codes = np.asarray([code[labels[row]] for row in self._rows.tolist()], np.int64)
        self._fold = {label: i % FOLDS for i, label in enumerate(names)}
        self.weight = WEIGHT * (1 - 1 / max(1, len(names)))
        self._metric = self._of(np.arange(len(self._rows)))

    def fold(self, label: str) -> int | None:
        """The part of the labels that a label is in; None where it was not there."""
        return self._fold.get(label)

    def without(self, label: str | None) -> WithinLabelMetric | None:
        """The metric that knows nothing of a label; None where there is too little to learn from.

        Args:
            label: None, or one that was not there: the metric of all.
        """
        fold = None if label is None else self._fold.get(label)
        return self._metric if fold is None else self._left_out[fold]

    @cached_property
    def _left_out(self) -> list[WithinLabelMetric | None]:
        """Metrics that know nothing of one part of the labels, each."""
        return [self._of(np.flatnonzero(self._codes % FOLDS != fold)) for fold in range(FOLDS)]

    def _of(self, places: NDArray[np.int64]) -> WithinLabelMetric | None:
        """The metric of some of the rows."""
        codes = self._codes[places]
        if len(places) - len(np.unique(codes)) < MIN_DEGREES:
            return None
        return WithinLabelMetric.fit(self._embeddings[self._rows[places]], codes)


class _Scaled(NamedTuple):
    """Vectors in a metric: the product of one's `turned` and another's `centred` is a cosine."""

    turned: NDArray[np.float32]
    centred: NDArray[np.float32]


class WithinLabelMetric:
    """Distances and cosines in the metric that makes what varies within labels alike.

    The metric is the inverse of `alike * I + share * W.T @ W`. Where W has fewer rows than columns
    that is `(I - F.T @ F) / alike`, with F as small as W (Woodbury's identity): of 60 pictures it
    is had in a hundredth of the time.

    Args:
        mean: Of the pictures, shape (dimension,).
        within: W, the pictures less their label's mean, shape (pictures, dimension).
        degrees: Degrees of freedom, by which the covariance is divided.
        shrinkage: Share of the covariance that is taken to be alike in all directions.
    """

    def __init__(
        self,
        mean: NDArray[np.float64],
        within: NDArray[np.float64],
        degrees: int,
        *,
        shrinkage: float = SHRINKAGE,
    ) -> None:
        count, size = within.shape
        share = (1 - shrinkage) / degrees
        trace = float(np.einsum("ij,ij->", within, within)) / degrees
        # Pictures that vary nowhere: all directions count alike.
        self._alike = shrinkage * max(trace / size, 1e-12)
        self._mean: NDArray[np.float32] = mean.astype(np.float32)
        if 2 * count < size:
            inner = within @ within.T
            inner[np.diag_indices(count)] += self._alike / share
            factor = np.linalg.solve(np.linalg.cholesky(inner), within)
            self._few = True
        else:
            covariance = share * (within.T @ within)
            covariance[np.diag_indices(size)] += self._alike
            factor = np.linalg.inv(covariance) * self._alike
            self._few = False
        # What it is applied to was stored in half precision.
        self._factor: NDArray[np.float32] = factor.astype(np.float32)

    @staticmethod
    def fit(
        vectors: Embeddings, codes: NDArray[np.int64], *, shrinkage: float = SHRINKAGE
    ) -> WithinLabelMetric:
        """Learns how pictures of one label vary.

        Args:
            vectors: Shape (pictures, dimension).
            codes: The label of each picture, as a number from 0 on.
            shrinkage: Share of the covariance that is taken to be alike in all directions.
        """
        rows = vectors.astype(np.float64)
        counts = np.bincount(codes)
        by_label = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
        within = [
            rows[pictures] - rows[pictures].mean(axis=0)
            for pictures in by_label
            if len(pictures) > 1
        ]
        return WithinLabelMetric(
            rows.mean(axis=0),
            np.concatenate([np.empty((0, rows.shape[1])), *within]),
            max(1, len(rows) - int(np.count_nonzero(counts))),
            shrinkage=shrinkage,
        )

    def cosines(self, query: Embedding, vectors: Embeddings) -> NDArray[np.float64]:
        """Cosines about the mean of a query and some vectors, -1 to 1."""
        about = query - self._mean
        centred = vectors - self._mean
        ahead = self._turned(about[None])[0].astype(np.float64)
        lengths = np.einsum("ij,ij->i", self._turned(centred), centred, dtype=np.float64)
        cosines: NDArray[np.float64] = (
            centred @ ahead / np.sqrt(np.maximum(lengths * (about @ ahead), 1e-24))
        )
        return cosines

    def between(self, left: Embeddings, right: Embeddings) -> NDArray[np.float32]:
        """Cosines about the mean of each of some vectors and each of others, (left, right)."""
        ahead, after = self._scaled(left), self._scaled(right)
        return np.asarray(ahead.turned @ after.centred.T, np.float32)

    def _scaled(self, vectors: Embeddings) -> _Scaled:
        """Vectors about the mean, both scaled so that products of the two are cosines."""
        centred = np.asarray(vectors - self._mean, np.float32)
        turned = self._turned(centred)
        squares = np.einsum("ij,ij->i", turned, centred, dtype=np.float64)
        lengths = np.sqrt(np.maximum(squares, 1e-24))[:, None].astype(np.float32)
        return _Scaled(turned / lengths, centred / lengths)

    def distances(self, query: Embedding, vectors: Embeddings) -> NDArray[np.float64]:
        """Mahalanobis distances of a query and some vectors."""
        apart = query - vectors
        squares = np.einsum("ij,ij->i", self._turned(apart), apart, dtype=np.float64)
        distances: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0) / self._alike)
        return distances

    def _turned(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors times the metric and times `alike`: cosines have no use for the factor."""
        if self._few:
            return np.subtract(vectors, vectors @ self._factor.T @ self._factor, dtype=np.float32)
        turned: NDArray[np.float32] = np.matmul(vectors, self._factor, dtype=np.float32)
        return turned
