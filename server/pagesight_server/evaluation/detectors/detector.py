"""The interface of a detector of unknown pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embeddings

Scores: TypeAlias = NDArray[np.float64]
"""One score for each query, shape (queries,), higher where the page is more likely known."""


class Detector(Protocol):
    """A detector that has been fitted to a gallery."""

    def score(self, queries: Embeddings) -> Scores:
        """Scores each query; only the order of one detector's scores has a meaning."""


Fit: TypeAlias = Callable[[Embeddings, Sequence[str]], Detector]
"""Fits a detector to the embeddings of known pages, at least two, and their labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A detector that can be fitted."""

    name: str
    what: str
    """The definition of its score, in one line."""
    fit: Fit
    folds: int | None = None
    """Number of folds of the gallery's cross-validation; None: leave-one-out, for detectors that
    fit in milliseconds."""
