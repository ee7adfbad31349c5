"""Arrival process of an open loop: send times that do not depend on the answers.

    poisson   exponential gaps, as of many independent callers
    constant  equal gaps

A sender that waits for answers before it sends again slows down with the server and never sees
the backlog that it would have caused ("coordinated omission"); these times do not wait.
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
    """Yields send times in seconds from the start, ascending, without end.

    Args:
        arrivals: Distribution of the gaps.
        per_s: Mean arrivals a second, of all parts together.
        seed: Seed of the random gaps.
        part: Number of this process's share of the arrivals, from 0.
        parts: Number of processes that share them. Together they form the whole arrival process:
            independent Poisson processes add up to one, and equal gaps are dealt out in turn.

    Raises:
        ValueError: The rate is not positive.
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
