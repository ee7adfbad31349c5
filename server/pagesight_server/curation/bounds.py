"""Upper confidence bounds on shares of screenshots, from how few pictures there are to judge by.

    number of scores, rank k ──Beta distribution──> bound on the share of new scores below rank k

Nothing is assumed of the distribution of the scores; only their number counts.
"""

from __future__ import annotations

import math

import numpy as np

from pagesight_server.recognition.calibration import MAX_CALIBRATION_PICTURES

CONFIDENCE = 0.95
"""Confidence level of the upper bounds, as is usual."""


def rejection_bound(pictures: int, epsilon: float) -> float:
    """Upper bound, at `CONFIDENCE`, on the false rejection rate of a calibrated threshold, 0 to 1.

    Args:
        pictures: Size of the calibration set: distinct pictures that were left out in turn.
        epsilon: Target false rejection rate, whose quantile of their scores is the threshold.
    """
    scores = min(pictures, MAX_CALIBRATION_PICTURES)
    return quantile_bound(scores, max(1, math.floor(epsilon * (scores + 1))))


def quantile_bound(scores: int, k: int) -> float:
    """Upper bound, at `CONFIDENCE`, on the share of new scores below the k-th smallest of a sample.

    That share is distributed as Beta(k, scores + 1 - k) whatever the distribution of the scores, as
    long as all are independent and identically distributed (Wilks, "Determination of Sample Sizes
    for Setting Tolerance Limits", 1941). For k = 1 the bound is 1 - 0.05 ** (1 / scores).

    Args:
        scores: Size of the sample.
        k: Rank, 1 for the smallest score. Outside 1 to `scores` the bound is 1.

    >>> round(quantile_bound(3, 1), 3), round(quantile_bound(59, 1), 3)
    (0.632, 0.049)
    """
    if not 1 <= k <= scores:
        return 1.0
    # Bisection on the share at which fewer than k of the scores lie below it with probability
    # 1 - CONFIDENCE: the binomial distribution function, in logarithms so that nothing overflows.
    counts = np.arange(k)
    log_factorials = np.asarray(
        [math.lgamma(n + 1) + math.lgamma(scores - n + 1) for n in range(k)]
    )
    log_binomials = math.lgamma(scores + 1) - log_factorials
    low, high = 0.0, 1.0
    for _ in range(40):  # halves the interval to 1e-12
        share = (low + high) / 2
        log_terms = (
            log_binomials + counts * math.log(share) + (scores - counts) * math.log1p(-share)
        )
        low, high = (share, high) if np.exp(log_terms).sum() > 1 - CONFIDENCE else (low, share)
    return high
