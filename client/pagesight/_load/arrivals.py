"""When an open loop sends: drawn before the first message, whatever the answers do.

    poisson   gaps at random (exponential), as from many callers who know nothing of each other
    constant  equal gaps

A sender that waits for answers before it sends again slows down with the server and never
sees the queue it would have made ("coordinated omission"); these times do not wait.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from typing import Literal

Arrivals = Literal["poisson", "constant"]


def due_times(
    arrivals: Arrivals, per_s: float, *, seed: int = 0, part: int = 0, parts: int = 1
) -> Iterator[float]:
    """Yields seconds from the start, rising, without end.

    Args:
        arrivals: How the gaps are made.
        per_s: Mean arrivals in a second, of all parts together.
        seed: Of the random gaps.
        part: Which share of the arrivals this process sends, from 0.
        parts: How many processes share them. Together they are the same process: Poisson
            processes add up to one, and equal gaps are dealt out in turn.
    """
    if not per_s > 0:
        raise ValueError(f"the rate must be above 0 a second, got {per_s:g}")
    if arrivals == "constant":
        for number in count(part, parts):
            yield number / per_s
    draw, at_s = random.Random(f"{seed}/{part}/{parts}"), 0.0
    while True:
        at_s += draw.expovariate(per_s / parts)
        yield at_s
