"""What so many independent pictures say of screenshots that are not seen yet."""

from __future__ import annotations

import math

import numpy as np

from pagesight_server.curation.own_scores import MAX_EXAMINED

CONFIDENCE = 0.95
"""Of the bounds that are told."""


def rejection_bound(left_out: int, epsilon: float) -> float:
    """With `CONFIDENCE`, at most this share of known pages scores below the threshold.

    Args:
        left_out: Distinct pictures that were left out in turn to place it.
        epsilon: The share of them that it was placed to reject.
    """
    # More are not left out; and with fewer the bound is only wider.
    scores = min(left_out, MAX_EXAMINED)
    return quantile_bound(scores, max(1, math.floor(epsilon * (scores + 1))))


def quantile_bound(scores: int, k: int) -> float:
    """With `CONFIDENCE`, at most this share of fresh scores is below the k-th smallest of these.

    That share is distributed as Beta(k, scores + 1 - k) whatever the scores, as long as all
    are independent and alike (Wilks, "Determination of Sample Sizes for Setting Tolerance
    Limits", 1941). For k = 1 it is 1 - 0.05 ** (1 / scores).

    >>> round(quantile_bound(3, 1), 3), round(quantile_bound(59, 1), 3)
    (0.632, 0.049)
    """
    if not 1 <= k <= scores:
        return 1.0
    i = np.arange(k)
    chosen = np.asarray([math.lgamma(n + 1) + math.lgamma(scores - n + 1) for n in range(k)])
    binomial = math.lgamma(scores + 1) - chosen
    low, high = 0.0, 1.0
    for _ in range(40):
        share = (low + high) / 2
        below = np.exp(binomial + i * math.log(share) + (scores - i) * math.log1p(-share)).sum()
        low, high = (share, high) if below > 1 - CONFIDENCE else (low, share)
    return high
