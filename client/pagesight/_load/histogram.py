"""Latencies in a histogram of constant relative precision; the only importer of hdrhistogram.

Three significant digits from 1 µs to an hour: a percentile is within 0.1 % of the true one,
and the histograms of several processes add up exactly, count by count.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

from hdrh.codec import HdrCookieException, HdrLengthException
from hdrh.histogram import HdrHistogram

LONGEST_US = 3_600_000_000


class Histogram:
    """Counts durations; given in seconds, told in milliseconds.

    Args:
        digits: Significant decimal digits that are kept, 1 to 5.
    """

    __slots__ = ("_counts",)

    def __init__(self, digits: int = 3) -> None:
        self._counts = HdrHistogram(1, LONGEST_US, digits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.curve() == other.curve()

    __hash__ = None  # type: ignore[assignment]

    def record_s(self, seconds: float) -> None:
        """Counts one duration; what is shorter or longer than can be told is put to the end."""
        self._counts.record_value(min(max(1, round(1e6 * seconds)), LONGEST_US))

    @property
    def count(self) -> int:
        """How many were counted."""
        return int(self._counts.get_total_count())

    @property
    def max_ms(self) -> float | None:
        """The longest; None of nothing."""
        return _ms(self._counts.get_max_value()) if self.count else None

    @property
    def mean_ms(self) -> float | None:
        """The mean; None of nothing."""
        return _ms(self._counts.get_mean_value()) if self.count else None

    def percentiles_ms(self, shares: Sequence[float]) -> list[float | None]:
        """Durations that these percentages (0 to 100) of all do not exceed; None of nothing."""
        if not self.count:
            return [None] * len(shares)
        found = self._counts.get_percentile_to_value_dict(list(shares))
        return [_ms(found[share]) for share in shares]

    def percentile_ms(self, share: float) -> float | None:
        """The duration that this percentage (0 to 100) of all does not exceed."""
        return self.percentiles_ms([share])[0]

    def interval_ms(self, share: float) -> tuple[float, float] | None:
        """Between which durations the percentile lies, with 95 % confidence.

        From the ranks alone, whatever the distribution: the number of values below the
        true percentile is binomial. None where fewer than five values are to be expected on
        either side of it: then the slowest few decide, and chance with them.
        """
        part, count = share / 100, self.count
        if count * min(part, 1 - part) < 5:
            return None
        spread = 1.96 * math.sqrt(part * (1 - part) / count)
        low, high = self.percentiles_ms(
            [100 * max(0.0, part - spread), 100 * min(1.0, part + spread)]
        )
        assert low is not None
        assert high is not None
        return low, high

    def curve(self) -> list[tuple[float, int]]:
        """Every duration that occurs, in ms, with how many do not exceed it."""
        return [
            (_ms(step.value_iterated_to), int(step.total_count_to_this_value))
            for step in self._counts.get_recorded_iterator()
        ]

    def add(self, other: Histogram) -> None:
        """Adds the counts of another one of the same digits."""
        if other.count:
            self._counts.add(other._counts)

    def encoded(self) -> str:
        """The counts as text: HdrHistogram's V2 format, compressed, in base64."""
        return bytes(self._counts.encode()).decode("ascii")

    @classmethod
    def decoded(cls, text: str) -> Histogram:
        """Reads what `encoded` wrote.

        Raises:
            ValueError: It did not write this, or not all of it.
        """
        made = cls()
        try:
            made._counts = HdrHistogram.decode(text.encode("ascii"))
        except (ValueError, HdrCookieException, HdrLengthException, zlib.error):
            raise ValueError(f"{text!r:.40} is no histogram") from None
        return made


def _ms(microseconds: float) -> float:
    return round(microseconds / 1000, 3)
