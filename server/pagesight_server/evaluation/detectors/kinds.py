"""The list of all detectors, with the definitions that the report shows."""

from __future__ import annotations

from importlib.util import find_spec

from pagesight_server.common.errors import SetupError
from pagesight_server.evaluation.detectors.detector import Kind
from pagesight_server.evaluation.detectors.diffusion import (
    MISSING,
    DiffusionTime,
    Reconstruction,
    ScoreNorm,
)
from pagesight_server.evaluation.detectors.gaussian import Mahalanobis, WhitenedTopOne
from pagesight_server.evaluation.detectors.neighbours import (
    NEIGHBOURS,
    KthNeighbour,
    NeighbourRatio,
    TopOne,
)

FOLDS = 3
"""Folds of the cross-validation where a fit takes seconds: of a label with three pictures, each fit
still has two."""

_DIFFUSION = (
    Kind(
        name="diffusion: reconstruction",
        what="reconstruction error of a denoiser on the noised query",
        fit=Reconstruction.fit,
        folds=FOLDS,
    ),
    Kind(
        name="diffusion: density",
        what="noise level estimated for the query (diffusion time)",
        fit=DiffusionTime.fit,
        folds=FOLDS,
    ),
    Kind(
        name="diffusion: score",
        what="norm of the denoiser's score at the query",
        fit=ScoreNorm.fit,
        folds=FOLDS,
    ),
)

KINDS = (
    Kind(name="top-1 cosine", what="cosine of the nearest picture", fit=TopOne.fit),
    Kind(
        name="k-NN distance",
        what=f"distance of the nearest neighbour number {NEIGHBOURS}",
        fit=KthNeighbour.fit,
    ),
    Kind(
        name="neighbour ratio",
        what="distance of the nearest label over that of the second nearest",
        fit=NeighbourRatio.fit,
    ),
    Kind(
        name="Mahalanobis",
        what="distance of the nearest label's mean, shrunk covariance",
        fit=Mahalanobis.fit,
    ),
    Kind(
        name="within-label whitening",
        what="cosine of the nearest picture after whitening",
        fit=WhitenedTopOne.fit,
    ),
    *_DIFFUSION,
)
"""All detectors, cheap ones first."""


def check() -> None:
    """Checks that all detectors can be fitted here.

    Raises:
        SetupError: the extra `compare` is missing.
    """
    if find_spec("sklearn") is None:
        raise SetupError(MISSING)
