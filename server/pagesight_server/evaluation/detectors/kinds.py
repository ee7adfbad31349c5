"""The detectors there are."""

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
"""Parts in which the gallery is left out where a fit takes seconds."""

_DIFFUSION = (
    Kind(
        name="diffusion: reconstruction",
        what="error of a denoiser on the query made half noise",
        fit=Reconstruction.fit,
        folds=FOLDS,
    ),
    Kind(
        name="diffusion: density",
        what="noise that the query looks like (diffusion time)",
        fit=DiffusionTime.fit,
        folds=FOLDS,
    ),
    Kind(
        name="diffusion: score",
        what="pull of a denoiser on the query",
        fit=ScoreNorm.fit,
        folds=FOLDS,
    ),
)

KINDS = (
    Kind(name="top-1 cosine", what="cosine of the nearest picture", fit=TopOne.fit),
    Kind(
        name="k-NN distance",
        what=f"distance of picture number {NEIGHBOURS} by nearness",
        fit=KthNeighbour.fit,
    ),
    Kind(
        name="neighbour ratio",
        what="nearest label's distance against the second nearest's",
        fit=NeighbourRatio.fit,
    ),
    Kind(
        name="Mahalanobis",
        what="distance of the nearest label's mean, covariance shrunk",
        fit=Mahalanobis.fit,
    ),
    Kind(
        name="within-label whitening",
        what="cosine of the nearest picture after whitening",
        fit=WhitenedTopOne.fit,
    ),
    *_DIFFUSION,
)
"""All, cheap ones first."""


def check() -> None:
    """Says what to install when a detector could not be fitted here.

    Raises:
        SetupError: the extra `compare` is missing.
    """
    if find_spec("sklearn") is None:
        raise SetupError(MISSING)
