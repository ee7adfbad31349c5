"""Latencies by block of the measured time: whether they grow, and how certain a percentile is.

    |──1──|──2──|──3──| ... |──n──|     10 to 20 blocks of equal length, however long the load is

    first half, second half ──> growth: seconds of latency that a second of the load adds
    each block ───────────────> interval of a percentile, or of the rate of answers

Messages that are near in time share a queue, so their latencies are alike and a percentile is
less certain than its number of answers suggests. Blocks are much less alike. Those of several
processes merge exactly, as histograms do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pagesight._load.histogram import Histogram, student_t

MOST = 20
"""Most blocks; when one more is needed, each two become one. So 10 to 20 are in use: enough for the
spread between them, and few enough that each holds many answers."""
FEWEST = 5
"""Fewest blocks that tell a spread; with fewer, an interval counts on independent answers."""
BELOW = 0.998
"""Factor to the latency just below another: two steps of a histogram with three digits."""
SHORTEST_S = 1 / 64
"""Length of a block at the beginning; doubled as the load goes on. A power of two, so that the
edges of blocks are exact."""


class Blocks:
    """Histograms of latency by the due time of messages, from the start of the measured time."""

    def __init__(self) -> None:
        self.length_s = SHORTEST_S
        self._counts: dict[int, Histogram] = {}

    def record_s(self, at_s: float, seconds: float) -> None:
        """Counts one latency.

        Args:
            at_s: Due time of the message, in seconds from the start of the measured time.
            seconds: Its latency.
        """
        while at_s >= MOST * self.length_s:
            self._double()
        number = max(0, int(at_s // self.length_s))
        if number not in self._counts:  # not setdefault: a histogram takes long to make
            self._counts[number] = Histogram()
        self._counts[number].record_s(seconds)

    def add(self, other: Blocks) -> None:
        """Adds the blocks of another process of the same run."""
        finer = Blocks.from_plain(other.plain())
        while finer.length_s < self.length_s:
            finer._double()
        while self.length_s < finer.length_s:
            self._double()
        for number, counts in finer._counts.items():
            self._counts.setdefault(number, Histogram()).add(counts)

    def growth(self) -> float | None:
        """Growth of latency, in seconds for each second of the load.

        It is the median of the messages due in the second half of the measured time less that of
        the first half, over the time between the middles of the two. A queue that is served in the
        order of arrival grows by offered / served - 1. It is 0 where the 95 % intervals of the two
        medians overlap, as chance explains it then; None where a half has fewer than ten answers,
        which say nothing of it.
        """
        halves = Histogram(), Histogram()
        used = max(self._counts, default=0) + 1
        for number, counts in self._counts.items():
            if number < used // 2 or number >= used - used // 2:
                halves[number >= used // 2].add(counts)
        first, second = (half.interval_ms(50) for half in halves)
        medians_ms = [half.percentile_ms(50) for half in halves]
        if first is None or second is None or medians_ms[0] is None or medians_ms[1] is None:
            return None
        if first[1] >= second[0] and second[1] >= first[0]:
            return 0.0
        apart_s = (used - used // 2) * self.length_s
        return (medians_ms[1] - medians_ms[0]) / 1000 / apart_s

    def interval_ms(self, share: float) -> tuple[float, float] | None:
        """The 95 % confidence interval of a percentile, for a share of 0 to 100.

        It is Woodruff's for clustered samples (1952): the share of answers below the percentile
        has a standard error that is seen in the spread of the blocks (and is at least that of
        independent answers); that interval of shares is read off the histogram. None where there
        are too few answers: fewer than five expected on either side, or an interval that has no
        end within them.
        """
        whole = self.whole()
        p, count = share / 100, whole.count
        at_ms = whole.percentile_ms(share)
        if at_ms is None or count * min(p, 1 - p) < 5:
            return None
        variance, degrees = p * (1 - p) / count, None
        if len(self._counts) >= FEWEST:
            # Where many answers share this latency, the share just below it counts as well.
            between = max(self._variance(at_ms), self._variance(BELOW * at_ms))
            if between > variance:
                variance, degrees = between, len(self._counts) - 1
        reach = student_t(degrees) * math.sqrt(variance)
        if not 0 < p - reach < p + reach < 1:
            return None
        low, high = whole.percentiles_ms([100 * (p - reach), 100 * (p + reach)])
        assert low is not None
        assert high is not None
        return low, high

    def _variance(self, at_ms: float) -> float:
        """Variance of the share of answers up to this latency, from the spread of the blocks."""
        pairs = [(counts.count_up_to_ms(at_ms), counts.count) for counts in self._counts.values()]
        whole = sum(of for _, of in pairs)
        mean = sum(below for below, _ in pairs) / whole
        spread = sum((below - mean * of) ** 2 for below, of in pairs)
        return len(pairs) / (len(pairs) - 1) * spread / whole**2

    def rate_interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of the answers a second, from the spread of the blocks.

        The last block is left out, as the load may end within it. None where fewer than `FEWEST`
        remain.
        """
        used = max(self._counts, default=0)
        if used < FEWEST:
            return None
        rates = [
            (self._counts[number].count if number in self._counts else 0) / self.length_s
            for number in range(used)
        ]
        mean = sum(rates) / used
        variance = sum((rate - mean) ** 2 for rate in rates) / (used - 1) / used
        reach = student_t(used - 1) * math.sqrt(variance)
        return max(0.0, mean - reach), mean + reach

    def whole(self) -> Histogram:
        """Returns the latencies of all blocks together."""
        whole = Histogram()
        for counts in self._counts.values():
            whole.add(counts)
        return whole

    def plain(self) -> dict[str, Any]:
        """Returns the blocks as a JSON object, which `from_plain` reads."""
        encoded = {str(number): counts.encoded() for number, counts in self._counts.items()}
        return {"length_s": self.length_s, "latency": encoded}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Blocks:
        """Builds blocks from their JSON object.

        Raises:
            ValueError: It is no such object.
        """
        blocks = cls()
        try:
            blocks.length_s = float(plain["length_s"])
            encoded = {int(number): str(text) for number, text in plain["latency"].items()}
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ValueError("they are no blocks of latencies") from None
        if not blocks.length_s > 0 or not all(0 <= number < MOST for number in encoded):
            raise ValueError("they are no blocks of latencies")
        blocks._counts = {number: Histogram.decoded(text) for number, text in encoded.items()}
        return blocks

    def _double(self) -> None:
        self.length_s *= 2
        counts, self._counts = self._counts, {}
        for number, histogram in counts.items():
            if number // 2 in self._counts:
                self._counts[number // 2].add(histogram)
            else:
                self._counts[number // 2] = histogram
