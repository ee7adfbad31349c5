"""Parity: the distance between a bundle's and its source's embeddings, and its limits.

    source embeddings ─ spread? ─┐
                                 ├─ Parity ─ failures() -> refuse ─ to_json() -> manifest
    bundle embeddings ───────────┘

A high cosine proves nothing where all pictures embed alike, as they do with untrained weights.
So the spread of the source embeddings is measured first, and the largest error is also given as
a share of the median distance between two pictures: an error that is small against that cannot
change which picture is nearest, however close together all of them are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Embeddings = NDArray[np.float32]

SPREAD_MEDIAN_COSINE = 0.9
"""Median cosine of two source embeddings beyond which cosines say little: they are all alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The parity that an export must reach on every picture."""

    cosine_min: float
    error_share: float | None
    """Largest allowed error over the median distance of two pictures; None for no limit."""


LIMITS = {
    "float32": Limits(cosine_min=0.9999, error_share=0.001),
    "float16": Limits(cosine_min=0.999, error_share=0.02),
    "int8": Limits(cosine_min=0.99, error_share=None),
}
"""Limits for each dtype of a manifest. FP32 differs by rounding alone, FP16 keeps 11 bits of a
value; eight bits move every embedding a little, so only the cosine is judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """One bundle against its source over a set of pictures."""

    pictures: int
    median_cosine_of_pairs: float
    """Median cosine of the source embeddings of two pictures; 1 means that all are the same."""
    cosine_min: float
    cosine_mean: float
    max_abs_difference: float
    """Largest difference of one value of an embedding."""
    max_error_over_median_distance: float
    """Largest distance to the source, over the median distance of two source embeddings."""
    top1_agreement: float
    """Share of pictures whose nearest other picture is the same one, 0 to 1."""

    @property
    def spread(self) -> bool:
        """Whether the source embeddings differ enough for cosines to mean something."""
        return self.median_cosine_of_pairs <= SPREAD_MEDIAN_COSINE

    def failures(self, dtype: str) -> list[str]:
        """Return a sentence for each limit of a dtype that is exceeded."""
        limits = LIMITS[dtype]
        reasons = []
        if not self.cosine_min >= limits.cosine_min:
            reasons.append(f"cosine {self.cosine_min:.6f} on one picture, need {limits.cosine_min}")
        share = limits.error_share
        if share is not None and not self.max_error_over_median_distance <= share:
            reasons.append(
                f"largest error {self.max_error_over_median_distance:.4f} of the median distance"
                f" between pictures, allowed {share}"
            )
        return reasons

    def to_json(self) -> dict[str, Any]:
        """Return the figures as the manifest's `report` holds them."""
        return {**asdict(self), "spread": self.spread}


def measure(source: Embeddings, exported: Embeddings) -> Parity:
    """Compare the embeddings of the same pictures, both `[pictures, dimension]`, unit length.

    Raises:
        ValueError: the shapes differ or there are fewer than three pictures.
    """
    if source.shape != exported.shape or len(source) < 3:
        raise ValueError(
            f"need two equal shapes of 3 pictures up: {source.shape}, {exported.shape}"
        )
    exact, near = source.astype(np.float64), exported.astype(np.float64)
    cosines = (exact * near).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(near, axis=1)
    pairs = exact @ exact.T
    others = pairs[np.triu_indices(len(exact), 1)]
    distance = float(np.median(np.sqrt(np.maximum(2 - 2 * others, 0))))
    error = float(np.linalg.norm(exact - near, axis=1).max())
    return Parity(
        pictures=len(exact),
        median_cosine_of_pairs=float(np.median(others)),
        cosine_min=float(cosines.min()),
        cosine_mean=float(cosines.mean()),
        max_abs_difference=float(np.abs(exact - near).max()),
        max_error_over_median_distance=error / distance if distance else float("inf"),
        top1_agreement=float(np.mean(_nearest(pairs) == _nearest(near @ near.T))),
    )


def _nearest(pairs: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return, for each picture, the other one most like it."""
    without_self = pairs.copy()
    np.fill_diagonal(without_self, -np.inf)
    return np.asarray(without_self.argmax(1))
