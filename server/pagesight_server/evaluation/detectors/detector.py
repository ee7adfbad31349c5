"""What every detector of unknown pages looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embeddings

Scores: TypeAlias = NDArray[np.float64]
"""One number for each query, higher where the page is more likely known."""


class Detector(Protocol):
    """Fitted to a gallery."""

    def score(self, queries: Embeddings) -> Scores:
        """How known each query looks; only the order within one detector means anything."""


Fit: TypeAlias = Callable[[Embeddings, Sequence[str]], Detector]
"""Makes a detector of the embeddings of known pages, at least two, and their labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A detector that can be fitted."""

    name: str
    what: str
    """What its score is, in one line."""
    fit: Fit
    folds: int | None = None
    """Parts that the gallery is left out in; None leaves each picture out by itself, for those
    that fit in milliseconds."""
