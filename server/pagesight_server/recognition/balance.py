"""How much looks count against text in one gallery, fitted by leave-one-out.

    each picture, left out ──> looks, all text, page text of every label near
                               own label among them ──softmax──> coefficients ──> share of looks

Where pages are in many languages all text says little of which page it is, and where one app's
pages look alike looks do; a gallery knows which it is. Multinomial logistic regression over the
left-out pictures, with a normal prior about the published weights: few pictures hardly move it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PRIOR: Floats = np.array([12.0, 8.0, 8.0])
"""Nats per unit of looks, all text and page text that a gallery begins with. The first two are in
the published proportion; the sum is what real and drawn galleries of 66 to 220 pictures fit to (28
to 36), and the share of looks does not depend on it."""

PRECISION = 30.0
"""How firmly the prior holds: each coefficient's standard deviation is 1 / sqrt(30), 18 %, of it.
Between 10 and 100 the share of looks of no set in docs/recognition.md moves by more than 0.1."""

MIN_PICTURES = 20
"""Left-out pictures below which the prior stands: fewer say nothing."""

MAX_PICTURES = 200
"""Left-out pictures that are looked at: more would not move the share of looks by 0.01."""

STEPS, CONVERGED = 50, 1e-6
"""Newton steps at most, and the change of a coefficient at which they end; five are usual."""

LEAST = 0.02
"""Share of its prior that a coefficient keeps: a kind of evidence is never held against a page."""


def fit_looks_share(evidence: Sequence[Floats], own: Sequence[int]) -> float:
    """The share of looks against all text, 0 to 1, that ranks left-out pictures best.

    Args:
        evidence: For each left-out picture, what speaks for each label near: shape (labels, 3),
            looks, all text and page text.
        own: For each of them, the index of its own label.
    """
    prior_share = float(PRIOR[0] / PRIOR[:2].sum())
    if len(evidence) < MIN_PICTURES:
        return prior_share
    precision = PRECISION / PRIOR**2
    weights = PRIOR.copy()
    for _ in range(STEPS):
        gradient = -precision * (weights - PRIOR)
        curvature = np.diag(precision)
        for features, label in zip(evidence, own, strict=True):
            scores = features @ weights
            shares = np.exp(scores - scores.max())
            shares /= shares.sum()
            mean = shares @ features
            gradient += features[label] - mean
            curvature += (features * shares[:, None]).T @ features - np.outer(mean, mean)
        after = np.maximum(weights + np.linalg.solve(curvature, gradient), LEAST * PRIOR)
        moved = float(np.abs(after - weights).max())
        weights = after
        if moved < CONVERGED:
            break
    return float(weights[0] / weights[:2].sum())
