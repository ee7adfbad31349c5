"""The three families of diffusion-based anomaly scoring, in a small form over embeddings.

    gallery ──PCA──> few coordinates ──noise of many strengths──> ┬─ denoiser: what was it?
                                                                  └─ clock: how noisy is it?
    reconstruction  how far the denoiser moves a query that was made half noise
    score           how hard it pulls at a query left as it is: the length of grad log p
    density         how noisy the clock takes a query to be (Livernoche et al., "On Diffusion
                    Modeling for Anomaly Detection", 2024)

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
"""Principal axes that are kept: on 72 gallery pictures they hold over 95 % of the variance."""

LEAST_NOISE, MOST_NOISE = 0.05, 3.0
"""Standard deviations of the noise, in units of how far gallery pictures lie apart."""

HALF_NOISE = 0.5
"""At which queries are reconstructed: stronger noise hides the page, weaker moves nothing."""

DRAWS = 8
"""Noises that a query's reconstruction is averaged over."""

PULL_NOISES = (0.1, 0.2, 0.4)
"""Strengths at which the pull is measured."""

EPOCHS, EPOCH_ROWS, HIDDEN = 60, 1_024, (128, 128)

MISSING = "the diffusion-based detectors need scikit-learn: pip install 'pagesight[compare]'"

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Coordinates:
    """Few coordinates, of mean square 1 over the gallery."""

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
    """What a noisy point of the gallery was before."""

    coordinates: _Coordinates
    network: Any

    @staticmethod
    def fit(embeddings: Embeddings) -> Denoiser:
        """Fits the network to the gallery under noise of many strengths."""
        coordinates = _Coordinates.of(embeddings)
        clean = coordinates.apply(embeddings)

        def lesson(start: Rows, noisy: Rows, noise: Rows) -> tuple[Rows, Rows]:
            keep, reach, _ = _preconditioning(noise)
            return _inputs(noisy, noise), (start - keep * noisy) / reach

        return Denoiser(coordinates, _taught(clean, lesson))

    def __call__(self, noisy: Rows, noise: float) -> Rows:
        """The clean points that it takes noisy ones for."""
        strength = np.full((len(noisy), 1), noise)
        keep, reach, _ = _preconditioning(strength)
        told = np.asarray(self.network.predict(_inputs(noisy, strength)), np.float64)
        return np.asarray(keep * noisy + reach * told.reshape(noisy.shape))


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Error of what the denoiser makes of a query that was made half noise."""

    denoiser: Denoiser

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> Reconstruction:
        """Fits a denoiser; labels do not matter."""
        return Reconstruction(Denoiser.fit(embeddings))

    def score(self, queries: Embeddings) -> Scores:
        """Minus the mean squared error over a few noises, the same for every query."""
        clean = self.denoiser.coordinates.apply(queries)
        random = np.random.default_rng(1)
        error = np.zeros(len(clean))
        for _ in range(DRAWS):
            noisy = clean + HALF_NOISE * random.standard_normal(clean.shape[1])
            error += ((self.denoiser(noisy, HALF_NOISE) - clean) ** 2).mean(axis=1)
        return -error / DRAWS


@dataclass(frozen=True, slots=True)
class ScoreNorm:
    """How hard the denoiser pulls at a query that nothing was added to."""

    denoiser: Denoiser

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> ScoreNorm:
        """Fits a denoiser; labels do not matter."""
        return ScoreNorm(Denoiser.fit(embeddings))

    def score(self, queries: Embeddings) -> Scores:
        """Minus the length of the gradient of the log density, averaged over noise strengths."""
        clean = self.denoiser.coordinates.apply(queries)
        pull = np.zeros(len(clean))
        for noise in PULL_NOISES:
            pull += np.linalg.norm(self.denoiser(clean, noise) - clean, axis=1) / noise
        return -pull / len(PULL_NOISES)


@dataclass(frozen=True, slots=True)
class DiffusionTime:
    """How noisy a query looks: points of the gallery look like no noise at all."""

    coordinates: _Coordinates
    clock: Any

    @staticmethod
    def fit(embeddings: Embeddings, labels: Sequence[str]) -> DiffusionTime:
        """Fits the clock; labels do not matter."""
        coordinates = _Coordinates.of(embeddings)
        clean = coordinates.apply(embeddings)

        def lesson(start: Rows, noisy: Rows, noise: Rows) -> tuple[Rows, Rows]:
            return _scaled(noisy), np.log(noise[:, 0])

        return DiffusionTime(coordinates, _taught(clean, lesson))

    def score(self, queries: Embeddings) -> Scores:
        """Minus the logarithm of the noise that it looks like."""
        clean = self.coordinates.apply(queries)
        return -np.asarray(self.clock.predict(_scaled(clean)), np.float64)


def _preconditioning(noise: Rows) -> tuple[Rows, Rows, Rows]:
    """How much of a noisy point is kept, how far the network reaches, how its input is scaled."""
    total = 1 + noise**2
    return 1 / total, noise / np.sqrt(total), 1 / np.sqrt(total)


def _inputs(noisy: Rows, noise: Rows) -> Rows:
    return np.hstack([noisy * _preconditioning(noise)[2], np.log(noise) / 4])


def _scaled(rows: Rows) -> Rows:
    """Far points brought nearer, their direction kept: a network knows nothing of far away."""
    length = np.linalg.norm(rows, axis=1, keepdims=True) / rows.shape[1] ** 0.5
    return np.hstack([rows / np.maximum(1.0, length), np.log1p(length)])


def _taught(clean: Rows, lesson: Callable[[Rows, Rows, Rows], tuple[Rows, Rows]]) -> Any:
    """A network that saw the gallery under noises that are even on a logarithmic scale.

    Args:
        clean: The gallery's coordinates.
        lesson: Input and target, of points, the same made noisy, and how noisy.
    """
    try:
        from sklearn.neural_network import MLPRegressor
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise SetupError(MISSING) from None
    random = np.random.default_rng(0)
    network = MLPRegressor(hidden_layer_sizes=HIDDEN, random_state=0, batch_size=256)
    low, high = np.log(LEAST_NOISE), np.log(MOST_NOISE)
    # Products this small only make threads wait for each other.
    with threadpool_limits(1):
        for _ in range(EPOCHS):
            start = clean[random.integers(len(clean), size=EPOCH_ROWS)]
            noise = np.exp(random.uniform(low, high, (EPOCH_ROWS, 1)))
            noisy = start + noise * random.standard_normal(start.shape)
            network.partial_fit(*lesson(start, noisy, noise))
    return network
