"""The three families of diffusion-based anomaly scoring, in a small form over embeddings.

    gallery ──PCA──> few coordinates ──noise of many levels──┬─ denoiser: predicts the clean point
                                                             └─ estimator: predicts the noise level
    reconstruction  error of the denoiser on a query to which noise was added
    score           norm of the score, grad log p, that the denoiser implies at the query itself
    density         noise level that is estimated for the query, its diffusion time (Livernoche
                    et al., "On Diffusion Modeling for Anomaly Detection", 2024)

Both networks fit in seconds with scikit-learn, the extra `compare`. The denoiser is
preconditioned as by Karras et al. ("Elucidating the Design Space of Diffusion-Based
Generative Models", 2022), so that one small network serves all noise strengths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Embeddings
from pagesight_server.common.errors import SetupError
from pagesight_server.evaluation.detectors.detector import Scores

MAX_COORDINATES = 48
"""Principal components: on 72 gallery pictures they explain over 95 % of the variance."""

LEAST_NOISE, MOST_NOISE = 0.05, 3.0
"""Range of noise levels in training: standard deviations, in units of that of the gallery's
coordinates. The least hardly moves a point, the most drowns it."""

RECONSTRUCTION_NOISE = 0.5
"""Noise level at which queries are reconstructed: more hides the page, less needs no denoising."""

DRAWS = 8
"""Random draws of noise over which a query's reconstruction error is averaged."""

SCORE_NOISES = (0.1, 0.2, 0.4)
"""Noise levels over which the norm of the score is averaged, near the clean end of the range."""

EPOCHS, EPOCH_ROWS, HIDDEN = 60, 1_024, (128, 128)
"""Training: passes, noisy points drawn in each, units of the hidden layers. A fit takes seconds."""

MISSING = "the diffusion-based detectors need scikit-learn: pip install 'pagesight[compare]'"

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Coordinates:
    """Projection onto principal components, scaled to mean square 1 over the gallery."""

    mean: Rows
    axes: Rows

    @staticmethod
    def of(embeddings: Embeddings) -> _Coordinates:
        rows = embeddings.astype(np.float64)
        mean = rows.mean(axis=0)
        _, singular, axes = np.linalg.svd(rows - mean, full_matrices=False)
        count = max(1, min(MAX_COORDINATES, len(rows) - 1, int((singular > 1e-6).sum())))
        variance = float((singular[:count] ** 2).sum()) / (len(rows) * count)
        return _Coordinates(mean, axes[:count] / max(variance, 1e-12) ** 0.5)

    def apply(self, rows: Embeddings) -> Rows:
        return np.asarray((rows.astype(np.float64) - self.mean) @ self.axes.T)


@dataclass(frozen=True, slots=True)
class Denoiser:
    """Predicts the clean point from a noisy one, trained on the gallery."""

    coordinates: _Coordinates
    network: Any
    """The fitted MLPRegressor; scikit-learn is not installed everywhere, so it has no type here."""

    @staticmethod
    def fit(embeddings: Embeddings) -> Denoiser:
        """Trains the network on the gallery under noise of many levels."""
        coordinates = _Coordinates.of(embeddings)
        clean = coordinates.apply(embeddings)

        def example(start: Rows, noisy: Rows, noise: Rows) -> tuple[Rows, Rows]:
            skip, output_scale, _ = _preconditioning(noise)
            return _inputs(noisy, noise), (start - skip * noisy) / output_scale

        return Denoiser(coordinates, _trained(clean, example))

    def __call__(self, noisy: Rows, noise: float) -> Rows:
        """The predicted clean points, shape (points, coordinates), of noisy ones.

        Args:
            noisy: The noisy points, of the same shape.
            noise: Their noise level.
        """
        levels = np.full((len(noisy), 1), noise)
        skip, output_scale, _ = _preconditioning(levels)
        output = np.asarray(self.network.predict(_inputs(noisy, levels)), np.float64)
        return np.asarray(skip * noisy + output_scale * output.reshape(noisy.shape))


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Reconstruction error of a query to which noise was added."""

    denoiser: Denoiser

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> Reconstruction:
        """Fits a denoiser; labels do not matter."""
        return Reconstruction(Denoiser.fit(embeddings))

    def score(self, queries: Embeddings) -> Scores:
        """Negative mean squared error over `DRAWS` draws of noise, the same for every query."""
        clean = self.denoiser.coordinates.apply(queries)
        random = np.random.default_rng(1)  # not 0: the noise of the training
        error = np.zeros(len(clean))
        for _ in range(DRAWS):
            noisy = clean + RECONSTRUCTION_NOISE * random.standard_normal(clean.shape[1])
            error += ((self.denoiser(noisy, RECONSTRUCTION_NOISE) - clean) ** 2).mean(axis=1)
        return -error / DRAWS


@dataclass(frozen=True, slots=True)
class ScoreNorm:
    """Norm of the score, the gradient of the log density, at the query itself."""

    denoiser: Denoiser

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> ScoreNorm:
        """Fits a denoiser; labels do not matter."""
        return ScoreNorm(Denoiser.fit(embeddings))

    def score(self, queries: Embeddings) -> Scores:
        """Negative norm of the score, times the noise level, averaged over noise levels."""
        clean = self.denoiser.coordinates.apply(queries)
        norm = np.zeros(len(clean))
        for noise in SCORE_NOISES:
            norm += np.linalg.norm(self.denoiser(clean, noise) - clean, axis=1) / noise
        return -norm / len(SCORE_NOISES)


@dataclass(frozen=True, slots=True)
class DiffusionTime:
    """Diffusion time: the noise level estimated for a query, least for points of the gallery."""

    coordinates: _Coordinates
    estimator: Any

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> DiffusionTime:
        """Trains the estimator of the noise level; labels do not matter."""
        coordinates = _Coordinates.of(embeddings)
        clean = coordinates.apply(embeddings)

        def example(start: Rows, noisy: Rows, noise: Rows) -> tuple[Rows, Rows]:
            return _scaled(noisy), np.log(noise[:, 0])

        return DiffusionTime(coordinates, _trained(clean, example))

    def score(self, queries: Embeddings) -> Scores:
        """Negative logarithm of the estimated noise level."""
        clean = self.coordinates.apply(queries)
        return -np.asarray(self.estimator.predict(_scaled(clean)), np.float64)


def _preconditioning(noise: Rows) -> tuple[Rows, Rows, Rows]:
    """Scale of the skip connection, of the network's output and of its input (Karras, table 1).

    c_skip, c_out and c_in for data of standard deviation 1.
    """
    variance = 1 + noise**2
    return 1 / variance, noise / np.sqrt(variance), 1 / np.sqrt(variance)


def _inputs(noisy: Rows, noise: Rows) -> Rows:
    """Inputs of the denoiser: scaled points, and c_noise = ln(noise) / 4 as by Karras et al."""
    return np.hstack([noisy * _preconditioning(noise)[2], np.log(noise) / 4])


def _scaled(rows: Rows) -> Rows:
    """Inputs of the estimator: direction and length, clipped as a network does not extrapolate."""
    length = np.linalg.norm(rows, axis=1, keepdims=True) / rows.shape[1] ** 0.5
    return np.hstack([rows / np.maximum(1.0, length), np.log1p(length)])


def _trained(clean: Rows, example: Callable[[Rows, Rows, Rows], tuple[Rows, Rows]]) -> Any:
    """A network trained on the gallery under noise levels drawn log-uniformly.

    Args:
        clean: The gallery's coordinates.
        example: Returns inputs and targets, given clean points, noisy points and noise levels.

    Raises:
        SetupError: scikit-learn is not installed.
    """
    try:
        from sklearn.neural_network import MLPRegressor
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise SetupError(MISSING) from None
    random = np.random.default_rng(0)
    network = MLPRegressor(hidden_layer_sizes=HIDDEN, random_state=0, batch_size=256)
    low, high = np.log(LEAST_NOISE), np.log(MOST_NOISE)
    # With matrices this small, several threads only wait for each other.
    with threadpool_limits(1):
        for _ in range(EPOCHS):
            start = clean[random.integers(len(clean), size=EPOCH_ROWS)]
            noise = np.exp(random.uniform(low, high, (EPOCH_ROWS, 1)))
            noisy = start + noise * random.standard_normal(start.shape)
            network.partial_fit(*example(start, noisy, noise))
    return network
