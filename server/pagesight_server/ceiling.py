"""The most that a page's looks and words may still reach while lines of a screenshot are unread.

    what was read ──> stable, discriminative, explained, ratio: as they are
    unread lines  ──> each shows what it can: a string of the page that is about as long
                                                               └──> the most of each ──> fit

A bound, not a guess, of the evidence as `evidence.py` mixes it, under two assumptions: a line is
at most `LONGER` times as long as the page's own, and one line shows one of its strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz

from pagesight_server.rates import Floats, Integers

LONGER = 1.5
"""By how much a line may be longer or shorter, in its heights, than a gallery ever shows it. Alike
lines (`alike.ALIKE`) differ in their number of characters by no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPage:
    """The strings of one label; arrays aligned with `ids`."""

    place: int
    """Of the label, in `Templates.labels`."""
    ids: Integers
    shortest: Floats
    """Of the lines that show it, in heights of the line."""
    longest: Floats
    stable: Floats
    """Weights, 0 of what is no part of the page."""
    telling: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What was read of a screenshot."""

    strings: Floats
    """How surely each string of the table is shown, 0 to 1."""
    explained: Floats
    """By label: characters of lines that it has ever shown."""
    total: int
    """Characters of all lines."""


def agreement(page: LabelPage, shown: Shown, lengths: Floats, weights: Floats) -> float:
    """The most that the mean of stable, discriminative and explained may become.

    Args:
        page: Of a label.
        shown: What was read.
        lengths: Of unread lines, in their heights.
        weights: Characters that each of them may count.
    """
    fits = (lengths[:, None] >= page.shortest / LONGER) & (
        lengths[:, None] <= page.longest * LONGER
    )
    more = float(weights @ fits.any(axis=1))
    explained = (float(shown.explained[page.place]) + more) / max(1, shown.total + more)
    sure = shown.strings[page.ids]

    def most(weight: Floats, otherwise: float) -> float:
        if weight.sum() <= 1e-9:
            return otherwise
        gains = weight * (1 - sure)
        # Each string once; and each line one string, the weightiest that fits.
        gain = min(gains @ fits.any(axis=0), (fits * gains).max(axis=1, initial=0.0).sum())
        return float((weight @ sure + gain) / weight.sum())

    stable = most(page.stable, 0.0)
    return (stable + most(page.telling, stable) + explained) / 3


def ratio(read: str, rooms: Sequence[int], other: str) -> float:
    """The most that RapidFuzz's ratio of all text may become, 0 to 1.

    Args:
        read: What was read.
        rooms: Characters that unread lines have room for.
        other: The text of a picture.
    """
    if not other:
        return 0.0
    common = fuzz.ratio(read, other) / 200 * (len(read) + len(other)) if read else 0.0
    added = min(sum(rooms) + len(rooms), len(other) - common)
    return 2 * (common + added) / (len(read) + added + len(other))
