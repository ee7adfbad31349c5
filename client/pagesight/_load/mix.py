"""The mix of messages: picture, repetition, priority and deadline of each.

    PATHs, weighted ──> a picture ──new──> the same picture in bytes never sent before
                            └───repeat──> bytes that were sent recently

All random draws follow from one seed, so a load is reproducible; only the stamps that make bytes
distinct differ between runs, as the server may have cached those of the last run.
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

RECENT = 64
"""A repeat is one of so many messages sent last: well within the 1 024 entries of the server's LRU
cache (`server.remember`), also when several processes send."""


class Bytes(Enum):
    """Whether the bytes of a message were sent before."""

    NEW = "new"
    REPEATED = "repeated"
    AS_THEY_ARE = "as they are"
    """The file is of a format that cannot be stamped, so its bytes are sent unchanged."""


@dataclass(frozen=True, slots=True)
class Weighted(Generic[T]):
    """A discrete distribution: values with their relative weights."""

    values: Sequence[T]
    weights: Sequence[float]

    def draw(self, rng: random.Random) -> T:
        """Draws one value."""
        if len(self.values) == 1:
            return self.values[0]
        return rng.choices(self.values, cum_weights=list(accumulate(self.weights)))[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Holds one message to send."""

    image: bytes
    """The picture, encoded."""
    group: int
    """Number of the PATH argument that it is from, from 0."""
    bytes_are: Bytes
    priority: str
    """Priority: "low", "normal" or "high"."""
    deadline_ms: int
    """Deadline from sending, in milliseconds; 0: none."""


class Mix:
    """Draws the messages of one process.

    Args:
        groups: The pictures of each PATH argument, encoded; none empty.
        weights: Relative weights of the groups; equal when empty.
        repeat: Share of messages whose bytes were sent before, 0 to 1.
        priorities: Distribution of "low", "normal" and "high"; None: all normal.
        deadlines_ms: Distribution of deadlines, 0 being none; None: no deadlines.
        seed: Seed of all draws.
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
        self._rng = random.Random(f"{seed}")
        self._groups = Weighted(range(len(groups)), weights or [1.0] * len(groups))
        self._pictures = [[(data, Variants.of(data)) for data in group] for group in groups]
        self._decks: list[list[int]] = [[] for _ in groups]
        self._repeat = repeat
        self._priorities = priorities or Weighted(["normal"], [1])
        self._deadlines_ms = deadlines_ms or Weighted([0], [1])
        self._recent: deque[tuple[int, int, bytes]] = deque(maxlen=RECENT)
        self._run = os.urandom(8).hex()
        self._number = 0

    def next(self) -> Item:
        """Draws the next message."""
        image, group, bytes_are = self._image()
        return Item(
            image=image,
            group=group,
            bytes_are=bytes_are,
            priority=self._priorities.draw(self._rng),
            deadline_ms=self._deadlines_ms.draw(self._rng),
        )

    def _image(self) -> tuple[bytes, int, Bytes]:
        """Draws a picture; returns its bytes, its group and whether they were sent before."""
        if self._recent and self._rng.random() < self._repeat:
            group, picture, stamp = self._rng.choice(self._recent)
            data, variants = self._pictures[group][picture]
            return (variants.stamped(stamp) if variants else data), group, Bytes.REPEATED
        group = self._groups.draw(self._rng)
        picture = self._deal(group)
        data, variants = self._pictures[group][picture]
        if variants is None:
            return data, group, Bytes.AS_THEY_ARE
        self._number += 1
        stamp = f"{self._run}{self._number:016x}".encode()
        self._recent.append((group, picture, stamp))
        return variants.stamped(stamp), group, Bytes.NEW

    def _deal(self, group: int) -> int:
        """Draws a picture without replacement: each comes once before one comes again."""
        deck = self._decks[group]
        if not deck:
            deck.extend(range(len(self._pictures[group])))
            self._rng.shuffle(deck)
        return deck.pop()
