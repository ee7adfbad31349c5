"""What is sent: which picture, whether it comes again, how urgent it is.

    PATHs, weighted ──> a picture ──new──> the same picture in bytes never sent before
                            └───repeat──> bytes that were sent lately

Every draw comes from one seed, so a load can be repeated; only the stamps that make bytes
new differ from run to run, as the server may remember those of the last run.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from typing import Generic, TypeVar

from pagesight._load.variants import Variants

T = TypeVar("T")

LATELY = 64
"""A repeat is one of so many bytes sent last, well within what a server remembers (1 024)."""


class Bytes(Enum):
    """Whether bytes were sent before."""

    NEW = "new"
    REPEATED = "repeated"
    AS_THEY_ARE = "as they are"
    """Of no known type: they cannot be made different."""


@dataclass(frozen=True, slots=True)
class Weighted(Generic[T]):
    """Values and how often each is drawn, relative to the others."""

    values: Sequence[T]
    weights: Sequence[float]

    def draw(self, by: random.Random) -> T:
        """Draws one."""
        if len(self.values) == 1:
            return self.values[0]
        return by.choices(self.values, cum_weights=list(accumulate(self.weights)))[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One screenshot to send."""

    image: bytes
    group: int
    """Which PATH of the command it is from."""
    bytes_are: Bytes
    priority: str
    deadline_ms: int
    """0: none."""


class Mix:
    """Draws what is sent next; each process has its own.

    Args:
        groups: The pictures of each PATH, encoded; none empty.
        weights: How often each group is drawn.
        repeat: Share of sends whose bytes were sent before, 0 to 1.
        priorities: "low", "normal", "high".
        deadlines_ms: 0 means none.
        seed: Of all draws.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[bytes]],
        *,
        weights: Sequence[float] = (),
        repeat: float = 0.0,
        priorities: Weighted[str] | None = None,
        deadlines_ms: Weighted[int] | None = None,
        seed: object = 0,
    ) -> None:
        self._draw = random.Random(f"{seed}")
        self._groups = Weighted(range(len(groups)), weights or [1.0] * len(groups))
        self._pictures = [[(data, Variants.of(data)) for data in group] for group in groups]
        self._decks: list[list[int]] = [[] for _ in groups]
        self._repeat = repeat
        self._priorities = priorities or Weighted(["normal"], [1])
        self._deadlines_ms = deadlines_ms or Weighted([0], [1])
        self._lately: deque[tuple[int, int, bytes]] = deque(maxlen=LATELY)
        self._run = os.urandom(8).hex()
        self._number = 0

    def next(self) -> Item:
        """Draws the next screenshot."""
        image, group, bytes_are = self._image()
        return Item(
            image=image,
            group=group,
            bytes_are=bytes_are,
            priority=self._priorities.draw(self._draw),
            deadline_ms=self._deadlines_ms.draw(self._draw),
        )

    def _image(self) -> tuple[bytes, int, Bytes]:
        if self._lately and self._draw.random() < self._repeat:
            group, picture, stamp = self._draw.choice(self._lately)
            data, variants = self._pictures[group][picture]
            return (variants.stamped(stamp) if variants else data), group, Bytes.REPEATED
        group = self._groups.draw(self._draw)
        picture = self._deal(group)
        data, variants = self._pictures[group][picture]
        if variants is None:
            return data, group, Bytes.AS_THEY_ARE
        self._number += 1
        stamp = f"{self._run}{self._number:016x}".encode()
        self._lately.append((group, picture, stamp))
        return variants.stamped(stamp), group, Bytes.NEW

    def _deal(self, group: int) -> int:
        # As from a shuffled deck: every picture has its turn before one comes twice.
        deck = self._decks[group]
        if not deck:
            deck.extend(range(len(self._pictures[group])))
            self._draw.shuffle(deck)
        return deck.pop()
