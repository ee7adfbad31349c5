"""HDR histogram of latencies, of constant relative precision; the only importer of hdrhistogram.

With three significant digits from 1 µs to an hour, a percentile is within 0.1 % of the exact one.
The histograms of several processes are merged without loss, count by count.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

from hdrh.codec import HdrCookieException, HdrLengthException
from hdrh.histogram import HdrHistogram

LONGEST_US = 3_600_000_000
"""Longest duration, an hour in microseconds; no reply is waited for as long."""


class Histogram:
    """A histogram of durations, recorded in seconds and reported in milliseconds.

    Args:
        digits: Significant decimal digits of the durations, 1 to 5.
    """

    __slots__ = ("_counts",)

    def __init__(self, digits: int = 3) -> None:
        self._counts = HdrHistogram(1, LONGEST_US, digits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.curve() == other.curve()

    __hash__ = None  # type: ignore[assignment]

    def record_s(self, seconds: float) -> None:
        """Counts one duration, clipped to the range of 1 µs to an hour; NaN as the shortest."""
        # Clipped before it is rounded: a server may claim that a stage took infinitely long.
        self._counts.record_value(round(min(max(1.0, 1e6 * seconds), LONGEST_US)))

    @property
    def count(self) -> int:
        """Number of recorded durations."""
        return int(self._counts.get_total_count())

    @property
    def max_ms(self) -> float | None:
        """Longest duration; None when there is none."""
        return _ms(self._counts.get_max_value()) if self.count else None

    @property
    def mean_ms(self) -> float | None:
        """Mean duration; None when there is none."""
        return _ms(self._counts.get_mean_value()) if self.count else None

    def percentiles_ms(self, shares: Sequence[float]) -> list[float | None]:
        """Percentiles, for shares of 0 to 100; None when nothing was recorded."""
        if not self.count:
            return [None] * len(shares)
        values = self._counts.get_percentile_to_value_dict(list(shares))
        return [_ms(values[share]) for share in shares]

    def percentile_ms(self, share: float) -> float | None:
        """One percentile, for a share of 0 to 100; None when nothing was recorded."""
        return self.percentiles_ms([share])[0]

    def interval_ms(self, share: float) -> tuple[float, float] | None:
        """The 95 % confidence interval of a percentile, for a share of 0 to 100.

        It is nonparametric: the number of values below the true percentile is binomial, here in
        the normal approximation. It takes values for independent (`blocks.Blocks.interval_ms`
        does not). None where fewer than five values are expected on either side, as that
        approximation does not hold there.
        """
        p, count = share / 100, self.count
        if count * min(p, 1 - p) < 5:
            return None
        spread = student_t(None) * math.sqrt(p * (1 - p) / count)
        low, high = self.percentiles_ms([100 * max(0.0, p - spread), 100 * min(1.0, p + spread)])
        assert low is not None
        assert high is not None
        return low, high

    def count_up_to_ms(self, ms: float) -> int:
        """Number of durations that do not exceed this one, within the precision."""
        index = self._counts.get_counts_array_index(min(max(0, round(1000 * ms)), LONGEST_US))
        return sum(self._counts.counts[: index + 1])

    def curve(self) -> list[tuple[float, int]]:
        """The cumulative counts: every recorded duration in ms, with how many do not exceed it."""
        return [
            (_ms(step.value_iterated_to), int(step.total_count_to_this_value))
            for step in self._counts.get_recorded_iterator()
        ]

    def add(self, other: Histogram) -> None:
        """Adds the counts of another histogram with the same number of digits."""
        if other.count:
            self._counts.add(other._counts)

    def encoded(self) -> str:
        """The counts as text: HdrHistogram's V2 format, compressed, in base64."""
        return bytes(self._counts.encode()).decode("ascii")

    @classmethod
    def decoded(cls, text: str) -> Histogram:
        """Reads what `encoded` wrote.

        Raises:
            ValueError: The text is not an encoded histogram, or is truncated.
        """
        histogram = cls()
        try:
            histogram._counts = HdrHistogram.decode(text.encode("ascii"))
        except (ValueError, HdrCookieException, HdrLengthException, zlib.error):
            raise ValueError(f"{text!r:.40} is no histogram") from None
        return histogram


def student_t(degrees: int | None) -> float:
    """Returns the 97.5 % quantile of Student's t, by its expansion around the normal quantile.

    Args:
        degrees: Degrees of freedom, 4 or more (within 2 % there); None: infinitely many, which is
            the normal distribution.
    """
    z = 1.959964
    if degrees is None:
        return z
    # Abramowitz and Stegun, 26.7.5.
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def _ms(microseconds: float) -> float:
    return round(microseconds / 1000, 3)
